"""LiveCodeBench's way of running a program, written anew from its description: for comparisons alone.

For each program a `multiprocessing.Manager` and a process, which runs all tests in itself: SIGALRM as the
time limit of a test and of loading the program; some functions of `os`, `shutil` and `subprocess` taken away;
names of eighteen modules put before the program; a script becomes a function (its imports stay outside, a
closing `if __name__ == "__main__"` gives way to its block), which is called for each test
with standard input and `open` replaced by the test's input and what is printed kept; the first test that
fails ends the program; lines are compared without outer blanks, then as decimals. Nothing is isolated: the
program sees what is expected of it.

Left out, in its favour: it prints as it goes, and imports numpy, which makes its forks larger.
"""

import ast
import builtins
import contextlib
import faulthandler
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any
from unittest import mock

LOST, WRONG, TOO_SLOW, RAISED = -1, -2, -3, -4

_MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"),
)
_PREAMBLE = (
    "".join(f"from {name} import *\n" for name in _MODULES)
    + "".join(f"import {name}\n" for name in _MODULES if name not in ("builtins", "typing"))
    + "sys.setrecursionlimit(50000)\n"
)
_TAKEN = {
    os: "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames "
    "truncate replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir",
    shutil: "rmtree move chown",
    subprocess: "Popen",
    builtins: "quit help",
}

Pair = tuple[str, str]  # input and expected output


class TimeoutException(Exception):
    """The alarm rang; an exception like any other, which a program may catch."""


def judge(code: str, tests: Sequence[Pair], function: str | None = None, timeout: int = 6) -> list[Any]:
    """A program's results up to the first that is not true; a number below 0 for each kind of failure."""
    with multiprocessing.Manager() as manager:
        results, notes = manager.list(), manager.list()
        process = multiprocessing.Process(
            target=_report, args=(results, notes, code, tests, function, timeout)
        )
        process.start()
        process.join((timeout + 1) * len(tests) + 5)
        if process.is_alive():
            process.kill()
        return list(results[0]) if results else [LOST] * len(tests)


def passed(results: Sequence[Any]) -> bool:
    """Whether a program counts as right."""
    return all(result > 0 for result in results)


def _report(
    results: Any, notes: Any, code: str, tests: Sequence[Pair], function: str | None, timeout: int
) -> None:
    found = run(code, tests, function, timeout)
    results.append(found)
    notes.append({"error_code": found[-1] if found else None})


def run(code: str, tests: Sequence[Pair], function: str | None, timeout: int) -> list[Any]:
    """`judge` in this process, which is spoiled by it."""
    sys.set_int_max_str_digits(50_000)
    signal.signal(signal.SIGALRM, _ring)
    _guard()
    with _alarm(timeout):
        try:
            if function is not None:
                return _calls(code, tests, function, timeout)
            return _scripts(code, tests, timeout)
        except Exception:
            return [RAISED]


def _ring(*_: object) -> None:
    raise TimeoutException


@contextlib.contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _guard() -> None:
    faulthandler.disable()
    os.environ["OMP_NUM_THREADS"] = "1"
    for module, names in _TAKEN.items():
        for name in names.split():
            setattr(module, name, None)
    for name in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[name] = None  # type: ignore[assignment]


def _load(code: str, timeout: int) -> Any:
    module = types.ModuleType("solution")
    with _alarm(timeout):
        exec(code, module.__dict__)
        return module.__dict__["Solution"]() if "class Solution" in code else module


def _calls(code: str, tests: Sequence[Pair], function: str, timeout: int) -> list[Any]:
    method = getattr(_load(f"{_PREAMBLE}\n{code}", timeout), function)
    arguments = [[json.loads(line) for line in text.split("\n")] for text, _ in tests]
    results: list[Any] = []
    for given, (_, output) in zip(arguments, tests, strict=True):
        expected = json.loads(output)

        def call(given: list[Any] = given, expected: Any = expected) -> Any:
            value = method(*given)
            return (list(value) if isinstance(value, tuple) else value) == expected

        results.append(_timed(call, timeout))
        if _failed(results[-1]):
            break
    return results


def _scripts(code: str, tests: Sequence[Pair], timeout: int) -> list[Any]:
    script = _load(_as_function(code), timeout).script
    results: list[Any] = []
    for text, expected in tests:
        printed = io.StringIO()

        def call(text: str = text) -> bool:
            _with_input(script, text)
            return True

        with contextlib.redirect_stdout(printed):
            printed.close = lambda: None  # type: ignore[method-assign]
            result = _timed(call, timeout)
        results.append((_same(printed.getvalue(), expected) or WRONG) if result is True else result)
        if _failed(results[-1]):
            break
    return results


def _timed(call: Callable[[], Any], timeout: int) -> Any:
    faulthandler.enable()
    try:
        with _alarm(timeout):
            result = call()
    except Exception as error:
        return TOO_SLOW if "timeoutexception" in repr(error).lower() else RAISED
    finally:
        faulthandler.disable()
    return result


def _failed(result: Any) -> bool:
    return not result or (isinstance(result, int) and result < 0)


def _as_function(code: str) -> str:
    """The preamble, the imports, and the rest as a function; the script as it is where it has no parse."""
    try:
        body = ast.parse(code).body
        last = body[-1]
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            # Through text, as the other end is.
            body = ast.parse(ast.unparse([*body[:-1], *last.body])).body  # type: ignore[call-overload]
        body = ast.parse(ast.unparse(body)).body  # type: ignore[call-overload]
        imports = [line for line in body if isinstance(line, ast.Import | ast.ImportFrom)]
        rest = [line for line in body if not isinstance(line, ast.Import | ast.ImportFrom)]
        shell = ast.parse("def script():\n    pass").body[0]
        assert isinstance(shell, ast.FunctionDef)
        shell.body = rest
        return "\n".join((_PREAMBLE, ast.unparse(imports), ast.unparse(shell)))  # type: ignore[call-overload]
    except Exception:
        return code


def _with_input(script: Callable[[], None], text: str) -> None:
    lines = iter(text.split("\n"))
    # The three methods are replaced first, so on the stream that the whole process has: a program that took
    # it with `from sys import stdin` reads through them, and one that says `sys.stdin` does not.
    with (
        mock.patch("sys.stdin.read", lambda *_: text),
        mock.patch("sys.stdin.readlines", lambda *_: text.split("\n")),
        mock.patch("sys.stdin.readline", lambda *_: next(lines)),
        mock.patch("sys.stdin", io.StringIO(text)),
        mock.patch("builtins.open", mock.mock_open(read_data=text)),
        contextlib.suppress(SystemExit),
    ):
        script()


def _same(printed: str, expected: str) -> bool:
    given, wanted = ([line.strip() for line in text.strip().split("\n")] for text in (printed, expected))
    return len(given) == len(wanted) and all(
        one == other or _decimals(one) == _decimals(other) is not None
        for one, other in zip(given, wanted, strict=True)
    )


def _decimals(line: str) -> list[Decimal] | None:
    try:
        return [Decimal(word) for word in line.split()]
    except ArithmeticError:
        return None
