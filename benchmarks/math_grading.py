"""Grading mathematics beside math-verify: what each accepts of a written set, and pairs a second.

    python benchmarks/math_grading.py [--rounds 5]

math-verify runs in this process, as its documentation has it: gold and answer boxed, LaTeX and expressions
extracted, strings too where the gold is a choice letter. Every timed pair is new to both sides, since
math-verify caches what it has parsed; rounds alternate between the sides. vlrl's expressions go through one
grading process, in batches of 200.
"""

import argparse
import json
import logging
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify
from rich.console import Console
from rich.table import Table

from vlrl.rewards.fast_path import fast_compare
from vlrl.rewards.verifiers import MathVerifier, Submission
from vlrl.rewards.workers import GradingPool, Pair
from vlrl.trajectory import Prompt

PAIRS = Path(__file__).parents[1] / "tests" / "data" / "math_pairs.jsonl"
BATCH = 200
_FORMULAS = [LatexExtractionConfig(), ExprExtractionConfig()]
_LETTERS = [StringExtractionConfig(strings=tuple("ABCDEFGH"), lowercase=False), *_FORMULAS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    logging.disable(logging.CRITICAL)
    pool = GradingPool(workers=1, timeout_s=5.0, memory_mb=1024)
    try:
        _print_accepted(pool)
        _print_numbers(random.Random(0), rounds)
        _print_expressions(pool, random.Random(1), rounds)
    finally:
        pool.close()


def math_verify(gold: str, answer: str) -> bool:
    """math-verify alone."""
    reading = _LETTERS if re.fullmatch(r"\(?[A-H]\)?", gold) else _FORMULAS
    return bool(verify(parse(f"\\boxed{{{gold}}}", reading), parse(f"\\boxed{{{answer}}}", reading)))


def vlrl(pool: GradingPool, pairs: Sequence[Pair]) -> list[bool]:
    """Whether vlrl takes each answer for correct."""
    submissions = [Submission(Prompt("", [], [], "math", gold), answer, answer) for gold, answer in pairs]
    return [verdict.status == "correct" for verdict in MathVerifier(pool).judge(submissions)]


def read_pairs() -> list[dict[str, str | bool]]:
    """Rows of `kind`, `gold`, `answer` and whether they are `equal`."""
    return [json.loads(line) for line in PAIRS.open()]


def _print_accepted(pool: GradingPool) -> None:
    rows = read_pairs()
    pairs = [(str(row["gold"]), str(row["answer"])) for row in rows]
    verdicts = {"vlrl": vlrl(pool, pairs), "math-verify": [math_verify(*pair) for pair in pairs]}
    table = Table("kind", "equal", "vlrl", "math-verify", "not equal", "vlrl", "math-verify")
    counts: Counter[tuple[str, bool, str]] = Counter()
    for kind in ("all", *dict.fromkeys(str(row["kind"]) for row in rows)):
        for i, row in enumerate(rows):
            if kind in ("all", row["kind"]):
                counts[kind, bool(row["equal"]), "pairs"] += 1
                for side, accepted in verdicts.items():
                    counts[kind, bool(row["equal"]), side] += accepted[i]
        cells = [counts[kind, equal, of] for equal in (True, False) for of in ("pairs", *verdicts)]
        table.add_row(kind, *map(str, cells))
    Console().print("accepted of the written set", table)


def number_pair(rng: random.Random) -> Pair:
    """Two plain numbers as answers write them, equal or close."""
    left = Fraction(rng.randint(-(10**7), 10**7), rng.choice([1, 1, 2, 4, 5, 8, 10, 100, 1000]))
    steps = [0, 0, 0, 1, -1, Fraction(1, 10), Fraction(1, 100)]
    return _written(left, rng), _written(left + rng.choice(steps), rng)


def _written(value: Fraction, rng: random.Random) -> str:
    decimal = f"{float(value):.3f}".rstrip("0").rstrip(".")
    percent = f"{float(value * 100):.1f}".removesuffix(".0")
    forms = [decimal, f"{float(value):.3f}", f"${decimal}$", f"{percent}\\%", f"{percent}%"]
    forms.append(f"\\frac{{{value.numerator}}}{{{value.denominator}}}")
    forms.append(f"{value.numerator}/{value.denominator}")
    if value.denominator == 1:
        forms += [str(value)] * 3 + [f"{value.numerator:,}", f"{value.numerator:,}".replace(",", "{,}")]
    return rng.choice(forms)


def _print_numbers(rng: random.Random, rounds: int) -> None:
    pairs = list(dict.fromkeys(number_pair(rng) for _ in range(400 * rounds)))
    ours: list[bool | None] = []
    theirs: list[bool] = []
    rates: list[tuple[float, float]] = []
    for start in range(0, len(pairs), 400):
        batch = pairs[start : start + 400]
        ours_s = _seconds(lambda batch=batch: ours.extend(fast_compare(*pair)[0] for pair in batch))
        theirs_s = _seconds(lambda batch=batch: theirs.extend(math_verify(*pair) for pair in batch))
        rates.append((len(batch) / ours_s, len(batch) / theirs_s))
    _print_rates("plain numbers, the fast path", rates)
    differing = [(p, a, b) for p, a, b in zip(pairs, ours, theirs, strict=True) if a != b]
    print(f"{len(pairs)} pairs, {ours.count(True)} equal, {len(differing)} verdicts differ")
    for pair, mine, other in differing:
        print(f"  {pair}: vlrl {mine}, math-verify {other}")


def expression_pair(rng: random.Random) -> Pair:
    """An expression and another form of it, or of a neighbour."""
    a, b, c = (rng.randint(2, 10**5) for _ in range(3))
    other = b + rng.choice([0, 0, 1])
    kinds = [
        (f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * other}}}"),
        (f"(x+{a})(x-{b})", f"x^2+{a - other}x-{a * other}".replace("+-", "-")),
        (f"\\frac{{{a}\\pi}}{{{b}}}", f"{a}\\pi/{other}"),
        (f"({a},{b})", f"({a}, \\frac{{{2 * other}}}{{2}})"),
        (f"{a}+{b}i", f"{other}i+{a}"),
        (f"x={a}y+{b}", f"x-{a}y={other}"),
        (f"[{a},{a + b})", f"\\left[{a}, {a + other}\\right)"),
        (f"\\frac{{{a}x+{b}}}{{{c}}}", f"\\frac{{{a}}}{{{c}}}x+\\frac{{{other}}}{{{c}}}"),
    ]
    return rng.choice(kinds)


