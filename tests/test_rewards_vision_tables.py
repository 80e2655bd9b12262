"""Tables: how they are read, and the F1 of their cells."""

import csv
import io
import json
import random
import time
from typing import Any

import pytest

from tests.vision_rows import rewards, row, verdicts
from vlrl.errors import UserError
from vlrl.rewards.vision.table import TableVerifier
from vlrl.rewards.vision.table_text import find_tables, read_table

TABLES = TableVerifier()
HEADED = {"header": ["Region", "Q1", "Q2"], "rows": [["North", 10, 20], ["South", 30, None]]}
LISTED = [["a", "b"], ["1", "2"]]
MARKDOWN = "| Region | Q1 | Q2 |\n|---|:-:|---|\n| North | 10 | 20 |\n| South | 30 | |"


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("a|b\n-|-\n1|2\n\ntext\n\n| x | y\\|z |\n|:--|--:|\n| 1 | |\n", [["x", "y|z"], ["1", ""]]),
        ("|a|b|\n|-|-|\n|-|-|", [["a", "b"], ["-", "-"]]),
        ("```markdown\n|a|\n|-|\n|1|\n```", [["a"], ["1"]]),
        ("<table><tr><th>a</th><th>b</th></tr><tr><td>1<td>2 &lt; 3</table>", [["a", "b"], ["1", "2 < 3"]]),
        ("<TABLE><TR><TD rowspan='2'>a<TD colspan=2>b<TR><TD>c<TD>d", [["a", "b", "b"], ["a", "c", "d"]]),
        ("<table><tr><td>1</table> or <table><tr><td><b>2</b></table>", [[" 2 "]]),
        ('So:\n```csv\na,"b,c"\n1, 2\n```\nThat is all.', [["a", "b,c"], ["1", "2"]]),
        ("a\tb\n1,5\t2", [["a", "b"], ["1,5", "2"]]),
        ('[["a", 1.50], [null, true]]', [["a", "1.5"], ["", "true"]]),
        ('[{"a": 1}, {"a": 2, "b": "x"}]', [["a", "b"], ["1", ""], ["2", "x"]]),
        ('{"header": ["a"], "rows": [[1]]}', [["a"], ["1"]]),
        ("prose", [["prose"]]),
        ("", None),
    ],
)
def test_reading(text: str, table: list[list[str]] | None) -> None:
    assert read_table(text) == table


def test_all_tables_of_a_page() -> None:
    page = "a|b\n-|-\n1|2\n\n<table><tr><td>x</td></tr></table>\nnot | one\n\n| c |\n| d |"
    assert find_tables(page) == [[["x"]], [["a", "b"], ["1", "2"]], [["c"], ["d"]]]


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        (MARKDOWN, 1.0),
        ("| | Q2 | Q1 |\n|-|-|-|\n| south | | 30.0 |\n| NORTH | 20 | 10 |", 1.0),
        ("Region,Q1,Q2\nNorth,10,20\nSouth,30,", 1.0),
        (json.dumps([{"Region": "North", "Q1": 10, "Q2": 20}, {"Region": "South", "Q1": 30}]), 1.0),
        (MARKDOWN.replace("20", "21"), 4 / 6),  # two of three agree, three and three cells
        (MARKDOWN.replace("30 | |", "30 | 40 |"), 6 / 7),  # one too many
        (MARKDOWN.replace("30 | |", "| |"), 4 / 5),  # one is missing
        (MARKDOWN.replace("South", "East"), 4 / 6),
        (MARKDOWN.replace("Q1", "Q3"), 2 / 6),
        ("| Region | Q1 | Q2 |\n|-|-|-|", 0.0),
        ("I see no table.", 0.0),
        ("", 0.0),
        ("10, 20, 30", 0.0),
        (f"{MARKDOWN}\n\n| Region | Q1 |\n|-|-|\n| North | 11 |", 0.0),  # the last one counts
    ],
)
def test_cells_by_headers(answer: str, reward: float) -> None:
    (verdict,) = verdicts(TABLES, row(json.dumps(HEADED)), f"<think>x</think>{answer}")
    assert verdict is not None and verdict.reward == pytest.approx(reward)
    assert verdict.status == ("correct" if reward == 1.0 else "wrong")


def test_cells_by_position() -> None:
    answers = ["a,b\n1,2", "b,a\n1,2", "a,b\n1,2\n3,4", "a,b", "A , B \n 1.0,2"]
    assert rewards(verdicts(TABLES, row(json.dumps(LISTED)), *answers)) == [1.0, 4 / 8, 8 / 10, 4 / 6, 1.0]
    assert rewards(verdicts(TABLES, row(json.dumps(LISTED), match="headers"), "z,b\n1,2")) == [1.0]
    (verdict,) = verdicts(TABLES, row(json.dumps(LISTED), case_sensitive=True), "A,b\n1,2")
    assert verdict is not None and verdict.reward == 6 / 8


