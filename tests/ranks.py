"""Start training processes as a launcher would, and see them end."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_ranks(world: int, *arguments: str, timeout: float = 600) -> None:
    """Run `python -m ARGUMENTS` in `world` processes joined as ranks, and see all of them succeed."""
    for code, output in end_ranks(world, *arguments, timeout=timeout):
        assert code == 0, output[-4000:]


def end_ranks(world: int, *arguments: str, timeout: float = 600) -> list[tuple[int, str]]:
    """Run `python -m ARGUMENTS` in `world` processes joined as ranks: exit code and output of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "DS_ACCELERATOR": "cpu",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]
