"""Answers in the notation that math-verify reads, which is narrower than what is written."""

import re
from collections.abc import Callable

from vlrl.rewards.plain_number import changes_number, is_counted
from vlrl.rewards.tidy import tidy
from vlrl.rewards.units import Unit, read_unit

_TRIG = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES = re.compile(r"([0-9]+(?:\.[0-9]+)?|\\frac\{[0-9]+\}\{[0-9]+\}) ?\^ ?\{? ?\\circ ?\}?")
_TAIL = re.compile(
    r"(.*[^{ ]) ?"
    r"(?:\\(?:text|mbox|mathrm) ?\{ ?([^{}]*)\}|(?<= )([a-z]{2,}(?:[ /][a-z]+)*))(?:\^\{?([0-9])\}?)?"
)
_COLUMN = re.compile(r"\\begin\{([pb]?)matrix\}([^&]*?\\\\[^&]*?)\\end\{\1matrix\}")
_ARRAY = re.compile(
    r"[(\[]\\begin\{(?:array\}\{[clr| ]*\}|matrix\})(.*?)\\end\{(?:array|matrix)\}[)\]]", re.DOTALL
)
_AXES = {"i": 0, "j": 1, "k": 2}
_AXIS = r"\\(?:mathbf|hat|vec|bm|boldsymbol) ?\{?\\?([ijk])(?:math)?\}?"
_AXIS_TERM = re.compile(rf"([+-]?)([^+-]*?){_AXIS}")

_Replacement = str | Callable[[re.Match[str]], str]
_REWRITES: tuple[tuple[re.Pattern[str], _Replacement], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=[0-9])[eE]([+-]?[0-9]+)(?![0-9A-Za-z])", r"\\times 10^{\1}"),
        (r"\*\*", "^"),
        (r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
        (r"(?<=[0-9]) x ?(?=10\^)", r"\\times "),
        (r"(?<![\\A-Za-z])sqrt ?\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\[([0-9])\]([0-9a-z])", r"\\sqrt[\1]{\2}"),
        (r"\\(?:mathrm|text|rm) ?\{([eid])\}", r" \1 "),
        (r"\\(?:mathbf|mathbb) ?\{?R\}?", r"\\mathbb{R}"),
        (r"\\operatorname ?\{(arc(?:sin|cos|tan)|sin|cos|tan|ln|log)\}", r"\\\1 "),
        (r"\\log_\{?e\}?(?![A-Za-z])", r"\\ln "),
        (r"\\langle|^<(?=.*,.*>$)", "("),
        (r"\\rangle|(?<=[0-9])>$", ")"),
        (r"\)\^\{?(?:T|\\top)\}?$", ")"),
        (r"(?<![A-Za-z\\])_?\{?\}?_?C\(([0-9]+),([0-9]+)\)", r"\\binom{\1}{\2}"),
        (r"(?<![A-Za-z\\])P\(([0-9]+),([0-9]+)\)", r"\\frac{\1!}{(\1-\2)!}"),
        (r"(?:\{?\}?_|\^)\{?([0-9]+)\}? ?C_\{?([0-9]+)\}?", r"\\binom{\1}{\2}"),
        (r"(?:\{?\}?_|\^)\{?([0-9]+)\}? ?P_\{?([0-9]+)\}?", r"\\frac{\1!}{(\1-\2)!}"),
        (r"(?<=[)\]]) ?U ?(?=[(\[])", r"\\cup "),
        (r"\\mathbb ?\{?R\}? ?- ?\\\{", r"\\mathbb{R}\\setminus\\{"),
        (r"^\](?=.*[\[\]]$)", "("),
        (r"(?<=\\infty)\[$|(?<=[0-9])\[$", ")"),
        (r"\\[ch]?dots(?![A-Za-z])", r"\\ldots"),
        (r"\\ \\text|\\text ?\{ \}|\\text$", ""),
        (r"(?<=[0-9])\.{3}$", ""),
        (r"_\{ ?\\(?:min|max) ?\}(?= ?=)", ""),  # the name of what is given
    )
)
_INDEX = re.compile(r"[0-9] ?_")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # or an escaped one, which is text
# A point by its name, and roots by their numbers.
_POINT = re.compile(r"^[A-Z](?=\()")
_INDEXED = re.compile(r"(?<![A-Za-z\\])([a-z])_\{?[0-9]\}? ?=")
_ASSIGNMENT = re.compile(r" ?([a-z])=([^=]+)")
_FUNCTION = re.compile(r"^[fgh]\(x\)=")


