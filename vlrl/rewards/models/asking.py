"""Threads that wait for an endpoint, and for whom nobody waits."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any


class Askers:
    """`count` threads, started as they are needed.

    A `ThreadPoolExecutor` would keep an interrupted trainer from ending until the last endpoint has answered
    or its deadline has passed; these end with it.
    """

    def __init__(self, count: int) -> None:
        self._count, self._started = count, 0
        self._unfinished = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def submit(self, tasks: Sequence[Callable[[], Any]]) -> tuple[list[Future[Any]], int]:
        """Futures of the tasks, and after how many turns all are done that were ever submitted."""
        futures: list[Future[Any]] = [Future() for _ in tasks]
        with self._lock:
            self._unfinished += len(tasks)
            turns = -(-self._unfinished // self._count)
            while self._started < min(self._count, self._unfinished):
                self._started += 1
                threading.Thread(target=self._run, name="asker", daemon=True).start()
        for future, task in zip(futures, tasks, strict=True):
            future.add_done_callback(self._count_off)
            self._work.put((future, task))
        return futures, turns

    def close(self) -> None:
        """Cancel what nobody has begun, and let the threads end when they are through."""
        while True:
            try:
                item = self._work.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                item[0].cancel()
                item[0].set_running_or_notify_cancel()
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, task = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(task())
            except BaseException as error:  # told to the one who asked
                future.set_exception(error)

    def _count_off(self, _: "Future[Any]") -> None:
        with self._lock:
            self._unfinished -= 1
