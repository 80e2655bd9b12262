"""Where the sandbox and LiveCodeBench's way judge a program differently: docs/sandbox.md's table, run."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from vlrl.config.sandbox import SandboxConfig
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Limits, Program, Test

ROOT = Path(__file__).parents[1]
LIMITS = Limits(cpu_s=1.0, wall_s=20.0, memory_mb=256, output_mb=1)
PASSED, LOST, WRONG, TIMEOUT, EXCEPTION = "passed", "lost", "wrong", "timeout", "exception"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A program whose tests all have the input 2 and 3, one a line, or the argument 5, and one output."""

    what: str
    code: str
    theirs: str
    ours: str
    output: str = "5"
    function: bool = False
    tests: int = 1


GLOBAL = "count = 0\ndef add():\n    global count\n    count += 5\nadd()\nprint(count)"
STUBBORN = """import time
end = time.process_time() + 1.6
while time.process_time() < end:
    try:
        while time.process_time() < end:
            pass
    except Exception:
        pass
print(5)"""
PEEKING = """import sys
frame = sys._getframe()
while frame and "expected" not in frame.f_locals:
    frame = frame.f_back
print(frame.f_locals["expected"])"""
COUNTING = """class Solution:
    seen = []
    def f(self, a):
        self.seen.append(a)
        return 4 + len(self.seen)"""
EQUAL = "class Equal:\n    def __eq__(self, other): return True\ndef f(a): return Equal()"
LATE = "import threading\nthreading.Timer(0.2, print, ('5',)).start()"
MARKING = "import builtins\nprint(getattr(builtins, 'seen', 5))\nbuiltins.seen = 6"
NOT_LAST = "if __name__ == '__main__':\n    print(5)\nx = 1"
READ_LINE = "from sys import stdin\nfor _ in range(4): stdin.readline()\nprint(5)"
ITERATE = "from sys import stdin\nprint(sum(int(line) for line in stdin))"
BUFFER = "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))"
DEEP = "def f(n): return n and 1 + f(n - 1)\nprint(f(5000) // 1000)"

