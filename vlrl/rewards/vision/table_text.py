"""Tables as models write them: Markdown, HTML, CSV, TSV, JSON. All of it is linear in the text's length.

HTML is read by its tags alone: `html.parser` takes a minute over 90 kB of unclosed ones.
"""

import csv
import html
import json
import re
from itertools import islice
from typing import Any

Table = list[list[str]]

MAX_CELLS = 50_000

_TAG = re.compile(r"<(/?)(table|tr|t[dh])(?=[\s/>])([^<>]*)>", re.IGNORECASE)
_ANY_TAG = re.compile(r"<[^<>]*>")
_SPAN = re.compile(r"""\b(row|col)span\s*=\s*["']?([0-9]{1,3})""", re.IGNORECASE)
_PIPE = re.compile(r"(?<!\\)\|")
_FENCE = "```"


def find_tables(text: str) -> list[Table]:
    """The HTML and Markdown tables of a text, the HTML ones first."""
    return [*_html_tables(text), *_markdown_tables(_TAG.sub("\n", text))]


def read_table(text: str) -> Table | None:
    """The table that an answer is or holds: the last one of its last fenced block, or of all of it.

    JSON is read where the text is JSON; commas or tabs where nothing else is found, each line a row.
    """
    blocks = text.split(_FENCE)
    if len(blocks) >= 3:
        # Blocks of odd place stand inside fences; their first line names the language.
        inside = blocks[1 : len(blocks) - 1 : 2][-1]
        text = inside.partition("\n")[2]
    text = text.strip()
    if text[:1] in ("[", "{"):
        try:
            table = json_table(json.loads(text))
        except (ValueError, RecursionError):
            table = None
        if table is not None:
            return table
    tables = find_tables(text)
    return tables[-1] if tables else _separated(text)


def json_table(given: Any) -> Table | None:
    """A table from rows of values, from `{"header": ..., "rows": ...}` or from objects; None where it is
    none of these."""
    if isinstance(given, dict) and set(given) == {"header", "rows"}:
        if not isinstance(given["header"], list) or not isinstance(given["rows"], list):
            return None
        given = [given["header"], *given["rows"]]
    if not isinstance(given, list) or not given:
        return None
    if all(isinstance(row, dict) for row in given):
        header = list(dict.fromkeys(key for row in given for key in row))
        if len(header) * len(given) > MAX_CELLS:
            return None
        given = [header, *([row.get(key, "") for key in header] for row in given)]
    if any(not isinstance(row, list) or any(isinstance(c, (list, dict)) for c in row) for row in given):
        return None
    return [[_json_cell(cell) for cell in row] for row in given]


def _json_cell(cell: Any) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell)


def _html_tables(text: str) -> list[Table]:
    tables: list[Table] = []
    rows: list[list[tuple[str, str]]] = []
    opened: tuple[int, str] | None = None  # where an open cell's text begins, and its attributes
    for tag in _TAG.finditer(text):
        closing, name = tag[1] == "/", tag[2].lower()
        if opened is not None:
            rows[-1].append((_plain(text[opened[0] : tag.start()]), opened[1]))
            opened = None
        if name == "table":
            tables += [_laid_out(rows)] if any(rows) else []
            rows = []
        elif name == "tr" and not closing:
            rows.append([])
        elif not closing:
            rows = rows or [[]]
            opened = (tag.end(), tag[3])
    if opened is not None:
        rows[-1].append((_plain(text[opened[0] :]), opened[1]))
    return [*tables, _laid_out(rows)] if any(rows) else tables


def _plain(markup: str) -> str:
    return html.unescape(_ANY_TAG.sub(" ", markup))


def _laid_out(rows: list[list[tuple[str, str]]]) -> Table:
    """Rows with every cell in its column; a cell that spans several stands in each of them."""
    table: Table = []
    held: dict[int, tuple[str, int]] = {}  # by column: a text from above, and for how many rows more
    cells = 0
    for row in rows:
        out: list[str] = []
        waiting = iter(row)
        while cells < MAX_CELLS:
            if len(out) in held:
                text, more = held.pop(len(out))
                if more > 1:
                    held[len(out)] = (text, more - 1)
                out.append(text)
                cells += 1
                continue
            cell = next(waiting, None)
            if cell is None:
                break
            spans = {kind.lower(): int(count) for kind, count in _SPAN.findall(cell[1])}
            for _ in range(max(1, spans.get("col", 1))):
                if spans.get("row", 1) > 1:
                    held[len(out)] = (cell[0], spans["row"] - 1)
                out.append(cell[0])
                cells += 1
        table.append(out)  # `held` is not copied: rows without cells cost nothing
    return table


def _markdown_tables(text: str) -> list[Table]:
    """Runs of lines with a pipe in them, but for the rules under headers; a run of one line is no table."""
    tables: list[Table] = []
    run: Table = []
    ruled = False
    for line in [*text.split("\n"), ""]:
        if "|" not in line:
            if len(run) > 1 or (run and ruled):
                tables.append(run)
            run, ruled = [], False
        elif len(run) == 1 and not ruled and "-" in line and not line.strip("|:-+ \t\r"):
            ruled = True  # below: a row of dashes is a row of missing values
        else:
            run.append(_markdown_cells(line.strip().removeprefix("|")))
    return tables


def _markdown_cells(line: str) -> list[str]:
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [cell.replace("\\|", "|").strip() for cell in _PIPE.split(line)]


def _separated(text: str) -> Table | None:
    delimiter = "\t" if "\t" in text else ","
    try:
        rows = list(
            islice(csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True), MAX_CELLS)
        )
    except csv.Error:
        return None
    return [row for row in rows if row] or None
