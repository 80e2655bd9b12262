"""Tests of one program run on the zygotes that are its lane's: one for the program, one for checks of it."""

import itertools
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

from vlrl.errors import UserError
from vlrl.sandbox.compare import same_text, same_value
from vlrl.sandbox.inside.program import CALL, CANDIDATE, CHECKER
from vlrl.sandbox.programs import Execution, Limits, Outcome, Program, Test, TestResult
from vlrl.sandbox.worker import Job, Setting, Worker, sealed


class Lane:
    """Runs one program at a time. Used by one thread at a time, but for `close`."""

    def __init__(self, setting: Setting) -> None:
        self._worker, self._partner = Worker(setting), Worker(setting)

    def start(self) -> list[str]:
        """Start the program's zygote and say which layers hold. Raises as `Worker.start`."""
        self._worker.start()
        return self._worker.layers

    def close(self) -> None:
        """End both for good; what runs is lost."""
        self._worker.close()
        self._partner.close()

    def execute(self, code: int, text: str, limits: Limits) -> Execution:
        """Run sealed code on an input."""
        return self._worker.run([Job(code=code, input=text.encode(), limits=limits)])[0]

    def run(
        self, code: int, program: Program, tests: Sequence[Test], enough: Callable[[TestResult], bool]
    ) -> None:
        """Give the results of `tests` to `enough`, in order, until it is.

        Raises:
            EngineError: no zygote starts.
            UserError: a test that cannot be run.
        """
        for check, some in itertools.groupby(tests, lambda test: test.testtype == "check"):
            if check:
                if any(enough(self._check(code, program, test)) for test in some):
                    return
                continue
            batch = list(some)
            runs = self._worker.run([_job(code, program, test) for test in batch], _judging(batch, enough))
            if len(runs) < len(batch):
                return

    def _check(self, code: int, program: Program, test: Test) -> TestResult:
        """Run the test's own program beside the candidate; they meet over two pipes alone."""
        if program.fn_name is None:
            raise UserError("a check needs 'fn_name', an expression for the function that it calls")
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
                verdicts.extend(self._partner.run([checker]))
            finally:
                for pipe in checker.pipes:
                    pipe.close()

        thread = threading.Thread(target=check, name="sandbox-check")
        thread.start()
        try:
            ran = self._worker.run([candidate])[0]
        finally:
            for pipe in candidate.pipes:
                pipe.close()
            thread.join()
            os.close(checks)
        if ran.status != "ended" or not verdicts:
            return TestResult(outcome="infra_error" if ran.status == "ended" else ran.status, execution=ran)
        checked = verdicts[0]
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


def _job(code: int, program: Program, test: Test) -> Job:
    if test.testtype == "stdin":
        return Job(code=code, input=test.input.encode(), limits=program.limits)
    if program.fn_name is None:
        raise UserError("a functional test needs 'fn_name', the function to call")
    try:
        arguments = [json.loads(line) for line in test.input.split("\n") if line.strip()]
        json.loads(test.output)
    except ValueError as error:
        raise UserError(
            f"a functional test's input is JSON line by line and its output JSON ({error})"
        ) from None
    request = json.dumps({"function": program.fn_name, "arguments": arguments})
    return Job(code=code, input=request.encode(), limits=program.limits, kind=CALL)


def _result(test: Test, execution: Execution) -> TestResult:
    if execution.status != "ended":
        return TestResult(outcome=execution.status, execution=execution)
    same = same_text if test.testtype == "stdin" else same_value
    outcome: Outcome = "passed" if same(test.output, execution.output) else "wrong"
    return TestResult(outcome=outcome, execution=execution)
