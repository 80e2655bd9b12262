"""Tables read off an image: the F1 of their cells."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vlrl.errors import UserError
from vlrl.rewards import arguments
from vlrl.rewards.numeric import Closeness, read_closeness, read_number
from vlrl.rewards.verifier import Submission, correct, wrong
from vlrl.rewards.vision.labels import plain_label
from vlrl.rewards.vision.table_text import Table, json_table, read_table
from vlrl.rewards.vision.transcript import transcript_of
from vlrl.trajectory import Prompt, Verdict

MAX_REFERENCE_CELLS = 10_000
MAX_CHARS = 500_000

Place = tuple[str | int, ...]
Cells = dict[Place, str]


@dataclass(slots=True, frozen=True)
class _Target:
    cells: Cells
    by_headers: bool
    case_sensitive: bool
    closeness: Closeness


class TableVerifier:
    """F1 over cells: twice the cells that agree, over those of the reference and those of the answer.

    The ground truth is JSON: a list of rows, or `{"header": [...], "rows": [...]}`. The answer is the last
    Markdown, HTML, CSV, TSV or JSON table after the thinking. With `match: headers` (default where the
    ground truth has a header) a cell is looked for under its row's first cell and its column's header,
    wherever these stand; with `match: position` the header is a row, and rows and columns are counted.
    Cells agree as numbers (`read_closeness`) or as text, letter by letter but for spacing, quotes and, where
    not `case_sensitive` (default false), case. Empty cells count nowhere. Correct is a table whose every cell
    agrees and that has no more. Rules: `cells`, `no_table`, `too_long`.
    """

    def extract(self, response: str, thinking_open: bool) -> str | None:
        return transcript_of(response, thinking_open)

    def check(self, prompt: Prompt) -> None:
        _target(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [_judge_one(s) for s in submissions]


def _judge_one(submission: Submission) -> Verdict:
    answer, target = submission.answer, _target(submission.prompt)
    if len(answer) > MAX_CHARS:
        return wrong(answer, "too_long")
    table = read_table(answer)
    given = _cells(table, target.by_headers) if table else {}
    if not given:
        return wrong(answer, "no_table")
    agreeing = sum(
        place in given and _agree(text, given[place], target) for place, text in target.cells.items()
    )
    if agreeing == len(target.cells) == len(given):
        return correct(answer, "cells")
    return wrong(answer, "cells", 2 * agreeing / (len(target.cells) + len(given)))


def _agree(gold: str, given: str, target: _Target) -> bool:
    if gold == given:
        return True
    if (
        any(map(str.isdigit, gold))
        and any(map(str.isdigit, given))
        and target.closeness.answer_type != "label"
    ):
        left, right = read_number(gold), read_number(given)
        if left is not None and right is not None:
            return target.closeness.meets(left[0], *right)
    if len(given) > 2 * len(gold) + 100:
        return False
    if target.case_sensitive:
        return " ".join(gold.split()) == " ".join(given.split())
    return plain_label(gold) == plain_label(given)


def _cells(table: Table, by_headers: bool) -> Cells:
    """The cells that are not empty by their place; equal headers are told apart by their order."""
    if not by_headers:
        return {
            (row, column): text
            for row, cells in enumerate(table)
            for column, text in enumerate(cells)
            if text.strip()
        }
    columns = _told_apart(table[0][1:])
    rows = _told_apart([row[0] if row else "" for row in table[1:]])
    return {
        (*row_place, *column_place): text
        for row_place, cells in zip(rows, table[1:], strict=True)
        for column_place, text in zip(columns, cells[1:], strict=False)
        if text.strip()
    }


def _told_apart(headers: list[str]) -> list[Place]:
    seen: Counter[str] = Counter()
    places: list[Place] = []
    for header in headers:
        label = plain_label(header[:1000])
        places.append((label, seen[label]))
        seen[label] += 1
    return places


def _target(prompt: Prompt) -> _Target:
    try:
        given = json.loads(prompt.ground_truth)
    except (ValueError, RecursionError):
        given = None
    table = json_table(given)
    if table is None:
        raise UserError(
            f"{prompt.name}: the ground truth is no table; give JSON, a list of rows or "
            '{"header": [...], "rows": [...]}'
        )
    default = "headers" if isinstance(given, dict) else "position"
    by_headers = arguments.choice(prompt, "match", ("headers", "position"), default) == "headers"
    cells = _cells(table, by_headers)
    if not 0 < len(cells) <= MAX_REFERENCE_CELLS:
        raise UserError(
            f"{prompt.name}: the ground truth has {len(cells)} cells that are not empty; "
            f"give 1 to {MAX_REFERENCE_CELLS}"
        )
    return _Target(cells, by_headers, arguments.flag(prompt, "case_sensitive"), read_closeness(prompt))
