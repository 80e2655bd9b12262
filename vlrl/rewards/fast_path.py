"""Comparison without a grading process: identical forms, plain numbers, choice letters, labels.

It decides only what it is sure of and leaves the rest (None) to math-verify. It is never wrongly equal.
Where both decide they agree, but for pairs on which math-verify errs: it drops units and scale words, so
that to it 5 equals 5 million and 5 cm equals 5 m.
"""

import re
from fractions import Fraction

from vlrl.rewards.plain_number import PlainNumber, parse_number

MAX_CHARS = 2000

# math-verify rounds to six decimals: values closer than this are left to it.
_ROUNDING = Fraction(2, 10**6)

_INTEGER = re.compile(r"-?[0-9]{1,100}")
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox) ?\{([^{}]*)\}")
_CHOICE = re.compile(r"\(([A-Ha-h])\)|([A-Ha-h])\)?")
_LABEL = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*(?: [A-Za-z]+(?:['-][A-Za-z]+)*)*")
# Words that math-verify may know more about than spelling.
_MATH_WORD = re.compile(
    r"\b(?:(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|log|ln|exp|sqrt|pi|inf|infinity|mod|and|or)\b", re.IGNORECASE
)
_MATH_NAME = re.compile(r"sqrt|log|ln|exp|sin|cos|tan|pi|inf", re.IGNORECASE)
_DATE = re.compile(r"[0-9]{4}(-)[0-9]{1,2}-[0-9]{1,2}|[0-9]{1,2}([/.])[0-9]{1,2}\2[0-9]{4}")
_CODE, _ALPHANUMERIC = re.compile(r"[A-Za-z]+[0-9][A-Za-z0-9]*"), re.compile(r"[A-Za-z0-9]+")
# Words as short as a product of variables, whose letters stand in no order.
_SHORT = (
    "no on up us ok yes not one two six ten out off top low red sky sun sea day cat dog bat rat ant bee cow "
    "hen pig fox owl ape car bus van cab bar pie map box cup hat bag key man men boy kid mom dad son eye ear "
    "arm leg toe egg tea ham jan feb mar apr may jun jul aug sep oct nov dec mon tue wed thu fri sat oil gas"
)
_SHORT_WORDS = frozenset(_SHORT.split())
_SUBSTITUTIONS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\u2212", "-"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:left|right)(?![A-Za-z])", ""),
        (r"\u00b0|\^\{ ?\\circ ?\}", r"^\\circ"),
        # Thousands separators that LaTeX spells in three more ways.
        (r"\{,\}|,\\!\s*|(?<=[0-9])\\,(?=[0-9]{3}(?![0-9]))", ","),
        (r"\\!", ""),
        (r"\\[,;: ]|~|\s+", " "),
        (r" +", " "),
        # A space goes where it says nothing. It stays between words and digits, and where a list would
        # become a number: "1, 234", "1 -2".
        (r"(?<![\w.]) (?!(?<=,[ ])[0-9]{3}(?![0-9]))|(?<=[\w.]) (?![\w.]|[+-][^ ])", ""),
    )
)


def fast_compare(gold: str, answer: str) -> tuple[bool | None, str]:
    """Whether `answer` equals `gold`, and the rule that decided; (None, "") where none did.

    Rules: `same_form`, `number`, `choice`, `date`, `code`, `label`.
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
    left, right = parse_number(gold), parse_number(answer)
    if left is not None and right is not None:
        equal = _same_number(left, right)
        return equal, "" if equal is None else "number"
    for compare, rule in ((_same_choice, "choice"), (_same_date, "date"), (_same_code, "code")):
        equal = compare(gold, answer)
        if equal is not None:
            return equal, rule
    equal = _same_label(gold, answer)
    return equal, "" if equal is None else "label"


def tidy(text: str) -> str:
    """An answer without what never changes its meaning: outer `$`, text wrappers, spacing, final stop."""
    text = _without_stop(text.strip())
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            if "$" not in inner and "\\(" not in inner and "\\[" not in inner:
                text = inner
                break
    for pattern, replacement in _SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    text = text.strip()
    while wrapped := _WRAPPER.fullmatch(text):
        text = wrapped.group(1).strip()
    return _without_stop(text)


def _without_stop(text: str) -> str:
    return text[:-1] if text.endswith(".") and not text.endswith("..") else text


def _same_number(left: PlainNumber, right: PlainNumber) -> bool | None:
    if left.percent != right.percent:
        # 50% is 0.5; whether it is also 50 depends on the question, so math-verify says.
        percent, plain = (left, right) if left.percent else (right, left)
        return True if percent.value == 100 * plain.value and not plain.unit else None
    if left.unit and right.unit and left.unit != right.unit:
        return False if left.value == right.value != 0 else None
    if left.value == right.value:
        return True
    difference = abs(left.value - right.value)
    if left.value.denominator == right.value.denominator == 1:
        return False
    close = max(_ROUNDING, abs(left.value) / 10**12)
    return None if difference < close else False


def _same_choice(gold: str, answer: str) -> bool | None:
    left, right = _CHOICE.fullmatch(gold), _CHOICE.fullmatch(answer)
    if left is None or right is None:
        return None
    expected, given = left.group(1) or left.group(2), right.group(1) or right.group(2)
    # A lower-case gold may be a variable, which case tells apart.
    return expected == given.upper() if expected.isupper() else None


def _same_date(gold: str, answer: str) -> bool | None:
    """A date is no difference or quotient of numbers, so nothing but the same date equals it."""
    left, right = _DATE.fullmatch(gold), _DATE.fullmatch(answer)
    if left is None and right is None:
        return None
    if left is None or right is None or left.group(1, 2) != right.group(1, 2):
        return False
    return _numbers(gold) == _numbers(answer)


def _numbers(date: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", date)]


def _same_code(gold: str, answer: str) -> bool | None:
    """A seat or a grid cell (A4) is no product: 4A is another one."""
    if not (_CODE.fullmatch(gold) or _CODE.fullmatch(answer)):
        return None
    for text in (gold, answer):
        if not _ALPHANUMERIC.fullmatch(text) or text.isdigit() or _MATH_NAME.search(text):
            return None
    return None if gold.casefold() == answer.casefold() else False


def _same_label(gold: str, answer: str) -> bool | None:
    left, right = gold.casefold(), answer.casefold()
    known = left in _SHORT_WORDS or right in _SHORT_WORDS
    for text in (gold, answer):
        too_short = max(map(len, text.split(" "))) < 3 and not known
        if not _LABEL.fullmatch(text) or too_short or _MATH_WORD.search(text):
            return None
    if left == right:
        return True
    # Three letters may be a product of variables, in any order.
    return None if len(left) == 3 and sorted(left) == sorted(right) and not known else False
