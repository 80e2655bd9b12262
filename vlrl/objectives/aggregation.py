"""How terms are averaged, as one weight a rollout.

The loss is sum_i w_i * sum_t term_it. The weights come from the counts of the global batch, so the
gradients of any split into micro-batches, accumulation steps or ranks *add up* to the same one.
"""

from typing import Literal

import torch
from torch import Tensor

from vlrl.objectives.advantages import sum_by_group

Aggregation = Literal["token", "sample", "prompt", "constant", "sequence", "balanced"]


def token_weights(
    lengths: Tensor,
    group: Tensor,
    mode: Aggregation,
    constant_length: int | None = None,
    advantages: Tensor | None = None,
) -> Tensor:
    """The weight that each loss-bearing token of a rollout carries.

    With N rollouts, P prompts and T tokens in all, counting only rollouts that have loss-bearing tokens
    (and prompts that have such a rollout); the others get weight 0:

    - "token": 1 / T, every token alike (DAPO);
    - "sample": 1 / (N * length), the mean of rollouts' means (GRPO);
    - "prompt": 1 / (P * tokens of the rollout's group), the mean of prompts' token means (ScaleRL 2.2);
    - "constant": 1 / (N * constant_length), no length in it (Dr.GRPO);
    - "sequence": 1 / (P * rollouts of the prompt), tokens summed (RLOO, MiniRL);
    - "balanced": 1 / P times, within a group of G rollouts of which k have a positive advantage, k/G times
      the token mean of those plus (G - k)/G times the token mean of the rest (Balanced Aggregation).

    Args:
        lengths: int64 [N], loss-bearing tokens of each rollout of the global batch.
        group: int64 [N], prompt index of each rollout.
        mode: see above.
        constant_length: tokens, for "constant"; fixed for a run.
        advantages: [N], for "balanced".

    Returns:
        float32 [N].
    """
    counted = lengths > 0
    rollouts = counted.sum().double()
    if mode == "token":
        denominator = lengths.sum().double().expand(lengths.shape)
    elif mode == "sample":
        denominator = rollouts * lengths
    elif mode == "prompt":
        tokens = sum_by_group(lengths, group)
        denominator = (tokens > 0).sum().double() * tokens[group]
    elif mode == "sequence":
        return sequence_weights(lengths, group)
    elif mode == "balanced":
        assert advantages is not None, "'balanced' needs advantages"
        return _balanced(lengths, group, advantages > 0)
    else:
        assert constant_length is not None and constant_length > 0, "'constant' needs constant_length"
        denominator = (rollouts * constant_length).expand(lengths.shape)
    return _inverse(denominator, counted)


def sequence_weights(lengths: Tensor, group: Tensor) -> Tensor:
    """The weight of each rollout's sequence-level term: mean over a prompt's rollouts, mean over prompts.

    1 / (P * rollouts of the prompt), both counted as in `token_weights` (k1.5 eq. 3 and its expectation
    over prompts).

    Args:
        lengths: int64 [N], loss-bearing tokens of each rollout of the global batch.
        group: int64 [N], prompt index of each rollout.

    Returns:
        float32 [N].
    """
    counted = lengths > 0
    rollouts = sum_by_group(counted.long(), group)
    return _inverse((rollouts > 0).sum().double() * rollouts[group], counted)


def prompt_weights(lengths: Tensor, group: Tensor) -> Tensor:
    """1 / P for each rollout that has loss-bearing tokens: sum over a prompt, mean over prompts.

    Args: as `token_weights`.

    Returns:
        float32 [N].
    """
    counted = lengths > 0
    prompts = (sum_by_group(counted.long(), group) > 0).sum().double()
    return _inverse(prompts.expand(lengths.shape), counted)


def _balanced(lengths: Tensor, group: Tensor, positive: Tensor) -> Tensor:
    counted = lengths > 0
    side = 2 * group + positive
    rollouts = sum_by_group(counted.long(), group)
    prompts = (rollouts > 0).sum().double()
    share = sum_by_group(counted.double(), side)[side] / rollouts[group].clamp(min=1)
    tokens = sum_by_group(lengths, side)[side].double()
    return torch.where(counted, share / (prompts * tokens).clamp(min=1), 0.0).float()


def _inverse(denominator: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, 1.0 / denominator.clamp(min=1), 0.0).float()
