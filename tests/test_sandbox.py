"""The sandbox's verdicts on programs that mean no harm, right and wrong."""

import asyncio
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError
from vlrl.sandbox.compare import same_text, same_value
from vlrl.sandbox.inside.values import dumps, loads
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Limits, Program, Report, Test

ECHO = "print(input())"
COROUTINE = (
    "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    print('hello')\nasyncio.run(f())"
)
DEEP = """import sys
sys.setrecursionlimit(10**6)
def f(n):
    return n and f(n - 1)
f(10**5)
print('hello')"""
ALWAYS_EQUAL = "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()"
NODE = """class Node:
    def __init__(self, value, after=None):
        self.value, self.after = value, after
"""
NAP = "import time\ntime.sleep(0.04)\nprint(input())"
QUICK = Limits(cpu_s=0.5, wall_s=20.0, memory_mb=256, output_mb=1)

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(workers=2)) as sandbox:
        yield sandbox


def _judge(
    sandbox: Sandbox, code: str, *tests: Test, fn_name: str | None = None, stop: bool = False
) -> Report:
    program = Program(code=code, tests=list(tests), fn_name=fn_name, limits=QUICK)
    return sandbox.judge([program], stop_at_failure=stop)[0]


def _outcome(sandbox: Sandbox, code: str, text: str = "", output: str = "") -> str:
    return _judge(sandbox, code, Test(input=text, output=output)).tests[0].outcome


