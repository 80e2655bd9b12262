"""Progress with an ETA: a live bar on a terminal, a line now and then everywhere else."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

_WINDOW = 20


class StageProgress:
    """Shows how far a stage is, its headline numbers and when it will end.

    Args:
        stage: its name.
        total: steps of the whole stage; `done` of them were finished before (a resumed run).
        console: where to write; standard output unless given.
        every_s: least seconds between lines where the console is not a terminal. The first and the last
            step always get one.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        stage: str,
        total: int,
        done: int = 0,
        console: Console | None = None,
        every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage, self._total, self._every_s, self._clock = stage, total, every_s, clock
        self._console = console or Console(highlight=False)
        self._times: deque[tuple[float, int]] = deque([(clock(), done)], maxlen=_WINDOW + 1)
        self._last_line: float | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("eta {task.fields[eta]}"),
                TextColumn("[dim]{task.fields[numbers]}", markup=True),
                console=self._console,
            )
            self._task = self._bar.add_task(stage, total=total, completed=done, eta="-", numbers="")

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """`step` steps are finished now; `numbers` are shown in their order."""
        now = self._clock()
        self._times.append((now, step))
        eta = format_seconds(self._eta())
        text = "  ".join(f"{name} {format_number(value)}" for name, value in numbers.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=step, eta=eta, numbers=text)
            return
        due = self._last_line is None or now - self._last_line >= self._every_s
        if due or step >= self._total:
            self._last_line = now
            self.note(f"{self._stage} {step}/{self._total}  eta {eta}  {text}".rstrip())

    def note(self, text: str) -> None:
        """A line of its own, such as a validation result; stays above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _eta(self) -> float | None:
        """Seconds left at the pace of the last steps; None before there is a pace."""
        (start, first), (now, last) = self._times[0], self._times[-1]
        return None if last <= first else (now - start) / (last - first) * (self._total - last)

    def __enter__(self) -> "StageProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def format_seconds(seconds: float | None) -> str:
    """`45 s`, `3:05 min`, `2:14 h`; a dash for unknown."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def format_number(value: Any) -> str:
    """A number in few characters: thousands separated, small ones with three figures."""
    if isinstance(value, (bool, str)) or value is None:
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.01 or abs(value) >= 100 else f"{value:.3f}"
