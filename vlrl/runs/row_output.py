"""A file of rows that a command writes one by one, in the order of its input, and can go on with."""

import fcntl
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

from vlrl.errors import UserError, writing

Row = dict[str, Any]
T = TypeVar("T")


class RowOutput:
    """`path` as JSONL, a row for each of an input, whose rows have the `ids`; a context manager.

    It has whole rows at any time, whatever kills the process. With `resume` a line that a kill cut short is
    dropped, `keep` is told every row that is there, and those it refuses are done again: into a file beside
    `path`, which takes its place when it has all of them.

    Raises:
        UserError: the file exists (without `resume`), belongs to another input or holds something else; on
            entering, another process is writing it, or it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        ids: Sequence[Any],
        *,
        resume: bool = False,
        keep: Callable[[Row], bool] = lambda row: True,
    ) -> None:
        self._path, self._command, self._ids, self._keep = path, command, ids, keep
        self._scratch = path.with_name(f".{path.name}.retry")
        self._known: list[bool] = []  # of each line that is there, whether it is kept
        self._places: deque[bytes | None] = deque()  # of rows to come, and the lines kept behind them
        self._open = ExitStack()
        with writing(path):
            if path.exists() and not resume:
                raise UserError(
                    f"--out {path}: exists already; add --resume to go on with it, or name another"
                )
            if path.exists() and not path.is_file():
                raise UserError(f"--out {path}: is no file; name one")
            self._size = path.stat().st_size if path.exists() else 0
            self._length = self._read() if path.exists() else 0

    def __enter__(self) -> "RowOutput":
        with writing(self._path), ExitStack() as opened:
            self._file = self._lock(opened.enter_context(open(self._path, "ab")))
            if os.fstat(self._file.fileno()).st_size != self._size:
                raise UserError(f"--out {self._path}: another {self._command} wrote it meanwhile; try again")
            self._file.truncate(self._length)
            if not all(self._known):
                self._file = self._lock(opened.enter_context(open(self._scratch, "wb")))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self._path):
            self._open.close()

    def to_do(self, rows: Iterable[T]) -> Iterator[T]:
        """Those of the input's rows that are to be done, each to be answered by a `write` in their order."""
        retrying = not all(self._known)
        with open(self._path, "rb") as lines:
            for row, kept in zip_longest(rows, self._known):
                if kept is None and retrying:
                    self._put(b"")  # all that were there are done: see `_flush`
                    retrying = False
                line = lines.readline() if kept is not None else b""
                if kept:
                    if retrying:
                        self._put(line)
                    continue
                self._places.append(None)
                assert row is not None  # `_read` has seen that there are no more lines than rows
                yield row
        if retrying:
            self._put(b"")

    def write(self, row: Row) -> None:
        """The answer to the first row that has none yet.

        Raises:
            UserError: the disk is full.
        """
        assert self._places and self._places[0] is None
        self._places[0] = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self._flush()

    def append(self, row: Row) -> None:
        """A row that answers none of the input's.

        Raises:
            UserError: the disk is full.
        """
        self._places.append(None)
        self.write(row)

    def _put(self, line: bytes) -> None:
        self._places.append(line)
        self._flush()

    def _flush(self) -> None:
        with writing(self._path):
            while self._places and (line := self._places[0]) is not None:
                self._places.popleft()
                self._file.write(line)
                if not line:  # the scratch file has every row that was there
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    os.replace(self._scratch, self._path)
            self._file.flush()

    def _lock(self, file: BinaryIO) -> BinaryIO:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--out {self._path}: another {self._command} is writing it; wait for its end"
            ) from None
        return file

    def _read(self) -> int:
        """Look at the rows that are there; their length in bytes, without a line that a kill cut short."""
        length = 0
        with open(self._path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                where = f"--out {self._path}, line {number}"
                try:
                    row = json.loads(line)
                    found = row.get("id")
                    kept = self._keep(row)
                except (ValueError, LookupError, TypeError, AttributeError):
                    raise UserError(f"{where}: not a row that {self._command} wrote") from None
                if number > len(self._ids):
                    raise UserError(f"{where}: the input has no row for it; it belongs to another input")
                expected = self._ids[number - 1]
                if found != expected:
                    raise UserError(
                        f"{where}: has id {found!r} where the input has {expected!r}; it belongs to another "
                        "input"
                    )
                self._known.append(kept)
                length += len(line)
        return length
