"""Programs a second through the sandbox, beside three that guard nothing.

    python benchmarks/sandbox.py

The program reads 1,000 integers and counts them. "spawn" starts `python -I -S` for each test. "livecodebench"
does what LiveCodeBench's evaluator does for each program (benchmarks/livecodebench_way.py says what), in a
pool of processes as it does; all tests of a program share a process there. "floor" forks a bare interpreter
for each test (benchmarks/fork_floor.py): less than that no process a test can cost. Each side has the same
number of workers; rounds alternate between the sides.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import livecodebench_way
from rich.console import Console
from rich.table import Table

from vlrl.config.sandbox import SandboxConfig
from vlrl.sandbox.interpreter import find_interpreter
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
    config, workers = SandboxConfig(workers=arguments.workers), arguments.workers
    with ExitStack() as stack:
        # Processes first, from a process that has no threads yet.
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"))
        stack.enter_context(pool)
        list(pool.map(abs, range(workers)))
        threads = stack.enter_context(ThreadPoolExecutor(workers))
        forkers = [stack.enter_context(_forker(config, expected)) for _ in range(workers)]
        sandbox = stack.enter_context(Sandbox(config))
        layers = sandbox.start()
        sides: dict[str, Side] = {
            "sandbox": lambda programs, tests: _sandbox(sandbox, expected, programs, tests),
            "spawn": lambda programs, tests: _spawn(threads, expected, programs, tests),
            "livecodebench": lambda programs, tests: _livecodebench(pool, expected, programs, tests),
            "floor": lambda programs, tests: _floor(forkers, programs, tests),
        }
        table = Table(
            "tests a program",
            *(f"{name}, programs/s" for name in sides),
            *(f"times {name}" for name in list(sides)[1:]),
            title=f"{workers} workers, median of {arguments.rounds} rounds",
        )
        for tests, programs in ((1, arguments.programs), (10, arguments.programs // 4), (50, 8)):
            rates = _measure(sides, programs, tests, arguments.rounds)
            ours = rates["sandbox"]
            ratios = [f"{ours / rates[name]:.2g}" for name in list(sides)[1:]]
            table.add_row(str(tests), *(f"{rate:.0f}" for rate in rates.values()), *ratios)
        for forker in forkers:
            assert forker.stdin is not None
            forker.stdin.close()
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


def _livecodebench(pool: Executor, expected: str, programs: int, tests: int) -> int:
    pairs = [(INPUT, expected)] * tests
    judged = [pool.submit(livecodebench_way.judge, CODE, pairs) for _ in range(programs)]
    return sum(result is True for future in judged for result in future.result())


def _forker(config: SandboxConfig, expected: str) -> "subprocess.Popen[str]":
    """A server of the floor, under the interpreter that the sandbox uses."""
    script = str(Path(__file__).parent / "fork_floor.py")
    command = [find_interpreter(config)[0], "-I", "-S", script]
    forker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _tell(forker, json.dumps([CODE, INPUT, expected]))
    return forker


def _floor(forkers: "list[subprocess.Popen[str]]", programs: int, tests: int) -> int:
    for number, forker in enumerate(forkers):
        share = programs // len(forkers) + (number < programs % len(forkers))
        _tell(forker, f"{share} {tests}")
    return sum(int(forker.stdout.readline()) for forker in forkers if forker.stdout is not None)


def _tell(forker: "subprocess.Popen[str]", line: str) -> None:
    assert forker.stdin is not None
    forker.stdin.write(line + "\n")
    forker.stdin.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--programs", type=int, default=100, help="programs a round at one test each")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
