import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from vlrl.errors import EngineError, WaitTimeout
from vlrl.rewards import workers
from vlrl.rewards.workers import GradingPool

BOMB = "9^{9^{9^9}}"
DEADLINE = 1.2  # seconds: a comparison takes a hundredth, and this machine may be busy


@pytest.fixture
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(workers=2, timeout_s=DEADLINE, memory_mb=1024)
    pool.grade_many([("x+1", "1+x")] * 4)
    yield pool
    pool.close()


def _processes() -> list[psutil.Process]:
    """The supervisor and the graders, parents first."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if "vlrl.rewards.grading_process" in p.cmdline()]


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_compares(pool: GradingPool) -> None:
    pairs = [
        ("x^2-1", "(x-1)(x+1)"),
        ("1,-2", "-2,1"),
        ("1,-2", "1,-3"),
        ("\\frac{1}{2}", "0.5"),
        ("5", "not 5"),
    ]
    assert [o.equal for o in pool.grade_many(pairs)] == [True, True, False, True, False]


def test_the_parent_never_imports_math_verify() -> None:
    code = (
        "import sys; from vlrl.rewards.workers import GradingPool; from vlrl.rewards import grader\n"
        "pool = GradingPool(1, 5.0, 512); assert pool.grade_many([('2x', 'x+x')])[0].equal; pool.close()\n"
        "assert not {'math_verify', 'sympy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_bomb_is_an_error_at_its_deadline_and_the_next_answer_is_prompt(pool: GradingPool) -> None:
    ended, answered = [], []
    for bomb in (BOMB, "((9!)!)!", "(" * 3000 + "5" + ")" * 3000):
        start = time.monotonic()
        (outcome,) = pool.grade_many([("5", bomb)])
        assert outcome.equal is None and outcome.error.startswith("timeout")
        ended.append(time.monotonic() - start)
        start = time.monotonic()
        assert pool.grade_many([("x+2", "2+x")])[0].equal is True
        answered.append(time.monotonic() - start)
    # The best of three: on a busy machine a single wake-up can take a second.
    assert DEADLINE <= min(ended) < DEADLINE + 1.1
    assert min(answered) < 0.6


def test_a_grader_that_gets_no_processor_is_not_at_its_deadline() -> None:
    pool = GradingPool(workers=1, timeout_s=0.4, memory_mb=1024)
    before = {p.pid for p in _processes()}
    outcomes: list[workers.Outcome] = []
    try:
        pool.grade_many([("1", "x")])
        (grader,) = [p for p in _processes() if p.pid not in before and p.ppid() != os.getpid()]
        thread = threading.Thread(target=lambda: outcomes.extend(pool.grade_many([("5", BOMB)])))
        for pause in (1.0, 10.0):
            used = sum(grader.cpu_times()[:2])
            if pause == 1.0:
                thread.start()
            _wait_until(lambda used=used: sum(grader.cpu_times()[:2]) > used + 0.05)
            grader.suspend()
            start = time.monotonic()
            thread.join(pause)
            assert thread.is_alive() == (pause == 1.0)  # the first pause is longer than the deadline
            if pause == 1.0:
                grader.resume()
        assert time.monotonic() - start < 9.0  # a process that stays asleep ends at the wall's limit
    finally:
        pool.close()
    assert outcomes[0].error.startswith("timeout") and outcomes[0].seconds < 0.4


def test_waiting_in_the_queue_costs_no_time(pool: GradingPool) -> None:
    # Behind four bombs on two workers everything queues for two deadlines.
    outcomes = pool.grade_many([("5", BOMB)] * 4 + [(f"x+{i}", f"{i}+x") for i in range(20)])
    assert [o.equal for o in outcomes] == [None] * 4 + [True] * 20
    assert all(o.seconds < DEADLINE for o in outcomes[4:])


def test_memory_is_bounded() -> None:
    pool = GradingPool(workers=1, timeout_s=3.0, memory_mb=64)
    try:
        pool.grade_many([("1", "x")])
        limits = [p.rlimit(psutil.RLIMIT_AS)[0] for p in _processes()[1:]]
        assert len(limits) == 1 and 64 * 2**20 < limits[0] < 2**30
        (outcome,) = pool.grade_many([("5", "2^{10^{10}}")])
        assert outcome.equal is not True
        assert pool.grade_many([("2x", "x+x")])[0].equal is True
    finally:
        pool.close()


def test_an_unreadable_gold_is_an_error(pool: GradingPool) -> None:
    (outcome,) = pool.grade_many([("", "5")])
    assert outcome.equal is None and "cannot be parsed" in outcome.error


def test_a_grader_killed_while_grading_is_an_error(pool: GradingPool) -> None:
    slow = GradingPool(workers=1, timeout_s=30.0, memory_mb=1024)
    before = {p.pid for p in _processes()}
    try:
        slow.grade_many([("1", "x")])
        (grader,) = [p for p in _processes() if p.pid not in before and p.ppid() != os.getpid()]
        thread_result: list[object] = []
        thread = threading.Thread(target=lambda: thread_result.extend(slow.grade_many([("5", BOMB)])))
        thread.start()
        _wait_until(lambda: grader.cpu_times().user > 0.2)
        grader.kill()
        thread.join(10)
        (outcome,) = thread_result
        assert outcome.equal is None and outcome.error.startswith("died")  # type: ignore[attr-defined]
        assert slow.grade_many([("2x", "x+x")])[0].equal is True
    finally:
        slow.close()


def test_deaths_of_idle_graders_and_of_the_supervisor_lose_nothing(pool: GradingPool) -> None:
    for victim in ("grader", "supervisor"):
        supervisor, *graders = _processes()
        doomed = [graders[-1]] if victim == "grader" else [supervisor, *graders]
        doomed[0].kill()
        _wait_until(lambda gone=doomed: not any(map(_alive, gone)))
        outcomes = pool.grade_many([(f"x+{i}", f"{i}+x") for i in range(6)])
        assert [o.equal for o in outcomes] == [True] * 6


def test_threads_share_the_pool(pool: GradingPool) -> None:
    results: dict[int, list[bool | None]] = {}

    def work(k: int) -> None:
        pairs = [(f"x+{k}", f"{k + (i % 2)}+x") for i in range(20)] + [("5", BOMB)] * (k == 0)
        results[k] = [o.equal for o in pool.grade_many(pairs)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for k in range(6):
        assert results[k][:20] == [True, False] * 10
    assert results[0][20] is None


def test_close_is_prompt_even_under_work_and_leaves_no_process() -> None:
    pool = GradingPool(workers=2, timeout_s=60.0, memory_mb=1024)
    pool.grade_many([("1", "x")] * 2)
    processes = _processes()
    outcomes: list[object] = []
    thread = threading.Thread(target=lambda: outcomes.extend(pool.grade_many([("5", BOMB)] * 3)))
    thread.start()
    _wait_until(lambda: processes[-1].cpu_times().user > 0.1)
    start = time.monotonic()
    pool.close()
    thread.join(5)
    assert time.monotonic() - start < 5 and not thread.is_alive()
    assert [o.equal for o in outcomes] == [None] * 3  # type: ignore[attr-defined]
    assert not any(map(_alive, processes))
    with pytest.raises(RuntimeError):
        pool.grade_many([("1", "x")])


# Speaks the supervisor's protocol, and its graders never answer.
HUNG_GRADERS = """
import os, socket, sys
from vlrl.rewards.grading_process import REPLY, REQUEST
control, held = socket.socket(fileno=int(sys.argv[3])), []
control.sendall(REPLY.pack(os.getpid()))
while (message := socket.recv_fds(control, REQUEST.size, 1))[0]:
    held += message[1]
    control.sendall(REPLY.pack(os.getpid()))
