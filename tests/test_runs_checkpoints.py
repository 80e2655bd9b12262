"""Checkpoints are whole or absent: on a full disk (a real, tiny one), after a kill, after any failure."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlrl.errors import UserError
from vlrl.runs.checkpoints import latest_checkpoint, list_checkpoints, remove_leftovers, save_checkpoint
from vlrl.runs.directory import StageDirectory
from vlrl.runs.files import write_text
from vlrl.runs.metrics import MetricsLog, read_metrics


def save(directory: Path, step: int, size: int = 1000, keep: int = 2) -> None:
    with save_checkpoint(directory, step, keep) as scratch:
        (scratch / "nested").mkdir()
        (scratch / "nested" / "weights.bin").write_bytes(bytes([step % 256]) * size)


def assert_whole(directory: Path, step: int, size: int = 1000) -> None:
    latest = latest_checkpoint(directory)
    assert latest is not None and latest.step == step
    assert (latest.path / "nested" / "weights.bin").read_bytes() == bytes([step % 256]) * size


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting a tiny disk needs root; the RLIMIT_FSIZE test stands in")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_commits_prunes_and_finds_the_latest(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints"
    assert latest_checkpoint(directory) is None
    for step in (5, 10, 1_000_000):
        save(directory, step)
    assert [checkpoint.step for checkpoint in list_checkpoints(directory)] == [10, 1_000_000]
    assert sorted(path.name for path in directory.iterdir()) == ["step_000010", "step_1000000"]
    assert_whole(directory, 1_000_000)


def test_full_disk_leaves_the_previous_one_whole(tiny_disk: Path) -> None:
    directory = tiny_disk / "checkpoints"
    save(directory, 30, size=300_000, keep=1)
    with pytest.raises(
        UserError, match=r"disk full while writing .*step_000060; the checkpoint of step 30 is"
    ):
        save(directory, 60, size=900_000, keep=1)
    assert_whole(directory, 30, 300_000)
    assert [path.name for path in directory.iterdir()] == ["step_000030"]
    save(directory, 90, size=300_000, keep=1)  # the failed one left no waste behind
    assert_whole(directory, 90, 300_000)


@pytest.mark.parametrize("library", ["torch", "safetensors"])
def test_full_disk_is_recognised_behind_the_libraries_that_hide_it(tiny_disk: Path, library: str) -> None:
    import safetensors.torch
    import torch

    tensors = {"w": torch.zeros(1_000_000)}
    save(tiny_disk, 1)
    with pytest.raises(UserError, match="disk full"), save_checkpoint(tiny_disk, 2, keep=1) as scratch:
        if library == "torch":
            torch.save(tensors, scratch / "state.pt")
        else:
            safetensors.torch.save_file(tensors, scratch / "model.safetensors")
    assert_whole(tiny_disk, 1)


def test_replacing_a_file_on_a_full_disk_keeps_the_old(tiny_disk: Path) -> None:
    path = tiny_disk / "report.json"
    write_text(path, "old")
    with pytest.raises(UserError, match=r"disk full while writing .*report.json; free space and resume"):
        write_text(path, "x" * 2_000_000)
    assert path.read_text() == "old" and list(tiny_disk.iterdir()) == [path]


def test_metrics_on_a_full_disk_end_in_one_sentence_and_resume(tiny_disk: Path) -> None:
    stage = StageDirectory(tiny_disk / "rl")
    filler = tiny_disk / "filler"
    filler.write_bytes(bytes(900_000))
    with (
        pytest.raises(UserError, match=r"disk full while writing .*\.jsonl; free space and resume"),
        MetricsLog(stage, None, tensorboard=False) as log,
    ):
        for step in range(10_000):
            log.log(step, {"loss": 0.5, "note": "x" * 200})
    filler.unlink()
    steps = [row["step"] for row in read_metrics(stage.metrics)]
    assert steps == list(range(len(steps))) and len(steps) > 50
    with MetricsLog(stage, steps[-2], tensorboard=False) as log:
        log.log(steps[-1], {"loss": 0.5})
    assert [row["step"] for row in read_metrics(stage.metrics)] == steps


def test_a_file_size_limit_counts_as_a_full_disk(tmp_path: Path) -> None:
    save(tmp_path, 1)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(UserError, match=r"disk full .* step 1 is intact"):
            save(tmp_path, 2, size=500_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert_whole(tmp_path, 1)


def test_other_failures_clean_up_and_keep_their_own_type(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(ZeroDivisionError) as caught, save_checkpoint(tmp_path, 2, keep=2) as scratch:
        (scratch / "half").write_text("half")
        _ = 1 / 0
    assert "the checkpoint of step 1 is intact" in caught.value.__notes__[0]
    with pytest.raises(UserError, match=r"cannot write .*step_000002 .*Permission denied"):  # noqa: SIM117
        with save_checkpoint(tmp_path, 2, keep=2):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]


def test_first_save_failing_says_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no earlier checkpoint"):  # noqa: SIM117
        with save_checkpoint(tmp_path, 2, keep=2):
            raise OSError(errno.ENOSPC, "full")


def test_a_step_is_never_committed_twice(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(AssertionError):
        save(tmp_path, 1)


def test_kill_during_a_save(tmp_path: Path) -> None:
    save(tmp_path, 30)
    program = (
        "import sys, time; from pathlib import Path\n"
        "from vlrl.runs.checkpoints import save_checkpoint\n"
        "with save_checkpoint(Path(sys.argv[1]), 60, keep=1) as scratch:\n"
        "    (scratch / 'half').write_text('half'); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    half = tmp_path / ".saving_step_000060" / "half"
    deadline = time.monotonic() + 20
    while not half.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait(timeout=20)
    assert half.exists()
    assert_whole(tmp_path, 30)
    (tmp_path / ".removing_step_000001").mkdir()
    assert len(remove_leftovers(tmp_path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step_000030"]
