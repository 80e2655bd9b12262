"""Programs, their tests, and what came of running them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from vlrl.errors import UserError

Status = Literal[
    "ended", "exception", "signal", "timeout", "wall_timeout", "memory", "output_limit", "infra_error"
]
"""How an execution ended; `infra_error` says nothing about the program."""

Outcome = Literal[
    "passed",
    "wrong",
    "exception",
    "signal",
    "timeout",
    "wall_timeout",
    "memory",
    "output_limit",
    "infra_error",
    "compile_error",
    "skipped",
]
"""What became of a test; `skipped` where an earlier one had failed already."""

TIMEOUTS = ("timeout", "wall_timeout")


@dataclass(slots=True, frozen=True, kw_only=True)
class Limits:
    """What one execution may use."""

    cpu_s: float = 6.0
    """Seconds of CPU, all threads together. A busy machine does not change what a program gets."""
    wall_s: float = 30.0
    """Seconds by the clock, for programs that sleep."""
    memory_mb: int = 1024
    """MiB of address space beyond what the interpreter starts with."""
    output_mb: int = 8
    """MiB that may be printed, and MiB that a call may return."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Test:
    """One test: what goes in, and what is expected to come out."""

    __test__: ClassVar[bool] = False  # not one of pytest's
    input: str
    """What a script reads; JSON arguments of a call, one a line; or Python that asserts about `candidate`."""
    output: str = ""
    """Text that the script prints, or the JSON form of what the call returns."""
    testtype: Literal["stdin", "functional", "check"] = "stdin"
    """`check` runs the input as a program of its own, which calls the candidate in its process."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Program:
    """A program and its tests; the tests' outputs stay outside the sandbox."""

    code: str
    tests: list[Test] = field(default_factory=list)
    fn_name: str | None = None
    """The function, or method of `Solution`, that functional tests call; for checks, an expression for it."""
    limits: Limits = Limits()
    language: Literal["python", "cpp"] = "python"
    """C++ programs (g++, C++20, static) read and print; they have no functional tests or checks."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Execution:
    """One run of a program."""

    status: Status
    output: str = ""
    """What it printed, or the JSON form of what the call returned."""
    error: str = ""
    """The end of what it wrote to its error stream, or what failed outside it."""
    exit_code: int = 0
    """As a shell counts it: 128 + n where signal n ended it."""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    memory_mb: float = 0.0


@dataclass(slots=True, frozen=True, kw_only=True)
class TestResult:
    """A test and what came of it."""

    __test__: ClassVar[bool] = False
    outcome: Outcome
    execution: Execution | None = None
    """Of its output, the first 10 000 characters."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Report:
    """All tests of a program, in order."""

    tests: list[TestResult]

    @property
    def passed(self) -> bool:
        return bool(self.tests) and all(test.outcome == "passed" for test in self.tests)

    @property
    def errors(self) -> int:
        """Tests whose outcome is unknown because the sandbox failed."""
        return sum(test.outcome == "infra_error" for test in self.tests)


class Judge(Protocol):
    """Whoever judges programs: a `Sandbox` of this process, or a `RemoteSandbox`."""

    @property
    def limits(self) -> Limits:
        """What an execution may use at most."""
        ...

    def judge(self, programs: Sequence[Program], stop_at_failure: bool = False) -> list[Report]:
        """Reports in order; blocks, from any thread."""
        ...

    async def judge_async(self, program: Program, stop_at_failure: bool = False) -> Report:
        """`judge` of one program, for coroutines."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


def check(program: Program) -> None:
    """Find whatever keeps tests from being run.

    Raises:
        UserError: a functional test or check without a function's name, or of a program that is not Python's;
            arguments or output that are no JSON; or text that has no UTF-8 form.
    """
    for index, test in enumerate(program.tests):
        key = f"tests.{index}"
        if test.testtype != "stdin" and program.language != "python":
            raise UserError(f"{key}: {program.language} programs read and print; only 'stdin' tests fit them")
        if test.testtype != "stdin" and program.fn_name is None:
            raise UserError(f"{key}: a {test.testtype} test needs 'fn_name', the function to call")
        if test.testtype == "functional":
            try:
                arguments(test)
                json.loads(test.output)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{key}: a functional test's input is JSON line by line and its output JSON ({error})"
                ) from None
        for name, text in (("input", test.input), ("output", test.output)):
            if not _encodable(text):
                raise UserError(f"{key}.{name}: holds half a surrogate pair, which has no UTF-8 form")
    if program.fn_name is not None and not _encodable(program.fn_name):
        raise UserError("fn_name: holds half a surrogate pair, which has no UTF-8 form")


def arguments(test: Test) -> list[object]:
    """Of a call: one a line, blank lines aside.

    Raises:
        ValueError: a line is no JSON.
    """
    return [json.loads(line) for line in test.input.split("\n") if line.strip()]


def unknown(program: Program, why: str) -> Report:
    """The report of a program that could not be judged."""
    execution = Execution(status="infra_error", error=why)
    return Report(tests=[TestResult(outcome="infra_error", execution=execution)] * len(program.tests))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
