"""The doctor: every probe answers, none takes the doctor down with it, and the exit code says the verdict."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlrl.doctor.examine import PROBES, Probe, examine, kill_group, run_doctor

MACHINE = ("disk", "memory", "cpu", "shared_memory")
LAYERS = ("user_namespaces", "seccomp", "landlock", "programs")


def probe(name: str) -> Probe:
    return next(p for p in PROBES if p.name == name)


def test_every_probe_has_a_look_and_every_look_a_probe() -> None:
    from vlrl.doctor import engines, packages, resources, sandbox

    looks = {**packages.LOOKS, **engines.LOOKS, **sandbox.LOOKS, **resources.LOOKS}
    assert sorted(looks) == sorted(p.name for p in PROBES)
    assert all(0 < p.deadline <= 300 and p.mend for p in PROBES)


@pytest.mark.parametrize("name", [*MACHINE, *LAYERS, "python", "packages", "torch"])
def test_probes_answer(name: str) -> None:
    finding = examine(probe(name))
    assert finding.state in ("ok", "missing", "broken") and finding.found
    if name in ("python", "packages", "torch"):
        assert finding.state == "ok", finding


def test_landlock_is_judged_by_what_it_stops() -> None:
    code = "from vlrl.doctor.sandbox import landlock; print(landlock().state); open('/etc/passwd')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.stdout.strip() != "ok":
        pytest.skip("no Landlock here")
    assert "PermissionError" in done.stderr


def test_a_probe_that_dies_is_a_broken_row() -> None:
    finding = examine(Probe("no_such_probe", "x", mend="the remedy"))
    assert (finding.state, finding.mend) == ("broken", "the remedy")
    assert "no_such_probe" in finding.found


def test_a_probe_that_hangs_is_ended_at_its_deadline() -> None:
    started = time.monotonic()
    finding = examine(Probe("vllm_sample", "x", deadline=0.5))
    assert time.monotonic() - started < 10
    assert finding.state == "broken" and "no answer" in finding.found


def test_what_a_probe_started_ends_with_it() -> None:
    process = subprocess.Popen(
        ["bash", "-c", "sleep 60 & echo $!; exit 0"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    orphan = Path("/proc", process.stdout.readline().strip())
    process.wait()
    assert orphan.exists()
    kill_group(process)
    deadline = time.monotonic() + 5
    while orphan.exists() and "Z" not in (orphan / "stat").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not orphan.exists() or "Z" in (orphan / "stat").read_text()


def test_exit_code_and_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(probes=(probe("python"), probe("disk"))) == 0
    assert "everything essential works" in capsys.readouterr().out
    optional, essential = (
        Probe("nonsense", "optional thing"),
        Probe("nonsense", "needed thing", essential=True),
    )
    assert run_doctor(probes=(optional,)) == 0
    assert run_doctor(probes=(optional, essential)) == 1
    out = capsys.readouterr().out
    assert "does not work: needed thing" in out and "how to mend" in out


def test_quick_starts_no_engine(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Probe("vllm_sample", "an engine", essential=True, starts_engine=True)
    assert run_doctor(quick=True, probes=(engine,)) == 0
    assert "an engine" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.vllm
def test_doctor_finds_the_essentials_working() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vlrl.cli", "doctor"], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vLLM samples" in done.stdout
