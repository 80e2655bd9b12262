"""The run directory, its metrics and its progress."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from vlrl.config import RunConfig, build_config
from vlrl.errors import UserError
from vlrl.runs.directory import RunDirectory, StageDirectory
from vlrl.runs.metrics import MetricsLog, read_metrics
from vlrl.runs.progress import StageProgress, format_number, format_seconds


def config(**changes: object) -> RunConfig:
    tree = {
        "name": "test",
        "policy": {"path": "/models/some"},
        "data": {"train": [{"path": "rows.jsonl"}]},
        **changes,
    }
    return build_config(tree, "test")


def test_create_writes_the_resolved_config_and_the_environment(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs" / "a", config(), ["vlrl", "train", "x.yaml"])
    assert run.config == config() and yaml.safe_load(run.config_path.read_text())["rl"]["steps"] == 100
    (start,) = json.loads(run.environment_path.read_text())["starts"]
    assert start["command"] == ["vlrl", "train", "x.yaml"] and start["cores"] >= 1
    assert start["versions"]["torch"].startswith("2.")
    assert start["git"] is None or len(start["git"]["commit"]) == 40
    assert run.state() == "running"
    run.finish()
    assert run.state() == "finished" and RunDirectory.open(run.root).failure() is None


def test_create_refuses_what_is_there(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a", config(), [])
    with pytest.raises(UserError, match="a: holds a running run already; wait"):
        RunDirectory.create(run.root, config(), [])
    run.fail("out of luck")
    assert RunDirectory.open(run.root).failure() == "out of luck"
    with pytest.raises(UserError, match="holds a failed run already; resume it"):
        RunDirectory.create(run.root, config(), [])
    again = RunDirectory.resume(run.root, config(), [])
    again.finish()
    with pytest.raises(UserError, match="holds a finished run already; choose another name"):
        RunDirectory.create(run.root, config(), [])
    foreign = tmp_path / "b"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="b: holds files that are no run"):
        RunDirectory.create(foreign, config(), [])
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match="is a file"):
        RunDirectory.create(foreign / "thesis.tex", config(), [])
    with pytest.raises(UserError, match="not a run directory"):
        RunDirectory.resume(foreign, config(), [])


def test_resume_refuses_a_changed_config_and_says_where(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a", config(), [])
    run.fail("x")
    changed = config(seed=3, rl={"prompts_per_step": 16, "steps": 500}, objective={"name": "grpo"})
    with pytest.raises(UserError, match=r"changed config \((.*)\)") as caught:
        RunDirectory.resume(run.root, changed, [])
    message = str(caught.value)
    assert "seed" in message and "rl.prompts_per_step" in message and "objective.name" in message
    assert "rl.steps" not in message and run.config == config() and run.state() == "failed"


def test_resume_takes_harmless_changes(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "a", config(), []).fail("x")
    new = config(
        runs_dir="elsewhere",
        rl={"steps": 500},
        checkpoint={"every": 7, "keep": 1},
        sampling={"threads": 1, "timeout_s": 9, "startup_timeout_s": 9},
        trainer={"threads": 1},
    )
    leftover = tmp_path / "a" / "rl" / "checkpoints" / ".saving_step_000010"
    leftover.mkdir(parents=True)
    run = RunDirectory.resume(tmp_path / "a", new, ["again"])
    assert run.config == new and not leftover.exists()
    assert len(json.loads(run.environment_path.read_text())["starts"]) == 2


def test_resume_takes_no_longer_stage_where_that_changes_what_was_done(tmp_path: Path) -> None:
    decaying = {"optimizer": {"schedule": "linear"}}
    RunDirectory.create(tmp_path / "a", config(rl=decaying), []).fail("x")
    with pytest.raises(UserError, match=r"rl\.steps, since the linear learning rate"):
        RunDirectory.resume(tmp_path / "a", config(rl=decaying | {"steps": 500}), [])

    rows = [{"path": "rows.jsonl"}]

    def both(**sft: int) -> RunConfig:
        return config(stages=["sft", "rl"], sft=sft, data={"warmup": rows, "train": rows})

    run = RunDirectory.create(tmp_path / "b", both(), [])
    run.fail("x")
    RunDirectory.resume(tmp_path / "b", both(steps=500), []).fail("x")
    run.stage("rl").checkpoints.mkdir(parents=True)
    with pytest.raises(UserError, match=r"sft\.steps, since stage rl started from its end"):
        RunDirectory.resume(tmp_path / "b", both(steps=600), [])


def test_a_grading_deadline_decides_verdicts_and_may_not_change(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "a", config(), []).fail("x")
    with pytest.raises(UserError, match=r"changed config \(rewards\.timeout_s\)"):
        RunDirectory.resume(tmp_path / "a", config(rewards={"timeout_s": 9}), [])


OWNER = """
import os, sys, time
from vlrl.config import load_config
from vlrl.runs.directory import RunDirectory
run = RunDirectory.resume(sys.argv[1], load_config(sys.argv[1] + "/config.yaml"), [])
if os.fork() == 0:
    print(os.getpid(), flush=True)  # an orphan that outlives its parent, as a grading worker may
    sys.stdout.close()
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


