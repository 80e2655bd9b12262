"""Verifiers of a final answer: mathematics, labels, plain numbers."""

from collections.abc import Sequence
from fractions import Fraction

from vlrl.errors import UserError
from vlrl.rewards.degenerate import degenerate
from vlrl.rewards.fast_path import fast_compare, tidy
from vlrl.rewards.plain_number import PlainNumber, parse_number
from vlrl.rewards.verifier import AnswerVerifier, Submission, correct, failed, wrong
from vlrl.rewards.workers import GradingPool, Outcome
from vlrl.trajectory import Prompt, Verdict


class MathVerifier(AnswerVerifier):
    """Mathematical equality: the fast path where it decides, math-verify in the grading pool elsewhere.

    Rules: those of `degenerate` and `fast_compare`, `math_verify`, or the pool's error.
    """

    def __init__(self, pool: GradingPool) -> None:
        self._pool = pool

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        verdicts = [_decide_here(s) for s in submissions]
        # A group's rollouts often agree: each pair goes to the pool once.
        pairs = list(dict.fromkeys(_pair(s) for s, v in zip(submissions, verdicts, strict=True) if v is None))
        outcomes = dict(zip(pairs, self._pool.grade_many(pairs), strict=True))
        return [v or _verdict(s, outcomes[_pair(s)]) for s, v in zip(submissions, verdicts, strict=True)]


class ExactVerifier(AnswerVerifier):
    """Equality of labels, choice letters, plain numbers and identical forms; nothing is computed.

    Rules: those of `degenerate` and `fast_compare`, `different_form`.
    """

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [_decide_here(s) or _same_spelling(s) for s in submissions]


class NumericVerifier(AnswerVerifier):
    """A plain number within `extra["tolerance"]` of the ground truth (absolute, in its units; default 0).

    A percentage and a plain number compare either way: 45% meets 45 and 0.45.
    Rules: those of `degenerate`, `tolerance`, `not_a_number`.
    """

    def check(self, prompt: Prompt) -> None:
        self._target(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [self._judge_one(s) for s in submissions]

    def _judge_one(self, submission: Submission) -> Verdict:
        answer = submission.answer
        target, tolerance = self._target(submission.prompt)
        if reason := degenerate(submission.prompt.ground_truth, answer):
            return wrong(answer, reason)
        number = parse_number(tidy(answer))
        if number is None:
            return wrong(answer, "not_a_number")
        readings = [number.value]
        if number.percent != target.percent:
            readings.append(number.value / 100 if number.percent else number.value * 100)
        near = any(abs(reading - target.value) <= tolerance for reading in readings)
        return correct(answer, "tolerance") if near else wrong(answer, "tolerance")

    def _target(self, prompt: Prompt) -> tuple[PlainNumber, Fraction]:
        target = parse_number(tidy(prompt.ground_truth))
        if target is None:
            raise UserError(
                f"{prompt.name}: the ground truth {prompt.ground_truth!r} is no plain number; "
                "use the verifier 'math' for it"
            )
        try:
            tolerance = Fraction(str(prompt.extra.get("tolerance", 0)))
        except ValueError:
            tolerance = Fraction(-1)
        if tolerance < 0:
            given = prompt.extra["tolerance"]
            raise UserError(f"{prompt.name}: tolerance {given!r} must be a number that is not negative")
        return target, tolerance


def _pair(submission: Submission) -> tuple[str, str]:
    return submission.prompt.ground_truth, submission.answer


def _decide_here(submission: Submission) -> Verdict | None:
    """The verdict where no grading process is needed."""
    gold, answer = _pair(submission)
    if reason := degenerate(gold, answer):
        return wrong(answer, reason)
    equal, rule = fast_compare(gold, answer)
    if equal is None:
        return None
    return correct(answer, rule) if equal else wrong(answer, rule)


def _same_spelling(submission: Submission) -> Verdict:
    gold, answer = _pair(submission)
    same = tidy(gold).casefold() == tidy(answer).casefold()
    return correct(answer, "label") if same else wrong(answer, "different_form")


def _verdict(submission: Submission, outcome: Outcome) -> Verdict:
    answer = submission.answer
    if outcome.equal is None:
        return failed(answer, outcome.error)
    return correct(answer, "math_verify") if outcome.equal else wrong(answer, "math_verify")
