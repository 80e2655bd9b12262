"""From graded groups to a global training batch.

Everything that depends on the whole batch (advantages, filters, denominators) is settled here, once,
before any split into micro-batches or ranks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from vlrl.config.objective import AnyObjective, OmdConfig, TokenObjective, TpoConfig
from vlrl.config.training import PartialConfig
from vlrl.objectives.advantages import RunningScale, group_advantages, mean_square, zero_variance
from vlrl.objectives.aggregation import prompt_weights, token_weights
from vlrl.objectives.target_policy import target_advantages
from vlrl.policy.packing import TrainDocument
from vlrl.trajectory import Group, Rollout

_T = TypeVar("_T")

# Log-probs of the scored tokens of each document of a batch.
DocumentLogprobs = Sequence[Sequence[float]]


@dataclass(slots=True, frozen=True)
class LengthTerm:
    """What lengths earn: `reward` takes rollouts and the prompt of each and gives float32 [N].

    `teaches` says whether it tells a group's rollouts apart by itself, so that equal verdicts are worth
    learning from (k1.5's); a punishment for length is not meant to.
    """

    reward: Callable[[list[Rollout], Tensor], Tensor]
    teaches: bool


@dataclass(slots=True)
class GradedRollouts:
    """The rollouts of one optimizer step whose grading succeeded, as documents.

    `rewards` are float32 [N] and `group` int64 [N], the prompt of each, numbered densely; `raw` are the
    rewards by which groups are told to be without variance. Of the scored tokens of each document
    `behaviour` holds the sampler's log-probs, float32, and `versions` the policy versions that sampled them,
    int64. The scored tokens are those in the loss; a rollout may have been sampled with more.
    """

    rollouts: list[Rollout]
    documents: list[TrainDocument]
    rewards: Tensor
    raw: Tensor
    group: Tensor
    behaviour: list[Tensor]
    versions: list[Tensor]

    def sampled(self) -> list[TrainDocument]:
        """Documents that score every token a policy sampled, in the loss or not."""
        return [_document(rollout, rollout.loss_mask) for rollout in self.rollouts]


@dataclass(slots=True)
class RlBatch:
    """One optimizer step's rollouts, ready to be learned from.

    `advantages` and `weights` are float32 [N], one a document; `frozen` are log-probs of the KL's reference
    policy, where the objective has one in its loss. The rest is as in `GradedRollouts`.
    """

    documents: list[TrainDocument]
    rewards: Tensor
    group: Tensor
    behaviour: list[Tensor]
    versions: list[Tensor]
    advantages: Tensor
    weights: Tensor
    frozen: DocumentLogprobs | None = None

    @property
    def groups(self) -> int:
        """Prompts that are left."""
        return int(self.group.max()) + 1


def graded_rollouts(
    groups: list[Group],
    objective: AnyObjective,
    partial: PartialConfig | None = None,
    length: LengthTerm | None = None,
) -> GradedRollouts | None:
    """Documents of all rollouts but those whose grading failed; None where none is left.

    An error is not a wrong answer: such rollouts are left out of baseline and loss alike. `partial` says
    which segments of a response that was sampled over several phases are in the loss; `length` is added to
    the verdicts' rewards.
    """
    graded = [
        (index, rollout, rollout.verdict.reward)
        for index, group in enumerate(groups)
        for rollout in group.rollouts
        if rollout.verdict is not None and not rollout.verdict.is_error and rollout.segments
    ]
    if not graded:
        return None
    masks = [
        [0] * len(r.response_ids)
        if objective.truncated == "mask" and r.finish_reason == "length"
        else _loss_mask(r, partial)
        for _, r, _ in graded
    ]
    documents = [_document(r, mask) for (_, r, _), mask in zip(graded, masks, strict=True)]
    rollouts = [rollout for _, rollout, _ in graded]
    raw = rewards = torch.tensor([reward for *_, reward in graded])
    group = _dense(torch.tensor([index for index, *_ in graded]))
    if length is not None:
        rewards = rewards + length.reward(rollouts, group)
        raw = rewards if length.teaches else raw
    return GradedRollouts(
        rollouts=rollouts,
        documents=documents,
        rewards=rewards,
        raw=raw,
        group=group,
        behaviour=[
            torch.tensor(_scored(r.logprobs, mask)) for (_, r, _), mask in zip(graded, masks, strict=True)
        ],
        versions=[
            torch.tensor(_scored(r.versions, mask), dtype=torch.int64)
            for (_, r, _), mask in zip(graded, masks, strict=True)
        ],
    )


def build_batch(
    graded: GradedRollouts,
    objective: AnyObjective,
    scale: RunningScale | None = None,
    frozen: DocumentLogprobs | None = None,
) -> RlBatch | None:
    """Advantages, filters and weights over the whole batch; None when nothing is left to learn from.

    Args:
        scale: taken further under `normalisation: ema`, and needed there.
        frozen: log-probs of the KL's reference policy, needed where the objective has a KL: of the scored
            tokens of `graded.documents` for one in the loss, of `graded.sampled()` for one in the reward.
    """
    rewards = graded.rewards
    if frozen is not None and objective.kl.where == "reward":
        rewards = rewards - objective.kl.coefficient * _distances(graded.rollouts, frozen)
        frozen = None
    keep = torch.ones_like(graded.group, dtype=torch.bool)
    if objective.drop_zero_variance:
        keep = ~zero_variance(graded.raw, graded.group)[graded.group]
    kept = keep.nonzero().squeeze(1).tolist()
    documents = [graded.documents[i] for i in kept]
    lengths = torch.tensor([d.scored for d in documents], dtype=torch.int64)
    if not lengths.any():
        return None
    rewards, group = rewards[keep], _dense(graded.group[keep])
    advantages = _advantages(rewards, group, lengths, objective, scale)
    return RlBatch(
        documents=documents,
        rewards=rewards,
        group=group,
        behaviour=[graded.behaviour[i] for i in kept],
        versions=[graded.versions[i] for i in kept],
        advantages=advantages,
        weights=_weights(lengths, group, advantages, objective),
        frozen=None if frozen is None else [frozen[i] for i in kept],
    )


def aimed(batch: RlBatch, objective: TpoConfig, current: DocumentLogprobs) -> RlBatch:
    """The batch with Target Policy Optimization's advantages, which follow the policy at every update."""
    now = torch.tensor([sum(values) for values in current], dtype=torch.float64)
    then = torch.stack([values.double().sum() for values in batch.behaviour])
    lengths = torch.tensor([d.scored for d in batch.documents])
    if objective.length_normalised:
        now, then = now / lengths.clamp(min=1), then / lengths.clamp(min=1)
    advantages = target_advantages(batch.rewards, batch.group, now, then, objective.eta, lengths > 0)
    return replace(batch, advantages=advantages)


def _distances(rollouts: list[Rollout], frozen: DocumentLogprobs) -> Tensor:
    """log(policy / reference) of each response as it was sampled, injected tokens apart."""
    sampled = [torch.tensor(_scored(r.logprobs, r.loss_mask)) for r in rollouts]
    return torch.stack([(s - torch.tensor(f)).sum() for s, f in zip(sampled, frozen, strict=True)])


def _dense(group: Tensor) -> Tensor:
    """Prompts renumbered without gaps: one may have lost all its rollouts."""
    return torch.unique(group, return_inverse=True)[1]


def _loss_mask(rollout: Rollout, partial: PartialConfig | None) -> list[int]:
    if partial is None or partial.loss_segments == "all":
        return rollout.loss_mask
    newest = max(segment.policy_version for segment in rollout.segments)
    oldest = newest - (partial.within if partial.loss_segments == "within_k" else 0)
    return [m if s.policy_version >= oldest else 0 for s in rollout.segments for m in s.loss_mask]


def _document(rollout: Rollout, mask: list[int]) -> TrainDocument:
    return TrainDocument(
        ids=rollout.prompt_ids + rollout.response_ids,
        images=rollout.images,
        loss_mask=[0] * len(rollout.prompt_ids) + mask,
        prompt_tokens=len(rollout.prompt_ids),
    )


def _scored(values: list[_T], mask: list[int]) -> list[_T]:
    return [value for value, m in zip(values, mask, strict=True) if m]


def _advantages(
    rewards: Tensor, group: Tensor, lengths: Tensor, objective: AnyObjective, scale: RunningScale | None
) -> Tensor:
    if isinstance(objective, TpoConfig):
        return torch.zeros(len(rewards))  # see `aimed`
    running = None
    if objective.normalisation == "ema":
        assert scale is not None, "'ema' needs a running scale"
        running = scale.update(mean_square(rewards, group))
    return group_advantages(
        rewards,
        group,
        objective.normalisation,
        objective.baseline,
        tau=objective.tau if isinstance(objective, OmdConfig) else None,
        lengths=lengths,
        scale=running,
    )


def _weights(lengths: Tensor, group: Tensor, advantages: Tensor, objective: AnyObjective) -> Tensor:
    if isinstance(objective, TpoConfig):
        weights = prompt_weights(lengths, group)
        return weights / lengths.clamp(min=1) if objective.length_normalised else weights
    constant = objective.constant_length if isinstance(objective, TokenObjective) else None
    return token_weights(lengths, group, objective.aggregation, constant, advantages)
