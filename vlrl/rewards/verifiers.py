"""Verifiers: a batch of answers in, a verdict each out.

A verifier says what an answer deserves by itself: 1 for correct, 0 for wrong, an error status where the
grading failed. What a wrong answer costs in training is the grader's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from vlrl.errors import UserError
from vlrl.rewards.degenerate import degenerate, too_long
from vlrl.rewards.fast_path import fast_compare
from vlrl.rewards.options import among_options, options_of
from vlrl.rewards.plain_number import PlainNumber, parse_number
from vlrl.rewards.tidy import tidy
from vlrl.rewards.workers import GradingPool, Outcome, Pair
from vlrl.trajectory import Prompt, Verdict


@dataclass(slots=True, frozen=True)
class Submission:
    """What is to be judged: the extracted `answer` and the whole `response` that it came from."""

    prompt: Prompt
    response: str
    answer: str


class Verifier(Protocol):
    """Judges answers to prompts that name it."""

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that cannot be judged, before any training.

        Raises:
            UserError: naming the row and what is wrong with its ground truth or arguments.
        """
        ...

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        """A verdict each, in order; its reward is in [0, 1]. Callable from any thread."""
        ...


def correct(answer: str, rule: str) -> Verdict:
    return Verdict(1.0, "correct", answer, rule)


def wrong(answer: str, rule: str) -> Verdict:
    return Verdict(0.0, "wrong", answer, rule)


class MathVerifier:
    """Mathematical equality: the fast path where it decides, math-verify in the grading pool elsewhere.

    Rules: those of `degenerate` and `fast_compare`, `math_verify`, or the pool's error.
    """

    def __init__(self, pool: GradingPool) -> None:
        self._pool = pool

    def check(self, prompt: Prompt) -> None:
        return

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        decided = [_decide_here(s) for s in submissions]
        # A group's rollouts often agree: each pair goes to the pool once.
        pairs = list(dict.fromkeys(d for d in decided if not isinstance(d, Verdict)))
        outcomes = dict(zip(pairs, self._pool.grade_many(pairs), strict=True))
        return [
            d if isinstance(d, Verdict) else _verdict(s, outcomes[d])
            for s, d in zip(submissions, decided, strict=True)
        ]


class ExactVerifier:
    """Equality of labels, choice letters, plain numbers and identical forms; nothing is computed.

    Rules: those of `degenerate` and `fast_compare`, `different_form`.
    """

    def check(self, prompt: Prompt) -> None:
        return

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        decided = [_decide_here(s) for s in submissions]
        return [
            d if isinstance(d, Verdict) else _same_spelling(s, d)
            for s, d in zip(submissions, decided, strict=True)
        ]


class NumericVerifier:
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


def _decide_here(submission: Submission) -> Verdict | Pair:
    """The verdict where no grading process is needed, otherwise what is to be compared.

    Where the prompt brings options, an answer is one of them, by its letter, its text or both.
    """
    prompt, answer = submission.prompt, submission.answer
    pair = prompt.ground_truth, answer
    if (options := options_of(prompt.extra)) and not too_long(*pair):
        meant = among_options(options, *pair)
        if meant is None:
            return wrong(answer, "choice")
        pair = meant
    if reason := degenerate(*pair, _question(prompt)):
        return wrong(answer, reason)
    equal, rule = fast_compare(*pair)
    if equal is None:
        return pair
    return correct(answer, rule) if equal else wrong(answer, rule)


def _question(prompt: Prompt) -> str:
    """What the user last said."""
    return next((m["content"] for m in reversed(prompt.messages) if m["role"] == "user"), "")


def _same_spelling(submission: Submission, pair: Pair) -> Verdict:
    gold, answer = pair
    same = tidy(gold).casefold() == tidy(answer).casefold()
    return correct(submission.answer, "label") if same else wrong(submission.answer, "different_form")


def _verdict(submission: Submission, outcome: Outcome) -> Verdict:
    answer = submission.answer
    if outcome.equal is None:
        return Verdict(0.0, "grader_error", answer, outcome.error)
    return correct(answer, "math_verify") if outcome.equal else wrong(answer, "math_verify")
