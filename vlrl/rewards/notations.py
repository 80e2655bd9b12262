"""Forms that look like arithmetic and are not: numerals of a base, ratios of several parts."""

import re
from fractions import Fraction

from vlrl.rewards.moments import spoken

_NAMES = "two three four five six seven eight nine ten eleven twelve"
_BASES = _NAMES.split()
_NUMERAL = re.compile(
    r"\(?(?P<digits>[0-9a-z][0-9a-z, ]*?) ?\)?"
    rf"(?:_ ?\{{? ?\(?(?:base )?(?P<base>[0-9]{{1,2}}|{'|'.join(_BASES)})\)? ?\}}?"
    r"| ?\(?(?:in )?base (?P<spoken>[0-9]{1,2})\)?)"
)
_PART = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
_RATIO = re.compile(rf"{_PART}(?:(?: ?: ?| to ){_PART})+")


def same_numeral(gold: str, answer: str) -> bool | None:
    """Whether two numerals have the same digits in the same base; None where they are not both one."""
    left, right = _read_numeral(gold), _read_numeral(answer)
    return None if left is None or right is None else left == right


def _read_numeral(text: str) -> tuple[str, int] | None:
    if "_" not in text and "base" not in text:
        return None
    match = _NUMERAL.fullmatch(spoken(text).replace("_{ ", "_{"))
    if match is None:
        return None
    base = match["base"] or match["spoken"]
    digits = re.sub("[, ]", "", match["digits"]).lstrip("0") or "0"
    radix = _BASES.index(base) + 2 if base in _BASES else int(base)
    # x_2 is a variable: its x is no digit.
    valid = radix <= 36 and all(int(digit, 36) < radix for digit in digits)
    return (digits, radix) if valid else None


def same_ratio(gold: str, answer: str) -> bool | None:
    """Whether two ratios are the same after scaling; None where they are not both one.

    A fraction may stand for a ratio of two parts.
    """
    left, right = read_ratio(gold), read_ratio(answer)
    if left is None or right is None:
        parts = left or right
        # Several parts are no quotient of quotients, as which they would be computed.
        return False if parts is not None and len(parts) > 2 else None
    if len(left) != len(right) or not any(left) or not any(right):
        return False
    return all(
        a * d == b * c for a, b in zip(left, right, strict=True) for c, d in zip(left, right, strict=True)
    )


def read_ratio(text: str) -> list[Fraction] | None:
    """The parts of "3:2" or "3 to 2"."""
    words = spoken(text)
    if not _RATIO.fullmatch(words):
        return None
    return [Fraction(part) for part in re.split(r" ?: ?| to ", words)]
