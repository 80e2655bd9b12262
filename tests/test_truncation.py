"""Responses cut by length: kept, masked or penalised, by every collector, and never more by a bonus."""

from typing import Any

import pytest
import torch

from vlrl.collect.build import make_collector
from vlrl.collect.requests import EncodedPrompt
from vlrl.collect.truncation import TruncationPenalty
from vlrl.config import RunConfig, build_config
from vlrl.policy.processor import Encoded
from vlrl.rewards.grader import Grader
from vlrl.sampling.base import SampleRequest
from vlrl.training.length import length_term
from vlrl.training.rl_batch import build_batch, graded_rollouts
from vlrl.training.rl_metrics import alarms, rollout_metrics
from vlrl.trajectory import FinishReason, Group, Prompt, Rollout, Segment, Verdict

# (text, tokens, how it ended): right; wrong; cut with the right answer in it already, the shortest of all;
# cut before any answer.
RESPONSES: list[tuple[str, int, FinishReason]] = [
    ("\\boxed{5}", 6, "stop"),
    ("\\boxed{4}", 8, "stop"),
    ("\\boxed{5} and", 4, "length"),
    ("and then", 10, "length"),
]


class Canned:
    """A sampler of any mode: the n-th response of a prompt is the n-th of RESPONSES, id 50 + n first."""

    policy_version = 0
    busy_seconds = 0.0

    def __init__(self) -> None:
        self.asked: list[SampleRequest] = []

    def sample(self, requests: list[SampleRequest], timeout: float) -> list[list[Segment]]:
        return [self._segments(place) for place, _ in enumerate(requests)]

    def submit(self, requests: list[SampleRequest]) -> None:
        self.asked += requests

    def take(self, timeout: float) -> tuple[str, list[Segment]]:
        request = self.asked.pop(0)
        return request.request_id, self._segments(int(request.request_id.split("-")[-1]))

    def _segments(self, place: int) -> list[Segment]:
        _, count, reason = RESPONSES[place % 4]
        return [Segment([50 + place % 4] * count, [-1.0] * count, 0, [1] * count, reason)]


class Texts:
    def decode(self, ids: list[int]) -> str:
        return RESPONSES[ids[0] - 50][0]


def _config(truncated: str, **changes: Any) -> RunConfig:
    rl = {"prompts_per_step": 1, "rollouts_per_prompt": 4, "max_response_tokens": 10} | changes.pop("rl", {})
    tree = {"name": "t", "policy": {"path": "p"}, "data": {"train": [{"path": "rows.jsonl"}]}, "rl": rl}
    objective = {"name": "omd", "truncated": truncated}
    return build_config(tree | {"objective": objective, "rewards": {"wrong": -0.5}} | changes, "test")


def _collect(config: RunConfig) -> list[Rollout]:
    prompt = EncodedPrompt(Prompt("p", [], [], "exact", "5"), Encoded([1, 2], [1, 2]))
    with Grader(config.rewards) as grader:
        collector = make_collector([prompt], Canned(), Texts(), grader, config)  # type: ignore[arg-type]
        (group,) = collector.next_batch(1).groups
    return sorted(group.rollouts, key=lambda r: r.response_ids[0])


STREAM: dict[str, Any] = {"max_lag": 1}
MODES: list[dict[str, Any]] = [{}, STREAM, {"partial": {"phase_tokens": 20}}]


@pytest.mark.parametrize("rl", MODES)
def test_a_cut_response_earns_what_the_policy_says(rl: dict[str, Any]) -> None:
    for truncated in ("keep", "mask"):
        graded = [
            (r.verdict.reward, r.verdict.status) for r in _collect(_config(truncated, rl=rl)) if r.verdict
        ]
        assert graded == [(1.0, "correct"), (-0.5, "wrong"), (1.0, "correct"), (-0.5, "truncated")]
    rollouts = _collect(_config("penalise", rl=rl))
    graded = [(r.verdict.reward, r.verdict.status) for r in rollouts if r.verdict]
    assert graded == [(1.0, "correct"), (-0.5, "wrong"), (-0.5, "truncated"), (-0.5, "truncated")]
    # What it held stays on record.
    assert rollouts[2].verdict == Verdict(-0.5, "truncated", "5", "length")


