"""What the service holds: a bounded number of programs and bytes, and counts of what came of them."""

import time
from collections import Counter
from concurrent.futures import Future

from vlrl.sandbox.programs import Report

_SHORTEST_S, _LONGEST_S = 0.05, 30.0
_SMOOTHING = 0.1


class Places:
    """Places for `programs` programs and `size` bytes of requests. Used by the event loop's thread alone."""

    def __init__(self, programs: int, size: int) -> None:
        self.limit = programs
        self.held = 0
        """Programs that are waiting or running."""
        self.bytes = 0
        """Of the requests that are held."""
        self._size = size
        self._stay_s = 0.0  # from a program's admission to its report, lately
        self._outcomes: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        return self.held >= self.limit

    def take(self, programs: int) -> bool:
        """All of them or none."""
        if self.held + programs > self.limit:
            return False
        self.held += programs
        return True

    def drop(self) -> None:
        """A program leaves before it began."""
        self.held -= 1
        self._counts["dropped"] += 1

    def give(self, future: "Future[Report]", since: float) -> None:
        """A program admitted at `since` (monotonic) is through, or failed."""
        self.held -= 1
        self._stay_s += _SMOOTHING * (time.monotonic() - since - self._stay_s)
        self._counts["programs"] += 1
        if future.exception() is not None:
            self._counts["failures"] += 1
            return
        report = future.result()
        self._counts["passed"] += report.passed
        self._outcomes.update(test.outcome for test in report.tests)

    def take_bytes(self, size: int) -> bool:
        if self.bytes + size > self._size:
            return False
        self.bytes += size
        return True

    def give_bytes(self, size: int) -> None:
        self.bytes -= size

    def refused(self) -> float:
        """Count a refusal; seconds after which there is likely a place again."""
        self._counts["refused"] += 1
        return min(max(self._stay_s / 4, _SHORTEST_S), _LONGEST_S)

    def counters(self) -> dict[str, dict[str, int]]:
        """Programs by what became of them, and tests by outcome, since the start."""
        names = ("programs", "passed", "failures", "dropped", "refused")
        return {"programs": {name: self._counts[name] for name in names}, "tests": dict(self._outcomes)}
