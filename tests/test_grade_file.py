"""`vlrl grade`: rows in, rows out, whatever is wrong with them and whenever it is killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vlrl.cli import main

PAIRS: list[dict[str, Any]] = [
    {"gold": "5", "answer": "5.0", "id": "number"},
    {"gold": 5, "answer": 6},
    {"gold": "x+1", "answer": "1+x"},
    {"gold": "1,-2", "answer": "1,-3"},
    {"gold": "5", "answer": ""},
    {"gold": "5", "answer": None},
    {"gold": "5", "answer": "<think>\\boxed{5}"},
    {"gold": "5", "answer": "<think>\\boxed{4}</think> So \\boxed{6} or rather \\boxed{5}."},
    {"gold": "5", "response": "it is 5"},
    {"gold": "5", "answer": "9^{9^{9^9}}"},
    {"gold": "42", "answer": "42.05", "verifier": "numeric", "extra_info": {"tolerance": 0.1}},
    {"gold": '[{"input": "1", "output": "1"}]', "answer": "print(input())", "verifier": "code"},
    {"gold": '[{"input": "1", "output": "1"}]', "answer": "```\nprint(2)\n```", "verifier": "code"},
]
STATUSES = [
    "correct",
    "wrong",
    "correct",
    "wrong",
    "no_answer",
    "no_answer",
    "no_answer",
    "correct",
    "no_answer",
    "grader_error",
    "correct",
    "correct",
    "wrong",
]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_and_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, out = _write(tmp_path / "pairs.jsonl", PAIRS), tmp_path / "out.jsonl"
    assert main(["grade", str(pairs), "--out", str(out), "rewards.timeout_s=0.8", "sandbox.workers=1"]) == 0
    rows = _rows(out)
    assert [row["status"] for row in rows] == STATUSES
    assert rows[0]["id"] == "number" and set(rows[1]) == {"reward", "status", "answer", "rule", "ms"}
    assert [row["reward"] for row in rows] == [float(status == "correct") for status in STATUSES]
    assert all(row["ms"] >= 0 for row in rows)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {"n": 13, "correct": 5, "wrong": 3, "no_answer": 4, "errors": 1}


def test_rewards_of_a_config(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "name: x\nrewards:\n  sources:\n    'a*': [{verifier: numeric, args: {tolerance: 1}}]\n"
    )
    pairs = _write(
        tmp_path / "pairs.jsonl",
        [{"gold": "5", "answer": "5.5", "data_source": source} for source in ("abc", "b")],
    )
    out = tmp_path / "out.jsonl"
    assert main(["grade", str(pairs), "--out", str(out), "--config", str(config), "rewards.wrong=-1"]) == 0
    assert [row["reward"] for row in _rows(out)] == [1.0, -1.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "line 2: expected an object"),
        ("{", "line 2: not JSON"),
        ('{"answer": "5"}', "line 2: needs 'gold'"),
        ('{"gold": " ", "answer": "5"}', "line 2: needs 'gold'"),
        ('{"gold": "5"}', "line 2: needs 'answer'"),
        (
            '{"gold": "5", "answer": "5", "verifier": "maths"}',
            "line 2: no verifier 'maths'; did you mean 'math'",
        ),
        ('{"gold": "red", "answer": "5", "verifier": "numeric"}', "line 2: the ground truth 'red'"),
        ('{"gold": ["5"], "answer": "5"}', "line 2: 'gold' must be text or a number, found list"),
    ],
)
def test_bad_rows_are_named_before_any_is_graded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    pairs, out = _write(tmp_path / "pairs.jsonl", PAIRS[:1]), tmp_path / "out.jsonl"
    with pairs.open("a") as file:
        file.write(line + "\n")
    assert main(["grade", str(pairs), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_other_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, out = _write(tmp_path / "pairs.jsonl", PAIRS[:1]), tmp_path / "out.jsonl"
    out.write_text("")
    for arguments, message in (
        ([str(pairs), "--out", str(out)], "exists already"),
        ([str(tmp_path / "none.jsonl"), "--out", str(out)], "cannot be read"),
        ([str(_write(tmp_path / "empty.jsonl", [])), "--out", str(out)], "has no rows"),
        ([str(pairs), "--out", str(out), "rewards.workerz=2"], "did you mean 'workers'"),
        ([str(pairs), "--out", str(out), "rewards.sources.a=[{verifierr: math}]"], "did you mean 'verifier'"),
    ):
        assert main(["grade", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_kill_loses_no_row_and_repeats_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [{"gold": f"x+{n}", "answer": f"{n + n % 2}+x", "id": n} for n in range(1500)]
    path, out = _write(tmp_path / "pairs.jsonl", pairs), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "vlrl.cli", "grade", str(path), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while (not out.exists() or out.stat().st_size < 2000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(out.read_bytes().splitlines())
    assert 0 < before < len(pairs)
    with out.open("ab") as file:
        file.write(b'{"id": 77, "rew')  # what a kill in the middle of a write leaves
    assert main(["grade", str(path), "--out", str(out), "--resume"]) == 0
    rows = _rows(out)
    assert [row["id"] for row in rows] == list(range(1500))
    assert [row["status"] for row in rows] == ["wrong" if n % 2 else "correct" for n in range(1500)]
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {"n": 1500, "correct": 750, "wrong": 750, "no_answer": 0, "errors": 0}


def test_resume_grades_again_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [{"gold": f"x+{n}", "answer": f"{n}+x", "id": n} for n in range(6)]
    path, out = _write(tmp_path / "pairs.jsonl", pairs), tmp_path / "out.jsonl"
    assert main(["grade", str(path), "--out", str(out)]) == 0
    rows = _rows(out)[:5]
    for number in (1, 4):
        rows[number] |= {"status": "grader_error", "reward": 0.0, "rule": "math: died"}
    before = [json.dumps(row) for row in rows]
    out.write_text("\n".join(before) + "\n")
    capsys.readouterr()
    assert main(["grade", str(path), "--out", str(out), "--resume"]) == 0
    after = out.read_text().splitlines()
    assert [after[n] for n in (0, 2, 3)] == [before[n] for n in (0, 2, 3)] and len(after) == 6
    assert [row["status"] for row in _rows(out)] == ["correct"] * 6
    assert not list(tmp_path.glob(".*"))
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {"n": 6, "correct": 6, "wrong": 0, "no_answer": 0, "errors": 0}


def test_resume_refuses_rows_of_another_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = _write(tmp_path / "pairs.jsonl", PAIRS[:1]), tmp_path / "out.jsonl"
    for line, message in (
        ('{"id": "other", "status": "correct"}', "has id 'other' where the input has 'number'"),
        (
            '{"id": "number", "status": "correct"}\n{"id": 2, "status": "wrong"}',
            "the input has no row for it",
        ),
        ('{"id": "number"}', "not a row that vlrl grade wrote"),
    ):
        out.write_text(line + "\n")
        assert main(["grade", str(path), "--out", str(out), "--resume"]) == 2
        assert message in capsys.readouterr().err and out.read_text() == line + "\n"


def test_a_config_for_every_source_is_no_hindrance(tmp_path: Path) -> None:
    pairs, out = _write(tmp_path / "pairs.jsonl", PAIRS[:1]), tmp_path / "out.jsonl"
    assert main(["grade", str(pairs), "--out", str(out), "rewards.sources={'*': [{verifier: numeric}]}"]) == 0
    assert _rows(out)[0]["rule"] == "tolerance"


def test_an_interrupt_waits_for_no_more_than_what_is_being_graded(tmp_path: Path) -> None:
    hostile = [{"gold": "5", "answer": f"9^{{9^{{9^9}}}}+{n}"} for n in range(200)]
    path, out = _write(tmp_path / "pairs.jsonl", hostile), tmp_path / "out.jsonl"
    command = [
        sys.executable,
        "-m",
        "vlrl.cli",
        "grade",
        str(path),
        "--out",
        str(out),
        "rewards.timeout_s=0.5",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while (not out.exists() or not out.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and b"go on with --resume" in said
