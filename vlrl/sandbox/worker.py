"""One zygote as its client sees it: requests out with descriptors, replies in, under deadlines."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vlrl.errors import EngineError
from vlrl.sandbox.inside.program import CALL, SCRIPT
from vlrl.sandbox.inside.zygote import CPU, ENDED, REPLY, REQUEST, WALL
from vlrl.sandbox.programs import Execution, Limits, Status

_START_S = 60.0  # of a zygote, imports on a loaded machine included
_GRACE_S = 30.0  # beyond a program's wall limit, for a loaded machine to notice
_WINDOW = 4  # requests that wait in a zygote's socket
_QUICK_S = 0.05  # executions below this are worth a window
_ERROR_BYTES = 4000
_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL

_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the order of a set is the same in every worker
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "1",  # else each thread maps a heap that counts against its memory
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_START = """import sys
sys.path.insert(0, {folder!r})
from inside.zygote import main
main(sys.argv[1], int(sys.argv[2]))"""


@dataclass(slots=True, frozen=True, kw_only=True)
class Setting:
    """How zygotes are started."""

    python: str
    """A world-readable interpreter."""
    options: dict[str, object]
    """What `inside.zygote.main` reads."""
    required: Sequence[str] = ("seccomp", "landlock")
    """Layers without which nothing runs."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Job:
    """One execution: sealed code, the input, limits, and pipe ends that the program gets beside its streams.

    `kind` is one of `inside.program`'s. Pipe ends are closed here once they are sent, so that their other
    ends notice when the program is gone; such a job is not tried twice.
    """

    code: int
    input: bytes
    limits: Limits
    kind: bytes = SCRIPT
    pipes: tuple[BinaryIO, ...] = ()
    result: int | None = None
    """Where a build is written to."""
    compiled: int | None = None
    """Where the first of several jobs of one program leaves what its code compiles to."""


class Worker:
    """A zygote, started when first needed and anew when it is lost. Used by one thread at a time."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False
        self.layers: list[str] = []

    def run(self, jobs: Sequence[Job], enough: Callable[[Execution], bool]) -> int:
        """Give executions to `enough`, in order, until it is; how many there were.

        They are kept by nobody else: a program may print megabytes in each. A lost zygote is an `infra_error`
        of the execution that it was at, tried once more on a new one.

        Raises:
            EngineError: no zygote starts, or a required layer does not hold.
        """
        done, attempts = 0, 0
        while done < len(jobs):
            before = done
            # Closed whatever the caller raises: a reply left over would be taken for another program's.
            with contextlib.closing(self._stretch(jobs[done:])) as executions:
                for execution in executions:
                    done += 1
                    if enough(execution):
                        return done
            if done == len(jobs):
                break
            attempts = attempts + 1 if done == before else 1  # the zygote was lost
            self.stop()
            if attempts == 2 or self._closed or jobs[done].pipes:
                done, attempts = done + 1, 0
                if enough(Execution(status="infra_error", error="the sandbox process was lost")):
                    return done
        return done

    def run_one(self, job: Job) -> Execution:
        """The execution of one job. Raises as `run`."""
        runs: list[Execution] = []

        def keep(execution: Execution) -> bool:
            runs.append(execution)
            return True

        self.run([job], keep)
        return runs[0]

    def start(self) -> None:
        """Start the zygote where there is none.

        Raises:
            ConnectionResetError: somebody killed it.
            EngineError: it does not start, or a required layer does not hold.
        """
        if self._control is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [self._setting.python, "-S", "-s", "-P", "-X", "utf8", "-c"]
        command += [_START.format(folder=str(Path(__file__).parent)), json.dumps(self._setting.options)]
        with theirs:
            self._process = _spawn(command, theirs.fileno())
        ours.settimeout(_START_S)
        try:
            hello = ours.recv(1 << 16)
        except OSError:
            hello = b""
        if not hello:
            assert self._process.stderr is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            ended = self._process.returncode
            self._kill()
            reason = self._process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            if ended in _KILLED:  # by someone else, as when memory is short
                raise ConnectionResetError("the sandbox process was killed at its start")
            raise EngineError(f"the sandbox process did not start: {reason or 'it said nothing'}")
        self.layers = json.loads(hello)["layers"]
        missing = [name for name in self._setting.required if not _holds(name, self.layers)]
        if missing:
            self._kill()
            raise EngineError(
                f"the sandbox refuses to run: {', '.join(missing)} not available here "
                f"(active: {', '.join(self.layers) or 'none'}); 'vlrl doctor' says why"
            )
        self._control = ours

    def stop(self) -> None:
        """End the zygote and whatever runs in it."""
        if self._control is not None:
            self._control.close()
        self._control = None
        self._kill()

    def close(self) -> None:
        """End it for good; what runs is lost. From any thread."""
        self._closed = True
        self._kill()

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:  # else its number may be another's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _stretch(self, jobs: Sequence[Job]) -> Generator[Execution, None, None]:
        """Executions until all are done or the zygote is lost."""
        if self._closed:
            return
        try:
            self.start()
        except ConnectionResetError:
            return
        control = self._control
        assert control is not None
        sent: deque[_Sent] = deque()
        window, next_job = 1, 0
        try:
            while next_job < len(jobs) or sent:
                while next_job < len(jobs) and len(sent) < window:
                    sent.append(_send(control, jobs[next_job]))
                    next_job += 1
                control.settimeout(sent[0].job.limits.wall_s + _GRACE_S)
                reply = control.recv(REPLY.size)
                if len(reply) != REPLY.size:
                    return
                with contextlib.closing(sent.popleft()) as first:
                    execution = first.read(reply)
                window = _WINDOW if execution.wall_s < _QUICK_S else 1
                yield execution
        except OSError:
            return
        finally:
            self._settle(sent)

    def _settle(self, sent: "deque[_Sent]") -> None:
        """Take the replies that nobody waits for any more, or give the zygote up."""
        for one in sent:
            one.close()
            try:
                if self._control is not None:
                    self._control.settimeout(one.job.limits.wall_s + _GRACE_S)
                    self._control.recv(REPLY.size)
            except OSError:
                self.stop()


class _Sent:
    """A job under way, and the files that its program writes to."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.input = sealed("input", job.input)
        names = ("output", "error", "result") if job.kind == CALL else ("output", "error")
        self.written = [os.memfd_create(name) for name in names]
        self.passed = [*self.written, *(place for place in (job.result, job.compiled) if place is not None)]

    def close(self) -> None:
        for descriptor in (self.input, *self.written):
            os.close(descriptor)

    def read(self, reply: bytes) -> Execution:
        """What the reply and the files say."""
        wait_status, cause, cpu_s, wall_s, resident = REPLY.unpack(reply)
        error = _tail(self.written[1], _ERROR_BYTES)
        output = _whole(self.written[2 if self.job.kind == CALL else 0])
        full = any(os.fstat(f).st_size > self.job.limits.output_mb << 20 for f in self.written)
        code = os.waitstatus_to_exitcode(wait_status)
        status = _status(cause, code, error, full)
        return Execution(
            status=status,
            output=output,
            error="killed from outside the sandbox" if status == "infra_error" else error,
            exit_code=code if code >= 0 else 128 - code,
            cpu_s=cpu_s,
            wall_s=wall_s,
            memory_mb=resident / 1024,
        )


