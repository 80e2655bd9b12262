"""Unit tests of a page's transcript, after olmOCR-Bench: what stands on it, what does not, in what order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vlrl.rewards.verifier import Submission, correct, wrong
from vlrl.rewards.vision.fuzzy import first_end, last_start
from vlrl.rewards.vision.page_cells import PageCells
from vlrl.rewards.vision.page_test_rows import plain_text, read_tests
from vlrl.rewards.vision.transcript import repeated_share, transcript_of
from vlrl.trajectory import Prompt, Verdict

MAX_PAGE_CHARS = 50_000
MAX_REPEATED = 0.8  # a table of equal values repeats much; a loop repeats all, and is slow to search


@dataclass(slots=True, frozen=True)
class _Page:
    text: str
    folded: str
    cells: PageCells


class PageTestsVerifier:
    """The share of a page's tests that its transcript passes; correct where it passes all.

    The tests are a JSON list in `extra["tests"]` or else in the ground truth:
    `{"type": "present" | "absent", "text": ...}`, `{"type": "order", "before": ..., "after": ...}`,
    `{"type": "cell", "cell": ...}` with any of `up`, `down`, `left`, `right` (the neighbour) and
    `top_heading`, `left_heading` (a cell above, on its left). Phrases may differ by `max_edits` (default 0),
    in case where `case_sensitive` is false (default true, for absent tests false), and are looked for in the
    `first_n` or `last_n` characters alone. Spacing, kinds of quotes and dashes, and Markdown's emphasis and
    headings count nowhere.

    An absent test passes only where some other test does, and there must be another: else an empty page
    would pass. A page of more than 50,000 characters earns nothing, nor does one of which more than 80%
    repeats. Rules: `tests`, `empty`, `too_long`, `unreadable`, `repetition`.
    """

    def extract(self, response: str, thinking_open: bool) -> str | None:
        return transcript_of(response, thinking_open)

    def check(self, prompt: Prompt) -> None:
        read_tests(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [_judge_one(s) for s in submissions]


def _judge_one(submission: Submission) -> Verdict:
    answer, tests = submission.answer, read_tests(submission.prompt)
    if not answer.strip():
        return wrong(answer, "empty")
    if len(answer) > MAX_PAGE_CHARS:
        return wrong(answer, "too_long")
    text = plain_text(answer)
    if text is None:
        return wrong(answer, "unreadable")
    if repeated_share(text) > MAX_REPEATED:
        return wrong(answer, "repetition")
    page = _Page(text, text.casefold(), PageCells(answer))
    passed = sum(_RUN[test["type"]](test, page) for test in tests if test["type"] != "absent")
    if passed:
        passed += sum(not _is_present(test, page) for test in tests if test["type"] == "absent")
    return correct(answer, "tests") if passed == len(tests) else wrong(answer, "tests", passed / len(tests))


def _is_present(test: dict[str, Any], page: _Page) -> bool:
    text = _side(test, page)
    parts = [text[: test["first_n"]]] if "first_n" in test else []
    if "last_n" in test:
        parts.append(text[max(0, len(text) - test["last_n"]) :])
    return any(first_end(test["text"], part, test["max_edits"]) is not None for part in parts or [text])


def _is_in_order(test: dict[str, Any], page: _Page) -> bool:
    """Whether some stretch that is `before` ends where, or before, one that is `after` begins."""
    text = _side(test, page)
    end = first_end(test["before"], text, test["max_edits"])
    start = last_start(test["after"], text, test["max_edits"])
    return end is not None and start is not None and end <= start


def _side(test: dict[str, Any], page: _Page) -> str:
    return page.text if test["case_sensitive"] else page.folded


_RUN: dict[str, Callable[[dict[str, Any], _Page], bool]] = {
    "present": _is_present,
    "order": _is_in_order,
    "cell": lambda test, page: page.cells.hold(test),
}