@pytest.mark.parametrize("kind", ["k15", "overlong", "overlong_correct"])
def test_no_reward_for_length_lifts_a_penalised_response(kind: str) -> None:
    """The cut response is the shortest: with `keep` k1.5's reward gives it 1.5, with `penalise` -0.5."""
    rewards = {"wrong": -0.5, "length": {"kind": kind, "weight": 1.0}}
    if kind != "k15":
        rewards["length"]["cache_tokens"] = 8  # type: ignore[index]
    earned = {}
    for truncated in ("keep", "penalise"):
        config = _config(truncated, rewards=rewards)
        group = Group(Prompt("p", [], [], "exact", "5"), _collect(config))
        graded = graded_rollouts([group], config.objective, None, length_term(config, 1))
        assert graded is not None
        earned[truncated] = graded.rewards.tolist()
    # k15, lengths 6, 8, 4, 10: lambda is 1/6, -1/6, 1/2, -1/2. overlong: (10 - length) / 8 - 1.
    lucky = {"k15": 1.5, "overlong": 1.0 - 0.25, "overlong_correct": 1.0 - 0.25}[kind]
    penalised = {"k15": -0.5, "overlong": -0.5 - 0.25, "overlong_correct": -0.5}[kind]
    assert earned["keep"][2] == pytest.approx(lucky) and earned["penalise"][2] == pytest.approx(penalised)
    assert earned["penalise"][:2] == earned["keep"][:2]
    assert max(earned["penalise"][2:]) <= -0.5


def test_what_enters_the_loss() -> None:
    """Advantages by hand: rewards 1, -1/2, 1 or -1/2, -1/2."""
    for truncated, advantages in (
        ("keep", [0.75, -0.75, 0.75, -0.75]),
        ("mask", [0.75, -0.75, 0.75, -0.75]),
        ("penalise", [1.125, -0.375, -0.375, -0.375]),
    ):
        config = _config(truncated)
        group = Group(Prompt("p", [], [], "exact", "5"), _collect(config))
        graded = graded_rollouts([group], config.objective)
        batch = build_batch(graded, config.objective) if graded else None
        assert batch is not None
        torch.testing.assert_close(batch.advantages, torch.tensor(advantages))
        in_loss = [d.scored for d in batch.documents]
        assert in_loss == ([6, 8, 0, 0] if truncated == "mask" else [6, 8, 4, 10])


def test_a_failed_grading_stays_an_error() -> None:
    class Broken:
        def grade(self, groups: list[Group]) -> None:
            groups[0].rollouts[0].verdict = Verdict(0.0, "grader_error", "5", "timeout")

    segment = Segment([5], [-1.0], 0, [1], "length")
    group = Group(Prompt("p", [], [], "exact", "5"), [Rollout("p", 0, [1], [segment])])
    TruncationPenalty(Broken(), -1.0).grade([group])
    assert group.rollouts[0].verdict == Verdict(0.0, "grader_error", "5", "timeout")


@pytest.mark.parametrize(
    ("cut", "said"),
    [(5, None), (6, "watch it"), (10, "watch it"), (11, "not recover"), (16, "stop and raise")],
)
def test_alarms_at_5_10_and_15_percent(cut: int, said: str | None) -> None:
    rollouts = []
    for index in range(100):
        reason: FinishReason = "length" if index < cut else "stop"
        rollout = Rollout("p", index, [1], [Segment([index], [-1.0], 0, [1], reason)])
        rollout.verdict = Verdict(float(index % 2), "correct" if index % 2 else "wrong")
        rollouts.append(rollout)
    metrics = rollout_metrics([Group(Prompt("p", [], [], "exact", "5"), rollouts)], version=0)
    found = alarms(metrics | {"updates": 1.0})
    assert (len(found) == 1 and said in found[0] and f"{cut}%" in found[0]) if said else found == []
