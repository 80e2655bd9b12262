"""What rollouts earn for their lengths at a step."""

import torch
from torch import Tensor

from vlrl.config.run import RunConfig
from vlrl.objectives.length_reward import length_rewards, overlong_rewards
from vlrl.training.rl_batch import LengthTerm
from vlrl.trajectory import Rollout


def length_term(config: RunConfig, step: int) -> LengthTerm | None:
    """The length reward of `step`, times its weight; None while there is none."""
    plan, longest = config.rewards.length, config.rl.max_response_tokens
    if plan.kind == "none" or step < plan.start_step:
        return None

    def term(rollouts: list[Rollout], group: Tensor) -> Tensor:
        lengths = torch.tensor([len(r.response_ids) for r in rollouts])
        correct = torch.tensor([r.verdict is not None and r.verdict.status == "correct" for r in rollouts])
        if plan.kind == "k15":
            return plan.weight * length_rewards(lengths, correct, group)
        assert plan.cache_tokens is not None
        punished = overlong_rewards(lengths, longest, plan.cache_tokens)
        return plan.weight * (punished if plan.kind == "overlong" else punished * correct)

    return LengthTerm(term, teaches=plan.kind == "k15")
