"""A trainer that is killed takes its engine with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

HOLD_AN_ENGINE = """
import sys, time
import psutil
from vlrl.config.sampling import SamplingConfig
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.vllm_sampler import VllmSampler
from vlrl.sampling.vllm_start import EngineStart

if __name__ == "__main__":
    path, logs = sys.argv[1:]
    start = EngineStart(path, SamplingConfig(kv_cache_gb=0.1), "float32", max_model_len=128, seed=0)
    sampler = VllmSampler(start, PolicyProcessor.load(path), logs)
    print("pids", *(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    time.sleep(600)
"""


@pytest.mark.vllm
def test_a_killed_trainer_leaves_no_engine_behind(build_model: Callable[..., Path], tmp_path: Path) -> None:
    script = tmp_path / "hold.py"
    script.write_text(HOLD_AN_ENGINE)
    command = [sys.executable, str(script), str(build_model("qwen3")), str(tmp_path)]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    line = next(line for line in trainer.stdout if line.startswith("pids"))
    engine = [int(pid) for pid in line.split()[1:]]
    assert engine
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait(timeout=10)
    deadline = time.monotonic() + 20
    while (left := [pid for pid in engine if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
