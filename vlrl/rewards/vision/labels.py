"""Labels as they are printed, read without what a reader would not call a difference."""

import re
import unicodedata
from functools import lru_cache

from vlrl.rewards.plain_number import parse_number
from vlrl.rewards.tidy import tidy

MAX_LABEL_CHARS = 2000

_QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a"
_PUNCTUATION = str.maketrans(
    {**dict.fromkeys("\u2018\u2019`", "'"), **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")}
)
_UNIT = re.compile(r"\s*\((?:in (?=\w)|in(?=\W))?([^()]{1,40})\)$")
_BOOLEANS = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def same_label(gold: str, answer: str) -> bool:
    """Equality but for case, spacing, outer quotes, kinds of dash, and a known unit in brackets at the end
    of one of the two (`Price (USD)`). Yes and true are one answer, no and false another."""
    if len(gold) > MAX_LABEL_CHARS or len(answer) > MAX_LABEL_CHARS:
        return False
    left, right = plain_label(gold), plain_label(answer)
    if not left or not right:
        return False
    if left == right:
        return True
    if left in _BOOLEANS and right in _BOOLEANS:
        return _BOOLEANS[left] == _BOOLEANS[right]
    return _without_unit(left) == right or left == _without_unit(right)


@lru_cache(maxsize=4096)  # lists and tables compare each label many times
def plain_label(text: str) -> str:
    """A label in the form in which labels are compared."""
    text = unicodedata.normalize("NFKC", tidy(text)).translate(_PUNCTUATION)
    return " ".join(text.strip(_QUOTES + " ").casefold().split())


def _without_unit(label: str) -> str:
    match = _UNIT.search(label)
    # Whatever is no known unit tells labels apart: Sales (2019), Sales (2020).
    return label[: match.start()] if match and parse_number(f"1 {match[1]}") else label
