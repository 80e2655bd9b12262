"""From graded groups to a batch and its loss, by configs as written and numbers worked out by hand."""

import math
from typing import Any

import pytest
import torch

from vlrl.config import RunConfig, build_config
from vlrl.config.objective import AnyObjective, TpoConfig
from vlrl.objectives.metrics import mean_stats
from vlrl.policy.packing import MicroBatch
from vlrl.training.length import length_term
from vlrl.training.rl_batch import GradedRollouts, RlBatch, aimed, build_batch, graded_rollouts
from vlrl.training.rl_loss import rl_loss
from vlrl.trajectory import FinishReason, Group, Prompt, Rollout, Segment, Verdict


def configure(objective: dict[str, Any], **more: Any) -> RunConfig:
    rl = {"max_response_tokens": 20} | more.pop("rl", {})
    tree = {"name": "t", "policy": {"path": "p"}, "data": {"train": [{"path": "rows.jsonl"}]}}
    return build_config(tree | {"objective": objective, "rl": rl} | more, "test")


def group(*members: tuple[float, int] | tuple[float, int, FinishReason]) -> Group:
    """Members are (reward, tokens, how it ended), each token sampled with -1."""
    rollouts = []
    for index, (reward, tokens, *reason) in enumerate(members):
        ended = reason[0] if reason else "stop"
        segment = Segment([50 + index] * tokens, [-1.0] * tokens, 0, [1] * tokens, ended)
        rollouts.append(Rollout("p", index, [1, 2], [segment]))
        rollouts[-1].verdict = Verdict(reward, "correct" if reward > 0 else "wrong")
    return Group(Prompt("p", [], [], "exact", "5"), rollouts)


def graded_of(config: RunConfig, *groups: Group) -> GradedRollouts:
    length = length_term(config, 1)
    graded = graded_rollouts(list(groups), config.objective, config.rl.partial, length)
    assert graded is not None
    return graded


def batch_of(config: RunConfig, *groups: Group) -> RlBatch:
    batch = build_batch(graded_of(config, *groups), config.objective)
    assert batch is not None
    return batch


def lost(
    batch: RlBatch, objective: AnyObjective, by: float = 0.0
) -> tuple[float, list[float], dict[str, float]]:
    """Value, gradient and statistics where every token is `by` likelier than it was when it was sampled."""
    owner = torch.tensor([i for i, d in enumerate(batch.documents) for _ in range(d.scored)])
    micro = MicroBatch(None, torch.arange(len(batch.documents)), owner)  # type: ignore[arg-type]
    now = torch.cat(batch.behaviour).double().add(by).requires_grad_()
    start = [(b + by).tolist() for b in batch.behaviour]
    value, stats = rl_loss(batch, objective, start)(micro, now, torch.zeros_like(now))
    (gradient,) = torch.autograd.grad(value, now)
    return float(value.detach()), gradient.tolist(), mean_stats(stats)


# ---------------------------------------------------------------- corrections, caps


@pytest.mark.parametrize(
    ("correction", "factor"),
    [  # every token's ratio is e^0.1 = 1.105171; of k3 0.005171 nats
        ({"kind": "k3", "high": 0.01}, 1.0),
        ({"kind": "k3", "high": 0.001}, 0.0),
        ({"kind": "k3"}, 1.0),
        ({"kind": "truncated", "high": 0.3}, 0.3),
        ({"kind": "sequence_truncated", "high": 0.3}, 0.3),
        ({"kind": "truncated"}, math.exp(0.1)),
        ({"kind": "masked"}, math.exp(0.1)),
        ({"kind": "masked", "high": 1.1}, 0.0),
        ({"kind": "sequence_masked", "low": 1.2}, math.exp(0.2)),
        ({"kind": "geometric"}, 0.0),
        ({"kind": "geometric", "high": 1.2}, 1.0),
    ],
)
def test_corrections_work_at_the_bounds_that_are_published(correction: dict[str, Any], factor: float) -> None:
    config = configure({"name": "rloo", "correction": correction})
    batch = batch_of(config, group((1.0, 2), (0.0, 2)))
    *_, stats = lost(batch, config.objective, by=0.1)
    assert stats["correction_mean"] == pytest.approx(factor, rel=1e-5)


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "cispo", "is_cap_max": 4.8e8},
        {"name": "minirl", "is_cap_max": 4.8e8},
        {"name": "grpo", "dual_clip": 4.8e8, "clip_high": 4.7e8},
        {"name": "rloo", "correction": {"kind": "truncated", "high": 4.8e8}},
    ],
)
def test_the_largest_cap_that_a_config_takes_is_one_that_losses_take(objective: dict[str, Any]) -> None:
    config = configure(objective)
    batch = batch_of(config, group((1.0, 2), (0.0, 2)))
    assert math.isfinite(lost(batch, config.objective)[0])


