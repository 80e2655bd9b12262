"""Group-relative advantages, computed once over the global batch, before any split."""

from typing import Literal

import torch
from torch import Tensor

Normalisation = Literal["none", "group", "batch"]


def group_advantages(
    rewards: Tensor, group: Tensor, normalisation: Normalisation, eps: float = 1e-6
) -> Tensor:
    """Reward minus the mean of its group (the sample included), divided by a standard deviation or not.

    Groups without variance, groups of one among them, get exactly 0 and have no part in the batch's
    standard deviation: the other groups' advantages are the same whether such groups were dropped before.

    Args:
        rewards: [N], finite; raw, of the whole global batch.
        group: int64 [N], prompt index of each rollout.
        normalisation: "none" (k1.5, Dr.GRPO); "group": the group's std, ddof=1 (GRPO as TRL and verl);
            "batch": std of all advantages of groups with variance, ddof=0 (ScaleRL section 3.2).
        eps: added to the standard deviation.

    Returns:
        float32 [N].
    """
    wide = rewards.double()
    sizes = sum_by_group(torch.ones_like(wide), group)
    means = sum_by_group(wide, group) / sizes.clamp(min=1)
    flat = zero_variance(rewards, group)[group]
    advantages = (wide - means[group]).masked_fill(flat, 0.0)
    if normalisation == "group":
        variance = sum_by_group(advantages.square(), group) / (sizes - 1).clamp(min=1)
        advantages = advantages / (variance.sqrt()[group] + eps)
    elif normalisation == "batch" and not flat.all():
        advantages = advantages / (advantages[~flat].std(correction=0) + eps)
    return advantages.float()


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


def sum_by_group(values: Tensor, group: Tensor) -> Tensor:
    """Sum `values` [N] over each group: [max(group) + 1], same dtype."""
    return values.new_zeros(_group_count(group)).index_add(0, group, values)


def _group_count(group: Tensor) -> int:
    return int(group.max()) + 1 if group.numel() else 0
