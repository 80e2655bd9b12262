"""The cells of a page's tables, and whether one has the neighbours that a test asks for."""

from typing import Any

from vlrl.rewards.vision.labels import plain_label
from vlrl.rewards.vision.page_test_rows import MAX_PHRASE_CHARS
from vlrl.rewards.vision.table_text import Table, find_tables


class PageCells:
    """The tables of a page, their cells in the form of labels."""

    def __init__(self, page: str) -> None:
        plain: dict[str, str] = {}
        self._tables: list[Table] = []
        for table in find_tables(page):
            for cell in (cell for cells in table for cell in cells):
                if cell not in plain:
                    plain[cell] = plain_label(cell.replace("**", "")) if len(cell) <= MAX_PHRASE_CHARS else ""
            self._tables.append([[plain[cell] for cell in cells] for cells in table])
        self._all = set(plain.values())

    def hold(self, test: dict[str, Any]) -> bool:
        """Whether some cell passes a test of type `cell`, in one pass over the cells."""
        if not {text for key, text in test.items() if key != "type"} <= self._all:
            return False
        return any(_holds(test, table) for table in self._tables)


def _holds(test: dict[str, Any], table: Table) -> bool:
    under: set[int] = set()  # columns in which the wanted top heading has been passed
    for row, cells in enumerate(table):
        beside = False
        for column, text in enumerate(cells):
            if text == test["cell"] and _next_to(test, table, row, column):
                headed = "top_heading" not in test or column in under
                if headed and (beside or "left_heading" not in test):
                    return True
            beside = beside or text == test.get("left_heading")
        under.update(column for column, text in enumerate(cells) if text == test.get("top_heading"))
    return False


def _next_to(test: dict[str, Any], table: Table, row: int, column: int) -> bool:
    places = {
        "up": (row - 1, column),
        "down": (row + 1, column),
        "left": (row, column - 1),
        "right": (row, column + 1),
    }
    return all(_at(table, *place) == test[key] for key, place in places.items() if key in test)


def _at(table: Table, row: int, column: int) -> str | None:
    if not 0 <= row < len(table) or not 0 <= column < len(table[row]):
        return None
    return table[row][column]
