"""The metrics of a stage as JSON lines, mirrored to TensorBoard.

What follows from the config and the seed goes to `metrics.jsonl`, what the clock says to
`timings.jsonl` (with `time`, seconds since 1970, when the line was written): so the metrics of a resumed
run equal those of an uninterrupted one byte for byte. A non-finite value is written as null and named
under `non_finite`, since JSON has no NaN.
"""

import errno
import json
import math
import numbers
import os
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from vlrl.errors import UserError
from vlrl.runs.directory import StageDirectory
from vlrl.runs.files import disk_errors, plain, write_text

Values = Mapping[str, float | int | str | bool | None]


class MetricsLog:
    """Appends one line a step to each of a stage's two files.

    Args:
        stage: where the files lie.
        resume_step: the checkpoint's step when resuming: lines after it are dropped, since those steps
            are about to be done again. None starts the stage anew and drops every line.
        tensorboard: mirror numbers to the stage's `tensorboard/` (imports torch).

    Raises:
        UserError: the disk is full, or an existing file is damaged elsewhere than in its last line.
    """

    def __init__(self, stage: StageDirectory, resume_step: int | None, tensorboard: bool = True) -> None:
        stage.root.mkdir(parents=True, exist_ok=True)
        for path in (stage.metrics, stage.timings):
            _drop_after(path, resume_step)
        # Unbuffered: a line is one write, so a kill cuts at most the last and close has nothing to write.
        self._metrics = stage.metrics.open("ab", buffering=0)
        self._timings = stage.timings.open("ab", buffering=0)
        self._writer = _summary_writer(stage.tensorboard, resume_step) if tensorboard else None

    def log(self, step: int, metrics: Values, timings: Values | None = None) -> None:
        """Write one step's values; `metrics` must not depend on the clock or the machine's load.

        Raises:
            UserError: the disk is full.
        """
        _append(self._metrics, step, metrics)
        _append(self._timings, step, {"time": round(time.time(), 3)} | dict(timings or {}))
        if self._writer is not None:
            for prefix, values in (("", metrics), ("time/", timings or {})):
                for name, value in values.items():
                    if isinstance(value, numbers.Real) and not isinstance(value, bool):
                        self._writer.add_scalar(prefix + name, float(value), step)

    def sync(self) -> None:
        """Flush to the disk: call it before a checkpoint is committed, so that none outlives its lines."""
        for file in (self._metrics, self._timings):
            with disk_errors(Path(file.name)):
                os.fsync(file.fileno())
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        self._metrics.close()
        self._timings.close()
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; none if it does not exist. A last line cut by a kill is left out.

    Raises:
        UserError: another line is not JSON.
    """
    if not path.is_file():
        return []
    # Whatever follows the last newline is a line still being written, or one cut by a kill.
    *lines, _ = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append({"step": int(row["step"])} | row)
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} line {number}: not a metrics line; remove it") from None
    return rows


def _append(file: FileIO, step: int, values: Values) -> None:
    assert not {"step", "non_finite"} & values.keys(), "the log writes 'step' and 'non_finite' itself"
    row: dict[str, Any] = {"step": step} | plain(dict(values))
    bad = {
        name: str(value)
        for name, value in values.items()
        if isinstance(value, numbers.Real) and not math.isfinite(value)
    }
    if bad:
        row["non_finite"] = bad
    line = (json.dumps(row) + "\n").encode("ascii")
    with disk_errors(Path(file.name)):
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, "line cut short")


def _drop_after(path: Path, step: int | None) -> None:
    if not path.exists():
        return
    kept = "".join(
        json.dumps(row) + "\n" for row in read_metrics(path) if step is not None and row["step"] <= step
    )
    if kept.encode("ascii") != path.read_bytes():
        write_text(path, kept)


def _summary_writer(folder: Path, resume_step: int | None) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    # TensorBoard forgets what earlier files of the folder hold from this step on.
    return SummaryWriter(str(folder), purge_step=0 if resume_step is None else resume_step + 1)
