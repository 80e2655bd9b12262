"""Programs a second through the sandbox, beside a fresh interpreter and LiveCodeBench's way; both unguarded.

    python benchmarks/sandbox.py

The program reads 1,000 integers and counts them. "spawn" starts `python -I -S` for each test; "manager" is
the pattern of LiveCodeBench's evaluator: for each program a `multiprocessing.Manager` and a process that
runs all its tests in itself, with standard input and output replaced. Each side has the same number of
workers; rounds alternate between the sides.
"""

import argparse
import io
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from rich.console import Console
from rich.table import Table

from vlrl.config.sandbox import SandboxConfig
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Program, Test

CODE = """import sys
from collections import defaultdict
count = defaultdict(int)
for word in sys.stdin.read().split():
    count[int(word)] += 1
print(len(count), max(count.values()))
"""
INPUT = " ".join(str(i * i % 997) for i in range(1000)) + "\n"
Side = Callable[[int, int], int]  # programs, tests a program -> tests passed


def main() -> None:
    arguments = _arguments()
    expected = subprocess.run(
        [sys.executable, "-c", CODE], input=INPUT, capture_output=True, text=True, check=True
    ).stdout
    with (
        Sandbox(SandboxConfig(workers=arguments.workers)) as sandbox,
        ThreadPoolExecutor(arguments.workers) as threads,
    ):
        layers = sandbox.start()
        sides: dict[str, Side] = {
            "sandbox": lambda programs, tests: _sandbox(sandbox, expected, programs, tests),
            "spawn": lambda programs, tests: _spawn(threads, expected, programs, tests),
            "manager": lambda programs, tests: _manager(threads, expected, programs, tests),
        }
        table = Table(
            "tests a program",
            *(f"{name}, programs/s" for name in sides),
            "times spawn",
            "times manager",
            title=f"{arguments.workers} workers, median of {arguments.rounds} rounds",
        )
        for tests, programs in ((1, arguments.programs), (10, arguments.programs // 4), (50, 8)):
            rates = _measure(sides, programs, tests, arguments.rounds)
            ours = rates["sandbox"]
            ratios = [f"{ours / rates[name]:.1f}" for name in ("spawn", "manager")]
            table.add_row(str(tests), *(f"{rate:.0f}" for rate in rates.values()), *ratios)
    Console().print(table)
    print(f"layers: {', '.join(layers)}")
    print("Kimi k1.5's sandbox (table 3): 0.04 s to start a container, 120 a second on 16 cores")


def _measure(sides: dict[str, Side], programs: int, tests: int, rounds: int) -> dict[str, float]:
    """Median programs a second of each side."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            passed = side(programs, tests)
            seconds = time.perf_counter() - started
            assert passed == programs * tests, f"{name}: {passed} of {programs * tests} passed"
            if number:  # the first round warms up
                rates[name].append(programs / seconds)
    return {name: statistics.median(values) for name, values in rates.items()}


def _sandbox(sandbox: Sandbox, expected: str, programs: int, tests: int) -> int:
    program = Program(code=CODE, tests=[Test(input=INPUT, output=expected)] * tests)
    reports = sandbox.judge([program] * programs)
    return sum(test.outcome == "passed" for report in reports for test in report.tests)


def _spawn(threads: ThreadPoolExecutor, expected: str, programs: int, tests: int) -> int:
    def one(_: int) -> int:
        command = [sys.executable, "-I", "-S", "-c", CODE]
        runs = [
            subprocess.run(command, input=INPUT, capture_output=True, text=True, timeout=30, check=False)
            for _ in range(tests)
        ]
        return sum(run.stdout == expected for run in runs)

    return sum(threads.map(one, range(programs)))


def _manager(threads: ThreadPoolExecutor, expected: str, programs: int, tests: int) -> int:
    def one(_: int) -> int:
        with multiprocessing.Manager() as manager:
            results = manager.list()
            process = multiprocessing.Process(target=_run_tests, args=(results, tests, expected))
            process.start()
            process.join(30)
            return sum(results)

    return sum(threads.map(one, range(programs)))


def _run_tests(results: "list[bool]", tests: int, expected: str) -> None:
    code = compile(CODE, "solution.py", "exec")
    for _ in range(tests):
        printed = io.StringIO()
        with mock.patch("sys.stdin", io.StringIO(INPUT)), mock.patch("sys.stdout", printed):
            exec(code, {"__name__": "__main__"})
        results.append(printed.getvalue() == expected)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--programs", type=int, default=100, help="programs a round at one test each")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
