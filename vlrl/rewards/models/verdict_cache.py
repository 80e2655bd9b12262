"""Verdicts by the content that was judged, in memory and, for later and for others, in a file.

The file is JSON Lines, appended to under a lock, so processes that share a file system share one. A kill can
leave half a line at most: it is closed by the next who writes, and skipped by all who read.
"""

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

from vlrl.errors import writing


class VerdictCache:
    """Verdicts by key; `path` None keeps them in memory alone. Safe to use from several threads.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._read_to = path, 0
        self._verdicts: dict[str, bool] = {}
        self._lock = threading.Lock()
        if path is not None:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("ab").close()
            self.refresh()

    def __len__(self) -> int:
        return len(self._verdicts)

    def get(self, key: str) -> bool | None:
        """The verdict kept under `key`, None where there is none."""
        return self._verdicts.get(key)

    def add(self, key: str, verdict: bool, **notes: Any) -> None:
        """Keep a verdict, and `notes` beside it in the file for people to read. The first of a key stays.

        Raises:
            UserError: the disk is full.
        """
        with self._lock:
            if key in self._verdicts:
                return
            self._verdicts[key] = verdict
            if self._path is not None:
                # Text of models may hold lone surrogates: escaped, they are ASCII like all else here.
                line = json.dumps({"key": key, "correct": verdict, **notes})
                with writing(self._path):
                    _append(self._path, line.encode() + b"\n")

    def refresh(self) -> None:
        """Take up what other processes have added to the file since."""
        if self._path is None:
            return
        with self._lock, self._path.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # somebody is writing it, or was killed at it
                self._read_to += len(line)
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if isinstance(entry, dict) and isinstance(entry.get("correct"), bool):
            self._verdicts.setdefault(str(entry.get("key")), entry["correct"])


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # let go of when it is closed, by a kill too
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)
