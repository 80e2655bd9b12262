"""The order in which rows are visited: a function of (seed, position), so resuming is knowing a number."""

import random
from typing import Any

from vlrl.seeds import derive_seed


class VisitOrder:
    """Endless passes over `count` rows, each a fresh seeded permutation. `position` is the whole state."""

    def __init__(self, count: int, seed: int, purpose: str) -> None:
        assert count > 0
        self.count, self.seed, self.purpose = count, seed, purpose
        self.position = 0
        self._epoch = -1
        self._permutation: list[int] = []

    def take(self, n: int) -> list[int]:
        """The next `n` row indices; a batch may span two passes."""
        out = [self._at(self.position + i) for i in range(n)]
        self.position += n
        return out

    def state(self) -> dict[str, Any]:
        return {"position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        self.position = state["position"]

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = list(range(self.count))
            random.Random(derive_seed(self.seed, self.purpose, "epoch", epoch)).shuffle(self._permutation)
        return self._permutation[place]