# ------------------------------------------------------------------------- KL


@pytest.mark.parametrize(
    ("objective", "scale"),
    [  # rollouts of 2 and 4 tokens: what a token's KL weighs beside 0.25 * k
        ({"name": "gspo", "level": "sequence"}, [1 / 4, 1 / 8]),
        ({"name": "gspo", "level": "token"}, [1 / 4, 1 / 8]),
        ({"name": "omd", "form": "per_length"}, [1 / 4, 1 / 8]),
        ({"name": "omd"}, [1 / 2, 1 / 2]),
        ({"name": "omd", "form": "token"}, [1 / 2, 1 / 2]),
        ({"name": "rloo"}, [1 / 2, 1 / 2]),
    ],
)
def test_the_kl_is_on_the_scale_of_the_loss(objective: dict[str, Any], scale: list[float]) -> None:
    """k2 of a distance of 0.3 is 0.045 a token, its gradient 0.3."""
    config = configure(objective | {"kl": {"coefficient": 0.25, "estimator": "k2"}})
    batch = batch_of(config, group((1.0, 2), (0.0, 4)))
    batch.frozen = [(b - 0.3).tolist() for b in batch.behaviour]
    value, gradient, _ = lost(batch, config.objective)
    plain = config.objective.model_copy(update={"kl": configure({"name": "omd"}).objective.kl})
    without, slopes, _ = lost(batch, plain)
    weights = [scale[0]] * 2 + [scale[1]] * 4
    assert value - without == pytest.approx(0.25 * 0.045 * sum(weights), rel=1e-4)
    found = [g - s for g, s in zip(gradient, slopes, strict=True)]
    assert found == pytest.approx([0.25 * 0.3 * w for w in weights], rel=1e-4)


@pytest.mark.parametrize(
    ("truncated", "partial"),
    [("keep", None), ("mask", None), ("keep", {"phase_tokens": 8, "loss_segments": "last"})],
)
def test_the_kl_in_the_reward_is_of_every_sampled_token(truncated: str, partial: Any) -> None:
    """4, 3 and 5 tokens, 0.2 nats from the start policy each, and one injected: 0.8, 0.6 and 1.0 off."""
    kl = {"coefficient": 1.0, "where": "reward"}
    config = configure({"name": "rloo", "truncated": truncated, "kl": kl}, rl={"partial": partial})
    members = group((1.0, 4), (0.0, 3, "length"), (0.0, 5))
    whole = members.rollouts[2]
    ids = whole.response_ids
    whole.segments = [
        Segment(ids[:3], [-1.0] * 3, 0, [1] * 3, "interrupted"),
        Segment([9], [0.0], 0, [0], "interrupted"),
        Segment(ids[3:], [-1.0] * 2, 4, [1] * 2, "stop"),
    ]
    graded = graded_of(config, members)
    sampled = graded.sampled()
    assert [d.scored for d in sampled] == [4, 3, 5]
    frozen = [[-1.2] * d.scored for d in sampled]
    batch = build_batch(graded, config.objective, frozen=frozen)
    assert batch is not None and batch.frozen is None
    assert batch.rewards.tolist() == pytest.approx([0.2, -0.6, -1.0], abs=1e-6)


# --------------------------------------------------------------- zero variance


