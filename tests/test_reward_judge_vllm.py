"""The chain-of-thought judge on a vLLM of its own, with a random model: it has nothing to say."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import ModelBuilder
from vlrl.config.reward_models import CotRmConfig, JudgeEngineConfig
from vlrl.errors import EngineError, WaitTimeout
from vlrl.images import ImageRef
from vlrl.rewards.models.cot_verifier import CotRmVerifier
from vlrl.rewards.verifier import Submission
from vlrl.trajectory import Prompt

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

ENGINE = JudgeEngineConfig(kv_cache_gb=0.1, threads=1, dtype="float32", startup_timeout_s=180)
FORCED = {"structured_outputs": {"choice": ['{"correct": true}', '{"correct": false}']}}


def config(path: Path, engine: JudgeEngineConfig = ENGINE, **settings: object) -> CotRmConfig:
    values = {"context_length": 4096, "max_tokens": 48, "timeout_s": 120} | settings
    return CotRmConfig(path=str(path), engine=engine, **values)


def submission(answer: str, images: list[ImageRef]) -> Submission:
    question = "<image>" * len(images) + "How many squares are there?"
    prompt = Prompt("row", [{"role": "user", "content": question}], images, "cot_rm", "7")
    return Submission(prompt, answer, answer)


def test_a_judge_that_talks_nonsense_is_an_error_and_one_that_is_forced_gives_verdicts(
    build_model: ModelBuilder, draw_image: Callable[..., ImageRef], tmp_path: Path
) -> None:
    model = build_model("qwen3_vl")
    given = [submission(str(i), [draw_image(i)] * (i % 3)) for i in range(6)]
    nonsense = CotRmVerifier(config(model, images=True), tmp_path)
    verdicts = nonsense.judge(given)
    assert {(v.reward, v.status, v.rule) for v in verdicts} == {(0.0, "grader_error", "no_verdict")}
    assert (nonsense.metrics.reasked, nonsense.metrics.errors) == (6, 6)
    # A prompt beyond the engine's context is refused, and costs its own verdict only.
    long = nonsense.judge([submission("7" * 7000, [])])
    assert long[0].status == "grader_error" and long[0].rule.startswith("refused: ")
    # The engine is killed under a batch, which nobody waits 120 s for, and the next starts another.
    assert nonsense._engine is not None and nonsense._engine._process is not None
    threading.Timer(0.05, nonsense._engine._process.kill).start()
    began = time.monotonic()
    killed = nonsense.judge([submission(str(i), []) for i in range(100, 300)])
    assert time.monotonic() - began < 60 and {v.status for v in killed} <= {"infra_error", "grader_error"}
    assert killed[-1].rule.startswith("judge_failed: the judge's vLLM ended")
    assert nonsense.judge(given[:1])[0].rule == "no_verdict"
    nonsense.close()
    forced = CotRmVerifier(config(model, images=True, request=FORCED), tmp_path)
    verdicts = forced.judge(given)
    forced.close()
    assert {v.rule for v in verdicts} == {"cot_rm"} and forced.metrics.judged == 6
    again = CotRmVerifier(config(model, images=True, request=FORCED), tmp_path)
    assert again.judge(given) == verdicts  # from the file: no engine is started
    again.close()
    assert not [p for p in psutil.Process().children(recursive=True) if "judge_process" in p.cmdline()]


def test_an_engine_that_does_not_start_names_its_log(build_model: ModelBuilder, tmp_path: Path) -> None:
    verifier = CotRmVerifier(config(tmp_path / "nothing"), tmp_path)
    with pytest.raises(EngineError, match=r"the judge's vLLM did not start \(exit code 1; see .*engine\.log"):
        verifier.judge([submission("7", [])])
    verifier.close()
    hasty = CotRmVerifier(config(build_model("qwen3"), JudgeEngineConfig(startup_timeout_s=1)), tmp_path)
    with pytest.raises(WaitTimeout, match="the judge's vLLM to start"):
        hasty.judge([submission("7", [])])
    hasty.close()


HOLD = """
import sys, threading, time
from pathlib import Path
import psutil
from vlrl.config.reward_models import CotRmConfig, JudgeEngineConfig
from vlrl.rewards.models.judge_engine import JudgeEngine
engine = JudgeEngineConfig(kv_cache_gb=0.1, threads=1, dtype="float32")
config = CotRmConfig(path=sys.argv[1], engine=engine, context_length=256, max_tokens=8)
judge = JudgeEngine(config, Path(sys.argv[2]))
thread = threading.Thread(target=judge.ensure)  # as the grader does: the starting thread ends
thread.start()
thread.join()
time.sleep(2)
judge.ensure()
print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
time.sleep(600)
"""


def test_a_killed_trainer_leaves_no_judge_behind(build_model: ModelBuilder, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(build_model("qwen3")), str(tmp_path)]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    engine = [int(pid) for pid in trainer.stdout.readline().split()]
    assert len(engine) >= 2
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait(timeout=10)
    deadline = time.monotonic() + 20
    while left := [pid for pid in engine if _runs(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
