"""Workers, and programs run on them and judged: the sandbox as the rest of vlrl sees it."""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType

from vlrl.config.sandbox import SandboxConfig
from vlrl.sandbox.interpreter import find_interpreter
from vlrl.sandbox.lane import Lane
from vlrl.sandbox.programs import (
    TIMEOUTS,
    Execution,
    Limits,
    Outcome,
    Program,
    Report,
    TestResult,
    check,
)
from vlrl.sandbox.worker import Setting, sealed

_AWAKE = 0.05  # share of a processor that even a very busy machine gives
_KEPT = 4000  # characters of a test's output in a report: tests by the thousand may print 8 MiB each


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
            "build": False,
            "processes": config.threads + 3,  # the zygote and its launcher count too
        }
        setting = Setting(python=python, options=options, required=required)
        self._lanes = [Lane(setting) for _ in range(config.workers)]
        self._idle: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in self._lanes:
            self._idle.put(lane)
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
        return self.submit_run(code, text, limits).result()

    def submit_run(self, code: str, text: str = "", limits: Limits | None = None) -> "Future[Execution]":
        """`execute` to come."""
        return self._threads.submit(self._execute, code, text, limits or self.limits)

    def judge(self, programs: Sequence[Program], stop_at_failure: bool = False) -> list[Report]:
        """Reports in order; blocks, from any thread. With `stop_at_failure`, tests after it are skipped.

        A report keeps the first 4000 characters of what a test printed or returned.

        Raises:
            EngineError: no worker starts.
            UserError: see `programs.check`.
        """
        over = threading.Event()
        futures = [self.submit(program, stop_at_failure, over) for program in programs]
        try:
            return [future.result() for future in futures]
        finally:
            over.set()
            for future in futures:
                future.cancel()

    async def judge_async(self, program: Program, stop_at_failure: bool = False) -> Report:
        """`judge` of one program, for coroutines. Once it is cancelled, no further test begins."""
        over = threading.Event()
        try:
            return await asyncio.wrap_future(self.submit(program, stop_at_failure, over))
        finally:
            over.set()

    def submit(
        self, program: Program, stop_at_failure: bool = False, over: threading.Event | None = None
    ) -> "Future[Report]":
        """The future of what `judge` gives. Once `over` is set, no further test begins."""
        return self._threads.submit(self._judge, program, stop_at_failure, over or threading.Event())

    def close(self) -> None:
        """End every worker; programs under way come back as errors."""
        for lane in self._lanes:
            lane.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for lane in self._lanes:
            lane.close()  # what a thread had just begun to start

    def _start(self) -> list[str]:
        with self._lane() as lane:
            return lane.start()

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        lane = self._idle.get_nowait()  # there are as many as threads
        try:
            yield lane
        finally:
            self._idle.put(lane)

    def _execute(self, code: str, text: str, limits: Limits) -> Execution:
        descriptor = sealed("code", code.encode("utf-8", errors="replace"))
        try:
            with self._lane() as lane, self._turn.together():
                return lane.execute(descriptor, text, limits)
        finally:
            os.close(descriptor)

    def _judge(self, program: Program, stop_at_failure: bool, over: threading.Event) -> Report:
        check(program)
        with contextlib.ExitStack() as descriptors, self._lane() as lane:
            code = sealed("code", program.code.encode("utf-8", errors="replace"))
            descriptors.callback(os.close, code)
            if program.language == "cpp":
                with self._turn.together():
                    binary, build = lane.build(code)
                if binary is None:
                    outcome: Outcome = "infra_error" if build.status == "infra_error" else "compile_error"
                    return Report(tests=[TestResult(outcome=outcome, execution=build)] * len(program.tests))
                descriptors.callback(os.close, binary)
                code = binary
            results = self._test(lane, code, program, stop_at_failure, over)
        skipped = len(program.tests) - len(results)
        return Report(tests=results + [TestResult(outcome="skipped")] * skipped)

    def _test(
        self, lane: Lane, code: int, program: Program, stop: bool, over: threading.Event
    ) -> list[TestResult]:
        """Results up to the last test, or to the first that fails.

        The first timeout is tried again alone, since the machine may have been too busy. Where it holds, the
        program's later ones are taken as they are.
        """
        results: list[TestResult] = []
        doubtful = self._config.rerun_timeouts

        def enough(result: TestResult) -> bool:
            results.append(_cut(result))
            doubted = doubtful and _may_have_waited(result)
            return doubted or (stop and result.outcome != "passed") or over.is_set()

        def replace_last(result: TestResult) -> bool:
            results[-1] = _cut(result)
            return True

        while len(results) < len(program.tests) and not over.is_set():
            with self._turn.together():
                lane.run(code, program, program.tests[len(results) :], enough)
            if doubtful and _may_have_waited(results[-1]):
                test = program.tests[len(results) - 1]
                with self._turn.alone():
                    lane.run(code, program, [test], replace_last)
                doubtful = results[-1].outcome not in TIMEOUTS
            if stop and results[-1].outcome != "passed":
                break
        return results


def _may_have_waited(result: TestResult) -> bool:
    """Whether a busy machine may have made a test time out. One that slept would hold up all the others."""
    ran = result.execution
    if result.outcome not in TIMEOUTS or ran is None:
        return False
    return result.outcome == "timeout" or ran.cpu_s > _AWAKE * ran.wall_s


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


def _cut(result: TestResult) -> TestResult:
    execution = result.execution
    if execution is None or len(execution.output) <= _KEPT:
        return result
    return replace(result, execution=replace(execution, output=execution.output[:_KEPT]))
