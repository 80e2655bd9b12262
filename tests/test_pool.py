"""Which prompts come next: retirement, curriculum, priorities; and how that is restored."""

import json
from collections import Counter

import pytest

from vlrl.collect.collector import is_flat
from vlrl.collect.order import VisitOrder
from vlrl.collect.pool import PromptPool
from vlrl.collect.requests import EncodedPrompt
from vlrl.config.prompts import CurriculumConfig, PromptConfig
from vlrl.errors import UserError
from vlrl.policy.processor import Encoded
from vlrl.trajectory import Group, Prompt, Rollout, Status, Verdict


def _pool(count: int = 10, seed: int = 3, **config: object) -> PromptPool:
    prompts = [
        EncodedPrompt(Prompt(f"p{i}", [], [], "math", "1", extra={"level": i % 4}), Encoded([i], [i]))
        for i in range(count)
    ]
    return PromptPool(prompts, PromptConfig(**config), seed)  # type: ignore[arg-type]


def _group(*right: bool | None) -> Group:
    """A graded group; None is a grader's error."""
    statuses: list[Status] = ["grader_error" if r is None else "correct" if r else "wrong" for r in right]
    rollouts = [
        Rollout("p", i, [1], [], verdict=Verdict(float(s == "correct"), s)) for i, s in enumerate(statuses)
    ]
    return Group(Prompt("p", [], [], "math", "1"), rollouts)


def test_by_default_every_prompt_comes_in_turn() -> None:
    pool, order = _pool(), VisitOrder(10, 3, "rl-prompts")
    for step in range(1, 8):
        assert pool.take(4, step) == order.take(4)


def test_solved_prompts_are_retired_for_good() -> None:
    """Nine of ten right reach 0.9; eight of nine do not; errors are no answers."""
    pool = _pool(retire_above=0.9)
    pool.record(2, _group(*[True] * 9, False))
    pool.record(5, _group(*[True] * 8, False))
    pool.record(6, _group(True, True, None))
    pool.record(7, _group(None, None))
    assert pool.retired == 2
    pool.record(2, _group(False, False))
    seen = Counter(index for step in range(1, 21) for index in pool.take(4, step))
    assert set(seen) == set(range(10)) - {2, 6} and max(seen.values()) - min(seen.values()) <= 1


def test_nothing_left_is_said_so() -> None:
    pool = _pool(2, retire_above=0.9)
    for index in range(2):
        pool.record(index, _group(True))
    with pytest.raises(UserError, match=r"rl\.prompts: none of 2 prompts is left"):
        pool.take(1, 1)


def test_after_its_uniform_steps_a_curriculum_takes_hard_levels_only() -> None:
    pool = _pool(curriculum=CurriculumConfig(uniform_steps=3, hard_level=2))
    early = {index % 4 for step in (1, 2, 3) for index in pool.take(5, step)}
    late = {index % 4 for step in (4, 5, 6) for index in pool.take(5, step)}
    assert early == {0, 1, 2, 3} and late == {2, 3}


def test_without_levels_a_curriculum_goes_by_success() -> None:
    pool = _pool(4, curriculum=CurriculumConfig(uniform_steps=0, hard_below=0.5))
    pool.record(0, _group(True, False))
    pool.record(1, _group(True, False, False))
    assert set(pool.take(9, 1)) == {1, 2, 3}


def test_success_rates_are_moving_averages() -> None:
    """0.5 * 1 + 0.5 * 0 = 0.5, then 0.5 * 0.5 + 0.5 * 0 = 0.25."""
    pool = _pool(2)
    for right in (True, False, False):
        pool.record(1, _group(right))
    assert pool.state()["success"] == [(1, 0.25)]


def test_priorities_are_one_minus_success_with_a_floor() -> None:
    pool = _pool(4, order="prioritised", floor=0.1, success_ema=0.0)
    pool.record(0, _group(True))  # weight 0.1, the floor
    pool.record(1, _group(True, False))  # 0.5
    pool.record(2, _group(False))  # 1, as the one that was never seen
    drawn = Counter(index for step in range(20_000) for index in pool.take(1, step + 1))
    for index, weight in enumerate((0.1, 0.5, 1.0, 1.0)):
        assert drawn[index] / 20_000 == pytest.approx(weight / 2.6, abs=0.012)
    assert all(len(set(pool.take(4, step))) == 4 for step in range(20))
    assert sorted(Counter(pool.take(8, 1)).values()) == [2, 2, 2, 2]


@pytest.mark.parametrize("order", ["shuffled", "prioritised"])
def test_a_restored_pool_goes_on_the_same(order: str) -> None:
    config = {"order": order, "retire_above": 0.9, "curriculum": CurriculumConfig(uniform_steps=4)}
    pool = _pool(30, **config)
    for step in range(1, 5):
        for index in pool.take(6, step):
            pool.record(index, _group(index % 3 == 0, index % 2 == 0))
    state = json.loads(json.dumps(pool.state()))
    again = _pool(30, **config)
    again.restore(state)
    assert [again.take(5, step) for step in range(5, 9)] == [pool.take(5, step) for step in range(5, 9)]
    assert again.retired == pool.retired > 0


def test_a_flat_group_has_one_reward_or_none() -> None:
    assert is_flat(_group(True, True)) and is_flat(_group(False)) and is_flat(_group(None, None))
    assert not is_flat(_group(True, False, None)) and is_flat(_group(True, None))
    # The same tolerance as the loss's filter: float noise is no signal.
    noisy = _group(False, False)
    for rollout, reward in zip(noisy.rollouts, (0.1 + 0.2, 0.3), strict=True):
        rollout.verdict = Verdict(reward, "wrong")
    assert is_flat(noisy)
