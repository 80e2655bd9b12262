"""From graded groups to a global training batch, and the loss of the configured objective on it.

Everything that depends on the whole batch (advantages, filters, denominators) is settled here, once,
before any split into micro-batches or ranks.
"""

from dataclasses import dataclass

import torch

from vlrl.config.objective import CispoConfig, GrpoConfig, ObjectiveConfig, OmdConfig
from vlrl.objectives.advantages import group_advantages, zero_variance
from vlrl.objectives.aggregation import sequence_weights, token_weights
from vlrl.objectives.losses import cispo, grpo, omd, sum_by_sequence
from vlrl.objectives.metrics import Stats, mismatch
from vlrl.training.engine import LossFunction
from vlrl.training.packing import MicroBatch, TrainDocument
from vlrl.trajectory import Group, Rollout


@dataclass(slots=True)
class RlBatch:
    """One optimizer step's rollouts as documents.

    `advantages` and `weights` are float32 [N], one a document; `behaviour` holds the sampler's log-probs
    of the scored tokens of each document, float32; `groups` counts the prompts that are left.
    """

    documents: list[TrainDocument]
    advantages: torch.Tensor
    weights: torch.Tensor
    behaviour: list[torch.Tensor]
    groups: int


def build_batch(groups: list[Group], objective: ObjectiveConfig) -> RlBatch | None:
    """Advantages, filters and weights over the whole batch; None when nothing is left to learn from.

    Rollouts whose grading failed are left out of baseline and loss alike (an error is not a wrong answer).
    """
    graded = [
        (index, rollout)
        for index, group in enumerate(groups)
        for rollout in group.rollouts
        if rollout.verdict is not None and not rollout.verdict.is_error and rollout.segments
    ]
    if not graded:
        return None
    # Groups are renumbered densely: a group may have lost all its rollouts to errors.
    numbers = {index: n for n, index in enumerate(dict.fromkeys(index for index, _ in graded))}
    group = torch.tensor([numbers[index] for index, _ in graded])
    rewards = torch.tensor([r.verdict.reward for _, r in graded if r.verdict is not None])
    keep = torch.ones_like(group, dtype=torch.bool)
    if objective.drop_zero_variance:
        keep = ~zero_variance(rewards, group)[group]
    if not keep.any():
        return None
    kept = [r for (_, r), k in zip(graded, keep.tolist(), strict=True) if k]
    group = torch.unique(group[keep], return_inverse=True)[1]
    advantages = group_advantages(rewards[keep], group, objective.normalisation)
    documents = [_document(r, masked=objective.mask_truncated and r.finish_reason == "length") for r in kept]
    lengths = torch.tensor([d.scored for d in documents])
    if not lengths.any():
        return None
    return RlBatch(
        documents=documents,
        advantages=advantages,
        weights=_weights(lengths, group, objective),
        behaviour=[_behaviour(r, d) for r, d in zip(kept, documents, strict=True)],
        groups=int(group.max()) + 1,
    )


def _document(rollout: Rollout, *, masked: bool) -> TrainDocument:
    response = rollout.response_ids
    mask = [0] * len(response) if masked else rollout.loss_mask
    return TrainDocument(
        ids=rollout.prompt_ids + response,
        images=rollout.images,
        loss_mask=[0] * len(rollout.prompt_ids) + mask,
        prompt_tokens=len(rollout.prompt_ids),
    )


def _behaviour(rollout: Rollout, document: TrainDocument) -> torch.Tensor:
    mask = document.loss_mask[len(rollout.prompt_ids) :]
    return torch.tensor([p for p, m in zip(rollout.logprobs, mask, strict=True) if m])


def _weights(lengths: torch.Tensor, group: torch.Tensor, objective: ObjectiveConfig) -> torch.Tensor:
    if isinstance(objective, OmdConfig):
        return sequence_weights(lengths, group)
    return token_weights(lengths, group, objective.aggregation, objective.constant_length)


def rl_loss(
    batch: RlBatch, objective: ObjectiveConfig, reference: list[list[float]] | None = None
) -> LossFunction:
    """The loss of one micro-batch of `batch`.

    `reference` are the log-probs of the iteration's start policy, for mirror descent; without them the
    step is the iteration's first, and the policy is its own reference.
    """

    def loss(micro: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor) -> tuple[torch.Tensor, Stats]:
        members = micro.documents.tolist()
        behaviour = torch.cat([batch.behaviour[i] for i in members]).to(logprobs.device)
        stats = mismatch(logprobs.detach(), behaviour) | {"entropy_sum": entropy.double().sum()}
        owner = micro.global_owner.to(logprobs.device)
        if isinstance(objective, OmdConfig):
            start = logprobs.detach() if reference is None else _gather(reference, members, logprobs)
            value, more = _omd_loss(batch, objective, micro, logprobs, start)
        else:
            advantages = batch.advantages.to(logprobs.device)[owner]
            if isinstance(objective, CispoConfig):
                terms, more = cispo(
                    logprobs, behaviour, advantages, objective.is_cap_max, objective.is_cap_min
                )
            else:
                assert isinstance(objective, GrpoConfig)
                terms, more = grpo(logprobs, behaviour, advantages, objective.clip_low, objective.clip_high)
            value = (terms * batch.weights.to(logprobs.device)[owner]).sum()
        return value, stats | more

    return loss


def _gather(values: list[list[float]], members: list[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor([v for i in members for v in values[i]], device=like.device)


def _omd_loss(
    batch: RlBatch, objective: OmdConfig, micro: MicroBatch, logprobs: torch.Tensor, start: torch.Tensor
) -> tuple[torch.Tensor, Stats]:
    members, n = micro.documents, len(micro.documents)
    owner = micro.owner.to(logprobs.device)
    lengths = torch.bincount(owner, minlength=n) if objective.per_token else None
    terms, stats = omd(
        sum_by_sequence(logprobs, owner, n),
        sum_by_sequence(start, owner, n),
        batch.advantages[members].to(logprobs.device),
        objective.tau,
        lengths,
    )
    return (terms * batch.weights[members].to(logprobs.device)).sum(), stats
