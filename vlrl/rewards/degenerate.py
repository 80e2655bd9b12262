"""Answers that must never pass, whatever a lenient comparison would make of them."""

import re

from vlrl.rewards.fast_path import MAX_CHARS, tidy

_GROUPED = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_OR = re.compile(r"\\(?:text|mbox|mathrm) ?\{ ?(?:or|and) ?\}|\\(?:lor|vee)(?![A-Za-z])|\b(?:or|and)\b", re.I)
# A gold that names several values, a range or an order of its own may be answered in as many parts.
_PLURAL = re.compile(r"[,;<>]|\\(?:pm|mp|cup|in|leq?|geq?|neq?|begin)(?![A-Za-z])")
_CHOICE_GOLD = re.compile(r"\(?[A-H]\)?")
_LETTERS = re.compile(r"\b[A-H]\b")


def degenerate(gold: str, answer: str) -> str | None:
    """Why `answer` cannot be right: `empty`, `too_long` or `hedged`; None where nothing speaks against it.

    Hedged is an answer of several alternatives ("A or B", "1, 2, 3") to a gold that is one.
    """
    if len(answer) > max(MAX_CHARS, 2 * len(gold)):
        return "too_long"
    gold, answer = tidy(gold), tidy(answer)
    if not answer.strip(" \\{}()[].,;$"):
        return "empty"
    if _CHOICE_GOLD.fullmatch(gold):
        return "hedged" if len(set(_LETTERS.findall(answer))) > 1 else None
    if _PLURAL.search(_GROUPED.sub("", gold)) or _OR.search(gold):
        return None
    return "hedged" if _OR.search(answer) or _top_level_parts(_GROUPED.sub("", answer)) > 1 else None


def _top_level_parts(text: str) -> int:
    """How many non-empty parts commas and semicolons outside brackets divide `text` into."""
    parts, depth, filled = 0, 0, False
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
