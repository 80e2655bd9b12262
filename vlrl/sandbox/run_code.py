"""`vlrl run-code`: programs of a file judged, a row out for each."""

import asyncio
import codecs
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator
from rich.console import Console

from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError
from vlrl.runs.progress import StageProgress
from vlrl.runs.row_output import RowOutput
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

    def keep(self, row: dict[str, Any]) -> bool:
        """Count a row that was there before, unless the sandbox failed it."""
        if any(test["outcome"] == "infra_error" for test in row["tests"]):
            return False
        self.add(row)
        return True

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
    output = RowOutput(out, "run-code", ids, resume=resume, keep=tally.keep)
    with ExitStack() as stack:
        judge: Judge
        if url is None:
            sandbox = stack.enter_context(Sandbox(config))
            sandbox.start()
            judge, limits = sandbox, sandbox.limits
        else:
            judge = stack.enter_context(RemoteSandbox(url, token))
            limits = _limits(config, judge.limits)
        stack.enter_context(output)
        console = Console(stderr=True, highlight=False)
        done = tally.programs.total()
        progress = stack.enter_context(StageProgress("run-code", len(ids), done, console))
        asyncio.run(_judge_all(_rows(path), output, judge, limits, tally, progress))
    return json.dumps(tally.summary())


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


async def _judge_all(
    rows: Iterable[tuple[int, Row]],
    output: RowOutput,
    judge: Judge,
    limits: Limits,
    tally: Tally,
    progress: StageProgress,
) -> None:
    under_way: deque[tuple[str | int, asyncio.Task[Report]]] = deque()

    async def write_first() -> None:
        id_, report = under_way[0][0], await under_way[0][1]
        under_way.popleft()
        row = _row(id_, report)
        output.write(row)
        tally.add(row)
        progress.update(tally.programs.total(), tally.programs)

    try:
        for _, row in output.to_do(rows):
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