DIFFERENCES = [
    Difference(what="uses a global of its own in a function", code=GLOBAL, theirs=EXCEPTION, ours=PASSED),
    Difference(
        what="gives a name of the built-in functions a value",
        code="sum = sum([2, 3])\nprint(sum)",
        theirs=EXCEPTION,
        ours=PASSED,
    ),
    Difference(
        what="looks its variables up with `globals()`, or makes them with `exec`",
        code="exec('x = 5')\nprint(globals()['x'])",
        theirs=EXCEPTION,
        ours=PASSED,
    ),
    Difference(
        what="begins with `from __future__ import annotations`",
        code="from __future__ import annotations\nprint(5)",
        theirs=EXCEPTION,
        ours=PASSED,
    ),
    Difference(
        what="has a `return` outside functions", code="print(5)\nreturn", theirs=PASSED, ours=EXCEPTION
    ),
    Difference(
        what='has something after its `if __name__ == "__main__":` block',
        code=NOT_LAST,
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="uses modules that it does not import",
        code="print(max(Counter('aaaaab').values()))",
        theirs=PASSED,
        ours=EXCEPTION,
    ),
    Difference(what="recurses 5000 deep and sets no limit", code=DEEP, theirs=PASSED, ours=EXCEPTION),
    Difference(
        what="prints a number of more than 4300 digits",
        code="print(10 ** 5000)",
        output="1" + "0" * 5000,
        theirs=PASSED,
        ours=EXCEPTION,
    ),
    Difference(what="reads `sys.stdin.buffer`", code=BUFFER, theirs=EXCEPTION, ours=PASSED),
    Difference(
        what="reads `open(0)`",
        code="print(sum(map(int, open(0).read().split())))",
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="reads with `os.read`",
        code="import os\nprint(sum(map(int, os.read(0, 99).split())))",
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="reads `for line in stdin` after `from sys import stdin`",
        code=ITERATE,
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="reads lines so beyond the end of the input",
        code=READ_LINE,
        theirs=EXCEPTION,
        ours=PASSED,
    ),
    Difference(
        what="writes to `sys.stdout.buffer`",
        code="import sys\nsys.stdout.buffer.write(b'5')",
        theirs=EXCEPTION,
        ours=PASSED,
    ),
    Difference(
        what="writes with `os.write`, or to `stdout` after `from sys import stdout`",
        code="from sys import stdout\nstdout.write('5')",
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(what="prints from a thread that it does not wait for", code=LATE, theirs=WRONG, ours=PASSED),
    Difference(
        what="prints in an `atexit` function",
        code="import atexit\natexit.register(print, 5)",
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="prints the answer and ends with status 3",
        code="import sys\nprint(5)\nsys.exit(3)",
        theirs=PASSED,
        ours=EXCEPTION,
    ),
    Difference(what="ends with `quit()`", code="print(5)\nquit()", theirs=EXCEPTION, ours=PASSED),
    Difference(
        what="ends with `os._exit(0)`",
        code="import os\nprint(5, flush=True)\nos._exit(0)",
        theirs=LOST,
        ours=PASSED,
    ),
    Difference(
        what="raises `KeyboardInterrupt`", code="raise KeyboardInterrupt", theirs=LOST, ours=EXCEPTION
    ),
    Difference(
        what="a function that calls `sys.exit()`",
        code="import sys\ndef f(a): sys.exit()",
        function=True,
        theirs=LOST,
        ours=WRONG,
    ),
    Difference(
        what="sleeps beyond the limit",
        code="import time\ntime.sleep(1.5)\nprint(5)",
        theirs=TIMEOUT,
        ours=PASSED,
    ),
    Difference(
        what="works beyond the limit, and catches the alarm", code=STUBBORN, theirs=PASSED, ours=TIMEOUT
    ),
    Difference(
        what="takes more memory than `sandbox.memory_mb`",
        code="x = bytearray(400 << 20)\nprint(5)",
        theirs=PASSED,
        ours="memory",
    ),
    Difference(
        what="asks for its folder, `os.getcwd()`",
        code="import os\nos.getcwd()\nprint(5)",
        theirs=EXCEPTION,
        ours=PASSED,
    ),
    Difference(what="leaves something behind in a module", code=MARKING, tests=2, theirs=WRONG, ours=PASSED),
    Difference(
        what="a `Solution` whose class keeps what it was given",
        code=COUNTING,
        function=True,
        tests=2,
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="prints what is expected, found in its caller's frame",
        code=PEEKING,
        theirs=PASSED,
        ours=EXCEPTION,
    ),
    Difference(
        what="returns an object that equals everything",
        code=EQUAL,
        function=True,
        theirs=PASSED,
        ours=EXCEPTION,
    ),
    Difference(
        what="returns tuples in a list, where lists are expected",
        code="def f(a): return [(a, a)]",
        output="[[5, 5]]",
        function=True,
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="returns a set, a range or an iterator, where a list is expected",
        code="def f(a): return {a}",
        output="[5]",
        function=True,
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="returns a dictionary whose keys are numbers",
        code="def f(a): return {a: a}",
        output='{"5": 5}',
        function=True,
        theirs=WRONG,
        ours=PASSED,
    ),
    Difference(
        what="prints `inf` where `Infinity` is expected",
        code="print('inf')",
        output="Infinity",
        theirs=PASSED,
        ours=WRONG,
    ),
]
SAME = [
    "print(int(input()) + int(input()))",
    "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
    "from sys import stdin\nprint(int(stdin.readline()) + int(stdin.readline()))",
    "if __name__ == '__main__':\n    print(5)",
    "import sys\nprint(5)\nprint('note', file=sys.stderr)\nsys.exit()",
    "print(5)\nexit()",
    "import threading\nthread = threading.Thread(target=print, args=('5',))\nthread.start()\nthread.join()",
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(workers=1, rerun_timeouts=False)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def way() -> ModuleType:
    spec = importlib.util.spec_from_file_location("way", ROOT / "benchmarks" / "livecodebench_way.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _theirs(way: ModuleType, case: Difference) -> str:
    given = "5" if case.function else "2\n3\n"
    name = "f" if case.function else None
    results = way.judge(case.code, [(given, case.output)] * case.tests, name, timeout=1)
    if way.passed(results):
        return PASSED
    names = {way.LOST: LOST, way.WRONG: WRONG, way.TOO_SLOW: TIMEOUT, way.RAISED: EXCEPTION, False: WRONG}
    return names[results[-1]]


def _ours(sandbox: Sandbox, case: Difference) -> str:
    given, kind = ("5", "functional") if case.function else ("2\n3\n", "stdin")
    test = Test(input=given, output=case.output, testtype=kind)  # type: ignore[arg-type]
    name = "f" if case.function else None
    program = Program(code=case.code, tests=[test] * case.tests, fn_name=name, limits=LIMITS)
    return sandbox.judge([program], stop_at_failure=True)[0].tests[-1].outcome


@pytest.mark.parametrize("case", DIFFERENCES, ids=lambda case: case.what)
def test_verdicts_differ_as_documented(case: Difference, sandbox: Sandbox, way: ModuleType) -> None:
    assert (_theirs(way, case), _ours(sandbox, case)) == (case.theirs, case.ours)
    assert f"| {case.what} | {case.theirs} | {case.ours} |" in (ROOT / "docs" / "sandbox.md").read_text()


@pytest.mark.parametrize("code", SAME)
def test_verdicts_do_not_differ_on_what_programs_usually_do(
    code: str, sandbox: Sandbox, way: ModuleType
) -> None:
    case = Difference(what="", code=code, theirs=PASSED, ours=PASSED, tests=3)
    assert (_theirs(way, case), _ours(sandbox, case)) == (PASSED, PASSED)


def test_no_row_of_the_table_is_without_a_program() -> None:
    text = (ROOT / "docs" / "sandbox.md").read_text().partition("## Where verdicts differ")[2]
    rows = [line.split(" | ")[0] for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    assert rows[1:] == [f"| {case.what}" for case in DIFFERENCES]
