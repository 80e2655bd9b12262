"""vlrl's side of `rl_step.py`: the loop of `vlrl.training.rl` on a real session, one turn at a time."""

import contextlib
import time
from multiprocessing.connection import Connection
from typing import Any, Literal

from rl_step_task import (
    LEARNING_RATE,
    PROMPTS,
    RESPONSE_TOKENS,
    Step,
    StopWorker,
    Task,
    cpu_seconds,
    enter_worker,
    reward,
    wait_for_turn,
)

Engine = Literal["transformers", "vllm"]


def work(task: Task, name: str, engine: Engine, options: dict[str, Any], connection: Connection) -> None:
    """Take a step whenever the parent asks for one, and report it."""
    enter_worker(task, task.folder / f"{name}.log")
    from vlrl.config import build_config
    from vlrl.runs.directory import RunDirectory
    from vlrl.training.ranks import start_ranks
    from vlrl.training.session import Session

    config = build_config(_config(task, engine, name, options), "benchmark")
    run = RunDirectory.create(task.folder / name, config, ["rl_step.py"])
    data = {"train": [task.prompts], "warmup": [], "validation": []}
    with Session(config, run, start_ranks(task.threads), str(task.model), data) as session:
        # Every response must have its full length, so the end of a turn is banned like a media id.
        session.processor.banned_ids = sorted(session.processor.banned_ids + session.processor.stop_ids)
        with contextlib.suppress(StopWorker):
            _train(session, connection)


def _config(task: Task, engine: Engine, name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "policy": {"path": str(task.model)},
        "data": {"train": [{"path": str(task.prompts)}]},
        "rl": {
            "steps": task.steps + 1,
            "prompts_per_step": PROMPTS,
            "rollouts_per_prompt": task.shape.rollouts,
            "max_prompt_tokens": 256,
            "max_response_tokens": RESPONSE_TOKENS,
            "optimizer": {"lr": LEARNING_RATE},
        },
        "objective": {"name": "grpo", "aggregation": "token", "drop_zero_variance": False},
        "sampling": {
            "engine": engine,
            "threads": task.threads,
            "kv_cache_gb": 0.25,
            "compile": options["compile"],
        },
        "trainer": {
            "dtype": "float32",
            "zero_stage": 0,
            "threads": task.threads,
            "tokens_per_micro_batch": options["tokens"],
            "logprob_chunk": options["tokens"],
        },
        "checkpoint": {"every": 10**6},
    }


class _Reward:
    """The benchmark's reward after vlrl's own grading, which finds no answer in random responses."""

    def __init__(self, grader: Any) -> None:
        self._grader = grader

    def grade(self, groups: list[Any]) -> None:
        from vlrl.trajectory import Verdict

        self._grader.grade(groups)
        for group in groups:
            for rollout in group.rollouts:
                rollout.verdict = Verdict(reward(rollout.text), "wrong", rule="benchmark")


def _train(session: Any, connection: Connection) -> None:
    """`vlrl.training.rl.train_rl` without its validation, stopping at each turn."""
    from vlrl.collect.collector import Collector
    from vlrl.training.learn import learn
    from vlrl.training.parity import check_parity
    from vlrl.training.rl import report

    config = session.config
    grader = _Reward(session.grader)
    collector = Collector(session.train_prompts(), session.sampler, session.processor, grader, config)
    with session.stage(
        "rl", config.rl.steps, config.rl.optimizer, config.rl.steps, {"collector": collector}
    ) as stage:
        session.publish(stage, version=0)
        check_parity(session, stage)
        for step in stage.remaining():
            connection.send("ready")
            wait_for_turn(connection)
            cpu, started = cpu_seconds(), time.perf_counter()
            collected = collector.next_batch(step)
            before = time.perf_counter()
            learned = learn(session, stage, collected.groups)
            trained = time.perf_counter()
            session.publish(stage, version=step)
            published = time.perf_counter()
            seconds = collected.seconds | {"train": trained - before, "publish": published - trained}
            report(session, stage, step, collected.groups, learned, seconds)
            ended = time.perf_counter()
            seconds["record"] = ended - published
            # What is left of the collector's time is the making of requests.
            seconds["generate"] += (before - started) - sum(collected.seconds.values())
            assert learned["group_use"] == learned["updates"] == 1, "rollouts were left out"
            rollouts = [r for group in collected.groups for r in group.rollouts]
            tokens = {
                "prompt": sum(len(r.prompt_ids) for r in rollouts),
                "response": sum(len(r.response_ids) for r in rollouts),
            }
            connection.send(Step(seconds, cpu_seconds() - cpu, tokens))
            stage.commit()
