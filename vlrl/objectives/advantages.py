"""Group-relative advantages, computed once over the global batch, before any split."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["mean", "leave_one_out", "log_mean_exp", "none"]
Normalisation = Literal["none", "group", "batch", "ema", "tokens"]


def group_advantages(
    rewards: Tensor,
    group: Tensor,
    normalisation: Normalisation,
    baseline: Baseline = "mean",
    *,
    tau: float | None = None,
    lengths: Tensor | None = None,
    scale: float | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Reward minus a baseline of its group, divided by a standard deviation or not.

    Under a baseline, groups without variance, groups of one among them, get exactly 0 and have no part in
    the batch's standard deviation: the other groups' advantages are the same whether such groups were
    dropped before. ("tokens" then shifts them with all others, as REINFORCE++ does.)

    Args:
        rewards: [N], finite; raw, of the whole global batch.
        group: int64 [N], prompt index of each rollout.
        normalisation: "none" (k1.5, Dr.GRPO); "group": the group's std, ddof=1 (GRPO as TRL and verl);
            "batch": std of all advantages of groups with variance, ddof=0 (ScaleRL section 3.2); "ema":
            `scale`; "tokens": minus the mean and over the std, ddof=1, of all loss-bearing tokens
            (REINFORCE++).
        baseline: "mean" of the group, the sample included (k1.5 eq. 3); "leave_one_out": mean of the others
            (RLOO); "log_mean_exp": tau * log mean exp(r / tau), k1.5's tau log Z; "none", which "group"
            and "ema" rule out: they divide by a spread within groups, next to nothing beside raw rewards.
        tau: for "log_mean_exp", above 0.
        lengths: int64 [N], loss-bearing tokens of each rollout, for "tokens".
        scale: for "ema", the running root mean square of advantages (`RunningScale`).
        eps: added to the standard deviation.

    Returns:
        float32 [N].
    """
    wide = rewards.double()
    assert baseline != "none" or normalisation not in ("group", "ema"), "needs a baseline"
    flat = zero_variance(rewards, group)[group]
    advantages = wide
    if baseline != "none":
        advantages = (wide - _baseline(wide, group, baseline, tau)).masked_fill(flat, 0.0)
    if normalisation == "group":
        sizes = sum_by_group(torch.ones_like(wide), group)
        means = sum_by_group(advantages, group) / sizes.clamp(min=1)
        variance = sum_by_group((advantages - means[group]).square(), group) / (sizes - 1).clamp(min=1)
        advantages = advantages / (variance.sqrt()[group] + eps)
    elif normalisation == "batch" and not flat.all():
        advantages = advantages / (advantages[~flat].std(correction=0) + eps)
    elif normalisation == "ema":
        assert scale is not None, "'ema' needs a scale"
        advantages = advantages / (scale + eps)
    elif normalisation == "tokens":
        assert lengths is not None, "'tokens' needs lengths"
        advantages = _whiten(advantages, lengths.double(), eps)
    return advantages.float()


def mean_square(rewards: Tensor, group: Tensor) -> float | None:
    """Mean of (reward - group mean)^2 over groups that vary, for `RunningScale`; None without any."""
    flat = zero_variance(rewards, group)[group]
    if flat.all():
        return None
    return float(group_advantages(rewards, group, "none")[~flat].double().square().mean())


def _baseline(wide: Tensor, group: Tensor, kind: Baseline, tau: float | None) -> Tensor:
    sizes = sum_by_group(torch.ones_like(wide), group)[group]
    if kind == "log_mean_exp":
        assert tau is not None and tau > 0, "'log_mean_exp' needs tau"
        highest = wide.new_zeros(_group_count(group)).scatter_reduce(
            0, group, wide, "amax", include_self=False
        )[group]
        powers = sum_by_group(((wide - highest) / tau).exp(), group)[group]
        return highest + tau * (powers / sizes).log()
    totals = sum_by_group(wide, group)[group]
    if kind == "leave_one_out":
        return (totals - wide) / (sizes - 1).clamp(min=1)
    return totals / sizes


def _whiten(advantages: Tensor, tokens: Tensor, eps: float) -> Tensor:
    total = tokens.sum()
    mean = (tokens * advantages).sum() / total.clamp(min=1)
    centred = advantages - mean
    variance = (tokens * centred.square()).sum() / (total - 1).clamp(min=1)
    return centred / (variance.sqrt() + eps)


class RunningScale:
    """Root of the exponential moving average of advantages' mean square over steps (TRL's ScaleRL trainer).

    Corrected for its start at zero, so that the first step is divided by its own root mean square.
    """

    def __init__(self, decay: float) -> None:
        assert 0.0 <= decay < 1.0
        self.decay = decay
        self._sum = self._weight = 0.0

    def update(self, square: float | None) -> float:
        """Take in one step's `mean_square` (None leaves it as it is); the scale to divide by."""
        if square is not None:
            self._sum = self.decay * self._sum + (1 - self.decay) * square
            self._weight = self.decay * self._weight + (1 - self.decay)
        return (self._sum / self._weight) ** 0.5 if self._weight else 1.0

    def state(self) -> dict[str, float]:
        return {"sum": self._sum, "weight": self._weight}

    def restore(self, state: dict[str, float]) -> None:
        self._sum, self._weight = state["sum"], state["weight"]


def zero_variance(rewards: Tensor, group: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Groups whose rewards are all equal, so that nothing can be learned from them.

    Equal means max - min <= tolerance * max(1, |reward|): float noise is no signal. Looks at raw rewards,
    never at a scaling std, which may be the batch's.

    Args:
        rewards: [N], finite.
        group: int64 [N].

    Returns:
        bool [max(group) + 1]. An index that no rollout carries is True, as is a group of one.
    """
    wide = rewards.double()
    assert torch.isfinite(wide).all(), "rewards must be finite"
    blank = wide.new_zeros(_group_count(group))
    highest = blank.scatter_reduce(0, group, wide, "amax", include_self=False)
    lowest = blank.scatter_reduce(0, group, wide, "amin", include_self=False)
    scale = torch.maximum(highest.abs(), lowest.abs()).clamp(min=1.0)
    return highest - lowest <= tolerance * scale


def all_equal(rewards: Sequence[float]) -> bool:
    """Whether one group is without variance, as `zero_variance` says; so is a group without rewards."""
    return bool(zero_variance(torch.tensor(rewards), torch.zeros(len(rewards), dtype=torch.int64)).all())


def sum_by_group(values: Tensor, group: Tensor) -> Tensor:
    """Sum `values` [N] over each group: [max(group) + 1], same dtype."""
    return values.new_zeros(_group_count(group)).index_add(0, group, values)


def _group_count(group: Tensor) -> int:
    return int(group.max()) + 1 if group.numel() else 0