def test_a_punishment_for_length_makes_no_group_worth_keeping() -> None:
    """All wrong, the last too long: scaled by the group's std its tiny punishment would be -1.5."""
    overlong = {"kind": "overlong", "weight": 1.0, "cache_tokens": 10}
    config = configure({"name": "dapo"}, rewards={"wrong": -1.0, "length": overlong})
    wrong = group((-1.0, 5), (-1.0, 5), (-1.0, 5), (-1.0, 11))
    assert build_batch(graded_of(config, wrong), config.objective) is None
    batch = batch_of(config, wrong, group((1.0, 5), (-1.0, 11)))
    assert batch.groups == 1 and batch.rewards.tolist() == pytest.approx([1.0, -1.1])
    kept = configure({"name": "dapo", "drop_zero_variance": False}, rewards={"length": overlong})
    assert batch_of(kept, wrong).groups == 1


def test_the_kl_makes_no_group_worth_keeping() -> None:
    config = configure({"name": "dapo", "kl": {"coefficient": 0.1, "where": "reward"}})
    graded = graded_of(config, group((0.0, 4), (0.0, 9)))
    assert build_batch(graded, config.objective, frozen=[[-2.0] * 4, [-3.0] * 9]) is None


def test_the_length_reward_of_k15_does() -> None:
    """All right, 4 and 9 tokens: 0.5 and -0.5, a tenth of it."""
    config = configure({"name": "dapo"}, rewards={"length": {"kind": "k15", "weight": 0.1}})
    assert batch_of(config, group((1.0, 4), (1.0, 9))).rewards.tolist() == pytest.approx([1.05, 0.95])


# ------------------------------------------------------ rollouts without tokens


@pytest.mark.parametrize("length_normalised", [False, True])
def test_a_masked_rollout_has_no_part_in_target_policy_optimization(length_normalised: bool) -> None:
    """Rewards 1, 0, 0 with the last masked: z-scores sqrt(2) and -1/sqrt(2) of two equal rollouts."""
    config = configure({"name": "tpo", "truncated": "mask", "length_normalised": length_normalised})
    assert isinstance(config.objective, TpoConfig)
    batch = batch_of(config, group((1.0, 5), (0.0, 5), (0.0, 7, "length")))
    found = aimed(batch, config.objective, [b.tolist() for b in batch.behaviour]).advantages
    share = math.exp(math.sqrt(2)) / (math.exp(math.sqrt(2)) + math.exp(-math.sqrt(0.5)))
    assert found.tolist() == pytest.approx([share - 0.5, 0.5 - share, 0.0], abs=1e-5)


@pytest.mark.parametrize("length_normalised", [False, True])
def test_the_gradient_of_target_policy_optimization_is_the_cross_entropys(length_normalised: bool) -> None:
    """-sum q log softmax(L) by autograd, L the sums or the means of 3, 5 and 4 tokens."""
    config = configure({"name": "tpo", "length_normalised": length_normalised})
    assert isinstance(config.objective, TpoConfig)
    batch = batch_of(config, group((1.0, 3), (0.0, 5), (0.0, 4)))
    moved = [(b + 0.1 * i).tolist() for i, b in enumerate(batch.behaviour)]
    batch = aimed(batch, config.objective, moved)
    now = [torch.tensor(row, dtype=torch.float64, requires_grad=True) for row in moved]
    divisor = torch.tensor([3.0, 5.0, 4.0] if length_normalised else [1.0] * 3)
    old = torch.stack([b.double().sum() for b in batch.behaviour]) / divisor
    z_scores = torch.tensor([math.sqrt(2), -math.sqrt(0.5), -math.sqrt(0.5)])
    target = (old + z_scores).softmax(0)
    logits = torch.stack([row.sum() for row in now]) / divisor
    wanted = torch.cat(torch.autograd.grad(-(target * logits.log_softmax(0)).sum(), now))
    assert lost(batch, config.objective)[1] == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize("objective", [{"name": "omd"}, {"name": "gspo"}, {"name": "gspo", "level": "token"}])
def test_statistics_of_rollouts_are_of_those_in_the_loss(objective: dict[str, Any]) -> None:
    config = configure(objective | {"truncated": "mask"})
    groups = group((1.0, 2), (0.0, 4, "length"), (1.0, 3, "length"), (0.0, 5))
    *_, stats = lost(batch_of(config, groups), config.objective, by=0.1)
    assert stats["sequences"] == 2
    if objective["name"] == "gspo":
        assert stats["sequence_ratio_mean"] == pytest.approx(math.exp(0.1), rel=1e-5)