def sealed(name: str, content: bytes) -> int:
    """A descriptor of `content` in memory that nobody can change any more."""
    descriptor = os.memfd_create(name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    _write_all(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def executable(name: str) -> int:
    """An empty descriptor in memory whose content may be executed."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError:  # a kernel that knows no other kind
        return os.memfd_create(name, os.MFD_CLOEXEC)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _send(control: socket.socket, job: Job) -> _Sent:
    limits = job.limits
    request = REQUEST.pack(
        job.kind,
        job.compiled is not None,
        limits.cpu_s,
        limits.wall_s,
        limits.memory_mb << 20,
        (limits.output_mb << 20) + 1,  # so that a file can be seen to go beyond
    )
    sent = _Sent(job)
    try:
        pipes = [pipe.fileno() for pipe in job.pipes]
        socket.send_fds(control, [request], [job.code, sent.input, *sent.passed, *pipes])
    except OSError:
        sent.close()
        raise
    for pipe in job.pipes:
        pipe.close()
    return sent


def _status(cause: bytes, code: int, error: str, full: bool) -> Status:
    if cause == CPU or code == -signal.SIGXCPU:
        return "timeout"
    if cause == WALL:
        return "wall_timeout"
    assert cause == ENDED
    if full:
        return "output_limit"
    if code == 0:
        return "ended"
    if _MEMORY_ERROR.search(error):
        return "memory"
    if code == -signal.SIGKILL:  # which no program can send, so it was the host, short of memory perhaps
        return "infra_error"
    return "exception" if code > 0 else "signal"


_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # itself, or the zygote below it
_MEMORY_ERROR = re.compile(r"^[\w.]*MemoryError|^OSError: \[Errno 12\]|std::bad_alloc", re.MULTILINE)


def _tail(descriptor: int, count: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, count, max(0, size - count)).decode(errors="replace")


def _whole(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")


def _holds(name: str, layers: Sequence[str]) -> bool:
    return any(layer.split(" ")[0] == name for layer in layers)


def _spawn(command: list[str], control: int) -> subprocess.Popen[bytes]:
    """Start a zygote with the control socket, whose number ends the command, and nothing else of ours."""
    return subprocess.Popen(
        [*command, str(control)],
        pass_fds=[control],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        start_new_session=True,
        cwd="/",
    )
