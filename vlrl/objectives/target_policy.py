"""Target Policy Optimization: a group's rollouts are pulled towards a distribution over that group."""

import torch
from torch import Tensor

from vlrl.objectives.advantages import sum_by_group, zero_variance


def target_advantages(
    rewards: Tensor,
    group: Tensor,
    current: Tensor,
    old: Tensor,
    eta: float,
    scored: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """q - p of each rollout: minus the gradient of the cross-entropy -sum q log p by its log-prob L.

    Within a group p = softmax(current L) and q is proportional to p_old * exp(u / eta), p_old =
    softmax(old L), u the rewards' z-score (population std; 0 in a group without variance). Since p needs a
    whole group, it is computed before the batch is split; sum over a prompt, mean over prompts of
    -(q - p) * L then has the gradient of the paper's loss.

    Args:
        rewards: [N], finite.
        group: int64 [N].
        current: [N] of the policy now: sums over tokens of log-probs (the paper), or their means, since
            a softmax over sums of long rollouts is all but one-hot.
        old: [N] of the policy that sampled, likewise.
        eta: temperature of the target; 1 in the paper.
        scored: bool [N], rollouts that have tokens in the loss; without it all. The others count in z-scores,
            but have no log-prob, so no part in a softmax: their L of 0 would outweigh the whole group.

    Returns:
        float32 [N]; every group's adds up to 0. Not `scored`: 0.
    """
    assert eta > 0.0
    wide = rewards.double()
    sizes = sum_by_group(torch.ones_like(wide), group)
    centred = wide - (sum_by_group(wide, group) / sizes.clamp(min=1))[group]
    std = (sum_by_group(centred.square(), group) / sizes.clamp(min=1)).sqrt()[group]
    utility = (centred / (std + eps)).masked_fill(zero_variance(rewards, group)[group], 0.0)
    inside = torch.ones_like(group, dtype=torch.bool) if scored is None else scored
    target = _softmax((old.double() + utility / eta)[inside], group[inside])
    found = torch.zeros_like(wide)
    found[inside] = target - _softmax(current.double()[inside], group[inside])
    return found.float()


def _softmax(values: Tensor, group: Tensor) -> Tensor:
    count = int(group.max()) + 1 if group.numel() else 0
    highest = values.new_zeros(count).scatter_reduce(0, group, values, "amax", include_self=False)
    powers = (values - highest[group]).exp()
    return powers / sum_by_group(powers, group)[group]
