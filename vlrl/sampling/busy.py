"""How long an engine has had work."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class BusyClock:
    """Seconds in which at least one piece of work was going on, on one thread."""

    def __init__(self) -> None:
        self._running = 0
        self._since = 0.0
        self._seconds = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around one piece of work."""
        if self._running == 0:
            self._since = time.monotonic()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._seconds += time.monotonic() - self._since

    @property
    def seconds(self) -> float:
        return self._seconds + (time.monotonic() - self._since if self._running else 0.0)
