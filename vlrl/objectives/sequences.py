"""Losses whose terms belong to whole rollouts, and sums over their tokens.

A micro-batch holds whole rollouts, so `sequence` [T] can say which of its n rollouts a token belongs to.
"""

from typing import Literal

import torch
from torch import Tensor

from vlrl.objectives.metrics import LOG_RATIO_MAX, Stats, count, maximum

OmdForm = Literal["sequence", "per_length", "token"]


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


def omd(
    logprobs: Tensor,
    reference: Tensor,
    advantages: Tensor,
    sequence: Tensor,
    tau: float,
    form: OmdForm = "sequence",
) -> tuple[Tensor, Stats]:
    """-(A * L) + tau/2 * (L - L_ref)^2 for each rollout, L the sum of its log-probs (k1.5 eq. 3).

    Its gradient is that of (A - tau (L - L_ref))^2 / (2 tau), the surrogate of k1.5 section 2.3.2. On the
    first step L = L_ref, and this is REINFORCE with the group's mean as baseline.

    Args:
        logprobs: [T] of the policy, with gradient.
        reference: [T] of the policy at the start of the iteration.
        advantages: [n], without standard deviation.
        sequence: int64 [T], the rollout of each token.
        tau: weight of the squared log-ratio.
        form: "sequence" is eq. 3; "per_length" divides each term by its rollout's tokens (OpenKimi);
            "token" sums -A lp + tau/2 (lp - ref)^2 over tokens, without eq. 3's cross terms (ROLL).

    Returns:
        terms float64 [n] and, of rollouts that have tokens, sequences, sequence_log_ratio_sum,
        sequence_log_ratio_abs_sum and _max, sequence_penalty_sum (the terms' tau part) and
        sequence_gain_sum (of |A d|), d = L - L_ref: where the penalty outweighs the gain, tau is too large.
    """
    assert tau > 0.0
    n, advantages = len(advantages), advantages.detach().double()
    sums, reference = sum_by_sequence(logprobs, sequence, n), reference.detach()
    log_ratio = sums - sum_by_sequence(reference, sequence, n)
    assert torch.isfinite(log_ratio.detach()).all(), "log-probs must be finite"
    if form == "token":
        difference = logprobs.double() - reference.double()
        penalty = tau / 2 * sum_by_sequence(difference.square(), sequence, n)
    else:
        penalty = tau / 2 * log_ratio.square()
    terms = penalty - advantages * sums
    tokens = torch.bincount(sequence, minlength=n)
    if form == "per_length":
        terms = terms / tokens.clamp(min=1)
    distance = log_ratio.detach().abs()
    return terms, {
        "sequences": count(terms[tokens > 0]),  # without tokens all else is 0
        "sequence_log_ratio_sum": log_ratio.detach().sum(),
        "sequence_log_ratio_abs_sum": distance.sum(),
        "sequence_log_ratio_abs_max": maximum(distance),
        "sequence_penalty_sum": penalty.detach().sum(),
        "sequence_gain_sum": (advantages.abs() * distance).sum(),
    }


def gspo(
    logprobs: Tensor,
    old: Tensor,
    advantages: Tensor,
    sequence: Tensor,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Stats]:
    """-min(s A, clamp(s, 1 - clip_low, 1 + clip_high) A), s = exp(mean of lp - old) (GSPO eq. 5-7).

    The mean is over a rollout's tokens: s is the geometric mean of their ratios, not the product.

    Args:
        logprobs: [T] of the policy, with gradient.
        old: [T] of the policy that sampled.
        advantages: [n], one a rollout.
        sequence: int64 [T], the rollout of each token.
        clip_low: below 1, relative to 1; 3e-4 in the paper.
        clip_high: relative to 1; 4e-4 in the paper.

    Returns:
        terms float64 [n] (0 for a rollout without tokens) and, of rollouts that have tokens, sequences,
        sequence_ratio_sum, sequence_ratio_max, sequence_clip_high_count and sequence_clip_low_count.
    """
    ratio, used = _geometric_ratio(logprobs, old, sequence, len(advantages))
    wide = advantages.detach().double()
    terms = _clipped(ratio, wide, clip_low, clip_high)
    return terms * used, _ratio_stats(ratio[used], wide[used], clip_low, clip_high)


def gspo_token(
    logprobs: Tensor,
    old: Tensor,
    advantages: Tensor,
    sequence: Tensor,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Stats]:
    """GSPO with a term a token: the ratio is sg(s) * pi / sg(pi) (GSPO eq. 13-14).

    With one advantage a rollout and the sample mean, value and gradient are those of `gspo`.

    Args: as `gspo`, but advantages: [T].

    Returns:
        terms float64 [T] and the statistics of `gspo`, of rollouts.
    """
    n = int(sequence.max()) + 1 if len(sequence) else 0
    ratio, used = _geometric_ratio(logprobs.detach(), old, sequence, n)
    wide, advantages = logprobs.double(), advantages.detach().double()
    own = ratio[sequence] * (wide - wide.detach()).exp()
    terms = _clipped(own, advantages, clip_low, clip_high)
    first = torch.zeros(n, dtype=torch.float64, device=wide.device)
    per_rollout = first.scatter_reduce(0, sequence, advantages, "amax", include_self=False)
    return terms, _ratio_stats(ratio[used], per_rollout[used], clip_low, clip_high)


def _geometric_ratio(logprobs: Tensor, old: Tensor, sequence: Tensor, n: int) -> tuple[Tensor, Tensor]:
    tokens = torch.bincount(sequence, minlength=n)
    log_ratio = sum_by_sequence(logprobs - old.detach(), sequence, n) / tokens.clamp(min=1)
    assert torch.isfinite(log_ratio.detach()).all(), "log-probs must be finite"
    return log_ratio.clamp(max=LOG_RATIO_MAX).exp(), tokens > 0


def _clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    assert 0.0 < low < 1.0 and high > 0.0
    clipped = ratio.clamp(1.0 - low, 1.0 + high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def _ratio_stats(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Stats:
    fixed = ratio.detach()
    return {
        "sequences": count(fixed),
        "sequence_ratio_sum": fixed.double().sum(),
        "sequence_ratio_max": maximum(fixed),
        "sequence_clip_high_count": ((fixed > 1.0 + high) & (advantages > 0)).double().sum(),
        "sequence_clip_low_count": ((fixed < 1.0 - low) & (advantages < 0)).double().sum(),
    }
