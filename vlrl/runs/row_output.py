"""A file of rows that a command writes one by one, in the order of its input, and can go on with."""

import fcntl
import json
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from vlrl.errors import UserError, writing


class RowOutput:
    """`path` as JSONL; a context manager. It has whole rows at any time, whatever kills the process.

    `done` are the rows that were there before. With `resume` a line that a kill cut short is dropped.

    Raises (on entering):
        UserError: the file exists (without `resume`), holds something else, is being written by another
            process, or cannot be written.
    """

    def __init__(self, path: Path, command: str, *, resume: bool) -> None:
        self._path, self._command, self._resume = path, command, resume
        self.done: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None

    def __enter__(self) -> "RowOutput":
        with writing(self._path):
            if self._path.exists() and not self._resume:
                raise UserError(
                    f"--out {self._path}: exists already; add --resume to go on with it, or name another"
                )
            if self._path.exists() and not self._path.is_file():
                raise UserError(f"--out {self._path}: is no file; name one")
            length = self._read()
            self._file = open(self._path, "ab")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"--out {self._path}: another {self._command} is writing it; wait for its end"
                ) from None
            self._file.truncate(length)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with writing(self._path):
                self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row.

        Raises:
            UserError: the disk is full.
        """
        assert self._file is not None
        with writing(self._path):
            self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._file.flush()

    def _read(self) -> int:
        """Fill `done`; the length in bytes of its rows."""
        length = 0
        if not self._path.exists():
            return length
        with open(self._path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise UserError(
                        f"--out {self._path}, line {number}: not a row that {self._command} wrote"
                    )
                self.done.append(row)
                length += len(line)
        return length
