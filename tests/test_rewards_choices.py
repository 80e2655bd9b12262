"""Options of a prompt, and answers that echo its question."""

from collections.abc import Iterator
from typing import Any

import pytest

from vlrl.errors import UserError
from vlrl.rewards.degenerate import degenerate
from vlrl.rewards.options import check_options, options_of
from vlrl.rewards.verifier import Submission
from vlrl.rewards.verifiers import ExactVerifier, MathVerifier
from vlrl.rewards.workers import GradingPool
from vlrl.trajectory import Prompt

LENGTHS = ["11 cm", "12 cm", "13 cm", "12 m"]
FORMULAS = {"A": "$x^2-1$", "B": "$x^2+1$", "C": "$\\frac{\\sqrt{2}}{2}$", "D": "all of the above"}


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    pool = GradingPool(workers=1, timeout_s=5.0, memory_mb=1024)
    yield MathVerifier(pool)
    pool.close()


def _passes(
    verifier: MathVerifier | ExactVerifier, gold: str, answer: str, question: str = "?", **extra: Any
) -> bool:
    prompt = Prompt("r", [{"role": "user", "content": question}], [], "math", gold, extra=extra)
    (verdict,) = verifier.judge([Submission(prompt, answer, answer)])
    assert not verdict.is_error
    return verdict.status == "correct"


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("B", True),
        ("(B)", True),
        ("b.", True),
        ("\\text{B}", True),
        ("B. 12 cm", True),
        ("(B) $12\\text{ cm}$", True),
        ("12 cm", True),
        ("12 \\text{ cm}", True),
        ("B. 13 cm", False),
        ("A. 12 cm", False),
        ("12", False),  # two options are twelve of something
        ("12 m", False),
        ("C", False),
        ("A or B or C", False),
        ("A, B, C, D", False),
        ("A. 11 cm B. 12 cm C. 13 cm D. 12 m", False),
        ("11 cm, 12 cm, 13 cm, 12 m", False),
        ("B. 12 cm or C. 13 cm", False),
        ("E", False),
    ],
)
def test_an_answer_among_options(verifier: MathVerifier, answer: str, passes: bool) -> None:
    for judge in (verifier, ExactVerifier()):
        assert _passes(judge, "B", answer, options=LENGTHS) is passes
        assert _passes(judge, "(B)", answer, options=dict(zip("ABCD", LENGTHS, strict=True))) is passes
    # A ground truth that is an option's text means its letter.
    assert _passes(verifier, "12 cm", answer, options=LENGTHS) is passes


def test_options_that_are_formulas_are_compared_as_such(verifier: MathVerifier) -> None:
    for answer in ("C", "C. \\frac{1}{\\sqrt{2}}", "\\frac{1}{\\sqrt2}", "(C) $\\frac{\\sqrt{2}}{2}$"):
        assert _passes(verifier, "C", answer, options=FORMULAS)
    for answer in ("A. \\frac{1}{\\sqrt{2}}", "C. x^2-1", "(x-1)(x+1)", "D", "all of the above"):
        assert not _passes(verifier, "C", answer, options=FORMULAS)
    assert _passes(verifier, "A", "(x-1)(x+1)", options=FORMULAS)


def test_options_that_are_the_same_are_met_by_the_letter_alone(verifier: MathVerifier) -> None:
    assert not _passes(verifier, "A", "7", options=["7", "7", "8"])
    assert _passes(verifier, "A", "A. 7", options=["7", "7", "8"])


def test_a_list_is_lettered() -> None:
    assert options_of({"options": ["x", 2]}) == {"A": "x", "B": "2"}
    assert options_of({"options": {"(a)": "x"}}) == {"A": "x"}
    assert options_of({}) == options_of({"options": None}) == {}


QUESTION = "Simplify $\\sqrt{12}$ and evaluate 3*4 + 5, if $2x+3 = 7$ holds and the side is 5 or 6."


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        ("2\\sqrt{3}", "\\sqrt{12}", "echo"),
        ("2\\sqrt{3}", "\\sqrt {12}", "echo"),
        ("17", "3*4+5", "echo"),
        ("x=2", "2x+3=7", "echo"),
        ("2\\sqrt{3}", QUESTION, "echo"),
        ("2\\sqrt{3}", f"The answer to {QUESTION} is 2", "echo"),
        ("\\sqrt{12}", "\\sqrt{12}", None),
        ("2\\sqrt{3}", "2\\sqrt{3}", None),
        ("2\\sqrt{3}", "\\frac{6}{\\sqrt{3}}", None),
        ("5.0", "5", None),
        ("-3", "-3.0", None),
    ],
)
def test_an_echo_of_the_question_never_passes(gold: str, answer: str, reason: str | None) -> None:
    assert degenerate(gold, answer, QUESTION) == reason


def test_echoes_by_the_verifier(verifier: MathVerifier) -> None:
    assert not _passes(verifier, "2\\sqrt{3}", "\\sqrt{12}", QUESTION)
    assert _passes(verifier, "2\\sqrt{3}", "\\sqrt{4}\\sqrt{3}", QUESTION)
    assert not _passes(verifier, "(-2, 8)", "|x-3|<5", "Solve |x-3| < 5.")


@pytest.mark.parametrize("options", [5, "AB", '["x", "y"]', [str(n) for n in range(11)]])
def test_options_that_are_no_use_are_refused(options: object) -> None:
    with pytest.raises(UserError, match="row 'p': options must be a list of at most 10"):
        check_options(Prompt("p", [], [], "math", "B", extra={"options": options}))
