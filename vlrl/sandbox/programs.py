"""Programs, their tests, and what came of running them."""

from dataclasses import dataclass, field
from typing import Literal

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
    """One test. `input` is what a script reads, or a JSON argument a line for a call."""

    input: str
    output: str = ""
    """What is expected: text that the script prints, or the JSON form of what the call returns."""
    testtype: Literal["stdin", "functional"] = "stdin"


@dataclass(slots=True, frozen=True, kw_only=True)
class Program:
    """A program and its tests; the tests' outputs stay outside the sandbox."""

    code: str
    tests: list[Test] = field(default_factory=list)
    fn_name: str | None = None
    """The function, or method of `Solution`, that functional tests call."""
    limits: Limits = Limits()


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
