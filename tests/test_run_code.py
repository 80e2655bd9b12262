"""`vlrl run-code`: what it writes, what it refuses, and going on after a kill."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox_server import serving
from vlrl.cli import main

Row = dict[str, Any]


def row(id_: object, code: str = "print(int(input()) * 2)", **others: object) -> Row:
    return {"id": id_, "code": code, "tests": [{"input": "2\n", "output": "4\n"}], **others}


@pytest.fixture
def work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator["Workplace"]:
    yield Workplace(tmp_path, capsys)


class Workplace:
    """A folder with an input and an output."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.programs, self.out = folder / "programs.jsonl", folder / "out.jsonl"
        self.capture = capture

    def write(self, *rows: Row | str) -> None:
        lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
        self.programs.write_text("\n".join(lines) + "\n")

    def run(self, *arguments: str) -> Any:
        """The summary."""
        self.capture.readouterr()
        assert main(self.command(*arguments)) == 0, self.capture.readouterr().err
        return json.loads(self.capture.readouterr().out.splitlines()[-1])

    def refused(self, *arguments: str) -> str:
        self.capture.readouterr()
        assert main(self.command(*arguments)) == 2
        said = self.capture.readouterr()
        assert said.out == "" and len(said.err.strip().splitlines()) == 1
        return said.err

    def command(self, *arguments: str) -> list[str]:
        return ["run-code", str(self.programs), "--out", str(self.out), *arguments]

    def rows(self) -> list[Row]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]


MIXED = [
    row("right"),
    row("wrong", "print(5)"),
    row(3, "1 / 0"),
    row("spin", "while True: pass"),
    row(
        "call",
        "class Solution:\n    def add(self, a, b):\n        return a + b",
        fn_name="add",
        tests=[{"input": "1\n2", "output": "3", "testtype": "functional"}] * 2,
    ),
    row("plain", fn_name=None),
]
SUMMARY = {
    "n": 6,
    "passed": 3,
    "failed": 3,
    "errors": 0,
    "outcomes": {"exception": 1, "passed": 4, "timeout": 1, "wrong": 1},
}


def check_mixed(rows: list[Row]) -> None:
    assert [(r["id"], r["passed"]) for r in rows] == [
        ("right", True), ("wrong", False), (3, False), ("spin", False), ("call", True), ("plain", True)
    ]  # fmt: skip
    assert [[test["outcome"] for test in r["tests"]] for r in rows[1:5]] == [
        ["wrong"], ["exception"], ["timeout"], ["passed", "passed"]
    ]  # fmt: skip
    for one in rows:
        assert set(one) == {"id", "passed", "tests"}
        for test in one["tests"]:
            assert set(test) == {"outcome", "cpu_s", "wall_s", "memory_mb", "error"}
            assert test["cpu_s"] > 0 and test["wall_s"] > 0 and test["memory_mb"] > 1
    assert "ZeroDivisionError" in rows[2]["tests"][0]["error"]
    assert 0.2 <= rows[3]["tests"][0]["cpu_s"] < 1


def test_rows_in_order_and_a_summary(work: Workplace) -> None:
    work.write(*MIXED)
    assert work.run("sandbox.cpu_s=0.2", "sandbox.workers=2") == SUMMARY
    check_mixed(work.rows())


def test_a_byte_order_mark_is_no_part_of_a_row(work: Workplace) -> None:
    work.write(row(1, tests=[{"input": "2", "output": "4"}]))
    path = next(Path(argument) for argument in work.command() if Path(argument).is_file())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert work.run()["passed"] == 1


def test_by_a_server(work: Workplace) -> None:
    work.write(*MIXED)
    with serving(workers=2, queue=3, cpu_s=1.0) as url:
        assert "limits.cpu_s: 2 is above the server's 1" in work.refused("--sandbox", url, "sandbox.cpu_s=2")
        assert not work.out.exists()
        assert work.run("sandbox.cpu_s=0.2", "--sandbox", url) == SUMMARY
    check_mixed(work.rows())


GOOD_TEST = {"input": "2", "output": "4"}


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("{", "invalid JSON"),
        ("3", "input should be an object"),
        ({"id": "a", "tests": [GOOD_TEST]}, "missing key 'code'"),
        ({"code": "", "tests": [GOOD_TEST]}, "missing key 'id'"),
        (row(None), "key 'id': should be text or a whole number"),
        (row(True), "key 'id': should be text or a whole number"),
        (row("a", tests=[]), "key 'tests': list should have at least 1 item"),
        (row("a", tests=[{"output": "4"}]), "missing key 'tests.0.input'"),
        (
            row("a", tests=[GOOD_TEST | {"testtype": "std"}]),
            "key 'tests.0.testtype': input should be 'stdin', 'functional' or 'check'",
        ),
        (row("a", tests=[GOOD_TEST | {"test_type": "functional"}]), "unknown key 'tests.0.test_type'"),
        (row("a", fn_name=3), "key 'fn_name': input should be a valid string"),
        (
            row("a", tests=[GOOD_TEST | {"testtype": "functional"}]),
            "tests.0: a functional test needs 'fn_name'",
        ),
    ],
)
def test_a_bad_row_is_named_before_anything_runs(work: Workplace, bad: Row | str, expected: str) -> None:
    work.write(row("first"), row("second"), bad)
    said = work.refused()
    assert f"{work.programs}, line 3: {expected}" in said
    assert not work.out.exists()


