"""Comparison without a grading process: identical forms, numbers, choices, dates, numerals, labels.

It decides only what it is sure of and leaves the rest (None) to math-verify. It is never wrongly equal.
Where both decide they agree, but for pairs on which math-verify errs: it drops units and scale words, so
that to it 5 equals 5 million and 5 cm equals 5 m.
"""

import re
from fractions import Fraction

from vlrl.rewards.choices import same_choice
from vlrl.rewards.moments import same_date, same_time
from vlrl.rewards.notations import same_numeral, same_ratio
from vlrl.rewards.plain_number import PlainNumber, other_things, parse_number
from vlrl.rewards.tidy import tidy
from vlrl.rewards.units import NO_UNIT

MAX_CHARS = 2000

# math-verify rounds to six decimals: values closer than this are left to it.
_ROUNDING = Fraction(2, 10**6)

_INTEGER = re.compile(r"-?[0-9]{1,100}")
_LABEL = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*(?: [A-Za-z]+(?:['-][A-Za-z]+)*)*")
# Words that math-verify may know more about than spelling.
_MATH_WORD = re.compile(
    r"\b(?:(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|log|ln|exp|sqrt|pi|inf|infinity|mod|and|or)\b", re.IGNORECASE
)
_MATH_NAME = re.compile(r"sqrt|log|ln|exp|sin|cos|tan|pi|inf", re.IGNORECASE)
_CODE, _ALPHANUMERIC = re.compile(r"[A-Za-z]+[0-9][A-Za-z0-9]*"), re.compile(r"[A-Za-z0-9]+")
_ARTICLE = re.compile(r"(?:an?|the) (?=.{3})")
_ASSIGNED = re.compile(
    r"(?:[A-Za-z]|\\[a-z]+|\\angle ?[A-Z]{1,3}|[A-Z]\([A-Z]\))(?:_\{?[0-9A-Za-z]\}?)?=([^=]+)"
)
# Letters in an order of their own, though each looks like a product: a ranking, an angle, a numeral.
_THREE_POINTS = re.compile(r"(?:\\angle ?)?([A-Z]{3})")
_ROMAN = re.compile(r"(?=.*[IVX])[IVXLCDM]{2,}")
# A span of years, a score, a telephone number; a date whose order is open. None is a difference or quotient.
_DASHED = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:-[0-9]+(?:\.[0-9]+)?)+")
_SLASHED = re.compile(r"[0-9]{1,4}/[0-9]{1,2}/[0-9]{1,4}")
# Words as short as a product of variables, whose letters stand in no order.
_SHORT = (
    "no on up us ok yes not one two six ten out off top low red sky sun sea day cat dog bat rat ant bee cow "
    "hen pig fox owl ape car bus van cab bar pie map box cup hat bag key man men boy kid mom dad son eye ear "
    "arm leg toe egg tea ham jan feb mar apr may jun jul aug sep oct nov dec mon tue wed thu fri sat oil gas"
)
_SHORT_WORDS = frozenset(_SHORT.split())
_SYNONYMS = {
    phrase: phrases.split("|")[0]
    for phrases in (
        r"\emptyset|\{\}|empty set|the empty set|no solution|no solutions|no real solution|no real solutions",
        r"\mathbb{R}|\mathbb R|R|all real numbers|all reals|the real numbers|(-\infty,\infty)",
        r"\infty|+\infty|infinity|positive infinity|inf",
        r"-\infty|negative infinity|-infinity|minus infinity|-inf|-\text{infinity}",
        r"undefined|does not exist|dne",
    )
    for phrase in phrases.split("|")
} | {r"(-\infty,+\infty)": r"\mathbb{R}"}  # fmt: skip


def fast_compare(gold: str, answer: str) -> tuple[bool | None, str]:
    """Whether `answer` equals `gold`, and the rule that decided; (None, "") where none did.

    Rules: `same_form`, `number`, `choice`, `date`, `time`, `numeral`, `ratio`, `span`, `order`,
    `code`, `label`.
    """
    if len(gold) > MAX_CHARS or len(answer) > MAX_CHARS:
        return None, ""
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return int(gold) == int(answer), "number"  # by far the most frequent pair
    gold, answer = tidy(gold), tidy(answer)
    if not gold or not answer:
        return None, ""
    if gold == answer:
        return True, "same_form"
    equal = _compare_numbers(gold, answer)
    if equal is not None:
        return equal, "number"
    for compare, rule in _RULES:
        if (equal := compare(gold, answer)) is not None:
            return equal, rule
    return None, ""


def _compare_numbers(gold: str, answer: str) -> bool | None:
    left, right = parse_number(gold), parse_number(answer)
    if left is not None and right is None and (assigned := _ASSIGNED.fullmatch(answer)):
        right = parse_number(assigned[1])
    return None if left is None or right is None else _same_number(left, right)


def _same_number(left: PlainNumber, right: PlainNumber) -> bool | None:
    if left.percent != right.percent:
        return _same_percentage(left, right)
    if other_things(left, right):
        return False
    if left.unit.measures and right.unit.measures:
        if left.unit.measures != right.unit.measures:
            return None if left.value == right.value == 0 else False
        return left.value * left.unit.size == right.value * right.unit.size
    # A unit that one of them leaves out is the other's.
    return _same_value(left.value, right.value)


def _same_percentage(left: PlainNumber, right: PlainNumber) -> bool | None:
    """A percentage and a plain number: 50% is 0.5. Whether it is also 50 depends on the question."""
    percent, plain = (left, right) if left.percent else (right, left)
    if plain.unit != NO_UNIT or plain.counted:
        return False
    if percent.value == plain.value:
        # Taken for so where the gold has the sign, or like math-verify where the number is whole.
        return True if plain.value > 1 and (left.percent or plain.value.denominator == 1) else None
    return _same_value(percent.value / 100, plain.value)


def _same_value(left: Fraction, right: Fraction) -> bool | None:
    if left == right:
        return True
    if left.denominator == right.denominator == 1:
        return False
    # But not such as are small themselves: 0.00000123 is not 0.0000012.
    close = max(min(_ROUNDING, abs(left) / 10**5), abs(left) / 10**12)
    return None if abs(left - right) < close else False


def _same_phrase(gold: str, answer: str) -> bool | None:
    left, right = (_SYNONYMS.get(text.casefold(), _SYNONYMS.get(text)) for text in (gold, answer))
    return None if left is None or right is None else left == right


def _same_span(gold: str, answer: str) -> bool | None:
    """10-20 is 10 to 20, and not 20-30."""
    if _SLASHED.fullmatch(gold) and _SLASHED.fullmatch(answer):
        return False  # the same form is found before
    if not _DASHED.fullmatch(gold):
        return None
    other = answer.replace(" to ", "-").replace("--", "-")
    return gold == other if _DASHED.fullmatch(other) else None


def _same_order(gold: str, answer: str) -> bool | None:
    """ABC is no BAC and IV no VI; the angle ABC is CBA."""
    left, right = _THREE_POINTS.fullmatch(gold), _THREE_POINTS.fullmatch(answer)
    if left and right:
        return left[1] == right[1] or ("\\angle" in gold and left[1] == right[1][::-1])
    return gold == answer if _ROMAN.fullmatch(gold) and _ROMAN.fullmatch(answer) else None


def _same_code(gold: str, answer: str) -> bool | None:
    """A seat or a grid cell (A4) is no product: 4A is another one."""
    if not (_CODE.fullmatch(gold) or _CODE.fullmatch(answer)):
        return None
    for text in (gold, answer):
        if not _ALPHANUMERIC.fullmatch(text) or text.isdigit() or _MATH_NAME.search(text):
            return None
    return None if gold.casefold() == answer.casefold() else False


def _same_label(gold: str, answer: str) -> bool | None:
    left, right = (_ARTICLE.sub("", text.casefold()) for text in (gold, answer))
    known = left in _SHORT_WORDS or right in _SHORT_WORDS
    for text in (left, right):
        too_short = max(map(len, text.split(" "))) < 3 and not known
        if not _LABEL.fullmatch(text) or too_short or _MATH_WORD.search(text):
            return None
    if left == right:
        return True
    # Three letters may be a product of variables, in any order.
    return None if len(left) == 3 and sorted(left) == sorted(right) and not known else False


_RULES = (
    (_same_phrase, "label"),
    (same_choice, "choice"),
    (same_date, "date"),
    (same_time, "time"),
    (same_numeral, "numeral"),
    (same_ratio, "ratio"),
    (_same_span, "span"),
    (_same_order, "order"),
    (_same_code, "code"),
    (_same_label, "label"),
)
