"""The losses: terms to be minimised, before aggregation, and statistics that add up.

Each returns (terms, stats). The loss is (terms * weights).sum(), `weights` from `aggregation`, gathered to
tokens for the per-token losses. Arithmetic is at least fp32. Log-probs must be finite (an infinite one is
a masked token that should not be here). Formulas and conventions: docs/objectives.md.
"""

import math

import torch
from torch import Tensor

from vlrl.objectives.metrics import LOG_RATIO_MAX, Stats, count, k3, maximum


def cispo(
    logprobs: Tensor, behaviour: Tensor, advantages: Tensor, cap_max: float, cap_min: float = 0.0
) -> tuple[Tensor, Stats]:
    """-sg(clamp(ratio, cap_min, cap_max)) * A * logp, ratio = exp(logp - behaviour) (ScaleRL 2.2; M1 eq. 4).

    Args:
        logprobs: [T] of the policy, with gradient.
        behaviour: [T] recorded by the sampler.
        advantages: [T], each token its rollout's.
        cap_max: absolute: 5.0 is a ratio of 5. At most e^20.
        cap_min: absolute; 0 is no lower cap.

    Returns:
        terms [T] and tokens, ratio_sum, ratio_max, k3_sum, clip_high_count and clip_low_count (ratios
        beyond a cap, whatever the advantage).
    """
    assert 0.0 <= cap_min < cap_max <= math.exp(LOG_RATIO_MAX)
    logprobs = _at_least_fp32(logprobs)
    ratio = _log_ratio(logprobs.detach(), behaviour).exp()
    terms = -(ratio.clamp(cap_min, cap_max) * advantages.detach()) * logprobs
    return terms, _ratio_stats(logprobs, behaviour, ratio, ratio > cap_max, ratio < cap_min)


def grpo(
    logprobs: Tensor, old: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Stats]:
    """-min(ratio * A, clamp(ratio, 1 - clip_low, 1 + clip_high) * A), ratio = exp(logp - old) (GRPO; DAPO).

    The gradient of a token whose ratio is above e^20 is 0.

    Args:
        logprobs: [T] of the policy, with gradient.
        old: [T] of the policy that sampled.
        advantages: [T], each token its rollout's.
        clip_low: below 1, relative to 1: 0.2 clips at 0.8.
        clip_high: relative to 1: 0.2 clips at 1.2.

    Returns:
        terms [T] and the statistics of `cispo`; a clip counts where it takes the gradient away (above
        with A > 0, below with A < 0).
    """
    assert 0.0 < clip_low < 1.0 and clip_high > 0.0
    logprobs, advantages = _at_least_fp32(logprobs), advantages.detach()
    ratio = _log_ratio(logprobs, old).exp()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    terms = -torch.minimum(ratio * advantages, clipped * advantages)
    high = (ratio > 1.0 + clip_high) & (advantages > 0)
    low = (ratio < 1.0 - clip_low) & (advantages < 0)
    return terms, _ratio_stats(logprobs, old, ratio.detach(), high, low)


def omd(
    logprob_sums: Tensor,
    reference_sums: Tensor,
    advantages: Tensor,
    tau: float,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Stats]:
    """-(A * L) + tau/2 * (L - L_ref)^2 for each sequence, L the sum of its log-probs (k1.5 eq. 3).

    Its gradient is that of (A - tau (L - L_ref))^2 / (2 tau), the surrogate of k1.5 section 2.3.2. On the
    first step L = L_ref, and this is REINFORCE with the group's mean as baseline.

    Args:
        logprob_sums: [n] of the rollouts of this micro-batch, each whole, with gradient. From
            `sum_by_sequence`, as `reference_sums`: they differ by little and are large.
        reference_sums: [n] of the policy at the start of the iteration.
        advantages: [n], without standard deviation.
        tau: weight of the squared log-ratio.
        lengths: int64 [n]; divides each term by its sequence's tokens (OpenKimi's variant, not eq. 3).

    Returns:
        terms float64 [n] and sequences, sequence_log_ratio_sum, sequence_log_ratio_abs_sum and _max,
        sequence_penalty_sum (of tau/2 d^2) and sequence_gain_sum (of |A d|), d = L - L_ref: where the
        penalty outweighs the gain, tau is too large.
    """
    assert tau > 0.0
    sums, advantages = logprob_sums.double(), advantages.detach().double()
    log_ratio = sums - reference_sums.detach().double()
    assert torch.isfinite(log_ratio.detach()).all(), "log-probs must be finite"
    penalty = tau / 2 * log_ratio.square()
    terms = penalty - advantages * sums
    if lengths is not None:
        terms = terms / lengths.clamp(min=1)
    distance = log_ratio.detach().abs()
    return terms, {
        "sequences": count(terms),
        "sequence_log_ratio_sum": log_ratio.detach().sum(),
        "sequence_log_ratio_abs_sum": distance.sum(),
        "sequence_log_ratio_abs_max": maximum(distance),
        "sequence_penalty_sum": penalty.detach().sum(),
        "sequence_gain_sum": (advantages.abs() * distance).sum(),
    }


def sum_by_sequence(values: Tensor, sequence: Tensor, n: int) -> Tensor:
    """Sum the tokens of each rollout, in float64, since thousands of terms are then subtracted.

    Args:
        values: [T].
        sequence: int64 [T], index in 0..n-1 of the rollout each token belongs to.
        n: rollouts.

    Returns:
        float64 [n]; 0 for a rollout without tokens. Differentiable.
    """
    wide = values.double()
    return wide.new_zeros(n).index_add(0, sequence, wide)


def _at_least_fp32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _log_ratio(logprobs: Tensor, old: Tensor) -> Tensor:
    log_ratio = logprobs - _at_least_fp32(old.detach())
    assert torch.isfinite(log_ratio.detach()).all(), "log-probs must be finite"
    return log_ratio.clamp(max=LOG_RATIO_MAX)


def _ratio_stats(logprobs: Tensor, old: Tensor, ratio: Tensor, high: Tensor, low: Tensor) -> Stats:
    return {
        "tokens": count(ratio),
        "ratio_sum": ratio.double().sum(),
        "ratio_max": maximum(ratio),
        "k3_sum": k3(logprobs.detach() - old.detach()).sum(),
        "clip_high_count": high.double().sum(),
        "clip_low_count": low.double().sum(),
    }
