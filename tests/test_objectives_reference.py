"""Losses, gradients and advantages against numbers that TRL's and verl's own code gave for the same batch.

`objective_references.json` is written by benchmarks/objective_references.py, which runs theirs. Compared is
what is the same there; what is not, and so is set to theirs or left out here:

- TRL's clips and CISPO cap are ours (the cap absolute); verl's CISPO cap is 1 + clip_ratio_high, and its
  clip_ratio_low of 1 is our missing lower cap.
- TRL's grpo averages each micro-batch by itself: here all is one micro-batch. So do verl's token means here.
- TRL divides GRPO's advantages by std + 1e-4 within a long method, so its advantages are not compared;
  verl's std + 1e-6 is ours. verl's whitening has 1e-8 beside the variance, ours 1e-6 beside the std.
- verl's dual clip at 3 is on by default: off (1e6) but where we ask for `dual_clip`. TRL's `delta` is it.
- verl's GSPO and TRL's with the sample mean are means over all rollouts, ours over prompts first: the same
  where groups have one size.
- verl's `dro` is OMD's `form: token`, with the log-probs that sampled for the start policy's; its `reinforce`
  is our RLOO after the advantages. Its rloo is PPO's clip on them, TRL's a clip of the product ratio.
- TRL multiplies its KL by the ratio unless `use_bias_correction_kl` is off, as it is here.
- verl's Dr.GRPO needs `loss_scale_factor`; it divides by rollouts that have tokens, as we do.
"""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vlrl.config.objective import (
    AnyObjective,
    CispoConfig,
    DapoConfig,
    DrGrpoConfig,
    GrpoConfig,
    GspoConfig,
    KlConfig,
    OmdConfig,
    RlooConfig,
)
from vlrl.objectives import group_advantages
from vlrl.objectives.advantages import Baseline, Normalisation
from vlrl.policy.packing import MicroBatch
from vlrl.training.rl_batch import RlBatch, build_batch, graded_rollouts
from vlrl.training.rl_loss import rl_loss
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

ROOT = Path(__file__).parents[1]
RECORD = json.loads((Path(__file__).parent / "objective_references.json").read_text())
BATCH = RECORD["batch"]
TOLERANCE = 1e-6

OURS: dict[tuple[str, str], AnyObjective] = {
    ("trl", "grpo"): GrpoConfig(),
    ("trl", "grpo kl"): GrpoConfig(kl=KlConfig(coefficient=0.3)),
    ("trl", "grpo delta"): GrpoConfig(dual_clip=3.0),
    ("trl", "dapo"): DapoConfig(),
    ("trl", "dr_grpo"): DrGrpoConfig(constant_length=10),
    ("trl", "cispo"): CispoConfig(is_cap_max=2.0, aggregation="token"),
    ("trl", "gspo"): GspoConfig(clip_low=0.2, clip_high=0.2),
    ("verl", "grpo"): GrpoConfig(),
    ("verl", "dapo"): DapoConfig(),
    ("verl", "dapo dual clip"): DapoConfig(dual_clip=3.0),
    ("verl", "dr_grpo"): DrGrpoConfig(constant_length=10),
    ("verl", "cispo"): CispoConfig(is_cap_max=2.0, aggregation="token"),
    ("verl", "cispo lower cap"): CispoConfig(is_cap_max=1.28, is_cap_min=0.8, aggregation="token"),
    ("verl", "gspo"): GspoConfig(level="token", clip_low=0.2, clip_high=0.2),
    ("verl", "dro"): OmdConfig(form="token", tau=0.1),
    ("verl", "reinforce"): RlooConfig(),
}


def _batch(objective: AnyObjective) -> RlBatch:
    """The recorded batch by our own way in, but for its advantages."""
    groups = [Group(Prompt(str(p), [], [], "exact", "1"), []) for p in range(2)]
    for index, (place, old) in enumerate(zip(BATCH["group"], BATCH["old"], strict=True)):
        segment = Segment([5 + index] * len(old), old, 0, [1] * len(old), "stop")
        rollout = Rollout(str(place), index, [1], [segment])
        rollout.verdict = Verdict(BATCH["rewards"][index], "correct")
        groups[place].rollouts.append(rollout)
    graded = graded_rollouts(groups, objective)
    assert graded is not None
    batch = build_batch(graded, objective, frozen=BATCH["reference"])
    assert batch is not None
    return replace(batch, advantages=torch.tensor(BATCH["advantages"]))


