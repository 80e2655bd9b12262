"""Reinforcement learning, as the paper reads: collect, step, publish weights, validate, save.

Each iteration samples a group of rollouts for every prompt from the current policy, grades them, takes
one or several optimizer steps, and hands the new weights to the sampler (k1.5 section 2.3; ScaleRL).
"""

import time

from vlrl.config.objective import OmdConfig
from vlrl.training.parity import check_parity
from vlrl.training.rl_batch import build_batch, rl_loss
from vlrl.training.rl_metrics import alarms, learner_metrics, rollout_metrics
from vlrl.training.session import Session
from vlrl.training.stage import StageRun
from vlrl.trajectory import Group


def train_rl(session: Session) -> None:
    """Run the stage from its latest checkpoint to its last step."""
    rl, ranks = session.config.rl, session.ranks
    updates = session.config.derived()["optimizer_steps"]
    collector = session.collector() if ranks.is_main else None
    stateful = {"collector": collector} if collector else {}
    with session.stage("rl", rl.steps, rl.optimizer, updates, stateful) as stage:
        session.publish(stage, version=stage.step)
        check_parity(session, stage)
        if not stage.resumed:
            session.validate(stage, 0)
        for step in stage.remaining():
            collected = ranks.share(collector.next_batch(step) if collector else None)
            started = time.perf_counter()
            learned = learn(session, stage, collected.groups)
            trained = time.perf_counter()
            session.publish(stage, version=step)
            published = time.perf_counter()
            seconds = collected.seconds | {"train": trained - started, "publish": published - trained}
            report(session, stage, step, collected.groups, learned, seconds)
            if stage.is_due(step, rl.validate_every):
                session.validate(stage, step)
            if step == rl.steps and session.config.validation.blank_images:
                session.measure_blank(stage, step)


def learn(session: Session, stage: StageRun, groups: list[Group]) -> dict[str, float]:
    """The optimizer steps of one iteration, each on its own share of the prompts."""
    objective = session.config.objective
    if isinstance(objective, OmdConfig) and objective.reset_optimizer:
        stage.engine.reset_optimizer()
    share = session.config.derived()["prompts_per_update"]
    parts = [groups[i : i + share] for i in range(0, len(groups), share)]
    batches = [batch for part in parts if (batch := build_batch(part, objective)) is not None]
    # Mirror descent's reference is the policy at the start of the iteration; where there is only one
    # update, that is the policy itself.
    references = [
        stage.engine.logprobs(stage.pack(batch.documents), len(batch.documents))
        if isinstance(objective, OmdConfig) and len(batches) > 1
        else None
        for batch in batches
    ]
    learned = learner_metrics(
        [
            stage.engine.step(stage.pack(batch.documents), rl_loss(batch, objective, reference))
            for batch, reference in zip(batches, references, strict=True)
        ]
    )
    used = sum(batch.groups for batch in batches)
    return learned | {"group_use": used / len(groups)}


def report(
    session: Session,
    stage: StageRun,
    step: int,
    groups: list[Group],
    learned: dict[str, float],
    seconds: dict[str, float],
) -> None:
    """Numbers to the log, rollouts to the run directory, alarms to the screen."""
    metrics = rollout_metrics(groups, version=step - 1) | learned
    shown = ("reward", "accuracy", "response_tokens", "entropy_mean", "mismatch_k3_mean")
    stage.log(step, metrics, seconds, {name: metrics[name] for name in shown if name in metrics})
    session.keep_rollouts(stage, step, groups)
    for alarm in alarms(metrics):
        stage.note(f"step {step}: {alarm}")
