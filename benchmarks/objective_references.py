"""Loss, gradient and advantages that TRL's and verl's own code give for one small batch.

    python benchmarks/objective_references.py trl     # needs `pip install trl==1.16.0` (the extra `bench`)
    python benchmarks/objective_references.py verl    # needs verl importable (0.9.1 is recorded)

Each rewrites its part of tests/objective_references.json, with which tests/test_objectives_reference.py
compares vlrl. Nothing of their code is here: TRL's loss is
`GRPOTrainer._compute_loss` on a stand-in trainer whose model returns the batch's log-probs, verl's are the
functions of `verl.trainer.ppo.core_algos`, called as its trainer calls them. Arithmetic is float64.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from vlrl.compat import install_torchvision_guard

RECORD = Path(__file__).parents[1] / "tests" / "objective_references.json"

# Two prompts, three rollouts each, of unequal lengths. Log-ratios lie within every clip, on both sides of
# each and, with a negative advantage, beyond 3 (verl's dual clip).
BATCH: dict[str, Any] = {
    "group": [0, 0, 0, 1, 1, 1],
    "rewards": [1.0, 0.0, 0.25, 1.0, 0.0, 1.0],
    "advantages": [1.25, -0.75, -0.5, 0.625, -1.5, 0.875],
    "old": [[-1.0, -0.4, -2.0, -0.7], [-0.3, -1.1], [-2.2, -0.9, -1.3],
            [-0.6, -0.8, -1.7], [-2.5, -1.9, -0.2, -1.0], [-1.4]],
    "now": [[-0.9, -0.1, -2.4, -0.7], [-0.9, -0.9], [-0.8, -0.95, -1.9],
            [-1.0, -0.5, -0.6], [-1.2, -2.3, -0.15, -0.7], [-1.5]],
    "reference": [[-1.1, -0.5, -1.8, -0.7], [-0.5, -1.0], [-1.9, -0.9, -1.4],
                  [-0.7, -0.9, -1.5], [-2.0, -1.9, -0.3, -1.2], [-1.3]],
}  # fmt: skip

TRL_CASES: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "grpo kl": {"loss_type": "grpo", "beta": 0.3},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo", "max_completion_length": 10},
    "cispo": {"loss_type": "cispo", "epsilon_high": 2.0},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    "grpo delta": {"loss_type": "grpo", "delta": 3.0},
}
VERL_CASES: dict[str, dict[str, Any]] = {
    "grpo": {"loss": "vanilla", "mode": "seq-mean-token-mean", "clip_ratio_c": 1e6},
    "dapo": {"loss": "vanilla", "mode": "token-mean", "clip_ratio_high": 0.28, "clip_ratio_c": 1e6},
    "dapo dual clip": {"loss": "vanilla", "mode": "token-mean", "clip_ratio_high": 0.28},
    "dr_grpo": {"loss": "vanilla", "mode": "seq-mean-token-sum-norm", "clip_ratio_c": 1e6, "factor": 10},
    "cispo": {"loss": "cispo", "mode": "token-mean", "clip_ratio_low": 1.0, "clip_ratio_high": 1.0},
    "cispo lower cap": {
        "loss": "cispo",
        "mode": "token-mean",
        "clip_ratio_low": 0.2,
        "clip_ratio_high": 0.28,
    },
    "gspo": {"loss": "gspo", "mode": "seq-mean-token-mean"},
    "dro": {"loss": "dro", "mode": "seq-mean-token-sum", "dro_beta": 0.1},
    "reinforce": {"loss": "reinforce", "mode": "seq-mean-token-sum"},
}


def padded(rows: list[list[float]]) -> torch.Tensor:
    """[6, 4] float64, filled up with zeros."""
    return torch.tensor([row + [0.0] * (4 - len(row)) for row in rows], dtype=torch.float64)


def mask() -> torch.Tensor:
    return torch.tensor([[float(t < len(row)) for t in range(4)] for row in BATCH["old"]]).double()


def trl_results() -> dict[str, Any]:
    """Loss and gradient of each of TRL's losses; on one device, without accumulation."""
    install_torchvision_guard()
    from trl import GRPOTrainer

    return {name: _record(_trl_loss, GRPOTrainer, settings) for name, settings in TRL_CASES.items()}


def verl_results() -> dict[str, Any]:
    """The same of verl's, and its advantages [6] of the batch's rewards."""
    install_torchvision_guard()
    from verl.trainer.ppo import core_algos

    cases = {name: _record(_verl_loss, core_algos, settings) for name, settings in VERL_CASES.items()}
    return cases | {"advantages": _verl_advantages(core_algos)}


