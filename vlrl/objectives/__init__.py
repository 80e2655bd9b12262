"""Advantages, aggregation weights and losses of RL: pure functions of tensors. See docs/objectives.md."""

from vlrl.objectives.advantages import group_advantages, zero_variance
from vlrl.objectives.aggregation import sequence_weights, token_weights
from vlrl.objectives.losses import cispo, grpo, omd, sum_by_sequence
from vlrl.objectives.metrics import Stats, mean_stats, merge_stats, mismatch

__all__ = [
    "Stats",
    "cispo",
    "group_advantages",
    "grpo",
    "mean_stats",
    "merge_stats",
    "mismatch",
    "omd",
    "sequence_weights",
    "sum_by_sequence",
    "token_weights",
    "zero_variance",
]
