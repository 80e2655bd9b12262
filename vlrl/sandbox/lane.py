"""Tests of one program, run on its lane's zygotes: one for it, one for checks of it, one to compile it."""

import itertools
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import BinaryIO

from vlrl.errors import UserError
from vlrl.sandbox.compare import same_text, same_value
from vlrl.sandbox.inside.build import COMPILER
from vlrl.sandbox.inside.program import BUILD, CALL, CANDIDATE, CHECKER, EXECUTABLE, SCRIPT
from vlrl.sandbox.programs import Execution, Limits, Outcome, Program, Test, TestResult, arguments
from vlrl.sandbox.worker import Job, Setting, Worker, executable, sealed

_BUILD_LIMITS = Limits(cpu_s=30.0, wall_s=120.0, memory_mb=2048, output_mb=64)
_BUILD_PROCESSES = 24


class Lane:
    """Runs one program at a time. Used by one thread at a time, but for `close`."""

    def __init__(self, setting: Setting) -> None:
        self._worker, self._partner = Worker(setting), Worker(setting)
        builds = replace(
            setting,
            options=setting.options | {"build": True, "processes": _BUILD_PROCESSES},
            required=(*setting.required, "pid", "root"),
        )
        self._builder = Worker(builds)

    def start(self) -> list[str]:
        """Start the program's zygote and say which layers hold. Raises as `Worker.start`."""
        self._worker.start()
        return self._worker.layers

    def close(self) -> None:
        """End all for good; what runs is lost."""
        for worker in (self._worker, self._partner, self._builder):
            worker.close()

    def execute(self, code: int, text: str, limits: Limits) -> Execution:
        """Run sealed code on an input."""
        return self._worker.run_one(Job(code=code, input=text.encode(), limits=limits))

    def build(self, code: int) -> tuple[int | None, Execution]:
        """The binary that sealed C++ compiles to, None where it does not, and the compiler's run.

        Raises:
            EngineError: no zygote starts, or it lacks a layer that compiling needs.
            UserError: there is no compiler.
        """
        if not os.path.exists(COMPILER):
            raise UserError(f"a C++ program needs {COMPILER}; install g++ or leave such programs out")
        binary = executable("binary")
        job = Job(code=code, input=b"", limits=_BUILD_LIMITS, kind=BUILD, result=binary)
        ran = self._builder.run_one(job)
        if ran.status == "ended" and os.fstat(binary).st_size:
            return binary, ran
        os.close(binary)
        return None, ran

    def run(
        self, code: int, program: Program, tests: Sequence[Test], enough: Callable[[TestResult], bool]
    ) -> None:
        """Give the results of `tests` to `enough`, in order, until it is.

        Raises:
            EngineError: no zygote starts.
        """
        for check, some in itertools.groupby(tests, lambda test: test.testtype == "check"):
            if check:
                if any(enough(self._check(code, program, test)) for test in some):
                    return
                continue
            batch = list(some)
            compiled = None
            if len(batch) > 1 and program.language == "python":
                compiled = os.memfd_create("compiled")
            try:
                jobs = [_job(code, program, test, compiled) for test in batch]
                done = self._worker.run(jobs, _judging(batch, enough))
            finally:
                if compiled is not None:
                    os.close(compiled)
            if done < len(batch):
                return

    def _check(self, code: int, program: Program, test: Test) -> TestResult:
        """Run the test's own program beside the candidate; they meet over two pipes alone."""
        assert program.fn_name is not None  # `programs.check` has looked
        requests, replies = _pipe(), _pipe()
        checks = sealed("checks", test.input.encode())
        limits = program.limits
        candidate = Job(
            code=code,
            input=program.fn_name.encode(),
            limits=limits,
            kind=CANDIDATE,
            pipes=(requests[0], replies[1]),
        )
        checker = Job(code=checks, input=b"", limits=limits, kind=CHECKER, pipes=(replies[0], requests[1]))
        verdicts: list[Execution] = []

        def check() -> None:
            try:
                verdicts.append(self._partner.run_one(checker))
            finally:
                for pipe in checker.pipes:
                    pipe.close()

        thread = threading.Thread(target=check, name="sandbox-check")
        thread.start()
        try:
            ran = self._worker.run_one(candidate)
        finally:
            for pipe in candidate.pipes:
                pipe.close()
            thread.join()
            os.close(checks)
        checked = verdicts[0] if verdicts else Execution(status="infra_error", error="no checker started")
        # First: a candidate whose checker is lost fails too, when it writes to nobody.
        if checked.status == "infra_error":
            return TestResult(outcome="infra_error", execution=checked)
        if ran.status != "ended":
            return TestResult(outcome=ran.status, execution=ran)
        if checked.status == "exception":
            return TestResult(outcome="wrong", execution=checked)
        outcome: Outcome = "passed" if checked.status == "ended" else checked.status
        return TestResult(outcome=outcome, execution=ran if outcome == "passed" else checked)


def _judging(tests: Sequence[Test], enough: Callable[[TestResult], bool]) -> Callable[[Execution], bool]:
    """`enough` for the executions of `tests`, which come in order."""
    left = iter(tests)
    return lambda execution: enough(_result(next(left), execution))


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    read, write = os.pipe()
    return os.fdopen(read, "rb", buffering=0), os.fdopen(write, "wb", buffering=0)


def _job(code: int, program: Program, test: Test, compiled: int | None) -> Job:
    if test.testtype == "stdin":
        kind, text = SCRIPT if program.language == "python" else EXECUTABLE, test.input
    else:
        kind, text = CALL, json.dumps({"function": program.fn_name, "arguments": arguments(test)})
    return Job(code=code, input=text.encode(), limits=program.limits, kind=kind, compiled=compiled)


def _result(test: Test, execution: Execution) -> TestResult:
    if execution.status != "ended":
        return TestResult(outcome=execution.status, execution=execution)
    same = same_text if test.testtype == "stdin" else same_value
    outcome: Outcome = "passed" if same(test.output, execution.output) else "wrong"
    return TestResult(outcome=outcome, execution=execution)
