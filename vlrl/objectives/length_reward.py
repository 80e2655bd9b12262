"""Rewards for being short, added to the verdict's before advantages are computed."""

import torch
from torch import Tensor


def length_rewards(lengths: Tensor, correct: Tensor, group: Tensor) -> Tensor:
    """k1.5's length reward (section 2.3.3), before its weight.

    lambda = 0.5 - (len - min_len) / (max_len - min_len) over the group; a correct rollout gets lambda, a
    wrong one min(0, lambda); 0 for all where the lengths are equal.

    Args:
        lengths: int64 [N], generated tokens of each rollout, all segments, injected ones included.
        correct: bool [N].
        group: int64 [N].

    Returns:
        float32 [N], within [-0.5, 0.5].
    """
    wide = lengths.double()
    blank = wide.new_zeros(int(group.max()) + 1 if group.numel() else 0)
    longest = blank.scatter_reduce(0, group, wide, "amax", include_self=False)[group]
    shortest = blank.scatter_reduce(0, group, wide, "amin", include_self=False)[group]
    span = longest - shortest
    value = 0.5 - (wide - shortest) / span.clamp(min=1)
    value = torch.where(correct, value, value.clamp(max=0.0))
    return torch.where(span > 0, value, 0.0).float()


def overlong_rewards(lengths: Tensor, max_length: int, cache: int) -> Tensor:
    """DAPO's soft overlong punishment: clip((max_length - len) / cache - 1, -1, 0) (eq. 13).

    0 up to max_length - cache tokens, then falling to -1 at max_length. ScaleRL's length penalty is the same
    on correct rollouts alone.

    Args:
        lengths: int64 [N], generated tokens.
        max_length: tokens a response may have.
        cache: tokens over which the punishment grows, above 0.

    Returns:
        float32 [N], within [-1, 0].
    """
    assert 0 < cache <= max_length
    return ((max_length - lengths.double()) / cache - 1).clamp(-1.0, 0.0).float()
