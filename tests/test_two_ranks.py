"""A whole run on two training ranks, as a launcher starts it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from vlrl.runs.directory import RunDirectory
from vlrl.runs.metrics import read_metrics

ROOT = Path(__file__).parents[1]


def test_two_ranks_train_one_run(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vlrl.cli", "train", "configs/examples/own_data.yaml"]
    command += ["--run-dir", str(tmp_path / "run"), "rl.steps=2", "checkpoint.every=1", "trainer.threads=1"]
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    logs = [(tmp_path / f"{rank}.log").open("w+") for rank in range(2)]
    ranks = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        for rank, log in enumerate(logs)
    ]
    try:
        codes = [rank.wait(timeout=240) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert codes == [0, 0], [Path(log.name).read_text()[-2000:] for log in logs]
    run = RunDirectory.open(tmp_path / "run")
    assert run.state() == "finished"
    assert [line["step"] for line in read_metrics(run.stage("rl").metrics)] == [1, 2]
