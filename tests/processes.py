"""Processes that this one started, found and killed."""

import contextlib
import os
import random
import signal
import threading
from types import TracebackType

import psutil


def descendants(*markers: str) -> list[int]:
    """Process ids below this one whose command line holds one of `markers`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(marker in " ".join(process.cmdline()) for marker in markers):
                found.append(process.pid)
    return found


class Killer:
    """Kills one process at random, again and again, while the `with` block runs; counts them in `kills`."""

    def __init__(self, *markers: str, every_s: float, seed: int = 0) -> None:
        self.kills = 0
        self._markers, self._every_s, self._random = markers, every_s, random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._over.wait(self._every_s * self._random.uniform(0.5, 1.5)):
            found = descendants(*self._markers)
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._random.choice(found), signal.SIGKILL)
                    self.kills += 1
