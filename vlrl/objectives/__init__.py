"""Advantages, aggregation weights and losses of RL: pure functions of tensors. See docs/objectives.md."""

from vlrl.objectives.advantages import RunningScale, group_advantages, mean_square, zero_variance
from vlrl.objectives.aggregation import sequence_weights, token_weights
from vlrl.objectives.corrections import correction_weights
from vlrl.objectives.kl import kl_terms
from vlrl.objectives.length_reward import length_rewards, overlong_rewards
from vlrl.objectives.losses import cispo, grpo, minirl, reinforce
from vlrl.objectives.metrics import Stats, mean_stats, merge_stats, mismatch
from vlrl.objectives.sequences import gspo, gspo_token, omd, sum_by_sequence
from vlrl.objectives.target_policy import target_advantages

__all__ = [
    "RunningScale",
    "Stats",
    "cispo",
    "correction_weights",
    "group_advantages",
    "grpo",
    "gspo",
    "gspo_token",
    "kl_terms",
    "length_rewards",
    "mean_square",
    "mean_stats",
    "merge_stats",
    "minirl",
    "mismatch",
    "omd",
    "overlong_rewards",
    "reinforce",
    "sequence_weights",
    "sum_by_sequence",
    "target_advantages",
    "token_weights",
    "zero_variance",
]
