"""Workers, and programs run on them and judged: the sandbox as the rest of vlrl sees it."""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType

from vlrl.config.sandbox import SandboxConfig
from vlrl.sandbox.interpreter import find_interpreter
from vlrl.sandbox.lane import Lane
from vlrl.sandbox.programs import TIMEOUTS, Execution, Limits, Outcome, Program, Report, TestResult
from vlrl.sandbox.worker import Setting, sealed


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
        return self.submit(code, text, limits).result()

    def submit(self, code: str, text: str = "", limits: Limits | None = None) -> "Future[Execution]":
        """`execute` to come."""
        return self._threads.submit(self._execute, code, text, limits or self.limits)

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
        for lane in self._lanes:
            lane.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for lane in self._lanes:
            lane.close()  # what a thread had just begun to start

    def _submit(self, program: Program, stop_at_failure: bool) -> "Future[Report]":
        return self._threads.submit(self._judge, program, stop_at_failure)

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
        descriptor = sealed("code", code.encode())
        try:
            with self._lane() as lane, self._turn.together():
                return lane.execute(descriptor, text, limits)
        finally:
            os.close(descriptor)

    def _judge(self, program: Program, stop_at_failure: bool) -> Report:
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
            results = self._test(lane, code, program, stop_at_failure)
        skipped = len(program.tests) - len(results)
        return Report(tests=results + [TestResult(outcome="skipped")] * skipped)

    def _test(self, lane: Lane, code: int, program: Program, stop: bool) -> list[TestResult]:
        """Results up to the last test, or to the first that fails.

        The first timeout is tried again alone, since the machine may have been too busy. Where it holds, the
        program's later ones are taken as they are.
        """
        results: list[TestResult] = []
        doubtful = self._config.rerun_timeouts

        def enough(result: TestResult) -> bool:
            results.append(result)
            return (doubtful and result.outcome in TIMEOUTS) or (stop and result.outcome != "passed")

        while len(results) < len(program.tests):
            with self._turn.together():
                lane.run(code, program, program.tests[len(results) :], enough)
            if doubtful and results[-1].outcome in TIMEOUTS:
                test = program.tests[len(results) - 1]
                with self._turn.alone():
                    lane.run(code, program, [test], lambda again: bool(results.__setitem__(-1, again)))
                doubtful = results[-1].outcome not in TIMEOUTS
            if stop and results[-1].outcome != "passed":
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
