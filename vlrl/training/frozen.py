"""The policy that an RL stage started from, kept frozen for the KL penalty."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from vlrl.policy.model import PackedInputs, Policy
from vlrl.policy.packing import MicroBatch
from vlrl.training.ranks import Ranks

Forward = Callable[[PackedInputs], tuple[torch.Tensor, torch.Tensor]]


class FrozenPolicy:
    """A policy that is never trained. Each rank holds a whole copy, whatever the ZeRO stage."""

    def __init__(self, policy: Policy, ranks: Ranks) -> None:
        self._policy = policy.requires_grad_(False).eval().to(ranks.device)
        self._ranks = ranks

    def logprobs(self, batches: Iterable[MicroBatch], documents: int) -> list[list[float]]:
        """Log-probs of the scored tokens of every document, on every rank."""
        return document_logprobs(self._policy, batches, documents, self._ranks)


@torch.no_grad()
def document_logprobs(
    forward: Forward, batches: Iterable[MicroBatch], documents: int, ranks: Ranks
) -> list[list[float]]:
    """Run this rank's micro-batches and gather the scored tokens' log-probs of all documents.

    Those without a scored token are in no micro-batch, and their list is empty.
    """
    found: dict[int, list[float]] = {}
    for batch in batches:
        values, _ = forward(batch.inputs)
        if not batch.empty:
            for place, index in enumerate(batch.documents.tolist()):
                found[index] = values[batch.owner == place].tolist()
    if ranks.world > 1:
        gathered: list[Any] = [None] * ranks.world
        torch.distributed.all_gather_object(gathered, found)
        found = {k: v for part in gathered for k, v in part.items()}
    return [found.get(index, []) for index in range(documents)]