"""


@pytest.fixture
def supervised_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`supervised_by(source)`: pools start that program as their supervisor."""

    def use(source: str) -> None:
        program = tmp_path / "supervisor"
        program.write_text(f"#!{sys.executable}\n{source}")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return use


def test_a_batch_whose_graders_hang_ends_at_its_deadline(
    supervised_by: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised_by(HUNG_GRADERS)
    for name, seconds in {"_START_S": 2.0, "_WAKE_S": 0.4, "_TURN_S": 0.0, "_ASLEEP_S": 0.0}.items():
        monkeypatch.setattr(workers, name, seconds)
    pool = GradingPool(workers=2, timeout_s=0.01, memory_mb=64)
    start = time.monotonic()
    try:
        with pytest.raises(WaitTimeout, match="of 100 gradings, whose graders hang"):
            pool.grade_many([("1", "x")] * 100)
        assert 2.4 < time.monotonic() - start < 15.0  # one after the other they take twenty
    finally:
        start = time.monotonic()
        pool.close()
        assert time.monotonic() - start < 5.0


def test_close_ends_a_start_that_hangs(supervised_by: Callable[[str], None]) -> None:
    supervised_by("import time; time.sleep(600)")
    pool = GradingPool(workers=2, timeout_s=1.0, memory_mb=64)
    errors: list[BaseException] = []

    def grade() -> None:
        with pytest.raises(EngineError, match="grading process did not start") as error:
            pool.grade_many([("1", "x")] * 20)
        errors.append(error.value)

    thread = threading.Thread(target=grade)
    thread.start()
    _wait_until(lambda: "supervisor" in str([p.cmdline() for p in psutil.Process().children()]))
    start = time.monotonic()
    pool.close()
    thread.join(5)
    assert errors and time.monotonic() - start < 5.0


def test_an_answer_that_a_stalled_grader_does_not_take_in_goes_to_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_STALL_S", 1.0)
    before = {p.pid for p in _processes()}
    pool = GradingPool(workers=1, timeout_s=DEADLINE, memory_mb=1024)
    outcomes: list[workers.Outcome] = []
    try:
        pool.grade_many([("1", "x")])
        grader = next(p for p in _processes() if p.pid not in before and p.ppid() != os.getpid())
        grader.suspend()
        long = "5" * 2_000_000  # more than a socket holds
        thread = threading.Thread(target=lambda: outcomes.extend(pool.grade_many([("5", long)])), daemon=True)
        thread.start()
        thread.join(20)
        assert [o.error.split(":")[0] for o in outcomes] == ["timeout"]
        assert not _alive(grader)
    finally:
        pool.close()


def test_no_orphans_when_the_parent_is_killed() -> None:
    code = (
        "import threading, time; from vlrl.rewards.workers import GradingPool\n"
        "pool = GradingPool(2, 60.0, 1024)\n"
        # Started from a thread that ends: the supervisor must outlive the thread, not the process.
        "t = threading.Thread(target=lambda: pool.grade_many([('1', 'x')] * 4)); t.start(); t.join()\n"
        f"assert pool.grade_many([('2x', 'x+x')])[0].equal; print('ready', flush=True)\n"
        f"pool.grade_many([('5', '{BOMB}')] * 2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _wait_until(lambda: not any(map(_alive, children)))