def test_a_killed_owner_lets_go_and_a_living_one_does_not(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a", config(), [])
    run.fail("x")
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(run.root)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    orphan = int(owner.stdout.readline())
    try:
        assert RunDirectory.open(run.root).state() == "running"
        with pytest.raises(UserError, match="another process is training in it"):
            RunDirectory.resume(run.root, config(), [])
        owner.kill()
        owner.wait(timeout=20)
        assert RunDirectory.open(run.root).state() == "stopped"
        RunDirectory.resume(run.root, config(), []).finish()
    finally:
        owner.kill()
        subprocess.run(["kill", "-9", str(orphan)], check=True)


def test_reading_a_run_does_not_lose_its_lock(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a", config(), [])
    assert RunDirectory.open(run.root).state() == "running"
    program = (
        "import sys; from vlrl.runs.directory import RunDirectory as R; print(R.open(sys.argv[1]).state())"
    )
    seen = subprocess.run(
        [sys.executable, "-c", program, str(run.root)], capture_output=True, text=True, check=True, timeout=60
    )
    assert seen.stdout.strip() == "running"


def write_steps(stage: StageDirectory, resume_step: int | None, steps: range) -> None:
    with MetricsLog(stage, resume_step, tensorboard=False) as log:
        for step in steps:
            values = {"loss": 1 / (step + 1), "lr": 1e-6 * step, "name": "é", "odd": np.float32(0.1 * step)}
            log.log(step, values, {"seconds": 0.1})
        log.sync()


def test_resumed_metrics_equal_uninterrupted_ones_byte_for_byte(tmp_path: Path) -> None:
    whole, broken = StageDirectory(tmp_path / "whole"), StageDirectory(tmp_path / "broken")
    write_steps(whole, None, range(0, 31))
    write_steps(broken, None, range(0, 18))
    with broken.metrics.open("ab") as file:  # a kill in the middle of a line
        file.write(b'{"step": 18, "lo')
    assert [row["step"] for row in read_metrics(broken.metrics)] == list(range(18))
    write_steps(broken, 10, range(11, 25))
    write_steps(broken, 20, range(21, 31))
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()
    timings = read_metrics(broken.timings)
    assert [row["step"] for row in timings] == list(range(31)) and timings[3]["seconds"] == 0.1
    write_steps(broken, None, range(0, 2))
    assert [row["step"] for row in read_metrics(broken.metrics)] == [0, 1]


def test_non_finite_values_are_null_and_named(tmp_path: Path) -> None:
    stage = StageDirectory(tmp_path)
    with MetricsLog(stage, None, tensorboard=False) as log:
        log.log(1, {"a": math.nan, "b": -math.inf, "c": 1, "d": None, "e": True, "f": np.float64("nan")})
    text = stage.metrics.read_text()
    assert "NaN" not in text and "Infinity" not in text
    (row,) = read_metrics(stage.metrics)
    bad = {"a": "nan", "b": "-inf", "f": "nan"}
    assert row == {
        "step": 1,
        "a": None,
        "b": None,
        "c": 1,
        "d": None,
        "e": True,
        "f": None,
        "non_finite": bad,
    }


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nrubbish\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2"):
        read_metrics(path)
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_tensorboard_mirror_forgets_what_is_done_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stage = StageDirectory(tmp_path)
    for resume, steps, value in ((None, range(1, 9), 1.0), (5, range(6, 11), 2.0)):
        with MetricsLog(stage, resume) as log:
            for step in steps:
                log.log(step, {"reward": value, "note": "text"}, {"seconds": 0.5})
    events = EventAccumulator(str(stage.tensorboard))
    events.Reload()
    rewards = [(event.step, event.value) for event in events.Scalars("reward")]
    assert rewards == [(s, 1.0) for s in range(1, 6)] + [(s, 2.0) for s in range(6, 11)]
    assert sorted(events.Tags()["scalars"]) == ["reward", "time/seconds"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_without_a_terminal_is_a_line_now_and_then() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=40)
    with StageProgress("rl", 100, done=40, console=console, every_s=10, clock=clock) as progress:
        for step in range(41, 101):
            clock.now += 3
            progress.update(step, {"reward": step / 100, "tokens/s": 4321.0})
            if step == 50:
                progress.note("[held out] 0.5")
    lines = out.getvalue().splitlines()
    assert lines[0] == "rl 41/100  eta 2:57 min  reward 0.410  tokens/s 4,321"
    assert lines[1].startswith("rl 45/100  eta 2:45 min") and "[held out] 0.5" in lines
    assert lines[-1].startswith("rl 100/100  eta 0 s")
    assert 14 <= len(lines) <= 18


def test_progress_on_a_terminal_is_a_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with StageProgress("rl", 4, console=console) as progress:
        for step in range(1, 5):
            progress.update(step, {"reward": 0.5})
        progress.note("validated [x]")
    text = out.getvalue()
    assert "4/4" in text and "reward" in text and "validated [x]" in text


def test_numbers_are_short() -> None:
    assert [format_seconds(s) for s in (None, 59.6, 3599, 8040)] == ["-", "1:00 min", "59:59 min", "2:14 h"]
    assert [format_number(v) for v in (0.5, 12345.6, 1e-6, 7, "nan", None, 123.456)] == [
        "0.500",
        "12,346",
        "1e-06",
        "7",
        "nan",
        "None",
        "123",
    ]
