"""Weights for tokens whose sampler and trainer disagree though their policy version is the same.

The ratio is w = exp(trainer - sampler), both under the weights that sampled. It multiplies a term, detached.
"""

from typing import Literal

import torch
from torch import Tensor

from vlrl.objectives.metrics import LOG_RATIO_MAX, Stats, count, maximum
from vlrl.objectives.sequences import sum_by_sequence

Kind = Literal["truncated", "masked", "sequence_truncated", "sequence_masked", "geometric", "k3"]


def correction_weights(
    trainer: Tensor, sampler: Tensor, sequence: Tensor, n: int, kind: Kind, low: float, high: float
) -> tuple[Tensor, Stats]:
    """One weight a token.

    - "truncated": min(w, high) (TIS);
    - "masked": w where low <= w <= high, else 0 (IcePop);
    - "sequence_truncated": min(W, high), W the product of a rollout's ratios;
    - "sequence_masked": W where low <= W <= high, else 0;
    - "geometric": 1 where low <= W^(1/tokens) <= high, else 0 for the whole rollout;
    - "k3": 1 where the mean of w - 1 - log w over the rollout is at most high, else 0.

    Args:
        trainer: [T] log-probs by the trainer, of the weights that sampled.
        sampler: [T] recorded by the sampler.
        sequence: int64 [T], index in 0..n-1 of each token's rollout.
        n: rollouts.
        low: absolute ratio, from 0 to `high`; unused by "truncated", "sequence_truncated" and "k3".
        high: absolute ratio (for "k3" nats), above 0.

    Returns:
        [T] and tokens, correction_sum, correction_max, correction_zero_count and correction_capped_count.
    """
    assert high > 0.0 and (kind in ("truncated", "sequence_truncated", "k3") or 0.0 <= low <= high)
    log_ratio = trainer.detach().double() - sampler.detach().double()
    assert torch.isfinite(log_ratio).all(), "log-probs must be finite"
    if kind in ("truncated", "masked"):
        ratio = log_ratio.clamp(max=LOG_RATIO_MAX).exp()
    elif kind in ("sequence_truncated", "sequence_masked"):
        ratio = sum_by_sequence(log_ratio, sequence, n).clamp(max=LOG_RATIO_MAX).exp()[sequence]
    else:
        tokens = torch.bincount(sequence, minlength=n).clamp(min=1)
        bounded = log_ratio.clamp(max=LOG_RATIO_MAX)
        measured = log_ratio if kind == "geometric" else torch.expm1(bounded) - bounded
        mean = (sum_by_sequence(measured, sequence, n) / tokens)[sequence]
        ratio = mean.clamp(max=LOG_RATIO_MAX).exp() if kind == "geometric" else mean
    inside = (ratio <= high) & ((ratio >= low) | (kind == "k3"))
    capped = torch.zeros_like(inside)
    if kind in ("truncated", "sequence_truncated"):
        weights, capped = ratio.clamp(max=high), ratio > high
    elif kind in ("masked", "sequence_masked"):
        weights = ratio * inside
    else:
        weights = inside.double()
    return weights.to(trainer.dtype), {
        "tokens": count(weights),
        "correction_sum": weights.sum(),
        "correction_max": maximum(weights),
        "correction_zero_count": (weights == 0).double().sum(),
        "correction_capped_count": capped.double().sum(),
    }