def test_files_that_cannot_be(work: Workplace) -> None:
    assert "cannot be read (No such file" in work.refused()
    work.programs.write_text("\n")
    assert "has no rows" in work.refused()
    work.write(row("a"))
    work.out = work.out.parent / "nowhere" / "out.jsonl"
    assert "cannot be written (No such file" in work.refused()
    assert "unknown key 'sandbox.cpu'" in work.refused("sandbox.cpu=3")
    assert "write its address as" in work.refused("--sandbox", "here:8330")


def test_an_output_that_exists(work: Workplace) -> None:
    work.write(row("a"), row("b"))
    work.out.write_text("mine")
    assert "exists already; add --resume" in work.refused()
    assert work.out.read_text() == "mine"
    work.out.write_text("")
    with open(work.out, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another run-code is writing it" in work.refused("--resume")


def test_resume_checks_whose_rows_are_there(work: Workplace) -> None:
    work.write(row("a"), row("b"))
    work.run("--resume")
    assert [r["id"] for r in work.rows()] == ["a", "b"]
    before = work.out.read_bytes()
    work.write(row("a"), row("c"))
    assert "line 2: has id 'b' where the input has 'c'" in work.refused("--resume")
    work.write(row("a"))
    assert "line 2: the input has no row for it" in work.refused("--resume")
    assert work.out.read_bytes() == before
    work.out.write_text('{"some": "other file"}\n')
    assert "line 1: not a row that run-code wrote" in work.refused("--resume")


def test_a_kill_loses_nothing(work: Workplace) -> None:
    """Killed between rows, and a row cut short: what is there stays, and the rest is added once."""
    programs = [row(i, f"import time\ntime.sleep({0.05 if i > 5 else 0})\nprint(4)") for i in range(40)]
    work.write(*programs)
    process = subprocess.Popen(
        [sys.executable, "-m", "vlrl.cli", *work.command()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 20
    while not (work.out.exists() and work.out.read_bytes().count(b"\n") >= 8):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    kept = work.out.read_bytes()
    assert kept.endswith(b"\n") and 8 <= kept.count(b"\n") < 40
    work.out.write_bytes(kept + b'{"id": 12, "pas')
    assert work.run("--resume")["passed"] == 40
    assert work.out.read_bytes().startswith(kept)
    assert [r["id"] for r in work.rows()] == list(range(40))
    assert work.run("--resume")["n"] == 40


def lose(work: Workplace, *positions: int) -> bytes:
    """Make the rows at `positions` ones that the sandbox failed; what the file is then."""
    rows = work.rows()
    for position in positions:
        rows[position]["passed"] = False
        rows[position]["tests"][-1]["outcome"] = "infra_error"
    work.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return work.out.read_bytes()


def test_resume_judges_again_what_the_sandbox_failed(work: Workplace) -> None:
    """At the beginning, in a row, and last; other rows stay as they are, byte for byte."""
    programs = [row(i) for i in range(9)] + [row(9, "print(5)")]
    work.write(*programs[:8])
    work.run()
    before = lose(work, 0, 3, 4, 7).splitlines()
    work.write(*programs)
    summary = work.run("--resume")
    assert (summary["n"], summary["passed"], summary["failed"], summary["errors"]) == (10, 9, 1, 0)
    after = work.out.read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in after] == list(range(10))
    assert [after[i] == before[i] for i in range(8)] == [i not in (0, 3, 4, 7) for i in range(8)]
    assert sorted(path.name for path in work.out.parent.iterdir()) == ["out.jsonl", "programs.jsonl"]


def test_a_kill_while_rows_are_judged_again_loses_nothing(work: Workplace) -> None:
    work.write(*(row(i, f"import time\ntime.sleep({i})\nprint(4)") for i in (0, 0, 3)))
    work.run()
    before = lose(work, 1, 2)
    process = subprocess.Popen(
        [sys.executable, "-m", "vlrl.cli", *work.command("--resume")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    scratch = work.out.with_name(".out.jsonl.retry")
    until = time.monotonic() + 30
    while not (scratch.exists() and scratch.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    assert work.out.read_bytes() == before
    assert work.run("--resume")["passed"] == 3
    assert not scratch.exists()
