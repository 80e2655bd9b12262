"""Functions called in threads, each call with a deadline of its own.

A thread cannot be stopped: one whose call outlives its deadline is left behind and another takes its place.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Result = Any
"""What the call gave, the exception that it raised, or a `TimeoutError`."""


def call_all(
    function: Callable[[Any], Any], items: Sequence[Any], timeout_s: float, workers: int
) -> list[Result]:
    """`function` of each item, in their order, `workers` at a time; raises nothing.

    The deadline of a call is `timeout_s` seconds from its own start.
    """
    calls = _Calls(function, items, timeout_s)
    for _ in range(min(workers, len(items))):
        calls.start_thread()
    return calls.wait()


class _Calls:
    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any], timeout_s: float) -> None:
        self._function, self._timeout_s = function, timeout_s
        self._items: Iterator[tuple[int, Any]] = iter(list(enumerate(items)))
        self._results: dict[int, Result] = {}
        self._started: dict[int, float] = {}  # of the calls under way
        self._count = len(items)
        self._changed = threading.Condition()

    def start_thread(self) -> None:
        threading.Thread(target=self._work, name="user reward", daemon=True).start()

    def wait(self) -> list[Result]:
        with self._changed:
            while len(self._results) < self._count:
                now = time.monotonic()
                late = [i for i, started in self._started.items() if now - started >= self._timeout_s]
                for index in late:
                    del self._started[index]
                    self._results[index] = TimeoutError(f"not done after {self._timeout_s:g} s")
                    self.start_thread()
                if not late:
                    first = min(self._started.values(), default=now)
                    self._changed.wait(max(0.0, first + self._timeout_s - now))
            return [self._results[index] for index in range(self._count)]

    def _work(self) -> None:
        while True:
            with self._changed:
                index, item = next(self._items, (None, None))
                if index is None:
                    return
                self._started[index] = time.monotonic()
                self._changed.notify()
            try:
                result = self._function(item)
            except BaseException as error:  # a user's sys.exit included: whoever asked is told
                result = error
            with self._changed:
                if self._started.pop(index, None) is None:
                    return  # given up; another thread took this one's place
                self._results[index] = result
                self._changed.notify()
