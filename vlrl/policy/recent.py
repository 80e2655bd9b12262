"""Pixel tensors of the images seen last: sampler and trainer need the same ones within a step."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import torch

Inputs = dict[str, torch.Tensor]


class RecentImages:
    """Model inputs by content hash, the least recently used forgotten beyond `max_bytes`.

    What is larger than that by itself is made each time. Safe to use from several threads; callers must
    not write to what they get.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[str, Inputs] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: str, make: Callable[[], Inputs]) -> Inputs:
        """The inputs kept under `sha256`, else those that `make` returns."""
        with self._lock:
            kept = self._kept.get(sha256)
            if kept is not None:
                self._kept.move_to_end(sha256)
                return kept
        made = make()
        with self._lock:
            if sha256 not in self._kept and _size(made) <= self._max_bytes:
                self._kept[sha256] = made
                self._bytes += _size(made)
            while self._bytes > self._max_bytes:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return made


def _size(inputs: Inputs) -> int:
    return sum(value.nbytes for value in inputs.values())
