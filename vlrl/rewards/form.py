"""The form of a response: how it thinks, how it answers, how long it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import regex

from vlrl.errors import UserError
from vlrl.rewards import arguments
from vlrl.rewards.answer import ANSWER_CLOSE, ANSWER_OPEN, extract_answer
from vlrl.rewards.verifier import Submission, correct, failed, wrong
from vlrl.trajectory import THINK_CLOSE, THINK_OPEN, Prompt, Verdict

MAX_PATTERN_CHARS = 1000
PATTERN_TIMEOUT_S = 0.2

_BOX = regex.compile(r"\\boxed\s*+\{")
_SPAN = regex.compile(f"{regex.escape(ANSWER_OPEN)}.*?{regex.escape(ANSWER_CLOSE)}", regex.DOTALL)


@dataclass(slots=True, frozen=True)
class _Terms:
    thinking: str
    answer_form: str
    min_chars: int
    max_chars: int
    pattern: str


class FormatVerifier:
    """1 for a response of the wanted form, 0 for any other; what it says is not looked at.

    `thinking`: `required` (default: one `<think>` at the very start unless the generation prompt wrote it,
    one `</think>`, words between them), `optional` (that or no tags at all) or `forbidden` (no tags, and
    nothing before the `</think>` that a generation prompt asks for).
    `answer_form`: after the thinking exactly one that is not empty: `any` (default: a box or an answer span,
    a span with a box in it being one), `box`, `span`, or `none` (anything but nothing).
    `min_chars` and `max_chars` bound the whole response (defaults 0 and 1,000,000).
    `pattern` is a regular expression that must match all of it (the `regex` package, `.` meets line ends);
    one that takes more than 0.2 s is an error of the grading.
    Rules: `form`, `thinking`, `answer`, `length`, `pattern`, `pattern_timeout`.
    """

    def extract(self, response: str, thinking_open: bool) -> str | None:
        """The whole response: that there is no answer in it is a matter of form too."""
        return response

    def check(self, prompt: Prompt) -> None:
        _terms(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [_judge_one(s) for s in submissions]


def _judge_one(submission: Submission) -> Verdict:
    terms, response = _terms(submission.prompt), submission.response
    answer = extract_answer(response, submission.thinking_open) or ""
    if not terms.min_chars <= len(response) <= terms.max_chars:
        return wrong(answer, "length")
    rest = _after_thinking(response, terms.thinking, submission.thinking_open)
    if rest is None:
        return wrong(answer, "thinking")
    if not _answers_once(rest, terms.answer_form):
        return wrong(answer, "answer")
    if terms.pattern:
        compiled = regex.compile(terms.pattern, regex.DOTALL)
        try:
            if compiled.fullmatch(response, timeout=PATTERN_TIMEOUT_S, concurrent=True) is None:
                return wrong(answer, "pattern")
        except TimeoutError:
            return failed(answer, "pattern_timeout")
    return correct(answer, "form")


def _after_thinking(response: str, thinking: str, thinking_open: bool) -> str | None:
    """What follows the thinking, or None where it is not as `thinking` wants it."""
    opens, closes = response.count(THINK_OPEN), response.count(THINK_CLOSE)
    if opens == closes == 0 and not thinking_open:
        return None if thinking == "required" else response
    if closes != 1 or opens != (0 if thinking_open else 1):
        return None
    thought, _, rest = response.partition(THINK_CLOSE)
    if not thinking_open:
        before, _, thought = thought.partition(THINK_OPEN)
        if before.strip() or thinking == "forbidden":
            return None
    if bool(thought.strip()) == (thinking == "forbidden"):
        return None if thinking != "optional" else rest
    return rest


def _answers_once(rest: str, wanted: str) -> bool:
    if wanted == "none":
        return bool(rest.strip())
    if not (extract_answer(rest) or "").strip(" \\{}()[].,;$"):
        return False
    spans, boxes = rest.count(ANSWER_OPEN), len(_BOX.findall(rest))
    if spans != rest.count(ANSWER_CLOSE) or spans > 1 or boxes > 1:
        return False
    if spans == 0:
        return boxes == 1 and wanted != "span"
    return wanted != "box" and not _BOX.search(_SPAN.sub("", rest))


def _terms(prompt: Prompt) -> _Terms:
    pattern = prompt.extra.get("pattern", "")
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_CHARS:
        raise UserError(f"{prompt.name}: pattern must be text of at most {MAX_PATTERN_CHARS} characters")
    try:
        regex.compile(pattern, regex.DOTALL)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{prompt.name}: pattern {pattern[:80]!r} is no regular expression ({error})"
        ) from error
    terms = _Terms(
        thinking=arguments.choice(prompt, "thinking", ("required", "optional", "forbidden"), "required"),
        answer_form=arguments.choice(prompt, "answer_form", ("any", "box", "span", "none"), "any"),
        min_chars=arguments.whole(prompt, "min_chars", 0),
        max_chars=arguments.whole(prompt, "max_chars", 1_000_000),
        pattern=pattern,
    )
    if terms.min_chars > terms.max_chars:
        raise UserError(
            f"{prompt.name}: min_chars {terms.min_chars} is above max_chars {terms.max_chars}, "
            "so that nothing passes; swap them"
        )
    return terms
