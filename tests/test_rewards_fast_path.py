import json
import random
from fractions import Fraction
from pathlib import Path

import pytest

from vlrl.rewards.degenerate import degenerate
from vlrl.rewards.fast_path import fast_compare
from vlrl.rewards.workers import GradingPool

MATH500 = Path(__file__).parents[2] / "shared" / "data" / "math500" / "test.jsonl"

EQUAL = [
    ("5", "5.0"),
    ("5", " $5$. "),
    ("5", "+5"),
    ("12", "12"),
    ("-5", "\u22125"),
    ("7", "007"),
    (".35625", "0.35625"),
    ("\\frac 59", "5/9"),
    ("\\frac9{19}", "\\dfrac{9}{19}"),
    ("-\\frac{1}{2}", "\\frac{-1}{2}"),
    ("0.15", "\\frac{3}{20}"),
    ("10,\\!080", "10080"),
    ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
    ("10{,}080", "10\\,080"),
    ("58,500", "58500"),
    ("50\\%", "0.5"),
    ("50%", "50 \\%"),
    ("\\$18.90", "18.9"),
    ("\\$32,\\!348", "$32348"),
    ("90^\\circ", "90"),
    ("90^{\\circ}", "90\u00b0"),
    ("90^\\circ", "90 degrees"),
    ("\\frac{270}7\\text{ degrees}", "\\frac{270}{7}"),
    ("5.4 \\text{ cents}", "5.4"),
    ("864 \\mbox{ inches}^2", "864 in^2"),
    ("15\\mbox{ cm}^2", "15"),
    ("5000000", "5\\text{ million}"),
    ("(3, 4)", "(3,4)"),
    ("\\left(\\frac{3}{5},\\frac{8}{3}\\right]", "(\\dfrac{3}{5}, \\dfrac{8}{3}]"),
    ("C", "(C)"),
    ("\\text{(C)}", "c"),
    ("B", "\\textbf{(B)}"),
    ("\\text{east}", "East"),
    ("red", "Red."),
    ("dark blue", "Dark  Blue"),
    ("no", "No"),
    ("2024-01-02", "2024-1-2"),
    ("50%", "50"),
    ("5", "five"),
]
DIFFERENT = [
    ("5", "6"),
    ("5", "-5"),
    ("1/3", "0.333"),
    ("5", "5 million"),
    ("5\\text{ cm}", "5\\text{ m}"),
    ("+0.333...", "-\\frac{1}{3}"),
    ("864 \\mbox{ inches}^2", "864 inches"),
    ("1,234", "1235"),
    ("C", "D"),
    ("red", "blue"),
    ("lime", "mile"),
    ("0.0000672", "0.00672"),
    ("no", "on"),
    ("up", "pu"),
    ("cat", "act"),
    ("A4", "4A"),
    ("2024-01-02", "2021"),
    ("2024-01-02", "2024-02-01"),
    ("1/2/2024", "1/4048"),
    ("3 1/2", "31/2"),
]
OPEN = [
    ("12", "1,2"),
    ("1,-2", "1,-3"),
    ("1, 234", "1234"),
    ("1, 234", "1,234"),
    ("1 -2", "1-2"),
    ("1 .5", "1.5"),
    ("5m", "5"),
    ("5", "5k"),
    ("52_8", "52"),
    ("1/3", "0.3333333"),
    ("\\frac{1}{0}", "1"),
    ("0.5", "0,5"),
    ("a b", "ab"),
    ("\\sin x", "\\sinx"),
    ("x", "X"),
    ("c", "C"),
    ("abc", "cba"),
    ("xy", "yx"),
    ("A4", "a4"),
    ("sqrt2", "2sqrt"),
    ("3", "\u0663"),
    ("", ""),
    ("9" * 5000, "1"),
]


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal(gold: str, answer: str) -> None:
    assert fast_compare(gold, answer)[0] is True
    assert fast_compare(answer, gold)[0] is not False


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different(gold: str, answer: str) -> None:
    assert fast_compare(gold, answer)[0] is False
    assert fast_compare(answer, gold)[0] is False


@pytest.mark.parametrize(("gold", "answer"), OPEN)
def test_left_to_math_verify(gold: str, answer: str) -> None:
    assert fast_compare(gold, answer) == (None, "")


def _write(value: Fraction, rng: random.Random) -> str:
    """One of the ways to write a number whose denominator divides 1000."""
    decimal = f"{float(value):.3f}"
    forms = [
        decimal,
        decimal.rstrip("0").rstrip("."),
        f"{value.numerator}/{value.denominator}",
        f"${decimal}$",
    ]
    forms.append(f"\\frac{{{value.numerator}}}{{{value.denominator}}}")
    if value.denominator == 1:
        forms += [str(value), f"{value.numerator:,}", f"{value.numerator:,}".replace(",", ",\\!")]
    return rng.choice(forms)


def test_numbers_agree_with_math_verify() -> None:
    rng = random.Random(0)
    pairs, truths = [], []
    for _ in range(400):
        left = Fraction(rng.randint(-40_000, 40_000), rng.choice([1, 1, 2, 5, 8, 10, 100, 1000]))
        right = (
            left if rng.random() < 0.5 else left + Fraction(rng.choice([-1, 1]), rng.choice([1, 10, 1000]))
        )
        pairs.append((_write(left, rng), _write(right, rng)))
        truths.append(left == right)
    assert [fast_compare(*pair)[0] for pair in pairs] == truths
    pool = GradingPool(1, 5.0, 1024)
    try:
        assert [outcome.equal for outcome in pool.grade_many(pairs)] == truths
    finally:
        pool.close()


@pytest.mark.skipif(not MATH500.is_file(), reason=f"{MATH500} is not here")
def test_decisions_on_math500_agree_with_math_verify() -> None:
    golds = [json.loads(line)["answer"] for line in MATH500.open()]
    pairs = [(gold, golds[(i + k) % 500]) for i, gold in enumerate(golds) for k in (0, 1)]
    decided = [(pair, fast_compare(*pair)[0]) for pair in pairs if fast_compare(*pair)[0] is not None]
    assert len(decided) > 700
    pool = GradingPool(1, 5.0, 1024)
    try:
        outcomes = pool.grade_many([pair for pair, _ in decided])
    finally:
        pool.close()
    assert [(p, o.equal) for (p, _), o in zip(decided, outcomes, strict=True)] == decided


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        ("5", "", "empty"),
        ("5", " \\{ \\} ", "empty"),
        ("5", "5 or 6", "hedged"),
        ("5", "5 \\text{ or } 6", "hedged"),
        ("5", "5, 6", "hedged"),
        ("5", "4; 5", "hedged"),
        ("red", "red or blue", "hedged"),
        ("B", "A, B, C, D", "hedged"),
        ("(B)", "A/B", "hedged"),
        ("5", "1" * 3000, "too_long"),
        ("5", "5", None),
        ("58500", "58,500", None),
        ("5", "5,", None),
        ("(3,4)", "(3, 4)", None),
        ("\\frac{1}{2}", "f(1,2)", None),
        ("1,-2", "-2 \\text{ and } 1", None),
        ("1 \\pm \\sqrt{19}", "1+\\sqrt{19}, 1-\\sqrt{19}", None),
        ("x \\in [-2,7]", "-2 \\le x, x \\le 7", None),
        ("black or white", "black or white", None),
        ("B", "(B)", None),
    ],
)
def test_degenerate(gold: str, answer: str, reason: str | None) -> None:
    assert degenerate(gold, answer) == reason
