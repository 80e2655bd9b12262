"""What a process for each test costs where nothing guards it: the floor for anything that isolates tests.

A server for benchmarks/sandbox.py, in an interpreter with nothing else imported. Its first line of input is
JSON: a program, a test's input and what is expected; each line after it two numbers, of programs and of tests
a program, answered with how many tests passed. A program is compiled once; each of its tests is a fork that
runs it on files in memory, waited for and compared.
"""

import json
import os
import sys


def main() -> None:
    """Serve until the input ends."""
    code, given, expected = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        programs, tests = map(int, line.split())
        passed = 0
        for _ in range(programs):
            compiled = compile(code, "solution.py", "exec")
            passed += sum(_run(compiled, given) == expected for _ in range(tests))
        print(passed, flush=True)


def _run(compiled: object, given: str) -> str:
    read, written = os.memfd_create("input"), os.memfd_create("output")
    os.write(read, given.encode())
    os.lseek(read, 0, os.SEEK_SET)
    pid = os.fork()
    if pid == 0:
        os.dup2(read, 0)
        os.dup2(written, 1)
        sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
        exec(compiled, {"__name__": "__main__"})  # type: ignore[arg-type]
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    printed = os.pread(written, os.fstat(written).st_size, 0).decode()
    os.close(read)
    os.close(written)
    return printed


main()
