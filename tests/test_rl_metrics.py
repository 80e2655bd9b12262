"""Signals of an RL step, worked out by hand."""

import re
from pathlib import Path

import pytest
import torch

from vlrl.config.objective import CispoConfig, GrpoConfig, GspoConfig, OmdConfig
from vlrl.objectives.metrics import mean_stats
from vlrl.policy.packing import MicroBatch
from vlrl.training.rl_batch import RlBatch, build_batch, graded_rollouts
from vlrl.training.rl_loss import rl_loss
from vlrl.training.rl_metrics import alarms, learner_metrics, rollout_metrics
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Status, Verdict

DOCS = Path(__file__).parents[1] / "docs" / "metrics.md"


def rollout(
    index: int, status: Status, *parts: tuple[list[int], int], reward: float | None = None
) -> Rollout:
    """Segments of (token ids, policy version)."""
    segments = [Segment(ids, [-1.0] * len(ids), version, [1] * len(ids), "stop") for ids, version in parts]
    made = Rollout("p", index, [1, 2], segments)
    made.verdict = Verdict(float(status == "correct") if reward is None else reward, status)
    return made


def group(*statuses: Status, ids: list[int] | None = None) -> Group:
    """Distinct responses unless `ids` gives them all the same."""
    rollouts = [rollout(i, s, (ids or [50 + i, 60], 3)) for i, s in enumerate(statuses)]
    return Group(Prompt("p", [], [], "exact", "1"), rollouts)


def test_collapse_by_hand() -> None:
    """Two all right, one all wrong in two ways, one that varies, one of errors only (left out)."""
    groups = [
        group("correct", "correct"),
        group("correct", "correct", "grader_error"),
        group("wrong", "no_answer"),
        group("correct", "wrong"),
        group("grader_error", "infra_error"),
    ]
    metrics = rollout_metrics(groups, version=3)
    assert metrics["collapse"] == 0.75
    assert metrics["collapse_correct"] == 0.5 and metrics["collapse_wrong"] == 0.25
    assert rollout_metrics(groups[3:4], version=3)["collapse"] == 0.0
    # Float noise of a partial credit is no signal.
    noisy = group("wrong", "wrong")
    noisy.rollouts[0].verdict = Verdict(0.1 + 0.2, "wrong")
    noisy.rollouts[1].verdict = Verdict(0.3, "wrong")
    assert rollout_metrics([noisy], version=3)["collapse_wrong"] == 1.0


def test_duplicates_by_hand() -> None:
    """Four the same are three too many, two distinct ones none: 3 of 6."""
    same = group("wrong", "wrong", "wrong", "correct", ids=[50, 60])
    metrics = rollout_metrics([same, group("wrong", "correct")], version=3)
    assert metrics["duplicate_rate"] == pytest.approx(3 / 6)


def test_lag_of_tokens_by_hand() -> None:
    """Three tokens of version 2, one of 5, and an injected one of 1 that no policy sampled."""
    mixed = rollout(0, "correct", ([5, 6, 7], 2), ([8], 5))
    mixed.segments.insert(1, Segment([9], [0.0], 1, [0], "interrupted"))
    metrics = rollout_metrics([Group(Prompt("p", [], [], "exact", "1"), [mixed])], version=6)
    assert metrics["lag"] == 4.0 and metrics["lag_mean"] == pytest.approx((3 * 4 + 1) / 4)


def test_an_alarm_above_nine_tenths_of_collapse() -> None:
    varied, flat = group("correct", "wrong"), group("wrong", "wrong")
    for flats, loud in ((9, False), (10, True)):
        metrics = rollout_metrics([varied] + [flat] * flats, version=3) | {"updates": 1.0}
        assert any("groups have equal rewards" in alarm for alarm in alarms(metrics)) is loud
    silent = rollout_metrics([flat] * 10, version=3) | {"updates": 0.0}
    assert alarms(silent) == ["nothing to learn from: every group's rewards are equal"]


