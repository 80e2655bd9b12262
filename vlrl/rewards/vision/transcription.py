"""Transcription: how much of a reference text was read, by the edits between the two."""

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from vlrl.errors import UserError
from vlrl.rewards import arguments
from vlrl.rewards.verifier import Submission, correct, wrong
from vlrl.rewards.vision.transcript import NORMALISATIONS, normalised, repeated_share, transcript_of
from vlrl.trajectory import Prompt, Verdict

MAX_REFERENCE_CHARS = 100_000
UNITS = ("chars", "words", "lines")


@dataclass(slots=True, frozen=True)
class _Terms:
    reference: str
    unit: str
    normalise: str
    max_length_ratio: float
    max_repeated: float
    pass_at: float


class TranscriptionVerifier:
    """1 minus the error rate: edits (insertions, deletions, substitutions) over the reference's length, at
    most 1. `unit` says what is counted: `chars` (CER, the default), `words` (WER) or `lines`.

    Both texts are put in the form that `normalise` names (default `spaces`, see `transcript.normalised`).
    Nothing is earned by an empty transcript, one more than `max_length_ratio` (at least 1, default 2) times
    as long as the reference or shorter than its reciprocal, in characters, or one of which more than
    `max_repeated` (share, default 0.2) repeats what the reference does not. From `pass_at` (a reward in
    (0, 1], default 1) on the status is correct. Rules: `empty`, `length_gate`, `unreadable`, `repetition`,
    `cer`, `wer`, `line_error`.
    """

    def extract(self, response: str, thinking_open: bool) -> str | None:
        return transcript_of(response, thinking_open)

    def check(self, prompt: Prompt) -> None:
        _terms(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [_judge_one(s) for s in submissions]


def accuracy(reference: str, text: str, unit: str) -> float:
    """1 - min(1, edits / reference length) in units of `unit`; the reference must not be empty."""
    left, right = _units(reference, unit), _units(text, unit)
    # Beyond the cutoff every distance earns the same, and finding it out is cheaper.
    distance = Levenshtein.distance(left, right, score_cutoff=len(left))
    return 1.0 - min(1.0, distance / len(left))


def _units(text: str, unit: str) -> Sequence[str]:
    if unit == "chars":
        return text
    return text.split() if unit == "words" else text.split("\n")


def _judge_one(submission: Submission) -> Verdict:
    answer, terms = submission.answer, _terms(submission.prompt)
    if not answer.strip():
        return wrong(answer, "empty")
    # Before anything that costs more than a look: blanks and NFC shrink no text that might pass so much.
    if len(answer) > 4 * terms.max_length_ratio * len(submission.prompt.ground_truth) + 1000:
        return wrong(answer, "length_gate")
    text = normalised(answer, terms.normalise)
    if text is None:
        return wrong(answer, "unreadable")
    longer, shorter = max(len(text), len(terms.reference)), min(len(text), len(terms.reference))
    if longer > terms.max_length_ratio * shorter:
        return wrong(answer, "length_gate")
    if repeated_share(text, terms.reference) > terms.max_repeated:
        return wrong(answer, "repetition")
    reward = accuracy(terms.reference, text, terms.unit)
    rule = {"chars": "cer", "words": "wer", "lines": "line_error"}[terms.unit]
    if reward < terms.pass_at:
        return wrong(answer, rule, reward)
    return correct(answer, rule) if reward == 1.0 else Verdict(reward, "correct", answer, rule)


def _terms(prompt: Prompt) -> _Terms:
    if len(prompt.ground_truth) > MAX_REFERENCE_CHARS:
        raise UserError(
            f"{prompt.name}: the ground truth has {len(prompt.ground_truth)} characters; "
            f"cut the page into parts of at most {MAX_REFERENCE_CHARS}"
        )
    how = arguments.choice(prompt, "normalise", NORMALISATIONS, "spaces")
    reference = normalised(prompt.ground_truth, how)
    if not reference:
        raise UserError(f"{prompt.name}: the ground truth has no readable text; give the page's transcript")
    pass_at = arguments.number(prompt, "pass_at", 1.0, high=1.0)
    if pass_at == 0.0:
        raise UserError(f"{prompt.name}: pass_at 0 would pass anything; give a reward above 0")
    return _Terms(
        reference=reference,
        unit=arguments.choice(prompt, "unit", UNITS, "chars"),
        normalise=how,
        max_length_ratio=arguments.number(prompt, "max_length_ratio", 2.0, low=1.0, high=10.0),
        max_repeated=arguments.number(prompt, "max_repeated", 0.2, high=1.0),
        pass_at=pass_at,
    )