def test_numbers_and_equal_headers() -> None:
    near = MARKDOWN.replace("10", "$10.4").replace("20", "19.5").replace("30", "30.9")
    assert rewards(verdicts(TABLES, row(json.dumps(HEADED), tolerance=0.5), near)) == [pytest.approx(4 / 6)]
    assert rewards(verdicts(TABLES, row(json.dumps(HEADED), relative_tolerance=0.05), near)) == [1.0]
    twice = [["", "x", "x"], ["r", 1, 2], ["r", 3, 4]]
    answers = [",x,x\nr,1,2\nr,3,4", ",x,x\nr,2,1\nr,3,4"]
    assert rewards(verdicts(TABLES, row(json.dumps(twice), match="headers"), *answers)) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("gold", "extra", "message"),
    [
        ("a,b", {}, "the ground truth is no table; give JSON"),
        ("{}", {}, "the ground truth is no table"),
        ("[[[1]]]", {}, "the ground truth is no table"),
        ('{"header": 1, "rows": []}', {}, "the ground truth is no table"),
        ("[" * 100_000, {}, "the ground truth is no table"),
        ("[[]]", {}, "has 0 cells that are not empty; give 1 to 10000"),
        ('[["a", "b"]]', {"match": "headers"}, "has 0 cells"),
        (json.dumps([[1] * 10_001]), {}, "has 10001 cells"),
        ("[[1]]", {"match": "cells"}, "match 'cells' must be one of headers, position"),
        ("[[1]]", {"tolerance": "x"}, "tolerance 'x' must"),
    ],
)
def test_refused(gold: str, extra: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"row 'row-7': .*{message}"):
        TABLES.check(row(gold, **extra))


def test_every_form_of_a_random_table_is_read_back() -> None:
    rng = random.Random(0)
    for _ in range(100):
        width, height = rng.randint(2, 6), rng.randint(2, 6)
        table = [
            [f"c{rng.randrange(1000)}, {rng.choice('|<&x')}" for _ in range(width)] for _ in range(height)
        ]
        lines = ["|" + "|".join(cell.replace("|", "\\|") for cell in cells) + "|" for cells in table]
        text = io.StringIO()
        csv.writer(text).writerows(table)
        escaped = [[cell.replace("&", "&amp;").replace("<", "&lt;") for cell in cells] for cells in table]
        markup = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in escaped)
        forms = ["\n".join([lines[0], "|---" * width + "|", *lines[1:]]), f"<table>{markup}</table>"]
        forms += (
            [json.dumps(table)]
            if any("|" in c for r in table for c in r)
            else [json.dumps(table), text.getvalue()]
        )
        found = verdicts(TABLES, row(json.dumps(table)), *forms)
        assert set(rewards(found)) == {1.0}, (table, forms)


def test_large_and_hostile_tables_take_no_time() -> None:
    table = [["", *[f"c{i}" for i in range(100)]], *[[f"r{i}", *range(i, i + 100)] for i in range(99)]]
    gold = json.dumps(table)
    hostile = [
        "<td>" * 250_000,
        "<td" * 150_000,
        "<table>" * 100_000,
        "<tr>" + "<td colspan=999 rowspan=999>" * 15_000,
        "<tr><td>" + "<td colspan=999 rowspan=999>" * 49 + "<tr>" * 100_000,
        "<tr><td rowspan=999 colspan=9>" * 15_000,
        "|" * 500_000,
        "|\n" * 250_000,
        "|" + "-:" * 240_000 + "x",
        '"' * 499_999,
        "[" * 500_000,
        "```\n" * 100_000,
        "|" + "1|" * 240_000 + "\n|" + "2|" * 9_000,
        "<td>" + "&#" * 200_000,
        "x" * 1_000_000,
    ]
    start = time.process_time()
    lines = ["|".join(f"{c}.0" if isinstance(c, int) else c for c in cells) for cells in table]
    decimal = "\n".join(f"|{line}|" for line in lines)
    assert rewards(verdicts(TABLES, row(gold, match="headers"), decimal)) == [1.0]
    found = rewards(verdicts(TABLES, row(json.dumps(LISTED)), *hostile))
    assert all(reward is not None and reward < 1e-4 for reward in found)
    assert time.process_time() - start < 5.0
