"""math-verify behind killable processes, for any number of threads.

A comparison can run for ever in one C call that holds the interpreter lock, so neither a thread nor an
alarm can stop it; only killing its process can. Here each grader process serves one thread of a pool. The
deadline runs from the moment the grader says it has started, in CPU seconds of that process: neither a queue
nor a busy machine counts against an answer. A process that sleeps ends at `wall_limit`. A batch as a whole
has a deadline too: graders that keep dying or hanging before they start would otherwise cost a minute an
answer.
"""

import contextlib
import json
import math
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.connection import Connection

from vlrl.errors import EngineError, WaitTimeout
from vlrl.rewards.grading_process import REPLY, REQUEST, STARTED

Pair = tuple[str, str]

_START_S = 120.0  # of the supervisor, imports on a loaded machine included
_CONTROL_S = 30.0  # of one fork or kill
_WAKE_S = 60.0  # of an idle grader to take up a request
_STALL_S = 30.0  # of a grader that has begun to read or write a message
_TURN_S = 2.0  # what a grading may cost beside itself: a kill, a fork, a wake-up on a busy machine
_POLL_S = 0.002  # between looks at a grader whose time is all but used up
_ASLEEP_S = 2.0  # that a grading may wait for the processor, whatever its deadline
_GRADINGS_PER_PROCESS = 2000  # then a fresh fork: sympy's caches grow


def wall_limit(timeout_s: float) -> float:
    """Seconds by the wall clock after which a grading of `timeout_s` CPU seconds ends in any case."""
    return max(4 * timeout_s, timeout_s + _ASLEEP_S)


@dataclass(slots=True, frozen=True)
class Outcome:
    """How one pair compared: `equal`, or `error` where the grader failed (then `equal` is None).

    `error` starts with `timeout`, `died`, `refused` (there was no process to grade with) or the name of an
    exception. `seconds` are CPU seconds of the grading process from the start of the grading.
    """

    equal: bool | None
    error: str = ""
    seconds: float = 0.0


