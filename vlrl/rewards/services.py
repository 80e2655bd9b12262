"""What verifiers share and a grader owns: grading processes, a sandbox, the config."""

import threading

from vlrl.config.rewards import RewardConfig
from vlrl.config.sandbox import SandboxConfig
from vlrl.rewards.workers import GradingPool
from vlrl.sandbox.client import RemoteSandbox
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Judge
from vlrl.sandbox.serve import read_token


class Services:
    """Each is made when a verifier first asks for it; safe to use from several threads."""

    def __init__(self, config: RewardConfig, sandbox: SandboxConfig) -> None:
        self.config = config
        self.pool = GradingPool(config.workers, config.timeout_s, config.memory_mb)
        self._sandbox_config = sandbox
        self._sandbox: Judge | None = None
        self._lock = threading.Lock()

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
            return self._sandbox

    def close(self) -> None:
        """End every process."""
        self.pool.close()
        with self._lock:
            if self._sandbox is not None:
                self._sandbox.close()

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
