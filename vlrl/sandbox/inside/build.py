"""Compiling C++: g++ in a process that may start others and write to a folder in memory, and nothing more."""

import os
import shutil
import signal

from .filter import Filter
from .layers import SCRATCH, limit

COMPILER = "/usr/bin/g++"
SCRATCH_MB = 256

_SOURCE, _BINARY = f"{SCRATCH}/solution.cpp", f"{SCRATCH}/solution"
_FLAGS = ("-std=c++20", "-O2", "-static", "-pipe", "-w")
_CHUNK = 1 << 20


def run(descriptors: list[int], memory_bytes: int, cpu_s: int, file_bytes: int, processes: int,
        seccomp: Filter) -> None:  # fmt: skip
    """Become the compiler of the source in `descriptors`; never returns.

    `descriptors`: the source, then what becomes 0, 1 and 2; those after it are for `deliver`.
    """
    try:
        with open(_SOURCE, "xb") as file:
            file.write(os.pread(descriptors[0], os.fstat(descriptors[0]).st_size, 0))
        for number, descriptor in enumerate(descriptors[1:4]):
            os.dup2(descriptor, number)
        os.closerange(3, 1 << 16)
        limit(memory_bytes, cpu_s, file_bytes, processes)
        seccomp.install()
        environment = {"PATH": "/usr/bin:/bin", "TMPDIR": SCRATCH, "LANG": "C.UTF-8"}
        os.execve(COMPILER, ["g++", *_FLAGS, "-o", _BINARY, _SOURCE], environment)
    finally:
        os._exit(125)


def deliver(target: int) -> None:
    """Copy the binary, where there is one, and leave nothing behind: no file and no process.

    Only for the first process of a namespace of its own, whose every other process ends here.
    """
    assert os.getpid() == 1
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    try:
        source = os.open(_BINARY, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        source = None
    if source is not None:
        while os.sendfile(target, source, None, _CHUNK):
            pass
        os.close(source)
    for entry in os.scandir(SCRATCH):
        shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
