"""A process that forks sandboxed programs: one at a time, each from the same clean state.

It never reads a program's code, input or output: those are descriptors that it passes on. So no program
can find another's in the memory that it inherits.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time

from . import build, program
from .filter import Filter
from .kernel import PR_SET_PDEATHSIG, call, kernel_version, mapped_bytes, tasks_of
from .layers import (
    DEVICES,
    SCRATCH,
    SYSTEM,
    become_user,
    change_root,
    enter_namespaces,
    filter_holds,
    forbid_new_privileges,
    give_up_powers,
    lock_files,
)

# kind (see `program`), whether compiled code is kept, CPU s, wall s, memory bytes, bytes a file
REQUEST = struct.Struct("=c?ddQQ")
# wait status, what ended it, CPU s, wall s, largest resident size in KiB
REPLY = struct.Struct("=icddQ")
ENDED, CPU, WALL = b"E", b"C", b"W"
MAX_DESCRIPTORS = 6

_HANG_UP = 0x2000  # POLLRDHUP
_LOOK_S = 0.05
_ROOM = 2048  # threads that the rest of the user's processes may still start


def main(arguments: str, control_fd: int) -> None:
    """Put the layers on, say which hold, and serve on the socket `control_fd`. `arguments` is a JSON object.

    `uid` to become where started as root, `paths` that programs may read beside the system's, `modules` to
    import beforehand, `search` folders to import from, `processes` a program may start as threads, and
    whether this one is to `build` C++, and does nothing else then.
    """
    options = json.loads(arguments)
    control = socket.socket(fileno=control_fd)
    sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix)] + options["search"]
    for name in (*program.PRELOADED, *options["modules"]):
        importlib.import_module(name)
    layers = ["uid"] if become_user(options["uid"]) else []
    forbid_new_privileges()
    namespaces = enter_namespaces()
    layers += namespaces
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where memory runs out, programs go first
    if "pid" in namespaces and os.fork():
        _, status = (
            os.wait()
        )  # what is forked from here on lives in the new namespace and ends with its first
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    _die_with_parent()
    _serve(control, options, layers)


def _serve(control: socket.socket, options: dict, layers: list[str]) -> None:
    named = dict.fromkeys((*SYSTEM, *DEVICES, *options["paths"]))
    paths = [path for path in named if os.path.exists(path)]
    base = mapped_bytes()
    processes = options["processes"]
    # A user namespace counts its own tasks alone, since Linux 5.14; else whatever this user runs counts.
    if "user" not in layers or kernel_version() < (5, 14):
        processes += tasks_of(os.getuid()) + _ROOM
    builds = options["build"]
    if "mount" in layers and change_root(paths, build.SCRATCH_MB if builds else 0):
        layers.append("root")
    if version := lock_files(paths, SCRATCH if builds else None):
        layers.append(f"landlock {version}")
    give_up_powers()
    filters = _filters(builds)
    if all(map(filter_holds, filters.values())):
        layers.append("seccomp")
    control.send(json.dumps({"layers": layers, "python": sys.version.split()[0]}).encode())
    if "seccomp" not in layers:
        return
    program.prepare()
    gc.collect()
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, MAX_DESCRIPTORS)
        if not message:
            return
        kind, kept, cpu_s, wall_s, memory, file_bytes = REQUEST.unpack(message)
        pid = os.fork()
        if pid == 0:
            _die_with_parent()
            cap = int(cpu_s) + 2  # the kernel's own clock, should nobody watch
            limits = (base + memory, cap, file_bytes, processes)
            if builds:
                build.run(descriptors, *limits, filters[kind])
            program.run(kind, kept, descriptors, *limits, filters[kind])
        reply = _watch(pid, cpu_s, wall_s, control)
        if builds:
            build.deliver(descriptors[-1])
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(reply)


def _filters(builds: bool) -> dict[bytes, Filter]:
    """A filter for each kind of program that this zygote serves."""
    if builds:
        return {program.BUILD: Filter(build=True)}
    plain = dict.fromkeys((program.SCRIPT, program.CALL, program.CANDIDATE, program.CHECKER), Filter())
    return plain | {program.EXECUTABLE: Filter(exec_fd=program.EXECUTABLE_FD)}


def _watch(pid: int, cpu_s: float, wall_s: float, control: socket.socket) -> bytes:
    """Wait for a program's end, or end it: at its CPU limit, its wall limit, or when the client is gone."""
    started = time.monotonic()
    handle = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(control.fileno(), _HANG_UP)
    cause = ENDED
    while True:
        left = min(cpu_s - _cpu(pid), started + wall_s - time.monotonic())
        if left <= 0:
            cause = WALL if time.monotonic() - started >= wall_s else CPU
            break
        # Threads spend CPU faster than the clock runs.
        if poll.poll(1000 * (_LOOK_S if left > 2 * _LOOK_S else left / 2 + 0.001)):
            break
    os.kill(pid, signal.SIGKILL)
    os.close(handle)
    _, status, used = os.wait4(pid, 0)
    spent = used.ru_utime + used.ru_stime
    if cause == ENDED and spent > cpu_s:
        cause = CPU  # between two looks
    return REPLY.pack(status, cause, spent, time.monotonic() - started, used.ru_maxrss)


def _cpu(pid: int) -> float:
    """CPU seconds of all threads of a process so far; 0 where it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _die_with_parent() -> None:
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
