"""Reinforcement learning, as the paper reads: collect, step, publish weights, save, validate.

Each iteration samples a group of rollouts for every prompt from the current policy, grades them, takes
one or several optimizer steps, and hands the new weights to the sampler (k1.5 section 2.3; ScaleRL).
"""

import time

from vlrl.objectives.advantages import RunningScale
from vlrl.training.learn import learn
from vlrl.training.parity import check_parity
from vlrl.training.rl_metrics import alarms, rollout_metrics
from vlrl.training.session import Session
from vlrl.training.stage import StageRun, Stateful
from vlrl.trajectory import Group


def train_rl(session: Session) -> None:
    """Run the stage from its latest checkpoint to its last step."""
    rl, ranks = session.config.rl, session.ranks
    updates = session.config.derived()["optimizer_steps"]
    collector = session.collector() if ranks.is_main else None
    scale = RunningScale(session.config.objective.ema_decay)
    stateful: dict[str, Stateful] = {"scale": scale} | ({"collector": collector} if collector else {})
    with session.stage("rl", rl.steps, rl.optimizer, updates, stateful) as stage:
        session.publish(stage, version=stage.step)
        check_parity(session, stage)
        session.validate_due(stage, rl.validate_every, at_start=True)
        for step in stage.remaining():
            collected = ranks.share(collector.next_batch(step) if collector else None)
            started = time.perf_counter()
            learned = learn(session, stage, collected.groups, scale)
            trained = time.perf_counter()
            session.publish(stage, version=step)
            published = time.perf_counter()
            seconds = collected.seconds | session.reward_timings()
            seconds |= {"train": trained - started, "publish": published - trained}
            report(session, stage, step, collected.sampled, learned, seconds)
            stage.commit()
            session.validate_due(stage, rl.validate_every)
        if session.config.validation.blank_images:
            session.measure_blank(stage)


def report(
    session: Session,
    stage: StageRun,
    step: int,
    groups: list[Group],
    learned: dict[str, float],
    seconds: dict[str, float],
) -> None:
    """Numbers to the log, rollouts to the run directory, alarms to the screen."""
    metrics = rollout_metrics(groups, step - 1, session.config.rewards.floor) | learned
    shown = ("reward", "accuracy", "response_tokens", "entropy_mean", "mismatch_k3_mean")
    stage.log(step, metrics, seconds, {name: metrics[name] for name in shown if name in metrics})
    session.keep_rollouts(stage, step, groups)
    for alarm in alarms(metrics):
        stage.note(f"step {step}: {alarm}")
