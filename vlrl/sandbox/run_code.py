"""`vlrl run-code`: programs of a file judged, a row out for each."""

import asyncio
import codecs
import fcntl
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import Field, field_validator
from rich.console import Console

from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError, writing
from vlrl.runs.progress import StageProgress
from vlrl.sandbox.client import RemoteSandbox
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Judge, Limits, Program, Report, check
from vlrl.sandbox.wire import Form, TestForm, check_limits, read

_WINDOW = 64  # programs under way; a slow one holds up the rows after it, but not their running


class Row(Form):
    """A line of the input."""

    id: Any
    code: str
    tests: list[TestForm] = Field(min_length=1, fail_fast=True)
    fn_name: str | None = None
    language: Literal["python", "cpp"] = "python"

    @field_validator("id")
    @classmethod
    def _text_or_number(cls, value: Any) -> str | int:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValueError("should be text or a whole number")
        return value

    def program(self, limits: Limits) -> Program:
        tests = [form.test() for form in self.tests]
        return Program(
            code=self.code, tests=tests, fn_name=self.fn_name, language=self.language, limits=limits
        )


@dataclass(slots=True)
class Tally:
    """What came of the programs so far."""

    programs: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, row: dict[str, Any]) -> None:
        """Count a row of the output. A program that failed a test has failed, whatever the others are."""
        outcomes = [test["outcome"] for test in row["tests"]]
        failed = not set(outcomes) <= {"passed", "infra_error", "skipped"}
        self.programs["passed" if row["passed"] else "failed" if failed else "errors"] += 1
        self.outcomes.update(outcomes)

    def summary(self) -> dict[str, Any]:
        counts = {name: self.programs[name] for name in ("passed", "failed", "errors")}
        return {"n": self.programs.total(), **counts, "outcomes": dict(sorted(self.outcomes.items()))}


def run_code(
    path: Path,
    out: Path,
    config: SandboxConfig,
    *,
    url: str | None = None,
    token: str | None = None,
    resume: bool = False,
) -> str:
    """Judge the programs of `path` into `out`, here or by the service at `url`; the summary as JSON.

    Everything is checked before a program runs or a byte is written. `out` has whole rows in the order of
    the input at any time. `resume` first judges those again that the sandbox failed, then goes on after them.

    Raises:
        UserError: a row that cannot be run, an `out` that exists (without `resume`) or belongs to another
            input, limits above the server's, a full disk.
        EngineError: the sandbox does not start.
        WaitTimeout: the service does not answer at the start. Later it costs rows: their tests are errors.
    """
    ids = _check_rows(path)
    tally = Tally()
    length, lost = _check_out(out, ids, resume, tally)
    with ExitStack() as stack:
        judge: Judge
        if url is None:
            sandbox = stack.enter_context(Sandbox(config))
            sandbox.start()
            judge, limits = sandbox, sandbox.limits
        else:
            judge = stack.enter_context(RemoteSandbox(url, token))
            limits = _limits(config, judge.limits)
        stack.enter_context(writing(out))
        file = stack.enter_context(open(out, "ab" if resume else "xb"))
        _lock(file, out)
        file.truncate(length)
        console = Console(stderr=True, highlight=False)
        done = tally.programs.total()
        progress = stack.enter_context(StageProgress("run-code", len(ids), done, console))
        if lost:
            # A kill leaves `out` as it was; its lock is held to the end, for those who have it open.
            scratch = out.with_name(f".{out.name}.retry")
            retried = stack.enter_context(open(scratch, "wb"))
            _lock(retried, out)
            asyncio.run(_judge_all(_retries(path, out), retried, judge, limits, tally, progress))
            os.fsync(retried.fileno())
            os.replace(scratch, out)
            file = retried
        rows = islice(_rows(path), tally.programs.total(), None)
        asyncio.run(_judge_all((row for _, row in rows), file, judge, limits, tally, progress))
    return json.dumps(tally.summary())