def _record(loss: Any, code: Any, settings: dict[str, Any]) -> dict[str, Any]:
    now = padded(BATCH["now"]).requires_grad_()
    value = loss(code, settings, now)
    value.backward()
    assert now.grad is not None
    lengths = [len(row) for row in BATCH["now"]]
    gradient = [round(float(g), 12) for row, n in zip(now.grad, lengths, strict=True) for g in row[:n]]
    return {"settings": settings, "loss": round(float(value.detach()), 12), "gradient": gradient}


def _trl_loss(trainer: Any, settings: dict[str, Any], now: torch.Tensor) -> torch.Tensor:
    defaults = {"epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0, "importance_sampling_level": "token"}
    given = defaults | {"max_completion_length": 4} | settings
    args = {"delta": given.pop("delta", None), "use_bias_correction_kl": False, "steps_per_generation": 1}
    stand_in = SimpleNamespace(
        **given,
        args=SimpleNamespace(**args),
        accelerator=SimpleNamespace(num_processes=1, reduce=lambda x, **_: x, gather=lambda x: x),
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (now, torch.zeros_like(now), None),
    )
    tokens = torch.ones(6, 4, dtype=torch.int64)
    inputs = {
        "prompt_ids": tokens,
        "prompt_mask": tokens,
        "completion_ids": tokens,
        "completion_mask": mask(),
    }
    inputs |= {"old_per_token_logps": padded(BATCH["old"]), "ref_per_token_logps": padded(BATCH["reference"])}
    inputs |= {"advantages": torch.tensor(BATCH["advantages"]).double(), "num_items_in_batch": mask().sum()}
    return trainer._compute_loss(stand_in, None, inputs)


def _verl_loss(core: Any, settings: dict[str, Any], now: torch.Tensor) -> torch.Tensor:
    from verl.workers.config import ActorConfig, PolicyLossConfig

    given: dict[str, Any] = {"clip_ratio": 0.2} | settings
    name, mode, factor = given.pop("loss"), given.pop("mode"), given.pop("factor", None)
    more = {"policy_loss": PolicyLossConfig(dro_beta=given.pop("dro_beta"))} if name == "dro" else {}
    config = ActorConfig(
        strategy="fsdp", rollout_n=3, use_dynamic_bsz=True, ppo_mini_batch_size=6, **given, **more
    )
    config.global_batch_info["loss_scale_factor"] = factor
    # Not in verl's registry by its own name.
    loss = core.compute_policy_loss_reinforce if name == "reinforce" else core.get_policy_loss_fn(name)
    advantages = torch.tensor(BATCH["advantages"]).double()[:, None].expand(6, 4)
    return loss(padded(BATCH["old"]), now, advantages, mask(), mode, config)[0]


def _verl_advantages(core: Any) -> dict[str, list[float]]:
    import numpy

    groups = numpy.array(BATCH["group"])
    lasts = [len(row) - 1 for row in BATCH["old"]]
    found = {}
    for name, estimator, more in (
        ("group", "grpo", {"index": groups}),
        ("none", "grpo", {"index": groups, "norm_adv_by_std_in_grpo": False}),
        ("leave_one_out", "rloo", {"index": groups}),
        ("reinforce_pp", "reinforce_plus_plus", {"config": SimpleNamespace(gamma=1.0)}),
        ("reinforce_pp_baseline", "reinforce_plus_plus_baseline", {"index": groups}),
    ):
        rewards = torch.zeros(6, 4, dtype=torch.float64)
        for i, reward in enumerate(BATCH["rewards"]):
            rewards[i, lasts[i]] = reward
        values, _ = core.get_adv_estimator_fn(estimator)(
            token_level_rewards=rewards, response_mask=mask(), **more
        )
        found[name] = [round(float(v), 12) for v in values[:, 0]]
    return found


def _readable(record: dict[str, Any]) -> str:
    """JSON with a line for each case, not for each number."""
    lines = []
    for part, entries in record.items():
        inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in entries.items())
        lines.append(f" {json.dumps(part)}: {{\n{inner}\n }}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library", choices=["trl", "verl"])
    parser.add_argument("--out", type=Path, default=RECORD)
    arguments = parser.parse_args()
    name, out = arguments.library, arguments.out
    results = trl_results() if name == "trl" else verl_results()
    version = __import__(name).__version__
    record = json.loads(out.read_text()) if out.exists() else {}
    record |= {"batch": BATCH, name: {"version": version} | results}
    out.write_text(_readable(record))


if __name__ == "__main__":
    main()
