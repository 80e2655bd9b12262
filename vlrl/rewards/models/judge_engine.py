"""A judge's own vLLM, served on a Unix socket beside the run: no port to collide, no stranger to ask it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from vlrl.config.reward_models import CotRmConfig
from vlrl.errors import EngineError, WaitTimeout
from vlrl.sampling.build import check_installed
from vlrl.sampling.vllm_start import EngineStart, engine_arguments, engine_variables

MODEL_NAME = "judge"
URL = "http://judge/v1"
_POLL_S = 0.5
_END_S = 10.0


class JudgeEngine:
    """vLLM on `config.path`, started when it is first needed and again when it is gone.

    `folder` takes `engine.log`. The engine is killed with this process, however that ends.
    """

    def __init__(self, config: CotRmConfig, folder: Path) -> None:
        check_installed("vllm")
        self._config, self._log = config, folder / "engine.log"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        # Not in `folder`: the path of a socket may have 107 characters.
        self._place = Path(tempfile.mkdtemp(prefix="vlrl-judge-"))
        self.socket = self._place / "socket"

    def ensure(self) -> None:
        """Have it run.

        Raises:
            EngineError: it ends while starting; names the log.
            WaitTimeout: it is not up after `engine.startup_timeout_s`.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def check(self) -> None:
        """
        Raises:
            EngineError: it has ended; names the log.
        """
        process = self._process
        if process is None or process.poll() is not None:
            raise EngineError(f"the judge's vLLM ended (see {self._log})")

    def close(self) -> None:
        """End it at once. Safe to call twice."""
        with self._lock:
            self._end()
            shutil.rmtree(self._place, ignore_errors=True)

    def _start(self) -> None:
        assert self._config.path is not None
        self._end()
        self.socket.unlink(missing_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        start = EngineStart(
            self._config.path,
            self._config.engine,
            trainer_dtype="bfloat16",
            max_model_len=self._config.context_length,
            seed=0,
            revision=self._config.revision,
        )
        arguments = engine_arguments(start, takes_images=self._config.images)
        del arguments["weight_transfer_config"], arguments["use_tqdm_on_load"]
        arguments |= {
            "served_model_name": MODEL_NAME,
            "uds": str(self.socket),
            "disable_uvicorn_access_log": True,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vlrl.rewards.models.judge_process", str(self._log.resolve())),
                    *_flags(arguments),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=os.environ | engine_variables(start, self._log),
                start_new_session=True,  # Ctrl-C reaches the trainer, which then closes this
            )
        try:
            self._wait_until_up(self._process)
        except BaseException:
            self._end()
            raise

    def _wait_until_up(self, process: "subprocess.Popen[bytes]") -> None:
        seconds = self._config.engine.startup_timeout_s
        deadline = time.monotonic() + seconds
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket))) as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise EngineError(
                        f"the judge's vLLM did not start (exit code {process.returncode}; see {self._log})"
                    )
                try:
                    if client.get("http://judge/health", timeout=5.0).is_success:
                        return
                except httpx.TransportError:
                    pass  # not yet
                time.sleep(_POLL_S)
        raise WaitTimeout(f"the judge's vLLM to start (see {self._log})", seconds)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            assert process.stdin is not None
            process.stdin.close()
            process.wait(_END_S)


def _flags(arguments: dict[str, Any]) -> list[str]:
    """vLLM's arguments as its command line takes them."""
    flags = []
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            flags.append(f"--{option}" if value else f"--no-{option}")
        else:
            flags += [f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return flags
