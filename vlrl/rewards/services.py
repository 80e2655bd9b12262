"""What verifiers share and a grader owns: grading processes, a sandbox, reward models."""

import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vlrl.config.rewards import RewardConfig
from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError
from vlrl.rewards.workers import GradingPool
from vlrl.sandbox.client import RemoteSandbox
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Judge
from vlrl.sandbox.serve import read_token

if TYPE_CHECKING:  # they bring torch, which most rewards do without
    from vlrl.rewards.models.classic_verifier import ClassicRmVerifier
    from vlrl.rewards.models.cot_verifier import CotRmVerifier

T = TypeVar("T")


class Services:
    """Each is made when a verifier first asks for it; safe to use from several threads.

    `folder` is where a judge keeps its verdicts; without one they are kept in memory alone.
    """

    def __init__(self, config: RewardConfig, sandbox: SandboxConfig, folder: Path | None) -> None:
        self.config = config
        self.pool = GradingPool(config.workers, config.timeout_s, config.memory_mb)
        self._sandbox_config, self._folder = sandbox, folder
        self._sandbox: Judge | None = None
        self._classic_rm: ClassicRmVerifier | None = None
        self._cot_rm: CotRmVerifier | None = None
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._open.callback(self.pool.close)

    def sandbox(self) -> Judge:
        """Where programs are judged: the service at `sandbox_url`, else a sandbox of this process.

        Raises:
            UserError: no address, token or interpreter to use.
            EngineError: the sandbox does not start, or a layer that it must have does not hold.
            WaitTimeout: the service does not answer.
        """
        with self._lock:
            if self._sandbox is None:
                self._sandbox = self._start_sandbox()
                self._open.callback(self._sandbox.close)
            return self._sandbox

    def classic_rm(self) -> "ClassicRmVerifier":
        """The reward model with a value head.

        Raises:
            UserError: the config has none, or its folder holds none.
        """
        from vlrl.rewards.models.classic_verifier import ClassicRmVerifier

        with self._lock:
            if self._classic_rm is None:
                self._classic_rm = ClassicRmVerifier(_configured(self.config.classic_rm, "classic_rm"))
                self._open.callback(self._classic_rm.close)
            return self._classic_rm

    def cot_rm(self) -> "CotRmVerifier":
        """The judge that reasons.

        Raises:
            UserError: the config has none.
        """
        from vlrl.rewards.models.cot_verifier import CotRmVerifier

        with self._lock:
            if self._cot_rm is None:
                self._cot_rm = CotRmVerifier(_configured(self.config.cot_rm, "cot_rm"), self._folder)
                self._open.callback(self._cot_rm.close)
            return self._cot_rm

    def counts(self) -> dict[str, float]:
        """What the reward models have counted since the start, by `NAME/COUNT`."""
        models = {"classic_rm": self._classic_rm, "cot_rm": self._cot_rm}
        return {
            f"{name}/{key}": float(value)
            for name, model in models.items()
            if model is not None
            for key, value in asdict(model.metrics).items()
        }

    def close(self) -> None:
        """End every process."""
        with self._lock:
            self._open.close()

    def _start_sandbox(self) -> Judge:
        url = self.config.sandbox_url
        if url is not None:
            remote = RemoteSandbox(url, read_token(None))
            _ = remote.limits  # asks the server for them, so a wrong address is found here
            return remote
        sandbox = Sandbox(self._sandbox_config)
        try:
            sandbox.start()
        except BaseException:
            sandbox.close()
            raise
        return sandbox


def _configured(section: T | None, name: str) -> T:
    if section is None:
        raise UserError(f"verifier '{name}' needs the section 'rewards.{name}' in the config")
    return section
