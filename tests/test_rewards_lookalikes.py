"""Answers that look like the ground truth, or hold it, and are another; found by attacking the grader."""

from collections.abc import Iterator

import pytest

from vlrl.rewards.verifier import Submission
from vlrl.rewards.verifiers import MathVerifier
from vlrl.rewards.workers import GradingPool
from vlrl.trajectory import Prompt

WRONG = r"""
3 \text{ pm} | 3 \text{ am}
44 \text{ BC} | 44 \text{ AD}
5 miles north | 5 miles south
12 noon | 12 midnight
5 watts | 5 kilowatts
5 seconds | 5 milliseconds
5 years | 5 decades
5 gallons | 5 quarts
5 bits | 5 bytes
5 dimes | 5 nickels
5 \text{ Pa} | 5 \text{ kPa}
5 \text{ W} | 5 \text{ kW}
5 \text{ m} | 5 \text{ furlongs}
5 | 5 eighths
5 | 5 thousandths
5 | 5 tens
5 | 5 theta
5 | 5 \text{pi}
5 | 5 maybe six
5 | 5 \text{ is wrong}
5 | \{x \mid x \ge 5\}
5 | \neg 5
\{1,2,\ldots,10\} | \{1,2,10\}
1,2 | 1,2,\ldots
BAC | ABC
\angle ABC | \angle BAC
IV | VI
XL | LX
10-20 | 20-30
1990-2000 | 1980-1990
3-1 | 4-2
555-1234 | 556-1235
01-02-2024 | 02-03-2024
3/5/24 | 6/10/24
x=1, y=2 | 2,1
x<-1, x>2 | x<-3, x>5
A | (a)(b)(c)(d)
A | a) b) c) d)
5050 | \sum_{k=1}^{100} k
2 | \int_0^2 1 dx
5 | 12 \bmod 7
5 | gcd(10, 15)
1 | \lim_{x\to 0} \frac{\sin x}{x}
2 | \frac{d}{dx} 2x
7 | \lfloor \sqrt{50} \rfloor
2^{-60} | 2^{-61}
0 | 2^{-60}
(1, 2^{-60}) | (1, 2^{-61})
\frac{1}{2^{60}} | 2^{-61}
"""
RIGHT = r"""
10-20 | 10 to 20
10-20 | 10–20
\angle ABC | \angle CBA
5 watts | 5 W
5 kilowatts | 5000 watts
5 \text{ dollars} | 5 \text{ dollars each}
12 | 12 two-digit numbers
x=1, y=2 | 1, 2
x<-1 \text{ or } x>2 | (-\infty,-1)\cup(2,\infty)
(2,\infty) | \{x \mid x > 2\}
1,2,\ldots,10 | 1, 2, \dots, 10
\sum_{k=1}^n k | \sum_{j=1}^n j
2.718 | 2.718\ldots
\lfloor x \rfloor | \lfloor x \rfloor
5 | f_{\min} = 5
0 | \sin^2 1 + \cos^2 1 - 1
2^{-60} | \frac{1}{2^{60}}
2^{-60} | \frac{2}{2^{61}}
5 | \gcd(10,15) = 5
5 | \int_0^5 1\,dx = 5
42 | forty-two
42 | \textcolor{red}{42}
2\pi | 2*pi
x^2+2x+1 | x**2+2*x+1
"""  # noqa: RUF001


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(gold, answer) for gold, answer in (line.split(" | ") for line in text.strip().split("\n"))]


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(workers=1, timeout_s=5.0, memory_mb=1024)
    yield pool
    pool.close()


def _accepted(pool: GradingPool, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    submissions = [Submission(Prompt("", [], [], "math", gold), answer, answer) for gold, answer in pairs]
    verdicts = MathVerifier(pool).judge(submissions)
    assert not any(verdict.is_error for verdict in verdicts)
    return [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.status == "correct"]


def test_another_answer_is_wrong(pool: GradingPool) -> None:
    assert _accepted(pool, _pairs(WRONG)) == []


def test_the_same_answer_still_passes(pool: GradingPool) -> None:
    assert _accepted(pool, _pairs(RIGHT)) == _pairs(RIGHT)


def test_an_i_where_no_imaginary_number_can_stand_is_no_error(pool: GradingPool) -> None:
    assert _accepted(pool, [("x>2", answer) for answer in ("x<i", "i<2", "(i,2)", r"\infty<x<i")]) == []
