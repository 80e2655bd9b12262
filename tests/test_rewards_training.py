"""A run whose rollouts earn several rewards, programs among them, from config to report."""

import json
import os
import subprocess
import sys
from pathlib import Path

from vlrl.runs.rollouts import read_rollouts

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "configs" / "examples" / "several_rewards.yaml"
# Of the whole response, since a random model gives no answer.
BRIEF = """
from vlrl.trajectory import Verdict

class Brief:
    def extract(self, response, thinking_open):
        return response

    def judge(self, submissions):
        return [Verdict(max(0.0, 1 - len(s.answer) / 400), "correct", s.answer) for s in submissions]
"""
# Tests before this one may have joined a process group, whose address is in the environment.
GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _train(run: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "vlrl.cli", "train", str(EXAMPLE), "--run-dir", str(run), *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in GROUP}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def test_several_rewards_train_and_resume(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    tests = json.dumps([{"input": "1", "output": "2"}])
    rows.write_text(
        "".join(
            json.dumps({"question": f"Double it, {n}.", "data_source": "programs"} | truth) + "\n"
            for n, truth in enumerate(
                [{"reward_model": {"style": "code", "ground_truth": tests}}, {"answer": "2"}] * 4
            )
        )
    )
    mine = tmp_path / "mine.py"
    mine.write_text(BRIEF)
    run = tmp_path / "run"
    terms = f"[{{verifier: row, name: task}}, {{verifier: '{mine}:Brief', weight: 0.5}}]"
    settings = [f"rewards.sources.programs={terms}", f"data.train=[{{path: '{rows}'}}]", "trainer.threads=1"]
    done = _train(run, *settings, "rl.steps=2")
    assert done.returncode == 0, done.stderr
    metrics = [json.loads(line) for line in (run / "rl/metrics.jsonl").read_text().splitlines()]
    assert all(-1 <= line["reward"] <= 1.5 and line["error_rate"] == 0 for line in metrics)
    assert {"reward/task", "reward/Brief", "format_only_rate"} <= set(metrics[0])
    timings = [json.loads(line) for line in (run / "rl/timings.jsonl").read_text().splitlines()]
    assert "reward/Brief" in timings[0]
    for group in read_rollouts(run / "rl/rollouts/step_000001.parquet"):
        for rollout in group.rollouts:
            verdict = rollout.verdict
            assert verdict is not None and set(verdict.parts) == {"task", "Brief"}
            assert abs(verdict.reward - (2 * verdict.parts["task"] - 1 + 0.5 * verdict.parts["Brief"])) < 1e-9

    done = _train(run, *settings, "rl.steps=3", "sandbox.workers=1", "--resume")
    assert done.returncode == 0, done.stderr
    assert len((run / "rl/metrics.jsonl").read_text().splitlines()) == 3
    mine.write_text(mine.read_text() + "# another\n")
    done = _train(run, *settings, "rl.steps=4", "--resume")
    assert done.returncode == 2 and f"{mine}: changed since" in done.stderr


def test_the_example(tmp_path: Path) -> None:
    done = _train(tmp_path / "run", "rl.steps=1", "trainer.threads=1")
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(line) for line in (tmp_path / "run/rl/metrics.jsonl").read_text().splitlines()]
    assert {"reward/math", "reward/format", "reward/brief"} <= set(line)


def test_what_cannot_be_graded_is_found_before_training(tmp_path: Path) -> None:
    for setting, message in (
        ("rewards.sources={'*': [{verifier: maths}]}", "did you mean 'math'"),
        ("rewards.sources={'*': [{verifier: none.py:f}]}", "none.py"),
        ("rewards.sources={'*': [{verifier: cot_rm}]}", "needs the section 'rewards.cot_rm'"),
        ("rewards.sources={'*': [{verifier: numeric, args: {tolerance: wide}}]}", "tolerance"),
    ):
        done = _train(tmp_path / "run", setting)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "run").exists()
