"""Verifiers of a final answer: mathematics and labels; plain numbers have a file of their own."""

from collections.abc import Sequence

from vlrl.rewards.degenerate import degenerate
from vlrl.rewards.fast_path import fast_compare, tidy
from vlrl.rewards.numeric import NumericVerifier
from vlrl.rewards.verifier import AnswerVerifier, Submission, correct, failed, wrong
from vlrl.rewards.workers import GradingPool, Outcome
from vlrl.trajectory import Verdict

__all__ = ["ExactVerifier", "MathVerifier", "NumericVerifier"]


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
