"""Runs of the command line that are killed at chosen moments, and what must be equal afterwards."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from tests.ranks import ROOT
from vlrl.runs.directory import RunDirectory
from vlrl.runs.rollouts import read_rollouts

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
Moment = Callable[[Path], bool]


def after_step(stage: str, step: int, seconds: float = 0.0) -> Moment:
    """Some time after a step was logged, wherever the process is by then."""
    seen: list[float] = []

    def come(root: Path) -> bool:
        path = root / stage / "metrics.jsonl"
        if not seen and path.exists() and path.read_bytes().count(b"\n") >= step:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= seconds

    return come


def while_saving(stage: str, step: int, files: int) -> Moment:
    """In the middle of a checkpoint, once its scratch folder holds some files; at the latest at its end."""

    def come(root: Path) -> bool:
        folder = root / stage / "checkpoints"
        scratch = folder / f".saving_step_{step:06d}"
        # Not by rglob, which a folder that is renamed under it upsets.
        written = sum(len(names) for _, _, names in os.walk(scratch))
        return (scratch.is_dir() and written >= files) or (folder / f"step_{step:06d}").is_dir()

    return come


def train(config: Path, root: Path, kills: list[Moment], timeout: float = 300) -> None:
    """Train to the end; at each moment in turn the process is killed, and started again with --resume."""
    last: list[Moment | None] = [None]
    for moment in kills + last:
        process = _start(config, root)
        deadline = time.monotonic() + timeout
        while process.poll() is None and not (moment and moment(root)):
            assert time.monotonic() < deadline, _log(root)
            time.sleep(0.002 if moment else 0.1)
        if moment is None:
            assert process.returncode == 0, _log(root)
        else:
            assert process.poll() is None, f"ended before it was killed: {_log(root)}"
            workers = psutil.Process(process.pid).children(recursive=True)
            # The process alone: what it started must notice and go.
            process.send_signal(signal.SIGKILL)
            process.wait()
            _, left = psutil.wait_procs(workers, timeout=60)
            assert not left


def _start(config: Path, root: Path) -> subprocess.Popen[bytes]:
    resume = ["--resume"] if (root / "config.yaml").exists() else []
    command = [sys.executable, "-m", "vlrl.cli", "train", str(config), "--run-dir", str(root), *resume]
    with root.with_suffix(".log").open("ab") as log:
        # A test of this session may have made itself a group of one rank, whose port is taken.
        environment = {k: v for k, v in os.environ.items() if k not in LAUNCHER}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def _log(root: Path) -> str:
    return root.with_suffix(".log").read_text()[-3000:]


def rollouts(path: Path) -> list[dict[str, Any]]:
    """Every rollout of a file; images by content, since each run has a folder of its own."""
    out = []
    for group in read_rollouts(path):
        for rollout in group.rollouts:
            images = [replace(image, path="") for image in rollout.images]
            out.append(replace(rollout, images=images).to_json() | {"truth": group.prompt.ground_truth})
    return out


def read(root: Path) -> dict[str, Any]:
    """All that must not depend on whether the run was killed, by name."""
    run = RunDirectory.open(root)
    assert run.state() == "finished"
    out: dict[str, Any] = {}
    for stage in run.stages():
        out[f"{stage.name}/metrics"] = stage.metrics.read_bytes()
        for path in sorted(stage.root.glob("rollouts/*")) + sorted(stage.validation.glob("*")):
            name = f"{stage.name}/{path.parent.name}/{path.name}"
            out[name] = rollouts(path) if path.suffix == ".parquet" else path.read_bytes()
        for path in sorted(stage.checkpoints.glob("*/policy/*")):
            out[str(path.relative_to(root))] = path.read_bytes()
        for path in sorted(stage.checkpoints.glob("*/state.json")):
            state = json.loads(path.read_text())
            out[str(path.relative_to(root))] = {k: v for k, v in state.items() if k != "seconds"}
    out["steps in all"] = {k: v for k, v in json.loads(run.report_json.read_text()).items() if k != "seconds"}
    return out


def random_moments(seed: int, count: int, steps: int, every: int, seconds_a_step: float) -> list[Moment]:
    """Moments in order of training: every other one inside a checkpoint, the rest anywhere in a step.

    They are printed, for whoever has to look into a failure.
    """
    generator = random.Random(seed)
    span = steps // count
    out = []
    for index in range(count):
        step = max(2, index * span + generator.randrange(span))
        if index % 2:
            saved, files = min(-(-step // every) * every, steps), generator.randrange(8)
            print(f"kill {index + 1}: when the checkpoint of step {saved} has {files} files")
            out.append(while_saving("rl", saved, files))
        else:
            seconds = generator.uniform(0, 2 * seconds_a_step)
            print(f"kill {index + 1}: {seconds:.3f} s after step {step}")
            out.append(after_step("rl", step, seconds))
    return out
