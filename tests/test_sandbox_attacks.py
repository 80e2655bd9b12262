"""Hostile programs: nothing gets out, the verdict is right, and the next program is unharmed."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlrl
from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import EngineError
from vlrl.sandbox.compare import same_text
from vlrl.sandbox.interpreter import find_interpreter
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Execution, Program
from vlrl.sandbox.programs import Test as Case
from vlrl.sandbox.worker import Job, sealed

from .sandbox_attacks.attack import LIMITS, Attack
from .sandbox_attacks.harness import THREADS
from .sandbox_attacks.host import HARMLESS, Host, host, run
from .sandbox_attacks.suite import ALL, ISOLATION

CONFIG = SandboxConfig(workers=1, rerun_timeouts=False, threads=THREADS)


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that every user can read, with the package and these tests in it."""
    folder = Path(tempfile.mkdtemp(prefix="vlrl-attacks-"))
    folder.chmod(0o755)
    leave_out = shutil.ignore_patterns("__pycache__", ".*")
    for package in (Path(vlrl.__file__).parent, Path(__file__).parent / "sandbox_attacks"):
        place = folder / package.relative_to(Path(__file__).parents[1])
        shutil.copytree(package, place, ignore=leave_out)
    (folder / "tests" / "__init__.py").touch()
    (folder / "open").mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(CONFIG) as made:
        try:
            made.start()
        except EngineError as error:
            if "refuses to run" not in str(error):
                raise
            pytest.skip(str(error))
        yield made


@pytest.fixture(scope="module")
def outside(sandbox: Sandbox, public: Path) -> Iterator[Host]:
    layers = sandbox.start()
    folder = public / "open" / "here"
    folder.mkdir()
    with host(folder, CONFIG.uid if "uid" in layers else -1, layers, THREADS) as made:
        yield made


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
def test_the_sandbox_holds_against(attack: Attack, sandbox: Sandbox, outside: Host) -> None:
    if attack.x86_64 and platform.machine() != "x86_64":
        pytest.skip("it names system calls of x86-64")
    assert run(attack, sandbox, outside) == []


def test_programs_on_two_workers_have_their_threads_each(sandbox: Sandbox) -> None:
    code = f"""
import threading, time
threading.stack_size(64 << 10)
threads = [threading.Thread(target=time.sleep, args=(0.3,)) for _ in range({THREADS})]
for thread in threads: thread.start()
print("started")
"""
    program = Program(code=code, tests=[Case(input="", output="started")], limits=LIMITS)
    with Sandbox(CONFIG.model_copy(update={"workers": 2})) as two:
        assert all(report.passed for report in two.judge([program] * 4))


def test_packages_below_tmp_are_found_inside(sandbox: Sandbox, public: Path) -> None:
    folder = public / "packages"
    folder.mkdir()
    folder.joinpath("late_import.py").write_text("value = 7\n")
    with Sandbox(CONFIG.model_copy(update={"search": (str(folder),)})) as other:
        layers = other.start()
        assert "mount" not in layers or "root" in layers
        assert other.execute("import late_import; print(late_import.value)").output == "7\n"


def test_replies_stay_with_their_programs_when_the_caller_fails(sandbox: Sandbox) -> None:
    worker = sandbox._lanes[0]._worker
    code = sealed("code", b"print(input())")

    def fail(execution: Execution) -> bool:
        raise KeyError(execution.output)

    try:
        jobs = [Job(code=code, input=str(i).encode(), limits=LIMITS) for i in range(12)]
        worker.run(
            jobs[:6], lambda execution: False
        )  # quick ones: from here on several are under way at a time
        with pytest.raises(KeyError) as kept:  # which keeps the frames alive
            worker.run(jobs, lambda execution: execution.output == "5\n" and fail(execution))
        printed: list[str] = []

        def keep(execution: Execution) -> bool:
            printed.append(execution.output)
            return False

        worker.run(jobs, keep)
        assert printed == [f"{i}\n" for i in range(12)]
        assert kept.value.args == ("5\n",)
    finally:
        os.close(code)


