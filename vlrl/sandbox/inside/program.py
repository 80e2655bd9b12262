"""A program's life in its own process: limits, filter, code, exit.

Descriptors are the whole interface: 0 is the input, 1 and 2 what is printed, 3 the result of a call. The
code comes from a descriptor that is closed before it runs.
"""

import atexit
import contextlib
import io
import json
import os
import random
import sys
import threading
import traceback
import types

from .filter import Filter
from .layers import limit

RESULT_FD = 3
# A fork inherits all that its parent knows. These run often; whoever imports them again pays nothing.
PRELOADED = (
    "abc", "array", "asyncio", "base64", "bisect", "builtins", "calendar", "cmath", "collections",
    "collections.abc", "contextlib", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions",
    "functools", "hashlib", "heapq", "inspect", "itertools", "json", "math", "numbers", "operator",
    "pprint", "queue", "random", "re", "secrets", "statistics", "string", "struct", "sys", "textwrap",
    "threading", "time", "traceback", "types", "typing", "unittest", "uuid", "zlib",
)  # fmt: skip

_RAISED = 1


def run(descriptors: list[int], memory_bytes: int, cpu_s: int, file_bytes: int, processes: int,
        seccomp: Filter, call: bool) -> None:  # fmt: skip
    """Become the program whose code and streams are in `descriptors`; never returns.

    `descriptors`: code, input, output, error, and the result of a call.
    """
    status = 125
    try:
        code = _whole(descriptors[0])
        for number, descriptor in enumerate(descriptors[1:]):
            os.dup2(descriptor, number)
        os.closerange(RESULT_FD + 1 if call else RESULT_FD, 1 << 16)
        random.seed()
        sys.stdin = _stream(0, "r")
        sys.stdout, sys.stderr = _stream(1, "w"), _stream(2, "w")
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
        sys.argv = ["solution.py"]
        limit(memory_bytes, cpu_s, file_bytes, processes)
        seccomp.install()
        status = _call(code) if call else _main(code)
    finally:
        os._exit(status)


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _stream(descriptor: int, mode: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(descriptor, mode + "b", closefd=False), encoding="utf-8", errors="replace")


def _main(code: bytes) -> int:
    """Run a script to its end, as `python solution.py` would."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    return _to_the_end(lambda: exec(compile(code, "solution.py", "exec"), module.__dict__))


def _call(code: bytes) -> int:
    """Load a module, call what the input names with its arguments, and write what it returns as JSON."""
    request = json.loads(sys.stdin.buffer.read())
    module = types.ModuleType("solution")
    sys.modules["solution"] = module

    def work() -> None:
        exec(compile(code, "solution.py", "exec"), module.__dict__)
        owner = module.__dict__.get("Solution")
        target = module if owner is None else owner()
        value = getattr(target, request["function"])(*request["arguments"])
        with open(RESULT_FD, "w", encoding="utf-8") as result:
            json.dump(value, result, default=_plain)

    return _to_the_end(work)


def _plain(value: object) -> object:
    """What JSON has no form for: sets and other collections as lists."""
    if isinstance(value, (set, frozenset, range)) or hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _to_the_end(work: types.FunctionType | object) -> int:
    status = 0
    try:
        work()  # type: ignore[operator]
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
