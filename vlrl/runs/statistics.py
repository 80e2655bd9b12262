"""mean@k with an honest interval: prompts are the independent draws, samples of one prompt are not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054
"""The normal distribution's 97.5th percentile."""


@dataclass(slots=True, frozen=True)
class MeanAtK:
    """mean@k over `n` prompts.

    `stderr` is clustered by prompt (None for a single prompt, where it cannot be estimated). `ci95` is
    Wilson's score interval at the effective sample size, see `mean_at_k`.
    """

    mean: float
    stderr: float | None
    ci95: tuple[float, float]
    n: int
    k: float


def mean_at_k(scores: Sequence[Sequence[float]]) -> MeanAtK:
    """Mean over prompts of the mean over each prompt's samples, for scores in [0, 1].

    Args:
        scores: one sequence of samples' scores a prompt; every prompt needs at least one. Lengths may
            differ (ungradable samples are left out by the caller); `k` is then the average length.

    The standard error is the standard deviation (ddof 1) of the prompts' means over sqrt(n): clustered
    by prompt, whatever the correlation within one. The interval is Wilson's (1927) at the effective
    sample size mean (1 - mean) / stderr^2 (Korn and Graubard 1998), never above the number of samples;
    where every sample agrees that size is n. Unlike mean +- 1.96 stderr it stays within [0, 1] and does
    not shrink to a point at 0 or 1.
    """
    assert scores and all(scores), "mean@k needs at least one prompt and one score for each"
    assert all(0 <= score <= 1 for samples in scores for score in samples)
    n, samples_in_all = len(scores), sum(map(len, scores))
    means = [math.fsum(samples) / len(samples) for samples in scores]
    mean = math.fsum(means) / n
    variance = math.fsum((m - mean) ** 2 for m in means) / (n - 1) / n if n > 1 else None
    spread = mean * (1 - mean)
    if variance is None or spread == 0:
        size = float(n)
    else:
        size = min(spread / variance, samples_in_all) if variance > 0 else float(samples_in_all)
    return MeanAtK(
        mean=mean,
        stderr=None if variance is None else math.sqrt(variance),
        ci95=wilson_interval(mean, size),
        n=n,
        k=samples_in_all / n,
    )


def wilson_interval(mean: float, size: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion `mean` seen in `size` independent draws."""
    shrink = 1 + z * z / size
    centre = (mean + z * z / (2 * size)) / shrink
    half = z / shrink * math.sqrt(mean * (1 - mean) / size + (z / (2 * size)) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)
