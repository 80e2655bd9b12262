"""What the grader takes for equal, on pairs written for it, beside math-verify alone."""

import importlib.util
import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vlrl.rewards.workers import GradingPool

_PATH = Path(__file__).parents[1] / "benchmarks" / "math_grading.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("math_grading", _PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(workers=1, timeout_s=5.0, memory_mb=1024)
    yield pool
    pool.close()


def test_more_is_recognised_than_by_math_verify_and_nothing_wrong_passes(
    benchmark: Any, pool: GradingPool, capsys: Any
) -> None:
    rows = benchmark.read_pairs()
    pairs = [(row["gold"], row["answer"]) for row in rows]
    logging.disable(logging.CRITICAL)
    try:
        theirs = [benchmark.math_verify(*pair) for pair in pairs]
    finally:
        logging.disable(logging.NOTSET)
    ours = benchmark.vlrl(pool, pairs)
    sizes = Counter(row["equal"] for row in rows)
    mine, other = (
        Counter(r["equal"] for r, a in zip(rows, side, strict=True) if a) for side in (ours, theirs)
    )
    with capsys.disabled():
        print(f"\nequal {sizes[True]}: vlrl {mine[True]}, math-verify {other[True]}; ", end="")
        print(f"not equal {sizes[False]}: vlrl {mine[False]}, math-verify {other[False]}")
    assert min(sizes[True], sizes[False]) >= 300 and len(set(pairs)) == len(pairs)
    assert mine[True] > other[True] and mine[True] >= 1280
    assert mine[False] <= other[False] and mine[False] == 0


@pytest.mark.parametrize("mark", ["#", "?", "→", "、", "。", "|", "@", "%", "\\hline", "</b>", "\\dots"])
def test_no_last_part_is_picked_out_of_what_cannot_be_read(pool: GradingPool, mark: str) -> None:
    pairs = [
        ("\\frac{1}{2}", f"\\frac{{1}}{{3}} {mark} \\frac{{1}}{{2}}"),
        ("\\frac{1}{2}", f"{mark} \\frac{{1}}{{3}} \\frac{{1}}{{2}}"),
        ("5", f"{mark} 3 5"),
        ("5", "5}3"),
    ]
    assert [outcome.equal for outcome in pool.grade_many(pairs)] == [False] * 4


def test_the_fast_path_agrees_with_math_verify_on_random_numbers(benchmark: Any) -> None:

    rng = random.Random(7)
    pairs = [benchmark.number_pair(rng) for _ in range(2000)]
    differing = [
        (pair, ours, theirs)
        for pair in pairs
        if (ours := benchmark.fast_compare(*pair)[0]) is not (theirs := benchmark.math_verify(*pair))
    ]
    # math-verify rounds a percentage of more than six digits before it compares it with a fraction.
    for (gold, answer), ours, theirs in differing:
        assert (
            ours
            and not theirs
            and ("%" in gold) != ("%" in answer)
            and ("/" in gold + answer or "frac" in gold + answer)
        )
    assert len(differing) < 10
