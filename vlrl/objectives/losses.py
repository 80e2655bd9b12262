"""The losses: terms to be minimised, before aggregation, and statistics that add up.

Each returns (terms, stats). The loss is (terms * weights).sum(), `weights` from `aggregation`, gathered to
tokens; losses whose terms belong to rollouts are in `sequences`. Arithmetic is at least fp32. Log-probs
must be finite (an infinite one is a masked token that should not be here). Formulas and conventions:
docs/objectives.md.
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
    logprobs: Tensor,
    old: Tensor,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> tuple[Tensor, Stats]:
    """-min(ratio * A, clamp(ratio, 1 - clip_low, 1 + clip_high) * A), ratio = exp(logp - old) (GRPO; DAPO).

    The gradient of a token whose ratio is above e^20 is 0.

    Args:
        logprobs: [T] of the policy, with gradient.
        old: [T] of the policy that sampled.
        advantages: [T], each token its rollout's.
        clip_low: below 1, relative to 1: 0.2 clips at 0.8.
        clip_high: relative to 1: 0.2 clips at 1.2.
        dual_clip: absolute ratio, above 1, beyond which a token with A < 0 stops pushing (verl's "vanilla"
            has 3); None is none.

    Returns:
        terms [T] and the statistics of `cispo`; a clip counts where it takes the gradient away (above
        with A > 0, or the dual clip with A < 0; below with A < 0).
    """
    assert 0.0 < clip_low < 1.0 and clip_high > 0.0 and (dual_clip is None or dual_clip > 1.0)
    logprobs, advantages = _at_least_fp32(logprobs), advantages.detach()
    ratio = _log_ratio(logprobs, old).exp()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    terms = -torch.minimum(ratio * advantages, clipped * advantages)
    high = (ratio > 1.0 + clip_high) & (advantages > 0)
    if dual_clip is not None:
        beyond = (ratio > dual_clip) & (advantages < 0)
        terms = torch.where(beyond, -dual_clip * advantages, terms)
        high = high | beyond
    low = (ratio < 1.0 - clip_low) & (advantages < 0)
    return terms, _ratio_stats(logprobs, old, ratio.detach(), high, low)


def reinforce(logprobs: Tensor, advantages: Tensor) -> tuple[Tensor, Stats]:
    """-A * logp, without a ratio: on-policy policy gradient (RLOO, Target Policy Optimization).

    Args:
        logprobs: [T] of the policy, with gradient.
        advantages: [T], each token its rollout's.

    Returns:
        terms [T] and tokens.
    """
    logprobs = _at_least_fp32(logprobs)
    assert torch.isfinite(logprobs.detach()).all(), "log-probs must be finite"
    return -advantages.detach() * logprobs, {"tokens": count(logprobs)}


def minirl(
    logprobs: Tensor,
    behaviour: Tensor,
    old: Tensor,
    advantages: Tensor,
    cap: float,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Stats]:
    """-M * sg(min(rho, cap)) * A * logp, rho = exp(logp - behaviour), r = exp(logp - old) (MiniRL).

    M is 0 where the step already went far enough: A > 0 and r > 1 + clip_high, or A < 0 and
    r < 1 - clip_low; else 1.

    Args:
        logprobs: [T] of the policy, with gradient.
        behaviour: [T] recorded by the sampler.
        old: [T] of the trainer's policy at the start of the iteration.
        advantages: [T], each token its rollout's.
        cap: absolute cap of rho; 5 in the paper.
        clip_low: 0.2 in the paper.
        clip_high: 0.27 in the paper.

    Returns:
        terms [T] and the statistics of `cispo`, of rho; the clip counts are of M.
    """
    assert 0.0 < cap <= math.exp(LOG_RATIO_MAX) and 0.0 < clip_low < 1.0 and clip_high > 0.0
    logprobs, advantages = _at_least_fp32(logprobs), advantages.detach()
    ratio = _log_ratio(logprobs.detach(), behaviour).exp()
    moved = _log_ratio(logprobs.detach(), old).exp()
    high = (moved > 1.0 + clip_high) & (advantages > 0)
    low = (moved < 1.0 - clip_low) & (advantages < 0)
    terms = -(ratio.clamp(max=cap) * advantages * ~(high | low)) * logprobs
    return terms, _ratio_stats(logprobs, behaviour, ratio, high, low)


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