def math_input(gold: str, answer: str) -> tuple[str, str] | None:
    """Both texts as LaTeX that math-verify reads; None where their units tell them apart.

    What each may be read as depends on the other.
    """
    (gold, unit), (answer, other) = _split_unit(tidy(gold)), _split_unit(tidy(answer))
    if not _balanced(answer):
        return None
    # math-verify leaves out indices of numbers, and what is text.
    if "_" not in gold and _INDEX.search(answer):
        return None
    if _has_changing_text(answer) and not _has_changing_text(gold):
        return None
    if unit is not None and other is not None and unit != other:
        if unit.measures != other.measures:
            return None
        factor = other.size / unit.size
        answer = f"({answer})\\cdot\\frac{{{factor.numerator}}}{{{factor.denominator}}}"
    if gold.startswith("("):
        answer = _POINT.sub("", answer)
    if "=" not in answer and (ordered := _in_order(gold)) != gold:
        gold = ordered
        answer = answer if answer.startswith("(") or "," not in answer else f"({answer})"
    if not re.search(r"[a-z]_\{?[0-9]", gold):
        answer = _INDEXED.sub(r"\1=", answer)
    if gold.startswith("y=") or answer.startswith("y="):
        gold, answer = _FUNCTION.sub("y=", gold), _FUNCTION.sub("y=", answer)
    if not ("\\pi" in gold and "\\pi" in answer) and "\\pi" in gold + answer:
        gold, answer = _in_radians(gold), _in_radians(answer)
    return _rewritten(gold), _rewritten(answer)


def _balanced(text: str) -> bool:
    """Whether braces close in order: math-verify reads up to the first that does not, so 5}3 would be 5."""
    depth = 0
    for brace in _BRACE.findall(text):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


def _in_order(text: str) -> str:
    """x=1, y=2 as (1,2): beside a tuple the order counts. Anything else as it is."""
    found = [_ASSIGNMENT.fullmatch(part) for part in text.split(",")]
    names = {match[1] for match in found if match}
    return f"({','.join(match[2] for match in found if match)})" if len(names) == len(found) > 1 else text


def _has_changing_text(text: str) -> bool:
    tail = _TAIL.fullmatch(text)
    return bool(tail and tail[2] and changes_number(" ".join(tail[2].lower().split())))


def _split_unit(text: str) -> tuple[str, Unit | None]:
    """A text without its unit or what it counts, and the unit."""
    match = _TAIL.fullmatch(text)
    if match is None:
        return text, None
    rest, in_text, bare, power = match.groups()
    words = " ".join((in_text or bare or "").lower().split())
    unit = read_unit(f"{words}^{power}" if power else words)
    if unit is not None:
        return rest, unit if unit.measures else None
    return (rest, None) if in_text and is_counted(words) else (text, None)


def _rewritten(text: str) -> str:
    if _TRIG.search(text):
        text = _in_radians(text)
    text = _ARRAY.sub(r"\\begin{pmatrix}\1\\end{pmatrix}", text)
    text = _COLUMN.sub(
        lambda column: "(" + column[2].strip().removesuffix("\\\\").replace("\\\\", ",") + ")", text
    )
    text = _along_axes(text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _both_signs(text)


def _in_radians(text: str) -> str:
    return _DEGREES.sub(r"{(\1\\cdot\\frac{\\pi}{180})}", text)


def _along_axes(text: str) -> str:
    """2i-3k in bold letters or with hats as (2,0,-3)."""
    terms = list(_AXIS_TERM.finditer(text))
    if not terms or "".join(term.group() for term in terms) != text:
        return text
    parts = ["0"] * (3 if any(term[3] == "k" for term in terms) else 2)
    for sign, coefficient, axis in (term.groups() for term in terms):
        parts[_AXES[axis]] = f"{'-' if sign == '-' else ''}{coefficient or 1}"
    return f"({','.join(parts)})"


def _both_signs(text: str) -> str:
    """One plus-minus as the two values it stands for, so that its place does not matter."""
    if text.count("\\pm") != 1 or "," in text or "\\mp" in text:
        return text
    text = re.sub(r"^[a-z] ?= ?", "", text)
    before, after = text.split("\\pm")
    plus = "" if before.strip() in ("", "{", "(") else "+"
    return f"{before}{plus}{after.lstrip()},{before}-{after.lstrip()}"
