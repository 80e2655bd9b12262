"""The parent's end of the process that a classic reward model scores in."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from vlrl.config.reward_models import ClassicRmConfig
from vlrl.errors import EngineError, UserError, WaitTimeout
from vlrl.rewards.models.classic_process import CONFIG_VARIABLE
from vlrl.rewards.models.classic_settings import RewardInput
from vlrl.rewards.workers import connection_pair

Score = float | str
_STALL_S = 30.0  # of a process that has begun to read or write a message
_END_S = 10.0


class ClassicProcess:
    """Starts the process when it is first needed, and again when it is gone; one request at a time.

    `starts` counts how often.
    """

    def __init__(self, config: ClassicRmConfig) -> None:
        self.starts = 0
        self._config = config
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def score(self, given: Sequence[RewardInput]) -> list[Score]:
        """The probability of "correct" of each, or why there is none (`timeout`, `died`, `too_long`, ...).

        Raises:
            UserError: the model cannot be loaded.
            EngineError: the process ends while starting.
            WaitTimeout: it is not ready after `startup_timeout_s`.
        """
        scores: list[Score] = ["died: the reward model's process ended"] * len(given)
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._end()  # it died while idle, which says nothing of these
            connection = self._connection or self._start()
            try:
                connection.send_bytes(json.dumps([asdict(one) for one in given]).encode())
                while received := self._receive(connection, self._config.timeout_s):
                    for place, score in received:
                        scores[place] = score
            except (OSError, EOFError) as error:
                self._end()
                if isinstance(error, TimeoutError):
                    why = f"timeout: nothing scored for {self._config.timeout_s:g} s"
                    scores = [why if isinstance(s, str) and s.startswith("died") else s for s in scores]
        return scores

    def close(self) -> None:
        """End the process at once, whatever it is doing. Safe to call twice."""
        process = self._process
        if process is not None:
            process.kill()  # whoever holds the lock waits for it
        with self._lock:
            self._end()

    def _start(self) -> Connection:
        ours, theirs = connection_pair(_STALL_S)
        with theirs:
            # A session of its own: Ctrl-C reaches the trainer, which then closes this.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vlrl.rewards.models.classic_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {CONFIG_VARIABLE: self._config.model_dump_json()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection = ours
        self.starts += 1
        try:
            greeting = self._receive(ours, self._config.startup_timeout_s)
        except (OSError, EOFError) as error:
            self._end()
            if isinstance(error, TimeoutError):
                seconds = self._config.startup_timeout_s
                raise WaitTimeout(f"the reward model {self._config.path} to load", seconds) from None
            raise EngineError(
                f"the process of the reward model {self._config.path} ended while starting; "
                "see its message above"
            ) from None
        if "refused" in greeting:
            self._end()
            raise UserError(greeting["refused"])
        return ours

    @staticmethod
    def _receive(connection: Connection, seconds: float) -> Any:
        if not connection.poll(seconds):
            raise TimeoutError
        return json.loads(connection.recv_bytes())

    def _end(self) -> None:
        connection, process, self._connection, self._process = self._connection, self._process, None, None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            process.wait(_END_S)
