"""A program's life in its own process: limits, filter, code, exit.

Descriptors are the whole interface: 0 is the input, 1 and 2 what is printed, 3 the result of a call, or 3
and 4 the way to another program. The code comes from a descriptor that is closed before it runs.
"""

import _sitebuiltins
import atexit
import builtins
import contextlib
import ctypes
import io
import json
import marshal
import os
import resource
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any

from . import remote
from .filter import Filter
from .kernel import execute_descriptor
from .layers import limit

SCRIPT, CALL, CANDIDATE, CHECKER, EXECUTABLE, BUILD = b"S", b"C", b"A", b"K", b"X", b"B"
RESULT_FD, EXECUTABLE_FD = 3, 200
# A fork inherits all that its parent knows. These run often; whoever imports them again pays nothing. But
# each module makes every fork slower: asyncio, unittest and hashlib alone by 0.08 ms, and few ask for them.
PRELOADED = (
    "abc", "array", "base64", "bisect", "builtins", "calendar", "cmath", "collections", "collections.abc",
    "contextlib", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "heapq",
    "inspect", "itertools", "json", "math", "numbers", "operator", "pprint", "queue", "random", "re",
    "statistics", "string", "struct", "sys", "textwrap", "threading", "time", "traceback", "types", "typing",
    "zlib",
)  # fmt: skip

_RAISED = 1
_WHOLE, _MOST_KEPT = b"\1", 1 << 20  # a program may write at least that much

_Load = Callable[[dict[str, Any]], None]


def prepare() -> None:
    """What every program finds: once, for all that is forked.

    The streams are of whatever is 0, 1 and 2 when they are used. `exit` and `quit` are the site module's,
    which is left out for what it would read.
    """
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "the end of the input"))
    sys.stdin = sys.__stdin__ = _stream(0, "r")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w")  # type: ignore[misc]
    sys.argv = ["solution.py"]
    # What threading does in a fork is to forget other threads. There are none here, and it costs 0.1 ms.
    threading._after_fork.__code__ = _nothing.__code__  # type: ignore[attr-defined]


def _nothing() -> None:
    return


def run(kind: bytes, kept: bool, descriptors: list[int], memory_bytes: int, cpu_s: int, file_bytes: int,
        processes: int, seccomp: Filter) -> None:  # fmt: skip
    """Become the program whose code and streams are in `descriptors`; never returns.

    `descriptors`: the code, then what becomes 0, 1, 2 and further, where `kept` the last of them what the
    code compiles to (see `_compiled`).
    """
    status = 125
    try:
        if kind == EXECUTABLE:
            _execute(descriptors, memory_bytes, cpu_s, file_bytes, processes, seccomp)
        code = _whole(descriptors[0])
        for number, descriptor in enumerate(descriptors[1:]):
            os.dup2(descriptor, number)
        os.closerange(len(descriptors) - 1, 1 << 16)
        limit(memory_bytes, cpu_s, file_bytes, processes)
        seccomp.install()
        place = len(descriptors) - 2 if kept else None
        status = _KINDS[kind](lambda names: exec(_compiled(code, place), names))
    finally:
        os._exit(status)


def _execute(descriptors: list[int], memory_bytes: int, cpu_s: int, file_bytes: int,
             processes: int, seccomp: Filter) -> None:  # fmt: skip
    """Become a binary. The filter lets it execute one descriptor, which is closed when it has."""
    os.dup2(descriptors[0], EXECUTABLE_FD, inheritable=False)
    for number, descriptor in enumerate(descriptors[1:]):
        os.dup2(descriptor, number)
    os.closerange(len(descriptors) - 1, EXECUTABLE_FD)
    os.closerange(EXECUTABLE_FD + 1, 1 << 16)
    arguments = (ctypes.c_char_p * 2)(b"solution", None)
    environment = (ctypes.c_char_p * 1)(None)
    # Contestants recurse deeply, and expect a stack as large as their memory.
    resource.setrlimit(resource.RLIMIT_STACK, (memory_bytes, memory_bytes))
    limit(memory_bytes, cpu_s, file_bytes, processes)
    seccomp.install()
    execute_descriptor(EXECUTABLE_FD, arguments, environment)


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _stream(descriptor: int, mode: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(descriptor, mode + "b", closefd=False), encoding="utf-8", errors="replace")


def _script(load: _Load) -> int:
    """Run a script to its end, as `python solution.py` would."""
    names = _module("__main__")
    return _to_the_end(lambda: load(names))


def _call(load: _Load) -> int:
    """Load a module, call what the input names with its arguments, and write what it returns as JSON."""
    request = json.loads(sys.stdin.buffer.read())
    names = _module("solution")

    def work() -> None:
        load(names)
        owner = names.get("Solution")
        function = names[request["function"]] if owner is None else getattr(owner(), request["function"])
        value = function(*request["arguments"])
        with open(RESULT_FD, "w", encoding="utf-8") as result:
            json.dump(value, result, default=_plain)

    return _to_the_end(work)


def _candidate(load: _Load) -> int:
    """Load a module and answer calls of the function that the input names."""
    entry = sys.stdin.read()
    names = _module("solution")

    def work() -> None:
        load(names)
        remote.serve(entry, names)

    return _to_the_end(work)


def _checker(load: _Load) -> int:
    """Run tests in which `candidate` is another program's function."""
    names = _module("tests")
    names["candidate"] = remote.proxy(names)
    return _to_the_end(lambda: load(names))


_KINDS = {SCRIPT: _script, CALL: _call, CANDIDATE: _candidate, CHECKER: _checker}


def _module(name: str) -> dict[str, Any]:
    module = sys.modules[name] = types.ModuleType(name)
    module.__dict__["__builtins__"] = builtins
    return module.__dict__


def _compiled(code: bytes, place: int | None) -> types.CodeType:
    """What the code compiles to: from the file `place`, where a test before this one has left it there.

    The file is closed before the code runs, so that no program can write to it.
    """
    kept = b"" if place is None else _whole(place)
    if kept.startswith(_WHOLE):
        compiled: types.CodeType = marshal.loads(kept[1:])
    else:
        compiled = compile(code, "solution.py", "exec")
        form = b""
        if place is not None:
            with contextlib.suppress(ValueError):  # nested too deeply for it
                form = marshal.dumps(compiled)
        if place is not None and 0 < len(form) < _MOST_KEPT:
            os.pwrite(place, form, 1)
            os.pwrite(place, _WHOLE, 0)  # last, should the process be killed in between
    if place is not None:
        os.close(place)
    return compiled


def _plain(value: object) -> object:
    """What JSON has no form for: sets and other collections as lists."""
    if isinstance(value, (set, frozenset, range)) or hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _to_the_end(work: Callable[[], None]) -> int:
    status = 0
    try:
        work()
    except SystemExit as exit_:
        status = _exit_status(exit_)
    except MemoryError:
        status = _RAISED
        os.write(2, b"MemoryError\n")  # what the program holds may leave no room for more
        with contextlib.suppress(MemoryError):
            traceback.print_exc(limit=-20)
    except BaseException:
        traceback.print_exc(limit=-20)
        status = _RAISED
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # wait for threads, as an interpreter does
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        status = status or _RAISED
    return status


def _exit_status(exit_: SystemExit) -> int:
    if exit_.code is None:
        return 0
    if isinstance(exit_.code, int):
        return exit_.code & 0xFF
    print(exit_.code, file=sys.stderr)
    return _RAISED
