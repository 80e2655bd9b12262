"""Dates and times of day, which no arithmetic may touch: 10:05 is no quotient, 2024-03-05 no difference."""

import re

_NAMES = "january february march april may june july august september october november december"
_MONTHS = {name[:length]: i for i, name in enumerate(_NAMES.split(), 1) for length in (3, len(name))} | {
    "sept": 9
}
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textrm) ?\{([^{}\\]*)\}")
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = r"(?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<year>[0-9]{4})(?P<separator>[-/.])(?P<month>[0-9]{1,2})(?P=separator)(?P<day>[0-9]{1,2})",
        rf"(?P<month>{_MONTH})\.? {_DAY}(?:,? ?(?P<year>[0-9]{{4}}))?",
        rf"(?:the )?{_DAY} (?:of )?(?P<month>{_MONTH})\.?(?:,? ?(?P<year>[0-9]{{4}}))?",
        rf"(?P<month>{_MONTH}),? (?P<year>[0-9]{{4}})",
    )
)
# Day and month stand in either order, so that it equals nothing but itself.
_EITHER_ORDER = re.compile(r"([0-9]{1,2})([/.])([0-9]{1,2})\2([0-9]{4})")
_TIME = re.compile(
    r"(?P<hour>[0-2]?[0-9]):(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9]))? ?(?P<half>[ap]\.?m\.?)?"
)
_HOUR = re.compile(r"(?P<hour>1?[0-9]) ?(?P<half>[ap]\.?m\.?)")

Date = tuple[int | str | None, ...]


def spoken(text: str) -> str:
    """Lower-case words of a tidied answer, text wrappers gone."""
    text = " ".join(_TEXT.sub(r" \1 ", text).lower().split())
    return text.replace(" ,", ",")


def read_date(text: str) -> Date | None:
    """(year, month, day), None where one was left out; or what stands there where its order is open."""
    words = spoken(text)
    if ordered := _EITHER_ORDER.fullmatch(words):
        return ("?", *map(int, ordered.group(1, 3, 4)))
    for pattern in _DATES:
        if match := pattern.fullmatch(words):
            found = match.groupdict()
            month = _MONTHS.get(found["month"]) or int(found["month"])
            year, day = found.get("year"), found.get("day")
            return (year and int(year), month, day and int(day))
    return None


def same_date(gold: str, answer: str) -> bool | None:
    """None where neither is a date; a date equals nothing but the same date."""
    left, right = read_date(gold), read_date(answer)
    return None if left is None and right is None else left == right


def same_time(gold: str, answer: str) -> bool | None:
    """Whether two times of day agree; None where they are not both one.

    A half of the day that the gold leaves open, the answer may name. 15:30 is 3:30 PM.
    """
    left, right = _read_time(gold), _read_time(answer)
    if left is None and right is None:
        return None
    if left is None or right is None:
        time = left or right
        assert time is not None
        # 3:20 alone may be a ratio; 3:20 PM, 10:05 and 10:05:30 are not.
        text = spoken(gold if left else answer)
        return False if time[1] or re.search(r":0[0-9]|:.*:", text) else None
    if left[1] == "" and right[1] and left[0] % 43200 == right[0] % 43200:
        return left[0] < 46800  # 13:00 and later is of no open half
    return left[0] == right[0]


def _read_time(text: str) -> tuple[int, str] | None:
    """Seconds since midnight and the half of the day ("a", "p" or "")."""
    words = spoken(text).replace(" :", ":").replace(": ", ":")
    match = _TIME.fullmatch(words) or _HOUR.fullmatch(words)
    if match is None:
        return None
    found = match.groupdict()
    hour, half = int(found["hour"]), (found["half"] or "")[:1]
    if hour > 23 or (half and not 1 <= hour <= 12):
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour * 3600 + int(found.get("minute") or 0) * 60 + int(found.get("second") or 0), half
