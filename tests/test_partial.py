"""Partial rollouts on a real tiny model: nothing lost, nothing doubled, every token under its own version."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ModelBuilder
from vlrl.collect.partial import PartialCollector
from vlrl.collect.requests import EncodedPrompt, encode_prompts
from vlrl.config import RunConfig, build_config
from vlrl.errors import UserError
from vlrl.images import ImageRef
from vlrl.policy.load import load_model
from vlrl.policy.model import Policy
from vlrl.policy.packing import TrainDocument, pack
from vlrl.policy.processor import Encoded, PolicyProcessor
from vlrl.sampling.base import SampleRequest
from vlrl.sampling.transformers_sampler import TransformersSampler
from vlrl.training.rl_batch import graded_rollouts
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

DrawImage = Callable[..., ImageRef]
PHASE, LONGEST, PROMPTS, SAMPLES = 64, 512, 4, 4


class AllRight:
    def grade(self, groups: list[Group]) -> None:
        for rollout in (r for group in groups for r in group.rollouts):
            rollout.verdict = Verdict(1.0, "correct")


class EveryOther:
    """Grades without looking."""

    def grade(self, groups: list[Group]) -> None:
        for group in groups:
            for rollout in group.rollouts:
                reward = float(rollout.sample_index % 2)
                rollout.verdict = Verdict(reward, "correct" if reward else "wrong")


def _config(path: Path, rl: dict[str, Any] | None = None, **partial: Any) -> RunConfig:
    rl = {
        "steps": 30,
        "prompts_per_step": PROMPTS,
        "rollouts_per_prompt": SAMPLES,
        "max_prompt_tokens": 128,
        "max_response_tokens": LONGEST,
        "partial": {"phase_tokens": PHASE, **partial},
        **(rl or {}),
    }
    tree = {"name": "partial", "policy": {"path": str(path)}, "data": {"train": [{"path": "rows.jsonl"}]}}
    return build_config(tree | {"rl": rl, "sampling": {"engine": "transformers"}}, "test")


@pytest.fixture(scope="module")
def model_path(build_model: ModelBuilder) -> Path:
    return build_model("qwen3_vl")


def _collector(
    path: Path, draw_image: DrawImage, **partial: Any
) -> tuple[PartialCollector, TransformersSampler]:
    config = _config(path, **partial)
    processor = PolicyProcessor.load(str(path))
    prompts = []
    for index in range(7):
        images = [draw_image(i) for i in range(index % 3)]
        messages = [{"role": "user", "content": "<image>" * len(images) + f"What is {index}?"}]
        prompts.append(Prompt(f"p{index}", messages, images, "math", "1"))
    encoded = encode_prompts(prompts, config.data, processor, 128)
    model = load_model(str(path), torch.float32)
    sampler = TransformersSampler(model, processor, 64)
    return PartialCollector(encoded, sampler, processor, EveryOther(), config), sampler


def _move_weights(sampler: TransformersSampler, version: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(version)
    moved = {
        name: weight.detach() + 0.02 * weight.std() * torch.randn(weight.shape, generator=generator)
        for name, weight in sampler._model.named_parameters()
    }
    sampler.update_weights(moved.items(), version)
    return moved


def _sampled_logprobs(policy: Policy, processor: PolicyProcessor, rollout: Rollout) -> list[float]:
    mask = [0] * len(rollout.prompt_ids) + [1] * len(rollout.response_ids)
    document = TrainDocument(rollout.prompt_ids + rollout.response_ids, rollout.images, mask)
    with torch.no_grad():
        return policy(pack([document], [0], policy, processor).inputs)[0].tolist()


def test_rollouts_over_phases_are_whole_and_each_token_is_its_versions(
    model_path: Path, draw_image: DrawImage
) -> None:
    collector, sampler = _collector(model_path, draw_image, groups_in_flight=6)
    weights = {0: {n: w.detach().clone() for n, w in sampler._model.named_parameters()}}
    groups: list[Group] = []
    for step in range(1, 6):
        groups += collector.next_batch(step).groups
        weights[step] = _move_weights(sampler, step)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    assert len(groups) == 5 * PROMPTS and all(len(g.rollouts) == SAMPLES for g in groups)
    assert max(len(r.segments) for r in rollouts) > 3 and min(len(r.segments) for r in rollouts) == 1
    assert {r.finish_reason for r in rollouts} == {"stop", "length"}
    for rollout in rollouts:
        assert all(s.finish_reason == "paused" for s in rollout.segments[:-1])
        assert all(len(s.token_ids) == PHASE for s in rollout.segments[:-1])
        assert (rollout.finish_reason == "length") == (len(rollout.response_ids) == LONGEST)
        versions = [s.policy_version for s in rollout.segments]
        assert versions == sorted(versions)
    policy = Policy(load_model(str(model_path), torch.float32), banned_ids=sampler._processor.banned_ids)
    mixed = [r for r in rollouts if len({s.policy_version for s in r.segments}) > 1]
    assert len(mixed) > 5 and any(r.images for r in mixed)
    for rollout in sorted(mixed, key=lambda r: -len({s.policy_version for s in r.segments}))[:6]:
        for version in {s.policy_version for s in rollout.segments}:
            policy.model.load_state_dict(weights[version], strict=False)
            found = iter(_sampled_logprobs(policy, sampler._processor, rollout))
            for segment in rollout.segments:
                expected = [next(found) for _ in segment.token_ids]
                if segment.policy_version == version:
                    assert segment.logprobs == pytest.approx(expected, abs=1e-4)


def test_a_restored_buffer_goes_on_as_if_nothing_had_happened(
    model_path: Path, draw_image: DrawImage
) -> None:
    """Fifty rollouts and more lie unfinished in the state, through JSON and back."""
    straight, sampler = _collector(model_path, draw_image, phase_tokens=32, groups_in_flight=40)
    straight.next_batch(1)
    state = json.loads(json.dumps(straight.state()))
    unfinished = [
        s for g in state["open"] for s in g["segments"] if not s or s[-1]["finish_reason"] == "paused"
    ]
    assert len(unfinished) >= 50
    assert len(state["open"]) + len(state["ready"]) <= 40
    expected = [straight.next_batch(step).groups for step in (2, 3)]
    again, _ = _collector(model_path, draw_image, phase_tokens=32, groups_in_flight=40)
    again.restore(state)
    assert [again.next_batch(step).groups for step in (2, 3)] == expected
    assert sampler.policy_version == 0


def test_responses_that_never_end_are_cut_after_their_last_phase(
    model_path: Path, draw_image: DrawImage
) -> None:
    collector, _ = _collector(model_path, draw_image, max_segments=2)
    rollouts = [r for g in collector.next_batch(1).groups for r in g.rollouts]
    assert max(len(r.response_ids) for r in rollouts) == 2 * PHASE
    assert all((r.finish_reason == "length") == (len(r.response_ids) == 2 * PHASE) for r in rollouts)


class Phases:
    """A sampler whose responses take as many phases as `phases` says of their prompt's n-th sampling."""

    def __init__(self, phases: Callable[[int], int]) -> None:
        self.policy_version, self.calls, self._phases = 0, 0, phases
        self.numbers: dict[str, int] = {}

    def sample(self, requests: list[SampleRequest], timeout: float) -> list[list[Segment]]:
        assert requests, "a phase of nothing"
        self.calls += 1
        for request in requests:
            self.numbers.setdefault(request.request_id, len(self.numbers) // SAMPLES)
        ended = [len(r.segments) + 1 >= self._phases(self.numbers[r.request_id]) for r in requests]
        return [
            [
                Segment(
                    [5] * PHASE, [-1.0] * PHASE, self.policy_version, [1] * PHASE, "stop" if e else "paused"
                )
            ]
            for e in ended
        ]


class NoText:
    def decode(self, ids: list[int]) -> str:
        return "x"


def _of_phases(
    phases: Callable[[int], int], steps: int, prompts: int = 997, retire_above: float | None = None
) -> tuple[PartialCollector, Phases]:
    config = _config(Path("none"), {"steps": steps, "prompts": {"retire_above": retire_above}})
    grader = EveryOther() if retire_above is None else AllRight()
    encoded = [EncodedPrompt(Prompt(f"p{i}", [], [], "math", "1"), Encoded([1], [1])) for i in range(prompts)]
    sampler = Phases(phases)
    return PartialCollector(encoded, sampler, NoText(), grader, config), sampler  # type: ignore[arg-type]


def _run(collector: PartialCollector, sampler: Phases, steps: int) -> tuple[list[int], list[int], list[int]]:
    """Of each step: phases, lag of its oldest token, lag of the youngest version that ended a response."""
    phases, oldest, ended = [], [], []
    for step in range(1, steps + 1):
        before = sampler.calls
        groups = collector.next_batch(step).groups
        rollouts = [r for group in groups for r in group.rollouts]
        phases.append(sampler.calls - before)
        oldest.append(step - 1 - min(r.oldest_version for r in rollouts))
        ended.append(step - 1 - max(r.segments[-1].policy_version for r in rollouts))
        sampler.policy_version = step
    return phases, oldest, ended


def test_what_finishes_in_one_phase_is_learned_from_at_once() -> None:
    collector, sampler = _of_phases(lambda _: 1, steps=6)
    assert _run(collector, sampler, 6) == ([1] * 6, [0] * 6, [0] * 6)


def test_what_takes_two_phases_is_finished_by_each_iterations_own_policy() -> None:
    """The first iteration fills the buffer; then one phase an iteration ends one batch and begins another."""
    collector, sampler = _of_phases(lambda _: 2, steps=6)
    phases, oldest, ended = _run(collector, sampler, 6)
    assert phases == [2, 1, 1, 1, 1, 1] and oldest == [0, 1, 1, 1, 1, 1] and ended == [0] * 6


@pytest.mark.parametrize("seed", range(8))
def test_every_iteration_samples_and_no_group_waits_for_ever(seed: int) -> None:
    steps, longest = 40, 4
    lengths = [random.Random(seed * 1000 + n).randint(1, longest) for n in range(steps * PROMPTS + 1)]
    collector, sampler = _of_phases(lambda n: lengths[n], steps=steps)
    phases, oldest, _ = _run(collector, sampler, steps)
    # In the last iterations there may be nothing more to begin.
    assert min(phases[: steps - 3]) >= 1 and max(oldest) <= longest + 1
    assert len(sampler.numbers) == steps * PROMPTS * SAMPLES and not collector._open + collector._ready


def test_a_whole_batch_that_is_ready_does_not_stop_sampling() -> None:
    """Four of two phases and four of one end at once: the next iteration samples all the same."""
    collector, sampler = _of_phases(lambda n: 2 if n < PROMPTS else 1, steps=6)
    phases, oldest, _ = _run(collector, sampler, 6)
    assert phases == [2, 1, 1, 1, 1, 1] and max(oldest) == 1 and oldest[3:] == [0, 0, 0]


def test_groups_on_their_way_are_learned_from_before_the_last_prompt_ends_the_run() -> None:
    collector, _ = _of_phases(lambda n: 1 + n % 3, steps=30, prompts=10, retire_above=0.9)
    learned = 0
    with pytest.raises(UserError, match="none of 10 prompts is left"):
        for step in range(1, 31):
            learned += len(collector.next_batch(step).groups)
    assert learned == collector._begun // PROMPTS * PROMPTS > 0


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("last", [0, 0, 0, 0, 1]), ("within_k", [0, 0, 0, 1, 1]), ("all", [1, 1, 0, 1, 1])],
)
def test_segments_in_the_loss_are_a_choice(model_path: Path, choice: str, expected: list[int]) -> None:
    """Versions 3, 5 and 6, and an injected token, which is never in a loss."""
    segments = [
        Segment([70, 71], [-1.0, -2.0], 3, [1, 1], "interrupted"),
        Segment([72], [0.0], 3, [0], "interrupted"),
        Segment([73], [-3.0], 5, [1], "paused"),
        Segment([74], [-4.0], 6, [1], "stop"),
    ]
    rollouts = [Rollout("p", 0, [60, 61], segments, verdict=Verdict(1.0, "correct"))]
    group = Group(Prompt("p", [], [], "math", "1"), rollouts)
    config = _config(model_path, loss_segments=choice)
    graded = graded_rollouts([group], config.objective, config.rl.partial)
    assert graded is not None
    assert graded.documents[0].loss_mask == [0, 0, *expected]
    logprobs = [-1.0, -2.0, 0.0, -3.0, -4.0]
    kept = [p for p, m in zip(logprobs, expected, strict=True) if m]
    assert graded.behaviour[0].tolist() == kept
