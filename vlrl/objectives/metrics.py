"""Statistics that add up across micro-batches and ranks.

`Stats` maps a name to a detached 0-d float64 tensor, and its name says how it is combined: `*_max` by
maximum, everything else (`tokens`, `sequences`, `*_sum`, `*_count`) by addition. Names that begin with
`sequence_` are per sequence, with `mismatch_` per token of `mismatch_tokens`, all others per token.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Stats = dict[str, Tensor]

# Log-ratios are cut from above at 20 before exp, a ratio of 4.85e8: any cap below that is untouched, and
# exp stays finite. They are not cut from below, where exp goes to 0 by itself.
LOG_RATIO_MAX = 20.0

# What statistics are divided by, by the first word of their names.
_DENOMINATORS = {"sequence": "sequences", "mismatch": "mismatch_tokens"}


def k3(log_ratio: Tensor) -> Tensor:
    """exp(d) - d - 1 (at least 0), whose mean estimates KL(p || q) for d = log q - log p, samples of p.

    Returns float64 of the same shape; d is cut at LOG_RATIO_MAX.
    """
    bounded = log_ratio.detach().double().clamp(max=LOG_RATIO_MAX)
    return torch.expm1(bounded) - bounded


def mismatch(trainer: Tensor, sampler: Tensor) -> Stats:
    """How far the trainer's log-probs of sampled tokens are from the sampler's, for the same weights.

    Args:
        trainer: [T] log-probs (nats).
        sampler: [T] log-probs (nats) recorded when the tokens were sampled.

    Returns:
        mismatch_tokens, mismatch_abs_sum, mismatch_abs_max (nats), mismatch_k3_sum (KL(sampler || trainer)).
    """
    difference = trainer.detach().double() - sampler.detach().double()
    return {
        "mismatch_tokens": count(difference),
        "mismatch_abs_sum": difference.abs().sum(),
        "mismatch_abs_max": maximum(difference.abs()),
        "mismatch_k3_sum": k3(difference).sum(),
    }


def merge_stats(parts: Iterable[Stats]) -> Stats:
    """One `Stats` of several micro-batches or ranks."""
    merged: Stats = {}
    for part in parts:
        for name, value in part.items():
            if name not in merged:
                merged[name] = value
            elif name.endswith("_max"):
                merged[name] = torch.maximum(merged[name], value)
            else:
                merged[name] = merged[name] + value
    return merged


def mean_stats(stats: Mapping[str, Tensor | float]) -> dict[str, float]:
    """`x_sum` -> `x_mean` and `x_count` -> `x_fraction`, of what their names say; the rest as it is."""
    means = {}
    for name, value in stats.items():
        stem, _, kind = name.rpartition("_")
        if kind not in ("sum", "count"):
            means[name] = float(value)
            continue
        total = float(stats[_DENOMINATORS.get(name.split("_")[0], "tokens")])
        means[f"{stem}_{'mean' if kind == 'sum' else 'fraction'}"] = float(value) / max(total, 1.0)
    return means


def count(values: Tensor) -> Tensor:
    """The number of elements as a statistic."""
    return torch.tensor(float(values.numel()), dtype=torch.float64, device=values.device)


def maximum(values: Tensor) -> Tensor:
    """The largest of non-negative values as a statistic; 0 of none."""
    wide = values.detach().double()
    return wide.max() if wide.numel() else wide.sum()