def _ours(objective: AnyObjective) -> tuple[float, list[float]]:
    batch = _batch(objective)
    owner = torch.tensor([i for i, row in enumerate(BATCH["now"]) for _ in row])
    micro = MicroBatch(None, torch.arange(6), owner)  # type: ignore[arg-type]
    now = torch.tensor([p for row in BATCH["now"] for p in row], requires_grad=True)
    start = BATCH["old"]  # the policy that sampled is the one that the iteration starts from
    value, _ = rl_loss(batch, objective, start)(micro, now, torch.zeros_like(now))
    (gradient,) = torch.autograd.grad(value, now)
    return float(value.detach()), gradient.tolist()


@pytest.mark.parametrize("name", OURS, ids=" ".join)
def test_loss_and_gradient_are_theirs(name: tuple[str, str]) -> None:
    library, case = name
    loss, gradient = _ours(OURS[name])
    assert loss == pytest.approx(RECORD[library][case]["loss"], abs=TOLERANCE, rel=0)
    assert gradient == pytest.approx(RECORD[library][case]["gradient"], abs=TOLERANCE, rel=0)


def test_every_recorded_case_is_compared() -> None:
    recorded = {(library, case) for library in ("trl", "verl") for case in RECORD[library]}
    assert recorded - set(OURS) == {("trl", "version"), ("verl", "version"), ("verl", "advantages")}
    # The batch tells conventions apart: a clip, a cap or a mean of another kind is seen.
    others: list[AnyObjective] = [
        GrpoConfig(clip_high=0.28),
        GrpoConfig(aggregation="token"),
        CispoConfig(is_cap_max=3.0, aggregation="token"),
        CispoConfig(is_cap_max=2.0),
    ]
    losses = [_ours(objective)[0] for objective in [*OURS.values(), *others]]
    assert len({round(loss, 5) for loss in losses}) == 11 + len(others)


@pytest.mark.parametrize(
    ("theirs", "normalisation", "baseline"),
    [
        ("group", "group", "mean"),
        ("none", "none", "mean"),
        ("leave_one_out", "none", "leave_one_out"),
        ("reinforce_pp", "tokens", "none"),
        ("reinforce_pp_baseline", "tokens", "mean"),
    ],
)
def test_advantages_are_verls(theirs: str, normalisation: Normalisation, baseline: Baseline) -> None:
    lengths = torch.tensor([len(row) for row in BATCH["old"]])
    rewards, group = torch.tensor(BATCH["rewards"]), torch.tensor(BATCH["group"])
    ours = group_advantages(rewards, group, normalisation, baseline, lengths=lengths)
    # Whitening: 1e-6 beside a std of about a half is 2e-6 of an advantage.
    tolerance = 1e-5 if normalisation == "tokens" else TOLERANCE
    assert ours.tolist() == pytest.approx(RECORD["verl"]["advantages"][theirs], abs=tolerance, rel=0)


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is installed for benchmarks only")
def test_the_installed_trl_gives_the_recorded_numbers(tmp_path: Path) -> None:
    """In a process of its own: importing TRL changes much."""
    script = ROOT / "benchmarks" / "objective_references.py"
    ran = subprocess.run(
        [sys.executable, str(script), "trl", "--out", str(tmp_path / "now.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads((tmp_path / "now.json").read_text())
    assert found["batch"] == BATCH
    for case, expected in RECORD["trl"].items():
        if case != "version":
            assert found["trl"][case]["loss"] == pytest.approx(expected["loss"], abs=1e-9)
            assert found["trl"][case]["gradient"] == pytest.approx(expected["gradient"], abs=1e-9)
