"""Whether what a program gave is what was expected; decided outside the sandbox."""

import json
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation


def same_text(expected: str, printed: str) -> bool:
    """LiveCodeBench's comparison: line by line without outer blanks, numbers of a line by value."""
    expected, printed = expected.strip(), printed.strip()
    if expected.count("\n") != printed.count("\n"):  # before megabytes of them become lists
        return False
    return all(map(_same_line, _lines(expected), _lines(printed)))


def same_value(expected: str, returned: str) -> bool:
    """Whether two JSON texts have one value; false where `returned` is no JSON.

    Raises:
        ValueError: `expected` is no JSON.
    """
    wanted = json.loads(expected)
    try:
        return bool(wanted == json.loads(returned))
    except (ValueError, RecursionError):
        return False


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]


def _same_line(wanted: str, given: str) -> bool:
    if wanted == given:
        return True
    words = wanted.split()
    others = given.split(None, len(words))  # words too many stay in one piece
    left = _numbers(words) if len(words) == len(others) else None
    return left is not None and left == _numbers(others)


def _numbers(words: Sequence[str]) -> Sequence[Decimal] | None:
    try:
        values = [Decimal(word) for word in words]
    except InvalidOperation:
        return None
    return values if all(value.is_finite() for value in values) else None
