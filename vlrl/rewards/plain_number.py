"""Plain numbers as they are written in answers, read exactly.

Integers, decimals (repeating ones too), fractions, mixed numbers, percentages, thousands separators, signs,
scale words, currencies, known units, and what is counted ("12 marbles"). Anything else is no plain number
(None): reading less is safe, since math-verify sees what is left.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from vlrl.rewards.units import NO_UNIT, Unit, read_unit

MAX_NUMBER_CHARS = 100

# Grouped digits must be whole thousands, so that the list "1,2" is never the number 12.
_INTEGER = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]{0,2}(?: [0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.[0-9]*)?|\.[0-9]+)"
_SIMPLE = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_PLAIN = re.compile(rf"(?P<sign>[+-]?) ?(?P<top>{_DECIMAL})(?: ?/ ?(?P<bottom>{_DECIMAL}))?(?P<tail>.*)")
_FRACTION = re.compile(
    rf"(?P<sign>[+-]?) ?(?:(?P<whole>{_INTEGER}) ?)?\\frac ?"
    rf"(?:\{{ ?(?P<top>[+-]? ?{_DECIMAL}) ?\}}|(?P<top_digit>[0-9])) ?"
    rf"(?:\{{ ?(?P<bottom>[+-]? ?{_DECIMAL}) ?\}}|(?P<bottom_digit>[0-9]))(?P<tail>.*)"
)
_MIXED = re.compile(r"(?P<sign>[+-]?) ?(?P<whole>[0-9]+) (?P<top>[0-9]+)/(?P<bottom>[0-9]+)(?P<tail>.*)")
_REPEATING = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)\.(?P<fixed>[0-9]*)"
    r"(?:\\(?:overline|bar|dot) ?\{?(?P<period>[0-9]+)\}?|(?P<digit>[0-9])(?P=digit){2,}(?:\\l?dots|\.\.\.))"
)
_POWER_OF_TEN = re.compile(
    r"(?P<sign>[+-]?)(?P<top>[0-9]+(?:\.[0-9]+)?)"
    r"(?:(?:\\times|\\cdot|\*| x) ?10\^(?:\{(?P<braced>[+-]?[0-9]{1,3})\}|(?P<bare>[0-9]))"
    r"|[eE](?P<short>[+-]?[0-9]{1,3}))(?P<tail>.*)"
)
_TEXT_TAIL = re.compile(r"\\(?:text|mbox|mathrm|textrm|rm|operatorname) ?\{((?:[^{}\\]|\{[^{}]*\})*)\}")
_CURRENCY = re.compile(
    r"([+-]?) ?(?:\\text ?\{ ?)?(\\?\$|€|£|\\pounds|\\euro|(?:USD|EUR|GBP)(?= ?\}?[0-9 ]))(?: ?\})? ?"
)
_DEGREES = re.compile(r"(?:\^\\circ|\\degree)(?: ?(?:\\(?:text|mathrm) ?\{ ?)?([CF]) ?\}?)?")
_CURRENCY_TAIL = {"\\$": "dollar", "$": "dollar", "€": "euro", "£": "pound", "¢": "cent", "\\text{¢}": "cent"}
_CURRENCIES = {"\\pounds": "pound", "\\euro": "euro", "USD": "dollar", "EUR": "euro", "GBP": "pound"}

_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES["trillion"] = 10**12
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_WORDS = {word: Fraction(value) for value, word in enumerate(_SMALL.split())}
_WORDS |= {"seventeen": Fraction(17), "eighteen": Fraction(18), "nineteen": Fraction(19)}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS |= {word: Fraction(10 * tens) for tens, word in enumerate(_TENS.split(), 2)}
_WORDS |= {
    f"{tens}-{word}": _WORDS[tens] + value
    for tens in _TENS.split()
    for value, word in enumerate(_SMALL.split()[1:10], 1)
}
_WORDS |= {"one half": Fraction(1, 2), "one third": Fraction(1, 3), "one quarter": Fraction(1, 4)}
_WORDS |= {
    f"{word} {scale}": _WORDS[word] * size for word in _SMALL.split() for scale, size in _SCALES.items()
}

# What is counted is one to four words, none of which could change the number.
_COUNTED = re.compile(r"[a-z]{2,}(?:[ -][a-z]+){0,3}")
_CHANGING_WORDS = """
or and to less more fewer not mod modulo base times percent squared cubed factorial half halves third thirds
quarter quarters fourths fifths tenths hundredths log sin cos tan sqrt exp inf infinity div over plus minus by
dozens hundreds thousands millions pairs remainder choose root above below out least most than between
negative fifth sixth sixths seventh sevenths eighth eighths ninth ninths tenth eleventh elevenths twelfth
twelfths sixteenths twentieths hundredth thousandth thousandths millionths tens gross score scores fold wrong
incorrect false maybe perhaps possibly probably alternatively either else otherwise versus vs if unless but
pi alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega
"""
_CHANGING = frozenset(_CHANGING_WORDS.split()) | _SCALES.keys()
_OPPOSITES = tuple(
    map(
        frozenset,
        (
            ("north", "south", "east", "west"),
            ("left", "right"),
            ("up", "down"),
            ("noon", "midnight"),
            ("morning", "afternoon", "evening", "night"),
            ("ago", "later", "hence"),
            ("early", "late"),
            ("older", "younger"),
            ("faster", "slower"),
            ("longer", "shorter"),
            ("clockwise", "counterclockwise", "anticlockwise"),
            ("profit", "loss"),
            ("gain", "loss"),
            ("increase", "decrease"),
            ("girls", "boys"),
            ("men", "women"),
        ),
    )
)


@dataclass(slots=True, frozen=True)
class PlainNumber:
    """An exact value as written: "50%" is 50 with `percent`. `unit` is `NO_UNIT` where none was given.

    `counted` is what there are so many of ("marbles"), which no comparison relies on.
    """

    value: Fraction
    unit: Unit = NO_UNIT
    percent: bool = False
    counted: str = ""


def parse_number(text: str) -> PlainNumber | None:
    """The number that a tidied answer (see `tidy.tidy`) is, or None."""
    if len(text) > MAX_NUMBER_CHARS:
        return None
    if _SIMPLE.fullmatch(text):
        return PlainNumber(Fraction(text))
    if not any(character.isdigit() for character in text):
        word = _WORDS.get(_spoken(text))
        return None if word is None else PlainNumber(word)
    return _one_number(text) or _sum_of_units(text)


def _one_number(text: str) -> PlainNumber | None:
    money = _CURRENCY.match(text)
    if money:
        text = money[1] + text[money.end() :]
    read = _read_digits(text)
    if read is None:
        return None
    value, rest = read
    tail = _read_tail(rest)
    if tail is None or (money and (tail.unit != NO_UNIT or tail.percent or tail.counted)):
        return None
    if money:
        symbol = money[2]
        unit = read_unit(_CURRENCIES.get(symbol) or _CURRENCY_TAIL[symbol])
        assert unit is not None
        tail = replace(tail, unit=unit)
    return replace(tail, value=value * tail.value)


def _read_digits(text: str) -> tuple[Fraction, str] | None:
    """The value of the digits, and what follows them."""
    if repeating := _REPEATING.fullmatch(text):
        return _repeating(**repeating.groupdict()), ""
    if power := _POWER_OF_TEN.fullmatch(text):
        exponent = power["braced"] or power["bare"] or power["short"]
        value = _exact(power["sign"] + power["top"]) * Fraction(10) ** int(exponent)
        return value, power["tail"]
    match = _FRACTION.fullmatch(text) or _MIXED.fullmatch(text) or _PLAIN.fullmatch(text)
    if match is None:
        return None
    groups = match.groupdict()
    top = _exact(groups["top"] or groups["top_digit"])
    bottom = _exact(groups["bottom"] or groups.get("bottom_digit") or "1")
    if bottom == 0:
        return None
    value = top / bottom
    if groups.get("whole"):
        if not 0 < value < 1:
            return None  # a product, or a slip
        value += _exact(groups["whole"])
    return -value if groups["sign"] == "-" else value, groups["tail"]


def _exact(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", ""))


def _repeating(sign: str, whole: str, fixed: str, period: str | None, digit: str | None) -> Fraction:
    period = period or digit or ""
    value = Fraction(int(whole + fixed + period or "0") - int(whole + fixed or "0"), 10 ** len(period) - 1)
    value /= 10 ** len(fixed)
    return -value if sign == "-" else value


def _spoken(text: str) -> str:
    return " ".join(_TEXT_TAIL.sub(r" \1", text).lower().split())


def _read_tail(rest: str) -> PlainNumber | None:
    """What follows the digits, as the factor it stands for; None where it is no known unit."""
    tail = rest.strip()
    if tail in ("", "%", "\\%"):
        return PlainNumber(Fraction(1), percent=tail != "")
    if degrees := _DEGREES.fullmatch(tail):
        return PlainNumber(Fraction(1), unit=Unit(((degrees[1] or "degree", 1),), Fraction(1)))
    words = _CURRENCY_TAIL.get(tail) or _spoken(tail).replace(" ^", "^").replace("^ ", "^").strip("~")
    scale, _, unscaled = words.partition(" ")
    factor = Fraction(_SCALES.get(scale, 1))
    words = unscaled if scale in _SCALES else words
    if not words:
        return PlainNumber(factor)
    if words in ("percent", "percents", "pct"):
        return PlainNumber(factor, percent=True)
    # A letter right after the digits is a variable: 5m is no length.
    if len(words.partition("^")[0]) == 1 and "\\" not in tail and not rest.startswith(" "):
        return None
    unit = read_unit(words)
    if unit is not None:
        return PlainNumber(factor, unit=unit)
    # So are two or three of them: "2 ab".
    named = "\\" in tail or len(words.split(" ")[0]) > 3
    return PlainNumber(factor, counted=words) if named and is_counted(words) else None


def is_counted(words: str) -> bool:
    """Whether lower-case words after a number leave its value as it is: "marbles", "different ways"."""
    words = words.strip("()")
    each = re.split("[ -]", words)
    return bool(_COUNTED.fullmatch(words)) and _CHANGING.isdisjoint(each) and each[-1] not in _WORDS


def changes_number(words: str) -> bool:
    """Whether lower-case words after a number make another one of it, or take it back."""
    return not _CHANGING.isdisjoint(re.split("[ -]", words))


def other_things(left: PlainNumber, right: PlainNumber) -> bool:
    """Whether what two numbers count or measure cannot be the same: 5 watts and 5 kW, 3 pm and 3 am."""
    if left.counted and right.counted:
        return _differ(left.counted, right.counted)
    for unit, counted in ((left.unit, right.counted), (right.unit, left.counted)):
        if unit.measures and counted and all(_measures(word) != unit.measures for word in counted.split(" ")):
            return True
    return False


def _differ(left: str, right: str) -> bool:
    # Words as short are symbols of units or halves of the day and of history.
    if left != right and max(len(left), len(right)) <= 3:
        return True
    mine, other = set(re.split("[ -]", left)), set(re.split("[ -]", right))
    return any(mine & group and other & group and mine & group != other & group for group in _OPPOSITES)


def _measures(word: str) -> tuple[tuple[str, int], ...]:
    unit = read_unit(word)
    return unit.measures if unit is not None else ()


_PART = re.compile(rf"({_DECIMAL}|[0-9]* ?\\frac\{{[0-9]+\}}\{{[0-9]+\}}) ?([a-z]+)\.?,?(?: and)? ?")


def _sum_of_units(text: str) -> PlainNumber | None:
    """2 hours 15 minutes, 5 feet 3 inches: amounts of one kind, largest first."""
    words = _spoken(text)
    place, amounts, total = 0, list[Unit](), Fraction(0)
    while place < len(words):
        part = _PART.match(words, place)
        unit = read_unit(part[2]) if part else None
        if part is None or unit is None or unit.measures == () or len(amounts) > 4:
            return None
        if amounts and (amounts[-1].measures != unit.measures or amounts[-1].size <= unit.size):
            return None
        read = _read_digits(part[1])
        if read is None:
            return None
        total += read[0] * unit.size
        amounts.append(unit)
        place = part.end()
    if len(amounts) < 2:
        return None
    return PlainNumber(total / amounts[0].size, unit=amounts[0])
