"""Verifiers of a final answer: mathematics and labels; plain numbers have a file of their own."""

from collections.abc import Sequence

from vlrl.rewards.degenerate import degenerate, too_long
from vlrl.rewards.fast_path import fast_compare
from vlrl.rewards.options import among_options, check_options, options_of
from vlrl.rewards.tidy import tidy
from vlrl.rewards.verifier import AnswerVerifier, Submission, correct, failed, wrong
from vlrl.rewards.workers import GradingPool, Outcome, Pair
from vlrl.trajectory import Prompt, Verdict


class MathVerifier(AnswerVerifier):
    """Mathematical equality: the fast path where it decides, math-verify in the grading pool elsewhere.

    Rules: those of `degenerate` and `fast_compare`, `math_verify`, or the pool's error.
    """

    def __init__(self, pool: GradingPool) -> None:
        self._pool = pool

    def check(self, prompt: Prompt) -> None:
        check_options(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        decided = [_decide_here(s) for s in submissions]
        # A group's rollouts often agree: each pair goes to the pool once.
        pairs = list(dict.fromkeys(d for d in decided if not isinstance(d, Verdict)))
        outcomes = dict(zip(pairs, self._pool.grade_many(pairs), strict=True))
        return [
            d if isinstance(d, Verdict) else _verdict(s, outcomes[d])
            for s, d in zip(submissions, decided, strict=True)
        ]


class ExactVerifier(AnswerVerifier):
    """Equality of labels, choice letters, plain numbers and identical forms; nothing is computed.

    Rules: those of `degenerate` and `fast_compare`, `different_form`.
    """

    def check(self, prompt: Prompt) -> None:
        check_options(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        decided = [_decide_here(s) for s in submissions]
        return [
            d if isinstance(d, Verdict) else _same_spelling(s, d)
            for s, d in zip(submissions, decided, strict=True)
        ]


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
        return failed(answer, outcome.error)
    return correct(answer, "math_verify") if outcome.equal else wrong(answer, "math_verify")
