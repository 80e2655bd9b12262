"""Inequalities, intervals and their unions as sets of numbers, which math-verify compares as written.

Runs in a grading process: sympy may take for ever.
"""

import re
from collections.abc import Callable

from sympy import And, Basic, Set, Union
from sympy.core.relational import Relational

_RANGE = re.compile(r"[<>]|\\(?:le|ge|ne|cup|infty|setminus)(?![A-Za-z])|[(\[].*,.*[)\]]")
_OR = re.compile(r"\\(?:text|mbox|mathrm) ?\{ ?or ?\}|\bor\b|\\(?:lor|vee)(?![A-Za-z])")
_AND = re.compile(r"\\(?:text|mbox|mathrm) ?\{ ?and ?\}|\band\b|\\(?:land|wedge)(?![A-Za-z])|,")
_BUILDER = re.compile(r"\\\{ ?[a-z](?: ?\\in ?\\mathbb ?\{?R\}?)? ?(?:\\mid|:|\|) ?(.*)\\\}")
_MEMBER = re.compile(r"^[a-z] ?\\in ?(?=[(\[\\])")
_CHAIN = re.compile(r"(<|>|\\[lgn]e(?![A-Za-z]))")

Parser = Callable[[str], Basic | None]


def builds_set(text: str) -> bool:
    """Whether a text gives a set by a condition, which math-verify reads as its members."""
    return bool(_BUILDER.fullmatch(text))


def same_solutions(gold: str, answer: str, parse: Parser) -> bool:
    """Whether both texts describe the same set of real numbers, one at least by conditions."""
    if not (_RANGE.search(gold) and _RANGE.search(answer)):
        return False
    left, right = _read(gold, parse), _read(answer, parse)
    if left is None or right is None or (left[1] and right[1] and left[1] != right[1]):
        return False
    if not (left[1] or right[1]):
        return False  # two sets, which math-verify compares
    return left[0] == right[0] or left[0].symmetric_difference(right[0]).is_empty is True


def _read(text: str, parse: Parser) -> tuple[Set, str] | None:
    """The set and its variable ("" for one written as a set)."""
    text = _MEMBER.sub("", text)
    if builder := _BUILDER.fullmatch(text):
        text = builder[1]
    if _CHAIN.search(text):
        return _conditions(text, parse)
    found = parse(text)
    if isinstance(found, Set) and not found.free_symbols:
        return found, ""
    return None


def _conditions(text: str, parse: Parser) -> tuple[Set, str] | None:
    """The numbers that meet conditions joined by "or" and "and" (or commas)."""
    union: list[Basic] = []
    for alternative in _OR.split(text):
        conditions: list[Basic] = []
        for part in _AND.split(alternative):
            links = _links(part)
            found = [parse(link) for link in links]
            if not found or not all(isinstance(relation, Relational) for relation in found):
                return None
            conditions += [relation for relation in found if relation is not None]
        union.append(And(*conditions))
    names = {symbol for condition in union for symbol in condition.free_symbols}
    if len(names) != 1:
        return None
    sets = [condition.as_set() for condition in union]
    # What no number meets is a slip (x < 1, x > 2 for "or"), and would equal any other.
    found = Union(*sets)
    return None if found.is_empty is not False else (found, str(names.pop()))


def _links(chain: str) -> list[str]:
    """-2 < x <= 5 as -2 < x and x <= 5."""
    pieces = _CHAIN.split(chain)
    if len(pieces) <= 3:
        return [chain]
    return ["".join(pieces[i : i + 3]) for i in range(0, len(pieces) - 2, 2)]