class GradingPool:
    """`workers` grader processes, started at the first grading and shared by every thread that asks.

    `timeout_s` CPU seconds (fractions count) is what one grading may use; by the wall clock it ends at
    `wall_limit(timeout_s)`. `memory_mb` MiB caps what a grader may map beyond what it starts with.
    """

    def __init__(self, workers: int, timeout_s: float, memory_mb: int) -> None:
        self.timeout_s, self._workers = timeout_s, workers
        self._unfinished = 0
        self._counting = threading.Lock()
        self._supervisor = _Supervisor(memory_mb)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="grading")
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)  # a place for a grader that is yet to be forked

    def grade_many(self, pairs: Sequence[Pair]) -> list[Outcome]:
        """Outcomes of (gold, answer) pairs in their order; blocks, from any thread.

        Raises:
            WaitTimeout: not done although every grading could have timed out, those before this batch too.
            EngineError: math-verify does not start at all.
        """
        futures, limit = self._submit(pairs)
        try:
            done, waiting = wait(futures, limit, FIRST_EXCEPTION)
            for future in done:
                future.result()
            if waiting:
                raise WaitTimeout(f"{len(waiting)} of {len(pairs)} gradings, whose graders hang", limit)
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End every process. Gradings under way come back as errors; a later one raises RuntimeError."""
        self._supervisor.close()
        self._threads.shutdown(wait=True)

    def _submit(self, pairs: Sequence[Pair]) -> tuple[list[Future[Outcome]], float]:
        """The gradings, and the seconds after which they must all be done, whatever waits before them."""
        with self._counting:
            self._unfinished += len(pairs)
            turns = math.ceil(self._unfinished / self._workers)
        futures = [self._threads.submit(self._grade, pair) for pair in pairs]
        for future in futures:
            future.add_done_callback(self._count_off)
        return futures, _START_S + _WAKE_S + turns * (wall_limit(self.timeout_s) + _TURN_S)

    def _count_off(self, _: Future[Outcome]) -> None:
        with self._counting:
            self._unfinished -= 1

    def _grade(self, pair: Pair) -> Outcome:
        worker = self._idle.get_nowait()  # there are as many places as threads
        try:
            worker = self._take_up(pair, worker)
            outcome = worker.finish(self.timeout_s)
            if outcome.error or worker.served >= _GRADINGS_PER_PROCESS:
                self._supervisor.kill(worker)
                worker = None
        except (OSError, EOFError) as error:
            worker, outcome = None, Outcome(None, f"refused: {error or type(error).__name__}")
        finally:
            self._idle.put(worker)
        return outcome

    def _take_up(self, pair: Pair, worker: "_Worker | None") -> "_Worker":
        """A grader that has started on `pair`. One that died while idle says nothing about the pair."""
        if worker is not None:
            try:
                worker.start(pair)
                return worker
            except (OSError, EOFError):
                self._supervisor.kill(worker)
        worker = self._supervisor.fork()
        try:
            worker.start(pair)
        except (OSError, EOFError):
            self._supervisor.kill(worker)
            raise
        return worker


class _Worker:
    """One grader process and the socket to it. Used by one thread at a time."""

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid, self.connection, self.served = pid, connection, 0
        self._started = self._cpu = 0.0

    def start(self, pair: Pair) -> None:
        """Hand over a pair and wait until the grader has begun.

        Raises:
            OSError, EOFError: the process is gone or does not wake.
        """
        self.connection.send_bytes(json.dumps(pair).encode())
        if not self.connection.poll(_WAKE_S):
            raise TimeoutError(f"grading process {self.pid} did not wake in {_WAKE_S:.0f} s")
        (self._cpu,) = STARTED.unpack(self.connection.recv_bytes())
        self._started = time.monotonic()
        self.served += 1

    def finish(self, timeout_s: float) -> Outcome:
        """The outcome, at the latest when the grading has used `timeout_s` CPU seconds."""
        used = 0.0
        try:
            while not self.connection.poll(max(_POLL_S, timeout_s - used)):
                used = self._used()
                waited = time.monotonic() - self._started
                if used >= timeout_s or waited >= wall_limit(timeout_s):
                    return Outcome(None, f"timeout: {used:.3g} CPU seconds used, {waited:.3g} passed", used)
            reply = json.loads(self.connection.recv_bytes())
        except (OSError, EOFError):
            return Outcome(None, "died: the grading process ended", used)
        return Outcome(reply.get("equal"), reply.get("error", ""), reply["cpu"] - self._cpu)

    def _used(self) -> float:
        """CPU seconds since the start.

        Raises:
            OSError: the process is gone.
        """
        # Linux's clock of another process: its complemented id, then 2 for the scheduler's exact count.
        return time.clock_gettime((~self.pid << 3) | 2) - self._cpu


class _Supervisor:
    """The parent's end of the supervisor process; started when needed, restarted when it is gone."""

    def __init__(self, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def fork(self) -> _Worker:
        """A fresh grader.

        Raises:
            OSError: the pool is closed, or the supervisor failed twice.
            EngineError: math-verify does not start at all.
        """
        ours, theirs = connection_pair(_STALL_S)
        try:
            with self._lock:
                try:
                    pid = self._request(b"F", 0, [theirs.fileno()])
                except OSError:
                    self._drop()
                    pid = self._request(b"F", 0, [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return _Worker(pid, ours)

    def kill(self, worker: _Worker) -> None:
        """End a grader at once."""
        worker.connection.close()
        with self._lock:
            if self._control is None:
                return
            try:
                self._request(b"K", worker.pid, [])
            except OSError:
                self._drop()  # its graders die with it

    def close(self) -> None:
        """End the supervisor and its graders for good."""
        self._closed = True  # before the lock, whose other waiters are thereby refused
        starting = self._process if self._control is None else None
        if starting is not None:
            starting.kill()  # whoever holds the lock waits for it
        with self._lock:
            self._drop()

    def _request(self, operation: bytes, pid: int, fds: list[int]) -> int:
        control = self._control or self._start()
        socket.send_fds(control, [REQUEST.pack(operation, pid)], fds)
        return _receive(control)

    def _start(self) -> socket.socket:
        if self._closed:
            raise OSError("the grading pool is closed")
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "vlrl.rewards.grading_process"]
        arguments = [theirs.fileno(), os.getpid(), self._memory_mb]
        with theirs:
            # A session of its own: Ctrl-C reaches the trainer, which then closes the pool.
            self._process = subprocess.Popen(
                command + list(map(str, arguments)),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        if self._closed:  # by a `close` that came before there was a process for it to kill
            self._process.kill()
        ours.settimeout(_START_S)
        try:
            _receive(ours)
        except OSError as error:
            ours.close()
            process = self._process
            self._drop()
            # By somebody else, as when memory is short. What ends by itself is broken.
            if process is not None and process.returncode == -signal.SIGKILL and not self._closed:
                raise ConnectionResetError("the grading supervisor was killed at its start") from None
            raise EngineError(
                f"math-verify's grading process did not start ({error}); see its message above"
            ) from None
        ours.settimeout(_CONTROL_S)
        self._control = ours
        return ours

    def _drop(self) -> None:
        control, process, self._control, self._process = self._control, self._process, None, None
        if control is not None:
            control.close()
        if process is not None:
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):  # it dies when the kernel lets it
                    process.wait(5.0)


def connection_pair(stall_s: float) -> tuple[Connection, Connection]:
    """Ours and a process's. On ours, `stall_s` seconds without progress within a message are an OSError."""
    ours, theirs = socket.socketpair()
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(stall_s), 0))
    return Connection(ours.detach()), Connection(theirs.detach())


def _receive(control: socket.socket) -> int:
    reply = control.recv(REPLY.size)
    if len(reply) != REPLY.size:
        raise ConnectionResetError("the grading supervisor ended")
    return int(REPLY.unpack(reply)[0])