def _call(sandbox: Sandbox, code: str, arguments: str, output: str) -> str:
    test = Test(input=arguments, output=output, testtype="functional")
    return _judge(sandbox, code, test, fn_name="f").tests[0].outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (ECHO, "passed"),
        ("import sys; sys.stdout.write(sys.stdin.read())", "passed"),
        ("import os; print(os.read(0, 10).decode())", "passed"),
        ("if __name__ == '__main__':\n    print('hello')", "passed"),
        ("import sys\nprint('hello')\nsys.exit(0)", "passed"),
        ("import sys\nprint('hello')\nsys.exit()", "passed"),
        ("print('hello')\nexit()", "passed"),
        ("print('hello')\nquit(0)", "passed"),
        ("print('hello')\nexit(1)", "exception"),
        ("import atexit\natexit.register(print, 'hello')", "passed"),
        ("import threading\nthreading.Timer(0.05, print, ('hello',)).start()", "passed"),
        (COROUTINE, "passed"),
        (DEEP, "passed"),
        ("print('hell')", "wrong"),
        ("", "wrong"),
        ("print('hello')\nimport sys\nsys.exit(3)", "exception"),
        ("print('hello'); raise SystemExit('no')", "exception"),
        ("print(", "exception"),
        ("1 / 0", "exception"),
        ("input(); input()", "exception"),
        ("import os; os.abort()", "signal"),
        ("import ctypes; ctypes.string_at(0)", "signal"),
        ("while True: pass", "timeout"),
        ("x = [0] * 10**9", "memory"),
        ("print('x' * 2_000_000)", "output_limit"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_script(sandbox: Sandbox, code: str, outcome: str) -> None:
    assert _outcome(sandbox, code, "hello\n", "hello") == outcome


def test_a_program_that_sleeps_is_ended_by_the_clock(sandbox: Sandbox) -> None:
    run = sandbox.execute("import time\ntime.sleep(60)", limits=Limits(wall_s=0.3))
    assert run.status == "wall_timeout"
    assert 0.3 <= run.wall_s < 5


def test_the_exit_code_and_the_error_stream_are_told(sandbox: Sandbox) -> None:
    run = sandbox.execute("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(7)")
    assert (run.status, run.output, run.error, run.exit_code) == ("exception", "out\n", "err\n", 7)


@pytest.mark.parametrize(
    ("code", "arguments", "output", "outcome"),
    [
        ("def f(a, b): return a + b", "1\n2", "3", "passed"),
        ("class Solution:\n    def f(self, a): return sorted(a)", "[2, 1]", "[1, 2]", "passed"),
        ("def f(a): return tuple(a)", "[2, 1]", "[2, 1]", "passed"),
        ("def f(a): return {1, 1}", "0", "[1]", "passed"),
        ("def f(a): return range(2)", "0", "[0, 1]", "passed"),
        ("def f(a):\n    print('noise')\n    return a", '"x"', '"x"', "passed"),
        ("def f(a): return str(a)", "1", "1", "wrong"),
        ("def f(a): return None", "1", "1", "wrong"),
        ("def f(a): return f", "1", "1", "exception"),
        ("def g(a): return a", "1", "1", "exception"),
        ("def f(a): raise ValueError(a)", "1", "1", "exception"),
        ("def f(a):\n    while True: pass", "1", "1", "timeout"),
    ],
)
def test_what_becomes_of_a_call(
    sandbox: Sandbox, code: str, arguments: str, output: str, outcome: str
) -> None:
    assert _call(sandbox, code, arguments, output) == outcome


@pytest.mark.parametrize(
    ("code", "check", "outcome"),
    [
        ("def f(x): return [x, x]", "assert candidate(3) == [3, 3]", "passed"),
        ("def f(x): return (x, {x: 1.5})", "assert candidate('a') == ('a', {'a': 1.5})", "passed"),
        ("def f(x): return [x]", "assert candidate(3) == [3, 3]", "wrong"),
        ("def f(x): raise KeyError(x)", "assert candidate(3)", "exception"),
        ("def f(x): return lambda: 1", "assert candidate(3)", "exception"),
        (ALWAYS_EQUAL, "assert candidate(3) == 4", "wrong"),
        ("import os\ndef f(x): os._exit(0)", "assert candidate(3) == 4", "wrong"),
        ("import sys\ndef f(x): sys.exit()", "assert candidate(3) == 4", "wrong"),
        ("def f(x):\n    while True: pass", "assert candidate(3) == 4", "timeout"),
        ("def f(x): return x", "assert [candidate(n) for n in range(300)] == list(range(300))", "passed"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_check(sandbox: Sandbox, code: str, check: str, outcome: str) -> None:
    test = Test(input=check, testtype="check")
    assert _judge(sandbox, code, test, fn_name="f").tests[0].outcome == outcome


def test_a_checks_objects_are_of_the_checks_own_classes(sandbox: Sandbox) -> None:
    code = f"""{NODE}
def f(n):
    head = None
    for i in range(n):
        head = Node(i, head)
    return head"""
    check = f"""{NODE}
head, seen = candidate(5000), []
while head:
    assert type(head) is Node
    seen.append(head.value)
    head = head.after
assert seen == list(range(5000))[::-1]"""
    assert _judge(sandbox, code, Test(input=check, testtype="check"), fn_name="f").passed


def test_a_lost_checker_is_no_fault_of_the_candidates() -> None:
    code = "import time\ndef f(x):\n    time.sleep(x)\n    return x"
    with Sandbox(SandboxConfig(workers=1)) as sandbox:
        lane = sandbox._lanes[0]
        assert _judge(sandbox, code, Test(input="candidate(0)", testtype="check"), fn_name="f").passed
        process = lane._partner._process
        assert process is not None
        killer = threading.Timer(0.3, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        lost = _judge(sandbox, code, Test(input="candidate(1)", testtype="check"), fn_name="f")
        killer.join()
        assert [test.outcome for test in lost.tests] == ["infra_error"]
        assert _judge(sandbox, code, Test(input="candidate(0)", testtype="check"), fn_name="f").passed


def test_code_that_has_no_utf8_form_is_run_as_it_can_be(sandbox: Sandbox) -> None:
    assert sandbox.execute("print('\ud800')").output == "?\n"


def test_each_test_starts_from_the_same_state(sandbox: Sandbox) -> None:
    code = "import builtins, random\nprint(hasattr(builtins, 'seen'), random.random())\nbuiltins.seen = 1"
    runs = [sandbox.execute(code).output.split() for _ in range(4)]
    assert {seen for seen, _ in runs} == {"False"}
    assert len({number for _, number in runs}) == 4


SPOILING = """import os
for place in range(3, 64):
    for act in (lambda: os.pwrite(place, b"\\1spoilt", 0), lambda: os.ftruncate(place, 0)):
        try:
            act()
            print("could write to", place)
        except OSError:
            pass
print(input())"""
NESTED = "print(input())\nx = " + "+".join(["1"] * 900)


@pytest.mark.parametrize(
    ("code", "outcomes"),
    [
        (ECHO, ["passed", "passed", "wrong"]),
        (SPOILING, ["passed", "passed", "wrong"]),
        (NESTED, ["passed", "passed", "wrong"]),
        ("print(", ["exception"] * 3),
        ("print(input())\n" + f"x = {'x' * (2 << 20)!r}", ["passed", "passed", "wrong"]),
    ],
    ids=["short", "spoiling", "nested", "no program", "long"],
)
def test_a_programs_tests_share_what_it_compiles_to_and_cannot_change_it(
    sandbox: Sandbox, code: str, outcomes: list[str]
) -> None:
    tests = [Test(input=f"{i}\n", output=str(i % 2)) for i in range(3)]
    assert [test.outcome for test in _judge(sandbox, code, *tests).tests] == outcomes


def test_tests_after_a_failure_are_skipped_where_wished(sandbox: Sandbox) -> None:
    tests = [Test(input="1\n", output=expected) for expected in "1212"]
    outcomes = [test.outcome for test in _judge(sandbox, ECHO, *tests).tests]
    assert outcomes == ["passed", "wrong", "passed", "wrong"]
    outcomes = [test.outcome for test in _judge(sandbox, ECHO, *tests, stop=True).tests]
    assert outcomes == ["passed", "wrong", "skipped", "skipped"]


def test_order_is_kept_over_kinds_of_tests(sandbox: Sandbox) -> None:
    tests = [
        Test(input="1", output="1", testtype="functional"),
        Test(input="assert candidate(2) == 3", testtype="check"),
        Test(input="3", output="3", testtype="functional"),
        Test(input="assert candidate(2) == 2", testtype="check"),
    ]
    report = _judge(sandbox, "def f(x): return x", *tests, fn_name="f")
    assert [test.outcome for test in report.tests] == ["passed", "wrong", "passed", "passed"]
    assert (report.passed, report.errors) == (False, 0)


def test_a_first_timeout_is_tried_again_alone_and_then_believed() -> None:
    with Sandbox(SandboxConfig(workers=1)) as sandbox:
        started = time.monotonic()
        tests = [Test(input="", output="")] * 3
        report = _judge(sandbox, "while True: pass", *tests)
        seconds = time.monotonic() - started
    assert [test.outcome for test in report.tests] == ["timeout"] * 3
    assert seconds >= 2.0  # four runs of half a second


def test_a_busy_machine_takes_no_cpu_time_from_a_program(sandbox: Sandbox) -> None:
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(input())"
    with ThreadPoolExecutor(8) as threads:
        burn = [threads.submit(_outcome, sandbox, "while True: pass") for _ in range(2)]
        outcomes = [threads.submit(_outcome, sandbox, code, "a\n", "a") for _ in range(6)]
        assert [outcome.result() for outcome in outcomes] == ["passed"] * 6
        assert [outcome.result() for outcome in burn] == ["timeout"] * 2


def test_a_lost_zygote_loses_no_test(sandbox: Sandbox) -> None:
    sandbox.start()
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.5):
            for lane in sandbox._lanes:
                process = lane._worker._process
                if process is not None and process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        tests = [[Test(input=f"{i}\n", output=str(i))] * 5 for i in range(20)]
        programs = [Program(code=NAP, tests=five) for five in tests]
        reports = sandbox.judge(programs)
    finally:
        stop.set()
        killer.join()
    outcomes = [test.outcome for report in reports for test in report.tests]
    assert len(outcomes) == 100
    assert set(outcomes) <= {"passed", "infra_error"}
    assert outcomes.count("passed") > 80
    assert _outcome(sandbox, ECHO, "a\n", "a") == "passed"


def test_coroutines_may_ask_too(sandbox: Sandbox) -> None:
    async def ask() -> list[Report]:
        programs = [Program(code=ECHO, tests=[Test(input=f"{i}\n", output=str(i % 7))]) for i in range(14)]
        return await asyncio.gather(*map(sandbox.judge_async, programs))

    assert [report.passed for report in asyncio.run(ask())] == [True] * 7 + [False] * 7


def test_a_closed_sandbox_ends_what_runs() -> None:
    sandbox = Sandbox(SandboxConfig(workers=1))
    sandbox.start()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(sandbox.execute, "import time\ntime.sleep(20)")
        time.sleep(0.3)
        started = time.monotonic()
        sandbox.close()
        assert running.result().status == "infra_error"
        assert time.monotonic() - started < 5


def test_packages_can_be_offered(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path("/var/tmp") / f"vlrl-packages-{os.getpid()}"  # pytest's own folders are private
    folder.mkdir(mode=0o755)
    try:
        (folder / "offered.py").write_text("value = 42\n")
        (folder / "offered.py").chmod(0o644)
        with Sandbox(SandboxConfig(workers=1, search=(str(folder),), modules=("offered",))) as sandbox:
            assert sandbox.execute("import offered; print(offered.value)").output == "42\n"
    finally:
        shutil.rmtree(folder)


def test_an_interpreter_that_others_cannot_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no interpreter for the sandbox .*is not there.*sandbox\.python"):
        Sandbox(SandboxConfig(python=str(tmp_path / "python3")))


def test_tests_that_cannot_be_run_are_the_users_mistake(sandbox: Sandbox) -> None:
    with pytest.raises(UserError, match="needs 'fn_name', the function"):
        _judge(sandbox, "", Test(input="1", output="1", testtype="functional"))
    with pytest.raises(UserError, match="JSON line by line"):
        _call(sandbox, "def f(a): return a", "not json", "1")


@needs_compiler
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (
            "#include <iostream>\nint main() { std::string s; std::cin >> s; std::cout << s << '\\n'; }",
            "passed",
        ),
        ("int main() { return 3; }", "exception"),
        ("int main() { *(volatile int*)0 = 1; }", "signal"),
        ("int main() { for (volatile int i = 0;; i++); }", "timeout"),
        ("#include <vector>\nint main() { std::vector<char> v(1 << 30, 1); return v[5]; }", "memory"),
        ("int main( {", "compile_error"),
        ('#include "/etc/passwd"\nint main() {}', "compile_error"),
        ('asm(".incbin \\"/etc/passwd\\""); int main() {}', "compile_error"),
        ('#include "/dev/stdin"\nint main() {}', "compile_error"),
    ],
)
def test_what_becomes_of_cpp(sandbox: Sandbox, code: str, outcome: str) -> None:
    program = Program(code=code, language="cpp", limits=QUICK, tests=[Test(input="hello\n", output="hello")])
    assert sandbox.judge([program])[0].tests[0].outcome == outcome


@needs_compiler
def test_cpp_can_neither_fork_nor_open_nor_execute(sandbox: Sandbox) -> None:
    code = """#include <cstdio>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int main() {
    char *none[] = {nullptr};
    printf("%d %d %d %d %ld %d\\n", fork() == -1, socket(AF_UNIX, SOCK_STREAM, 0) == -1,
           open("/scratch/x", O_CREAT | O_WRONLY, 0600) == -1, execve("/usr/bin/true", none, none) == -1,
           syscall(SYS_execveat, 200, "", none, none, 0x1000) == -1L, open("/etc/passwd", O_RDONLY) == -1);
}"""
    program = Program(code=code, language="cpp", limits=QUICK, tests=[Test(input="", output="1 1 1 1 1 1")])
    report = sandbox.judge([program])[0]
    assert report.passed, report


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("1 2\n3", "1 2\n3\n", True),
        ("1 2\n3", " 1 2 \n 3\n\n", True),
        ("0.5", "0.50", True),
        ("1e3 2", "1000 2.0", True),
        ("1 2", "1  2", True),
        ("a b", "a  b", False),
        ("1\n\n2", "1\n2", False),
        ("1", "1\n2", False),
        ("YES", "yes", False),
        ("nan", "NaN", False),
        ("", "", True),
        ("0.1", "0.1000000000000000055", False),
    ],
)
def test_texts_are_compared_as_livecodebench_does(expected: str, printed: str, same: bool) -> None:
    assert same_text(expected, printed) is same


def test_values_are_compared_as_json() -> None:
    assert same_value("[1, 2.0]", "[1.0, 2]")
    assert not same_value("1", '"1"')
    assert not same_value("1", "not json")
    assert not same_value("1", "[" * 100_000)


def test_values_pass_between_programs_whole() -> None:
    shared = (1, 2)
    value = {"a": [shared, shared, {3}], (4, frozenset({5})): b"x", None: [1.5, True, 10**50, -(2**70), "é"]}
    again = loads(dumps(value), {})
    assert again == value
    assert again["a"][0] is again["a"][1]
    cycle: list[object] = [1]
    cycle.append(cycle)
    again = loads(dumps(cycle), {})
    assert again[1] is again
    deep: list[object] = []
    for _ in range(20_000):
        deep = [deep]
    again = loads(dumps(deep), {})
    depth = 0
    while again:
        again, depth = again[0], depth + 1
    assert depth == 20_000
    with pytest.raises(TypeError, match="no plain data"):
        dumps([print])


@pytest.mark.parametrize(
    "text", ["[]", "[[]]", '[["tuple", [0]]]', '[["list", [9]]]', '[["object", "X"]]', "[1]", "{}"]
)
def test_a_forged_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text, {"X": 1})


def test_a_program_that_sleeps_is_not_tried_again(sandbox: Sandbox) -> None:
    """Alone it would hold up all others for as long as it sleeps."""
    program = Program(
        code="import time\ntime.sleep(60)", tests=[Test(input="")], limits=Limits(cpu_s=1.0, wall_s=4.0)
    )
    started = time.monotonic()
    (report,) = sandbox.judge([program])
    assert report.tests[0].outcome == "wall_timeout"
    assert time.monotonic() - started < 7.5  # eight where it is tried again