def _lock(file: BinaryIO, out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"--out {out}: another run-code is writing it; wait for its end") from None


def _limits(config: SandboxConfig, most: Limits) -> Limits:
    """The server's, but for those that the user set."""
    names = config.model_fields_set & {field.name for field in fields(Limits)}
    limits = replace(most, **{name: getattr(config, name) for name in names})
    check_limits(limits, most)
    return limits


def _check_rows(path: Path) -> list[str | int]:
    ids = []
    for number, row in _rows(path):
        try:
            check(row.program(Limits()))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        ids.append(row.id)
    if not ids:
        raise UserError(f"{path}: has no rows")
    return ids


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows with the numbers of their lines; blank ones are left out."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        row = read(Row, line.removeprefix(codecs.BOM_UTF8))
                    except UserError as error:
                        raise UserError(f"{path}, line {number}: {error}") from None
                    yield number, row
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _check_out(out: Path, ids: list[str | int], resume: bool, tally: Tally) -> tuple[int, bool]:
    """Count the rows that are there and need not be judged again.

    Returns:
        The length in bytes of all that are there, without a line that a kill cut short, and whether the
        sandbox failed any of them.
    """
    with writing(out):
        if not out.exists():
            return 0, False
        if not resume:
            raise UserError(f"--out {out}: exists already; add --resume to go on with it, or name another")
        if not out.is_file():
            raise UserError(f"--out {out}: is no file; name one")
        length = rows = 0
        any_lost = False
        with open(out, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                    found = row["id"]
                    lost = _lost(row)
                    if not lost:
                        tally.add(row)
                except (ValueError, KeyError, TypeError):
                    raise UserError(f"--out {out}, line {number}: not a row that run-code wrote") from None
                expected = ids[rows] if rows < len(ids) else None
                if found != expected:
                    raise UserError(
                        f"--out {out}, line {number}: has id {found!r} where the input has {expected!r}; it "
                        "belongs to another input"
                    )
                rows += 1
                length += len(line)
                any_lost |= lost
    return length, any_lost


def _lost(row: dict[str, Any]) -> bool:
    return any(test["outcome"] == "infra_error" for test in row["tests"])


def _retries(path: Path, out: Path) -> Iterator[Row | bytes]:
    """The lines of `out`, but for those that the sandbox failed the rows that they are of."""
    with open(out, "rb") as lines:
        for line, (_, row) in zip(lines, _rows(path), strict=False):  # `out` may end before
            yield row if _lost(json.loads(line)) else line


async def _judge_all(
    rows: Iterable[Row | bytes],
    file: BinaryIO,
    judge: Judge,
    limits: Limits,
    tally: Tally,
    progress: StageProgress,
) -> None:
    """Write a line for each row, in order; bytes are lines already."""
    under_way: deque[tuple[str | int, asyncio.Task[Report]]] = deque()

    async def write_first() -> None:
        id_, report = under_way[0][0], await under_way[0][1]
        under_way.popleft()
        row = _row(id_, report)
        file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        tally.add(row)
        progress.update(tally.programs.total(), tally.programs)

    try:
        for row in rows:
            if isinstance(row, bytes):
                while under_way:
                    await write_first()
                file.write(row)
                continue
            if len(under_way) == _WINDOW:
                await write_first()
            under_way.append((row.id, asyncio.ensure_future(judge.judge_async(row.program(limits)))))
        while under_way:
            await write_first()
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)


def _row(id_: str | int, report: Report) -> dict[str, Any]:
    tests = []
    for test in report.tests:
        ran = test.execution
        numbers = {name: round(getattr(ran, name, 0.0), 6) for name in ("cpu_s", "wall_s", "memory_mb")}
        tests.append({"outcome": test.outcome, **numbers, "error": ran.error if ran else ""})
    return {"id": id_, "passed": report.passed, "tests": tests}
