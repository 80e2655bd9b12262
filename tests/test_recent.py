"""The few pixel tensors that are kept."""

import threading
from functools import partial

import torch

from vlrl.policy.recent import Inputs, RecentImages


def _of(count: int, value: float = 0.0) -> Inputs:
    return {"pixel_values": torch.full((count,), value), "image_grid_thw": torch.ones(1, dtype=torch.int64)}


def test_an_image_is_made_once_while_it_is_kept() -> None:
    made: list[str] = []
    recent = RecentImages(max_bytes=100)  # two of 10 floats and an int64: 48 bytes each

    def get(name: str) -> Inputs:
        return recent.get(name, lambda: made.append(name) or _of(10))  # type: ignore[func-returns-value]

    assert get("a") is get("a")
    get("b")
    get("a")  # now b is the least recently used
    get("c")
    get("a")
    assert made == ["a", "b", "c"]
    get("b")
    assert made == ["a", "b", "c", "b"]


def test_what_is_too_large_is_not_kept_and_drives_nothing_into_the_books() -> None:
    recent = RecentImages(max_bytes=100)
    kept = recent.get("a", lambda: _of(10))
    large = [recent.get("large", partial(_of, 1000, i)) for i in (1.0, 2.0)]
    assert [float(inputs["pixel_values"][0]) for inputs in large] == [1.0, 2.0]
    assert recent.get("a", lambda: _of(10)) is kept


def test_threads_that_make_the_same_image_count_it_once() -> None:
    recent, barrier = RecentImages(max_bytes=100), threading.Barrier(4)

    def make() -> Inputs:
        barrier.wait(10)
        return _of(10)

    threads = [threading.Thread(target=recent.get, args=("a", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    kept = recent.get("b", lambda: _of(10)), recent.get("a", lambda: _of(10))
    assert kept == (recent.get("b", lambda: _of(1)), recent.get("a", lambda: _of(1)))
