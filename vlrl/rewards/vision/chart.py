"""Answers about charts: a number, a label, yes or no, or a list of any of these."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vlrl.errors import UserError
from vlrl.rewards import arguments
from vlrl.rewards.degenerate import degenerate
from vlrl.rewards.fast_path import MAX_CHARS, fast_compare
from vlrl.rewards.numeric import Closeness, read_closeness, read_number
from vlrl.rewards.tidy import tidy
from vlrl.rewards.verifier import AnswerVerifier, Submission, correct, wrong
from vlrl.rewards.vision.labels import plain_label, same_label
from vlrl.trajectory import Prompt, Verdict

MAX_ITEMS = 100

_BULLET = re.compile(r"^\s*(?:[-*\u2022]|[0-9]{1,3}[.)])\s+", re.MULTILINE)
_BRACKETS = re.compile(r"^(?:\[|\(|\\?\{)([^][(){}]*?)(?:\]|\)|\\?\})$", re.DOTALL)
_COMMA = re.compile(r",(?![0-9]{3}(?![0-9]))|,(?=\s)")
_AND = re.compile(r"\s*\b(?:and|&)\s+", re.IGNORECASE)


@dataclass(slots=True, frozen=True)
class _Target:
    items: list[str]
    is_list: bool
    ordered: bool
    closeness: Closeness


class ChartVerifier(AnswerVerifier):
    """The ground truth is a number, a label, yes or no, or a JSON list of numbers and labels.

    Numbers compare as `read_closeness` says, labels as `same_label` does; `answer_type: label` makes a
    number a label. A list is answered by as many items, as JSON or set apart by semicolons, lines or
    commas; `ordered` (default false) wants them in the ground truth's order. Nothing is earned by a part.
    Rules: those of `degenerate`, `number`, `label`, `list`, `list_length`.
    """

    def check(self, prompt: Prompt) -> None:
        _target(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [_judge_one(s) for s in submissions]


def _judge_one(submission: Submission) -> Verdict:
    answer = submission.answer
    target = _target(submission.prompt)
    if target.is_list:
        return _judge_list(answer, target)
    gold = target.items[0]
    if reason := degenerate(gold, answer):
        # A label that holds a comma is no hedge where it is the very label.
        if reason != "hedged" or not same_label(gold, answer):
            return wrong(answer, reason)
        return correct(answer, "label")
    is_number = target.closeness.answer_type != "label" and read_number(gold) is not None
    rule = "number" if is_number else "label"
    return correct(answer, rule) if _meets(gold, answer, target.closeness) else wrong(answer, rule)


def _judge_list(answer: str, target: _Target) -> Verdict:
    if len(answer) > max(MAX_CHARS, 2 * sum(len(item) + 4 for item in target.items)):
        return wrong(answer, "too_long")
    given = _items(answer)
    if not given:
        return wrong(answer, "empty")
    if len(given) != len(target.items):
        return wrong(answer, "list_length")
    if target.ordered:
        pairs = zip(target.items, given, strict=True)
        fits = all(_meets(gold, item, target.closeness) for gold, item in pairs)
    else:
        fits = _all_meet([[_meets(gold, item, target.closeness) for item in given] for gold in target.items])
    return correct(answer, "list") if fits else wrong(answer, "list")


def _meets(gold: str, answer: str, closeness: Closeness) -> bool:
    if closeness.answer_type != "label" and (target := read_number(gold)) is not None:
        number = read_number(answer)
        return number is not None and closeness.meets(target[0], *number)
    if same_label(gold, answer):
        return True
    # (B) is B; no choice letter is longer, however it is wrapped.
    short = closeness.answer_type != "label" and len(answer) <= 20
    return short and fast_compare(gold, answer) == (True, "choice")


def _all_meet(fits: list[list[bool]]) -> bool:
    """Whether every gold (a row) can have an item (a column) of its own: bipartite matching."""
    owner: dict[int, int] = {}

    def place(gold: int, tried: set[int]) -> bool:
        for item, fit in enumerate(fits[gold]):
            if fit and item not in tried:
                tried.add(item)
                if item not in owner or place(owner[item], tried):
                    owner[item] = gold
                    return True
        return False

    return all(place(gold, set()) for gold in range(len(fits)))


def _items(answer: str) -> list[str]:
    """The items of an answered list, at most one more than a list may have."""
    text = tidy(_BULLET.sub("", answer)) if "\n" not in answer else _BULLET.sub("", answer).strip()
    parsed = _json_items(text)
    if parsed is None:
        text = _BRACKETS.sub(r"\1", text)
        separator = next((s for s in (";", "\n") if s in text), None)
        parts = text.split(separator) if separator else _COMMA.split(text)
        if separator is None and parts:
            # "A, B and C": the last comma's part may still be two.
            parts = [*parts[:-1], *_AND.split(parts[-1])]
        parsed = [part.strip() for part in parts]
    return [item for item in parsed if item][: MAX_ITEMS + 1]


def _json_items(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, list) or any(isinstance(item, (list, dict)) for item in given):
        return None
    return [item if isinstance(item, str) else json.dumps(item) for item in given]


def _target(prompt: Prompt) -> _Target:
    gold = prompt.ground_truth.strip()
    items = _json_items(gold)
    if items is None and gold.startswith("["):
        raise UserError(
            f"{prompt.name}: the ground truth begins with '[' but is no JSON list of plain values"
        )
    is_list = items is not None
    items = [gold] if items is None else items
    if not items or any(not plain_label(item) for item in items):
        raise UserError(f"{prompt.name}: the ground truth is empty; give a number, a label or a list of them")
    if len(items) > MAX_ITEMS or any(len(item) > MAX_CHARS for item in items):
        raise UserError(
            f"{prompt.name}: the ground truth is too long; give at most {MAX_ITEMS} items "
            f"of {MAX_CHARS} characters"
        )
    closeness = read_closeness(prompt)
    if closeness.answer_type in ("year", "count") and any(read_number(item) is None for item in items):
        raise UserError(
            f"{prompt.name}: answer_type '{closeness.answer_type}' needs a plain number as its ground truth"
        )
    return _Target(items, is_list, arguments.flag(prompt, "ordered"), closeness)
