"""Distance to a frozen reference policy, as a term of the loss or taken off the reward."""

from typing import Literal

import torch
from torch import Tensor

from vlrl.objectives.metrics import LOG_RATIO_MAX

Estimator = Literal["k1", "k2", "k3"]


def kl_terms(logprobs: Tensor, reference: Tensor, estimator: Estimator) -> Tensor:
    """Estimates of KL(policy || reference) at sampled tokens, d = logp - ref (Schulman's k1, k2, k3).

    "k1" is d: unbiased, and as a *loss* without use, since the mean of its gradient is 0. "k2" is d^2 / 2:
    its gradient is that of the KL on average. "k3" is exp(-d) + d - 1, GRPO's: never negative, and unbiased
    in value, not in gradient.

    Args:
        logprobs: [T] of the policy; a gradient flows through them.
        reference: [T] of the frozen policy.

    Returns:
        [T], at least float32.
    """
    wide = torch.promote_types(logprobs.dtype, torch.float32)
    difference = logprobs.to(wide) - reference.detach().to(wide)
    assert torch.isfinite(difference.detach()).all(), "log-probs must be finite"
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return 0.5 * difference.square()
    back = (-difference).clamp(max=LOG_RATIO_MAX)
    return torch.expm1(back) - back
