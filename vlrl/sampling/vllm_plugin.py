"""What vLLM's processes load first, through two entry points.

vLLM asks for platform plugins before it imports torchvision and for general plugins after, so the first
is where a process can still be guarded, and the second where engines are registered.
"""

import ctypes
import os
import signal
import sys

from vlrl.compat import install_torchvision_guard

# "PID PATH": processes other than PID send their output to PATH.
ENGINE_LOG_VARIABLE = "VLRL_ENGINE_LOG"
SHARED_MEMORY_BACKEND = "vlrl_shared_memory"
_PR_SET_PDEATHSIG = 1


def no_platform() -> None:
    """Entry point `vllm.platform_plugins`: offers no platform, but prepares the process in time."""
    install_torchvision_guard()
    parent, _, log = os.environ.get(ENGINE_LOG_VARIABLE, "").partition(" ")
    if log and int(parent) != os.getpid():
        _die_with_parent()
        _redirect_output(log)


def register() -> None:
    """Entry point `vllm.general_plugins`: names our weight transfer. May be called more than once."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    # The factory refuses a second registration and offers no query but this mapping.
    if SHARED_MEMORY_BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(
            SHARED_MEMORY_BACKEND, "vlrl.sampling.weight_transfer", "SharedMemoryEngine"
        )


def _die_with_parent() -> None:
    """A trainer that is killed must not leave engines behind: they would go on spinning on its cores."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _redirect_output(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
