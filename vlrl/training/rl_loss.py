"""The loss of the configured objective on one micro-batch of an RL batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlrl.config.objective import (
    AnyObjective,
    CispoConfig,
    ClippedRatio,
    GspoConfig,
    MiniRlConfig,
    OmdConfig,
)
from vlrl.objectives.corrections import correction_weights
from vlrl.objectives.kl import kl_terms
from vlrl.objectives.losses import cispo, grpo, minirl, reinforce
from vlrl.objectives.metrics import Stats, count, k3, mismatch
from vlrl.objectives.sequences import gspo, gspo_token, omd
from vlrl.policy.packing import MicroBatch
from vlrl.training.engine import LossFunction
from vlrl.training.rl_batch import DocumentLogprobs, RlBatch


@dataclass(slots=True, frozen=True)
class _Tokens:
    """Scored tokens of a micro-batch, [T], and its n rollouts.

    `versions` are the policy versions that sampled them; `old` the trainer's own log-probs at the start of
    the iteration; `owner` is the rollout of each token; `advantages` and `weights` are [n].
    """

    logprobs: Tensor
    behaviour: Tensor
    versions: Tensor
    old: Tensor
    owner: Tensor
    advantages: Tensor
    weights: Tensor

    def of_tokens(self, values: Tensor) -> Tensor:
        """[n] -> [T]: each token its rollout's."""
        return values[self.owner]

    def of_rollouts(self, values: Tensor) -> Tensor:
        """[T] -> [n], for values that are equal within a rollout; 0 for one without tokens."""
        return values.new_zeros(len(self.weights)).scatter(0, self.owner, values)


def rl_loss(
    batch: RlBatch, objective: AnyObjective, start: DocumentLogprobs | None = None, version: int = 0
) -> LossFunction:
    """The loss of one micro-batch of `batch`.

    `start` are log-probs under the weights at the start of the iteration; without them the step is the
    iteration's first, and the policy is its own reference. `version` is the policy's at that start:
    sampler and trainer are compared on the tokens that it sampled.
    """

    def loss(micro: MicroBatch, logprobs: Tensor, entropy: Tensor) -> tuple[Tensor, Stats]:
        tokens = _tokens(batch, micro, logprobs, start)
        same = tokens.versions == version
        stats = mismatch(logprobs.detach()[same], tokens.behaviour[same]) | {
            "tokens": count(logprobs),
            "entropy_sum": entropy.double().sum(),
            "behaviour_k3_sum": k3(logprobs.detach() - tokens.behaviour).sum(),
        }
        by_rollout = objective.terms_of_rollouts
        terms, more = _rollout_terms(tokens, objective) if by_rollout else _token_terms(tokens, objective)
        stats |= more
        if objective.correction.kind != "none":
            factors, more = _correction(tokens, objective)
            stats |= more
            terms = terms * (tokens.of_rollouts(factors) if by_rollout else factors)
        weights = tokens.weights if by_rollout else tokens.of_tokens(tokens.weights)
        value = (terms * weights).sum()
        if objective.kl.coefficient > 0 and objective.kl.where == "loss":
            assert batch.frozen is not None, "the KL needs its reference's log-probs"
            kl = kl_terms(logprobs, _gather(batch.frozen, micro, logprobs), objective.kl.estimator)
            stats["kl_sum"] = kl.detach().double().sum()
            weights = tokens.weights
            if objective.means_of_tokens:
                weights = weights / torch.bincount(tokens.owner, minlength=len(weights)).clamp(min=1)
            value = value + objective.kl.coefficient * (kl * tokens.of_tokens(weights)).sum()
        return value, stats

    return loss


def _tokens(batch: RlBatch, micro: MicroBatch, logprobs: Tensor, start: DocumentLogprobs | None) -> _Tokens:
    device = logprobs.device
    members = micro.documents.tolist()
    return _Tokens(
        logprobs=logprobs,
        behaviour=torch.cat([batch.behaviour[i] for i in members]).to(device),
        versions=torch.cat([batch.versions[i] for i in members]).to(device),
        old=logprobs.detach() if start is None else _gather(start, micro, logprobs),
        owner=micro.owner.to(device),
        advantages=batch.advantages[micro.documents].to(device),
        weights=batch.weights[micro.documents].to(device),
    )


def _rollout_terms(tokens: _Tokens, objective: AnyObjective) -> tuple[Tensor, Stats]:
    """Terms [n]."""
    if isinstance(objective, OmdConfig):
        return omd(
            tokens.logprobs, tokens.old, tokens.advantages, tokens.owner, objective.tau, objective.form
        )
    assert isinstance(objective, GspoConfig)
    old = tokens.behaviour if objective.old == "behaviour" else tokens.old
    return gspo(
        tokens.logprobs, old, tokens.advantages, tokens.owner, objective.clip_low, objective.clip_high
    )


def _token_terms(tokens: _Tokens, objective: AnyObjective) -> tuple[Tensor, Stats]:
    """Terms [T]."""
    logprobs, behaviour, advantages = tokens.logprobs, tokens.behaviour, tokens.of_tokens(tokens.advantages)
    if isinstance(objective, CispoConfig):
        return cispo(logprobs, behaviour, advantages, objective.is_cap_max, objective.is_cap_min)
    if isinstance(objective, MiniRlConfig):
        return minirl(
            logprobs,
            behaviour,
            tokens.old,
            advantages,
            objective.is_cap_max,
            objective.clip_low,
            objective.clip_high,
        )
    if isinstance(objective, ClippedRatio | GspoConfig):
        old = behaviour if objective.old == "behaviour" else tokens.old
        low, high = objective.clip_low, objective.clip_high
        if isinstance(objective, GspoConfig):
            return gspo_token(logprobs, old, advantages, tokens.owner, low, high)
        return grpo(logprobs, old, advantages, low, high, objective.dual_clip)
    return reinforce(logprobs, advantages)


def _correction(tokens: _Tokens, objective: AnyObjective) -> tuple[Tensor, Stats]:
    """Factors [T]."""
    kind = objective.correction.kind
    assert kind != "none"
    n, (low, high) = len(tokens.advantages), objective.correction.bounds
    return correction_weights(tokens.old, tokens.behaviour, tokens.owner, n, kind, low, high)


def _gather(values: DocumentLogprobs, micro: MicroBatch, like: Tensor) -> Tensor:
    return torch.tensor([v for i in micro.documents.tolist() for v in values[i]], device=like.device)
