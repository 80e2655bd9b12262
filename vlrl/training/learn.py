"""What an RL iteration learns from its groups: a batch for each update, and the optimizer steps on them."""

from vlrl.config.objective import AnyObjective, OmdConfig, TpoConfig
from vlrl.objectives.advantages import RunningScale
from vlrl.policy.packing import TrainDocument
from vlrl.training.length import length_term
from vlrl.training.rl_batch import DocumentLogprobs, RlBatch, aimed, build_batch, graded_rollouts
from vlrl.training.rl_loss import rl_loss
from vlrl.training.rl_metrics import learner_metrics
from vlrl.training.session import Session
from vlrl.training.stage import StageRun
from vlrl.trajectory import Group


def learn(
    session: Session, stage: StageRun, groups: list[Group], scale: RunningScale | None = None
) -> dict[str, float]:
    """The optimizer steps of one iteration, each on its own share of the prompts.

    `scale` follows advantages from step to step; `normalisation: ema` needs it.
    """
    objective = session.config.objective
    if isinstance(objective, OmdConfig) and objective.reset_optimizer:
        stage.engine.reset_optimizer()
    share = session.config.derived()["prompts_per_update"]
    parts = [groups[i : i + share] for i in range(0, len(groups), share)]
    batches = [batch for part in parts if (batch := _batch(session, stage, part, scale)) is not None]
    # With one update the policy itself is the iteration's start.
    reads_start = objective.reads_start and len(batches) > 1
    starts = [_logprobs(stage, batch.documents) if reads_start else None for batch in batches]
    updates = []
    for batch, start in zip(batches, starts, strict=True):
        loss = rl_loss(_aim(stage, batch, objective), objective, start, version=stage.step)
        updates.append(stage.engine.step(stage.pack(batch.documents), loss))
    used = sum(batch.groups for batch in batches)
    return learner_metrics(updates) | {"group_use": used / len(groups)}


def _batch(
    session: Session, stage: StageRun, groups: list[Group], scale: RunningScale | None
) -> RlBatch | None:
    config, objective = session.config, session.config.objective
    graded = graded_rollouts(groups, objective, config.rl.partial, length_term(config, stage.step + 1))
    if graded is None:
        return None
    frozen = None
    if objective.kl.coefficient > 0:
        documents = graded.sampled() if objective.kl.where == "reward" else graded.documents
        frozen = session.frozen_policy.logprobs(stage.pack(documents), len(documents))
    return build_batch(graded, objective, scale, frozen)


def _aim(stage: StageRun, batch: RlBatch, objective: AnyObjective) -> RlBatch:
    if not isinstance(objective, TpoConfig):
        return batch
    return aimed(batch, objective, _logprobs(stage, batch.documents))


def _logprobs(stage: StageRun, documents: list[TrainDocument]) -> DocumentLogprobs:
    return stage.engine.logprobs(stage.pack(documents), len(documents))
