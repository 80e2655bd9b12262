"""Answers that must never pass, whatever a lenient comparison would make of them."""

import functools
import re

from vlrl.rewards.choices import is_letter, names_several
from vlrl.rewards.fast_path import MAX_CHARS
from vlrl.rewards.moments import read_date
from vlrl.rewards.plain_number import parse_number
from vlrl.rewards.tidy import tidy

_GROUPED = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_OR = re.compile(r"\\(?:text|mbox|mathrm) ?\{ ?(?:or|and) ?\}|\\(?:lor|vee)(?![A-Za-z])|\b(?:or|and)\b", re.I)
# A gold that names several values, a range or an order of its own may be answered in as many parts.
_PLURAL = re.compile(r"[,;<>]|\\(?:pm|mp|cup|in|le|ge|ne|begin|setminus|emptyset|langle|mathbb)(?![A-Za-z])")
_BRACKETED = re.compile(r"(?:\\?[(\[{])(.*?)(?:\\?[)\]}])", re.DOTALL)
_SPACES = re.compile(r"\s+")
_MATHS = re.compile(r"\$+|\\[()\[\]]")
_AROUND = re.compile(r"\s*([-+*/^=<>_])\s*")
_OPERATION = re.compile(r"[+*/^=<>|!]|[^,(\[{ ]-|\\(?!text|mbox|mathrm|\{|\})[a-zA-Z]")
# What is left to be worked out: sympy would do it, and so take a restated question for its answer.
_TO_DO = re.compile(
    r"\\(?:i*int|oint|sum|prod|lim(?= ?_)|det|gcd|min|max|inf|sup|bmod|mod|lfloor|lceil)(?![A-Za-z])"
    r"|\\frac ?\{ ?(?:d|\\partial)[^{}]{0,20}\}|vmatrix"
    r"|(?<![A-Za-z])(?:gcd|lcm|mod|floor|ceil|min|max)\b(?= ?[({0-9])"
)
_WITHIN = re.compile(r"\{[^{}=]*=[^{}]*\}")  # an index that starts somewhere
_NOT = re.compile(r"\\(?:neg|lnot|not)(?![A-Za-z])")
_MIN_ECHO = 12  # characters: what repeats a shorter question may be its answer


def degenerate(gold: str, answer: str, question: str = "") -> str | None:
    """Why `answer` cannot be right: `empty`, `too_long`, `hedged`, `echo`, `unevaluated` or `negated`; None
    where nothing says so.

    Hedged is an answer of several alternatives ("A or B", "1, 2, 3") to a gold that is one. An echo repeats
    `question`, or an expression of it that was to be worked out, in a form that is not the gold's.
    Unevaluated is an operation (a sum, an integral, a remainder) in the answer to a gold without one.
    """
    if too_long(gold, answer):
        return "too_long"
    gold, answer = tidy(gold), tidy(answer)
    if gold == answer:
        return None
    if not answer.strip(" \\{}()[].,;$") and not gold.startswith("\\emptyset"):
        return "empty"
    if question and _is_echo(question, answer):
        return "echo"
    if _TO_DO.search(_last_side(answer)) and not _TO_DO.search(gold):  # what comes last is compared
        return "unevaluated"
    if _NOT.search(answer) and not _NOT.search(gold):
        return "negated"
    if is_letter(gold):
        return "hedged" if names_several(answer) else None
    if _PLURAL.search(_GROUPED.sub("", gold)) or _OR.search(gold):
        return None
    return None if _is_one(answer) else "hedged"


def too_long(gold: str, answer: str) -> bool:
    """Whether an answer is longer than any that is worth reading."""
    return len(answer) > max(MAX_CHARS, 2 * len(gold))


def _last_side(text: str) -> str:
    return _WITHIN.sub("{}", text).rpartition("=")[2]


def _is_one(text: str) -> bool:
    """Whether a tidied text gives one value, not several to choose from."""
    text = _GROUPED.sub("", text)
    if text.isdigit() or parse_number(text) or read_date(text):
        return True
    return not _OR.search(text) and _top_level_parts(_without_brackets(text)) <= 1


def _without_brackets(text: str) -> str:
    """What one pair of brackets around the whole text holds: a pair of values is no single one either."""
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is None:
        return text
    depth = 0
    for character in bracketed[1]:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return text  # the first bracket closes before the end
    return bracketed[1]


def _top_level_parts(text: str) -> int:
    """How many non-empty parts commas, semicolons and line breaks outside brackets divide `text` into."""
    parts, depth, filled = 0, 0, False
    if "\\begin" not in text:
        text = text.replace("\\\\", ";")  # LaTeX's line break
    for character in text:
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        if character in ",;" and depth == 0:
            parts, filled = parts + filled, False
        elif not character.isspace():
            filled = True
    return parts + filled


def _is_echo(question: str, answer: str) -> bool:
    """Whether a tidied answer holds the whole question, or is one of its expressions."""
    squeezed = _SPACES.sub("", answer)
    asked = _SPACES.sub("", tidy(question)).strip("?.:$")
    if _MIN_ECHO <= len(asked) <= len(squeezed) and asked in squeezed:
        return True
    if len(squeezed) < 3 or not _OPERATION.search(answer) or parse_number(answer):
        return False
    return squeezed in _expressions(question)


@functools.lru_cache(maxsize=64)
def _expressions(question: str) -> frozenset[str]:
    """What stands between dollars or blanks, without spaces."""
    pieces = [tidy(piece) for piece in _MATHS.split(question)]
    pieces += [word.strip("?.,;:$") for word in _AROUND.sub(r"\1", question).split()]
    return frozenset(_SPACES.sub("", piece) for piece in pieces)