def _learned(objective: CispoConfig | GrpoConfig | GspoConfig | OmdConfig, version: int) -> dict[str, float]:
    """One update on two rollouts, -1 recorded for every token, whose log-probs are now those below."""
    old = Group(
        Prompt("p", [], [], "exact", "1"),
        [rollout(0, "correct", ([5, 6], 3), ([7], 4)), rollout(1, "wrong", ([8], 4), ([9], 3))],
    )
    graded = graded_rollouts([old], objective)
    batch = build_batch(graded, objective) if graded else None
    assert batch is not None
    now = torch.tensor([-1.0, -0.5, -0.9, -1.6, -1.0], requires_grad=True)
    value, stats = rl_loss(batch, objective, None, version)(_micro(batch), now, torch.full((5,), 0.25))
    update = {name: float(v) for name, v in stats.items()} | {
        "loss": float(value.detach()),
        "grad_norm": 1.0,
        "lr": 1.0,
    }
    return learner_metrics([update])


def _micro(batch: RlBatch) -> MicroBatch:
    owner = torch.tensor([i for i, d in enumerate(batch.documents) for _ in range(d.scored)])
    return MicroBatch(None, torch.arange(len(batch.documents)), owner)  # type: ignore[arg-type]


def test_the_mismatch_is_of_tokens_that_these_weights_sampled() -> None:
    """Differences 0, 0.5, 0.1 and -0.6, 0; version 4 sampled the third and the fourth."""
    metrics = _learned(CispoConfig(), version=4)
    k3 = {d: torch.expm1(torch.tensor(d)).item() - d for d in (0.5, 0.1, -0.6)}
    assert metrics["mismatch_tokens"] == 2
    assert metrics["mismatch_abs_mean"] == pytest.approx(0.35)
    assert metrics["mismatch_abs_max"] == pytest.approx(0.6)
    assert metrics["mismatch_k3_mean"] == pytest.approx((k3[0.1] + k3[-0.6]) / 2, rel=1e-5)
    assert metrics["behaviour_k3_mean"] == pytest.approx(sum(k3.values()) / 5, rel=1e-5)
    assert metrics["entropy_mean"] == 0.25 and metrics["tokens"] == 5
    older = _learned(CispoConfig(), version=6)
    assert not any(name.startswith("mismatch") for name in older)
    assert older["behaviour_k3_mean"] == metrics["behaviour_k3_mean"]


def test_clips_of_both_sides_are_told_apart() -> None:
    """Ratios 1, 1.65, 1.11 with A > 0 and 0.55, 1 with A < 0; gspo's are 1.22 and 0.74."""
    grpo = _learned(GrpoConfig(clip_low=0.3, clip_high=0.2), version=4)
    assert grpo["clip_high_fraction"] == pytest.approx(1 / 5)
    assert grpo["clip_low_fraction"] == pytest.approx(1 / 5)
    cispo = _learned(CispoConfig(is_cap_max=1.1), version=4)
    assert cispo["clip_high_fraction"] == pytest.approx(2 / 5) and cispo["clip_low_fraction"] == 0.0
    gspo = _learned(GspoConfig(clip_low=0.2, clip_high=0.3), version=4)
    assert gspo["sequence_clip_high_fraction"] == 0.0 and gspo["sequence_clip_low_fraction"] == 0.5


def test_every_metric_is_documented() -> None:
    documented = set(re.findall(r"^\| `([a-z0-9_]+)", DOCS.read_text(), re.M))
    written = set(rollout_metrics([group("correct", "wrong")], version=3)) | {"group_use"}
    for objective in (CispoConfig(), GspoConfig(), OmdConfig()):
        written |= set(_learned(objective, version=4))
    missing = {name.split("/")[0] for name in written} - documented
    assert not missing
    assert mean_stats({"x_sum": 3.0, "tokens": 2.0})["x_mean"] == 1.5
