"""Plain numbers as they are written in answers, read exactly.

Integers, decimals, fractions, percentages, thousands separators, signs, scale words and known units.
Anything else is no plain number (None): reading less is safe, since math-verify sees what is left.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_NUMBER_CHARS = 100

# Grouped digits must be whole thousands, so that the list "1,2" is never the number 12.
_INTEGER = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.[0-9]*)?|\.[0-9]+)"
_PLAIN = re.compile(rf"(?P<sign>[+-]?) ?(?P<top>{_DECIMAL})(?: ?/ ?(?P<bottom>{_DECIMAL}))?(?P<tail>.*)")
_FRACTION = re.compile(
    rf"(?P<sign>[+-]?) ?\\frac ?"
    rf"(?:\{{ ?(?P<top>[+-]? ?{_DECIMAL}) ?\}}|(?P<top_digit>[0-9])) ?"
    rf"(?:\{{ ?(?P<bottom>[+-]? ?{_DECIMAL}) ?\}}|(?P<bottom_digit>[0-9]))(?P<tail>.*)"
)
_TEXT_TAIL = re.compile(r"\\(?:text|mbox|mathrm|textrm|rm|operatorname) ?\{([^{}\\]*)\}")
_UNIT = re.compile(r"(?P<name>[a-z]+(?: [a-z]+){0,2})(?: ?\^ ?\{? ?(?P<power>[23]) ?\}?)?")

_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES["trillion"] = 10**12

# Spellings of one unit share a line; the first is its name. "unit" says nothing and counts as none.
_UNITS = {
    spelling: names.split("|")[0]
    for names in (
        "|unit|units",
        "degree|degrees|deg",
        "percent|percents",
        "dollar|dollars|usd",
        "cent|cents",
        "mm|millimeter|millimeters|millimetre|millimetres",
        "cm|centimeter|centimeters|centimetre|centimetres",
        "m|meter|meters|metre|metres",
        "km|kilometer|kilometers|kilometre|kilometres",
        "inch|inches|in",
        "foot|feet|ft",
        "yard|yards|yd",
        "mile|miles|mi",
        "mph|miles per hour",
        "second|seconds|sec|s",
        "minute|minutes|min",
        "hour|hours|hr|hrs|h",
        "day|days",
        "week|weeks",
        "month|months",
        "year|years",
        "mg|milligram|milligrams",
        "g|gram|grams",
        "kg|kilogram|kilograms",
        "ounce|ounces|oz",
        "pound|pounds|lb|lbs",
        "ml|milliliter|milliliters",
        "liter|liters|litre|litres|l",
        "gallon|gallons",
        "people|person",
        "student|students",
        "point|points",
        "time|times",
        "way|ways",
    )
    for spelling in names.split("|")
    if spelling
}


@dataclass(slots=True, frozen=True)
class PlainNumber:
    """An exact value as written: "50%" is 50 with `percent`. `unit` is "" where none was given."""

    value: Fraction
    unit: str = ""
    percent: bool = False


def parse_number(text: str) -> PlainNumber | None:
    """The number that a tidied answer (see `fast_path.tidy`) is, or None."""
    if len(text) > MAX_NUMBER_CHARS:
        return None
    dollars = re.match(r"([+-]?) ?\\?\$ ?", text)
    if dollars:
        text = dollars.group(1) + text[dollars.end() :]
    match = _FRACTION.fullmatch(text) or _PLAIN.fullmatch(text)
    if match is None:
        return None
    groups = match.groupdict()
    top = _exact(groups["top"] or groups["top_digit"])
    bottom = _exact(groups["bottom"] or groups.get("bottom_digit") or "1")
    tail = _read_tail(groups["tail"].strip())
    if bottom == 0 or tail is None or (dollars and tail.unit):
        return None
    value = top / bottom * tail.value
    return PlainNumber(
        value=-value if groups["sign"] == "-" else value,
        unit="dollar" if dollars else tail.unit,
        percent=tail.percent,
    )


def _exact(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", ""))


def _read_tail(tail: str) -> PlainNumber | None:
    """What follows the digits, as the factor it stands for; None where it is no known unit."""
    if tail in ("", "%", "\\%"):
        return PlainNumber(Fraction(1), percent=tail != "")
    if tail in ("^\\circ", "\\degree"):
        return PlainNumber(Fraction(1), unit="degree")
    words = " ".join(_TEXT_TAIL.sub(r" \1", tail).lower().split())
    scale, _, rest = words.partition(" ")
    factor = Fraction(_SCALES.get(scale, 1))
    words = rest if scale in _SCALES else words
    if not words:
        return PlainNumber(factor)
    unit = _read_unit(words)
    # Outside \text a single letter is a variable: 5m is no length.
    if unit is None or (len(words) == 1 and "\\" not in tail):
        return None
    return PlainNumber(factor, percent=True) if unit == "percent" else PlainNumber(factor, unit=unit)


def _read_unit(words: str) -> str | None:
    """The canonical name of a unit with its power ("cm2"), or None."""
    match = _UNIT.fullmatch(words)
    if match is None:
        return None
    name, power = match["name"], match["power"] or ""
    for prefix, exponent in (("square ", "2"), ("sq ", "2"), ("cubic ", "3")):
        if name.startswith(prefix) and not power:
            name, power = name.removeprefix(prefix), exponent
    if name not in _UNITS:
        return None
    return _UNITS[name] + power if _UNITS[name] else ""