def test_a_lost_zygote_is_replaced_and_the_program_tried_again(sandbox: Sandbox) -> None:
    process = sandbox._lanes[0]._worker._process
    assert process is not None
    killer = threading.Timer(0.2, process.kill)
    killer.start()
    program = Program(
        code="import time; time.sleep(0.5); print(6)", tests=[Case(input="", output="6")], limits=LIMITS
    )
    assert sandbox.judge([program, HARMLESS])[0].passed
    assert sandbox._lanes[0]._worker._process is not process


def test_programs_are_the_first_to_go_where_the_machines_memory_runs_out(sandbox: Sandbox) -> None:
    sandbox.start()
    process = sandbox._lanes[0]._worker._process
    assert process is not None
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"


def test_reports_do_not_keep_megabytes_of_output(sandbox: Sandbox) -> None:
    program = Program(code="print('x' * 900000)", tests=[Case(input="", output="x" * 900000)], limits=LIMITS)
    (report,) = sandbox.judge([program])
    (result,) = report.tests
    assert report.passed and result.execution is not None and len(result.execution.output) == 4000
    assert len(sandbox.execute(program.code).output) == 900001


def test_comparing_megabytes_of_words_takes_no_megabytes() -> None:
    for printed in ("1 " * (4 << 20), "1\n" * (4 << 20)):
        tracemalloc.start()
        assert not same_text("1 2\n3", printed) and not same_text("1 2", printed)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32 << 20
    assert same_text("1 2.50\nab ", " 1.0 \t2.5\nab\n") and not same_text("1 2", "1 2 3")


def test_the_interpreters_prefix_is_not_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 0, stdout='[3, 12, "/home/someone/lib/python3.12"]')
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setattr("vlrl.sandbox.interpreter.readable_by_all", lambda _: True)
    assert find_interpreter(SandboxConfig(python=sys.executable))[1] == ["/home/someone/lib"]


def test_the_suite_is_large_and_its_names_differ() -> None:
    assert len({attack.name for attack in ALL}) == len(ALL) >= 60


def _harness(public: Path, mode: str, **environment: str) -> dict:
    python, _ = find_interpreter(SandboxConfig())
    folder = Path(tempfile.mkdtemp(dir=public / "open"))
    folder.chmod(0o777)
    command = [sys.executable, "-m", "tests.sandbox_attacks.harness", mode, str(folder), python]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(public), **environment}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, cwd=public, env=environment, check=False
    )
    if "max_user_namespaces" in done.stderr or "unshare: " in done.stderr:
        pytest.skip("user namespaces are refused here already, or cannot be")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_it_holds_for_a_user_without_powers(sandbox: Sandbox, public: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("the tests above ran as a user without powers")
    answer = _harness(public, "user")
    assert answer["found"] == {} and answer["count"] == len(ALL)
    assert answer["uid"] != 0 and "uid" not in answer["layers"]


def test_landlock_the_filter_and_limits_hold_alone(sandbox: Sandbox, public: Path) -> None:
    answer = _harness(public, "no-namespaces")
    assert [layer.split()[0] for layer in answer["layers"]] == ["landlock", "seccomp"]
    assert answer["found"] == {} and answer["count"] == len(ISOLATION)


def test_they_hold_where_root_is_refused_namespaces(sandbox: Sandbox, public: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root")
    answer = _harness(public, "uid")
    assert [layer.split()[0] for layer in answer["layers"]] == ["uid", "landlock", "seccomp"]
    assert answer["found"] == {} and answer["count"] == len(ISOLATION)


@pytest.mark.parametrize(
    ("mode", "missing"),
    [("no-landlock", "landlock"), ("no-seccomp", "seccomp"), ("no-namespaces", "network")],
)
def test_it_refuses_to_run_without_a_layer_that_is_required(public: Path, mode: str, missing: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("system calls are hidden by their number on x86-64")
    required = {"REQUIRE_NETWORK": "1"} if missing == "network" else {}
    answer = _harness(public, mode, **required)
    assert answer["error"].startswith(f"the sandbox refuses to run: {missing} not available here (active: ")
