"""Workers, and programs run on them and judged: the sandbox as the rest of vlrl sees it."""

import asyncio
import json
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType

from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError
from vlrl.sandbox.compare import same_text, same_value
from vlrl.sandbox.interpreter import find_interpreter
from vlrl.sandbox.programs import TIMEOUTS, Execution, Limits, Outcome, Program, Report, Test, TestResult
from vlrl.sandbox.worker import Job, Setting, Worker, sealed

_KEPT = 10_000  # characters of a test's output


class Sandbox:
    """`config.workers` zygotes, shared by every thread and coroutine that asks; a context manager."""

    def __init__(self, config: SandboxConfig) -> None:
        """
        Raises:
            UserError: there is no interpreter that programs can read.
        """
        self._config = config
        python, paths = find_interpreter(config)
        required = tuple(dict.fromkeys((*config.require, "seccomp")))
        options: dict[str, object] = {
            "uid": config.uid,
            "paths": [*paths, *config.search],
            "modules": list(config.modules),
            "search": list(config.search),
            "processes": config.threads + 3,  # the zygote and its launcher count too
        }
        setting = Setting(python=python, options=options, required=required)
        self._workers = [Worker(setting) for _ in range(config.workers)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(config.workers, thread_name_prefix="sandbox")
        self._turn = _Turn()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def limits(self) -> Limits:
        """Those of the config."""
        c = self._config
        return Limits(cpu_s=c.cpu_s, wall_s=c.wall_s, memory_mb=c.memory_mb, output_mb=c.output_mb)

    def start(self) -> list[str]:
        """Start one worker and say which layers hold.

        Raises:
            EngineError: it does not start, or a required layer does not hold.
        """
        return self._threads.submit(self._start).result()

    def execute(self, code: str, text: str = "", limits: Limits | None = None) -> Execution:
        """Run a script on an input; blocks, from any thread.

        Raises:
            EngineError: no worker starts.
        """
        future = self._threads.submit(self._execute, code, text, limits or self.limits)
        return future.result()

    def judge(self, programs: Sequence[Program], stop_at_failure: bool = False) -> list[Report]:
        """Reports in order; blocks, from any thread. With `stop_at_failure`, tests after it are skipped.

        Raises:
            EngineError: no worker starts.
            UserError: a functional test without a function's name, or arguments or output that are no JSON.
        """
        futures = [self._submit(program, stop_at_failure) for program in programs]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    async def judge_async(self, program: Program, stop_at_failure: bool = False) -> Report:
        """`judge` of one program, for coroutines."""
        return await asyncio.wrap_future(self._submit(program, stop_at_failure))

    def close(self) -> None:
        """End every worker; programs under way come back as errors."""
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.stop()  # what a thread had just begun to start

    def _submit(self, program: Program, stop_at_failure: bool) -> "Future[Report]":
        return self._threads.submit(self._judge, program, stop_at_failure)

    def _start(self) -> list[str]:
        with self._worker() as worker:
            worker.start()
            return worker.layers

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._idle.get_nowait()  # there are as many as threads
        try:
            yield worker
        finally:
            self._idle.put(worker)

    def _execute(self, code: str, text: str, limits: Limits) -> Execution:
        descriptor = sealed("code", code.encode())
        try:
            with self._worker() as worker, self._turn.together():
                return worker.run([Job(code=descriptor, input=text.encode(), limits=limits)])[0]
        finally:
            os.close(descriptor)

    def _judge(self, program: Program, stop_at_failure: bool) -> Report:
        descriptor = sealed("code", program.code.encode("utf-8", errors="replace"))
        try:
            jobs = [_job(descriptor, program, test) for test in program.tests]
            with self._worker() as worker:
                results = self._test(worker, program, jobs, stop_at_failure)
        finally:
            os.close(descriptor)
        return Report(tests=results + [TestResult(outcome="skipped")] * (len(jobs) - len(results)))

    def _test(self, worker: Worker, program: Program, jobs: list[Job], stop: bool) -> list[TestResult]:
        """Results up to the last test, or to the first that fails.

        The first timeout is tried again alone, since the machine may have been too busy. Where it holds, the
        program's later ones are taken as they are.
        """
        results: list[TestResult] = []
        doubtful = self._config.rerun_timeouts

        def enough(execution: Execution) -> bool:
            results.append(_result(program.tests[len(results)], execution))
            outcome = results[-1].outcome
            return (doubtful and outcome in TIMEOUTS) or (stop and outcome != "passed")

        while len(results) < len(jobs):
            with self._turn.together():
                worker.run(jobs[len(results) :], enough)
            last = len(results) - 1
            if doubtful and results[last].outcome in TIMEOUTS:
                with self._turn.alone():
                    again = worker.run([jobs[last]])[0]
                results[last] = _result(program.tests[last], again)
                doubtful = results[last].outcome not in TIMEOUTS
            if stop and results[last].outcome != "passed":
                break
        return results


class _Turn:
    """Many run together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running, self._waiting = 0, 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Beside others; whoever wants to be alone goes first."""
        with self._changed:
            self._changed.wait_for(lambda: self._running >= 0 and not self._waiting)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """When those that run have ended, and before others."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._running == 0)
            self._waiting -= 1
            self._running = -1
        try:
            yield
        finally:
            with self._changed:
                self._running = 0
                self._changed.notify_all()


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
    return Job(code=code, input=request.encode(), limits=program.limits, call=True)


def _result(test: Test, execution: Execution) -> TestResult:
    kept = replace(execution, output=execution.output[:_KEPT])  # reports are many, and live long
    if execution.status != "ended":
        return TestResult(outcome=execution.status, execution=kept)
    same = same_text if test.testtype == "stdin" else same_value
    outcome: Outcome = "passed" if same(test.output, execution.output) else "wrong"
    return TestResult(outcome=outcome, execution=kept)
