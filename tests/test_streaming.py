"""Streaming: the lag's bound against every order in which rollouts may finish."""

import json
import random
from typing import Any

import pytest

from vlrl.collect.requests import EncodedPrompt
from vlrl.collect.streaming import StreamingCollector, in_time
from vlrl.config import RunConfig, build_config
from vlrl.errors import UserError
from vlrl.policy.processor import Encoded
from vlrl.sampling.base import SampleRequest
from vlrl.trajectory import Group, Prompt, Segment, Verdict


class Queue:
    """A streaming sampler whose rollouts finish in a seeded random order, some of them very late."""

    def __init__(self, seed: int) -> None:
        self.policy_version = 0
        self.busy_seconds = 0.0
        self.running: list[tuple[float, int, SampleRequest]] = []
        self._random = random.Random(seed)
        self._clock = 0.0

    def submit(self, requests: list[SampleRequest]) -> None:
        for request in requests:
            patience = self._random.choice([1, 2, 3, 200])
            self.running.append(
                (self._clock + patience * self._random.random(), self.policy_version, request)
            )

    def take(self, timeout: float) -> tuple[str, list[Segment]]:
        assert self.running, "the trainer waits for what nobody samples"
        self.running.sort(key=lambda entry: entry[0])
        self._clock, version, request = self.running.pop(0)
        return request.request_id, [Segment([5, 6], [-1.0, -1.0], version, [1, 1], "stop")]


class Right:
    def grade(self, groups: list[Group]) -> None:
        for group in groups:
            for rollout in group.rollouts:
                rollout.verdict = Verdict(1.0, "correct")


class NoText:
    def decode(self, ids: list[int]) -> str:
        return "x"


def _config(max_lag: int, steps: int, **prompts: Any) -> RunConfig:
    rl: dict[str, Any] = {"steps": steps, "max_lag": max_lag, "prompts_per_step": 4, "rollouts_per_prompt": 3}
    rl["prompts"] = prompts
    tree = {"name": "s", "policy": {"path": "p"}, "data": {"train": [{"path": "rows.jsonl"}]}, "rl": rl}
    return build_config(tree, "test")


def _collector(config: RunConfig, sampler: Any) -> StreamingCollector:
    prompts = [
        EncodedPrompt(Prompt(f"p{i}", [], [], "math", "1"), Encoded([1, i], [1, i])) for i in range(11)
    ]
    return StreamingCollector(prompts, sampler, NoText(), Right(), config)  # type: ignore[arg-type]


@pytest.mark.parametrize("max_lag", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_the_lag_keeps_its_bound_and_every_visit_is_learned_from_once(max_lag: int, seed: int) -> None:
    steps = 30
    sampler = Queue(seed)
    collector = _collector(_config(max_lag, steps), sampler)
    lags, seen = [], []
    for step in range(1, steps + 1):
        groups = collector.next_batch(step).groups
        assert len(groups) == 4
        lags.append(step - 1 - min(r.oldest_version for g in groups for r in g.rollouts))
        seen += [g.prompt.id for g in groups]
        # The sampler has work while the trainer trains, unless all that may wait is waiting already.
        if step < steps - max_lag:
            assert sampler.running or len(collector._ready) == max_lag * 4
        sampler.policy_version = step
    assert max(lags) == max_lag and not sampler.running
    # Eleven prompts, a pass after the other: each was visited as often as its place in the order says.
    counts = sorted(seen.count(f"p{i}") for i in range(11))
    assert sum(counts) == steps * 4 and counts[-1] - counts[0] <= 1


def test_a_restored_stream_loses_no_group_and_samples_the_running_ones_anew() -> None:
    config = _config(3, 20)
    sampler = Queue(1)
    collector = _collector(config, sampler)
    before = [g.prompt.id for step in range(1, 8) for g in _step(collector, sampler, step)]
    state = json.loads(json.dumps(collector.state()))
    kept = sum(len(g["segments"]) - sum(1 for s in g["segments"] if not s) for g in state["open"])
    assert state["open"] and kept > 0
    fresh = Queue(2)
    fresh.policy_version = 7
    resumed = _collector(config, fresh)
    resumed.restore(state)
    after = [g.prompt.id for step in range(8, 21) for g in _step(resumed, fresh, step)]
    seen = before + after
    counts = sorted(seen.count(f"p{i}") for i in range(11))
    assert len(seen) == 80 and counts[-1] - counts[0] <= 1


@pytest.mark.parametrize("seed", range(4))
def test_groups_on_their_way_are_learned_from_before_the_last_prompt_ends_the_run(seed: int) -> None:
    sampler = Queue(seed)
    collector = _collector(_config(2, 30, retire_above=0.9), sampler)
    learned = 0
    with pytest.raises(UserError, match="none of 11 prompts is left"):
        for step in range(1, 31):
            learned += len(_step(collector, sampler, step))
    assert learned == collector._begun // 4 * 4


def _step(collector: StreamingCollector, sampler: Queue, step: int) -> list[Group]:
    groups = collector.next_batch(step).groups
    sampler.policy_version = step
    return groups


@pytest.mark.parametrize(
    ("deadlines", "expected"),
    [
        ([], True),
        ([5], False),
        ([6], True),
        ([6, 6], True),
        ([6, 6, 6], False),
        ([6, 6, 7, 7, 7], False),
        ([9] * 8, True),
    ],
)
def test_what_can_still_be_learned_from_in_time(deadlines: list[int], expected: bool) -> None:
    """Steps of two groups, the next one from version 6 on."""
    assert in_time(deadlines, 5, 2) is expected