def _print_expressions(pool: GradingPool, rng: random.Random, rounds: int) -> None:
    pool.grade_many([expression_pair(rng) for _ in range(20)])
    rates: list[tuple[float, float]] = []
    same = total = 0
    for _ in range(rounds):
        pairs = [expression_pair(rng) for _ in range(BATCH)]
        ours: list[bool] = []
        theirs: list[bool] = []
        ours_s = _seconds(lambda pairs=pairs, ours=ours: ours.extend(vlrl(pool, pairs)))
        theirs_s = _seconds(lambda pairs=pairs, theirs=theirs: theirs.extend(math_verify(*p) for p in pairs))
        rates.append((BATCH / ours_s, BATCH / theirs_s))
        same, total = same + sum(a == b for a, b in zip(ours, theirs, strict=True)), total + BATCH
    _print_rates(f"expressions, one grading process, batches of {BATCH}", rates)
    print(f"{same} of {total} verdicts are the same")


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _print_rates(title: str, rates: Sequence[tuple[float, float]]) -> None:
    table = Table("pairs a second", "median", "each round")
    for name, side in (("vlrl", 0), ("math-verify", 1)):
        of_side = [rate[side] for rate in rates]
        table.add_row(
            name, f"{statistics.median(of_side):,.0f}", " ".join(f"{rate:,.0f}" for rate in of_side)
        )
    ratios = [ours / theirs for ours, theirs in rates]
    Console().print(title, table, f"ratio: median {statistics.median(ratios):.2f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    main()
