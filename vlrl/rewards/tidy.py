"""An answer without what never changes its meaning, in one spelling."""

import re

from vlrl.rewards.symbols import latex_symbols

# Most answers are numbers, in which there is nothing to tidy.
_TIDY = re.compile(r"[+-]?[0-9](?:[0-9,./]{0,40}[0-9])?(?:\\?%)?")
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|underline|mbox|fbox|boxed)"
    r" ?\{([^{}]*)\}"
)
_TEXT_RUN = re.compile(r"(?:\\text ?\{[^{}]*\} ?){2,}")
_TEXT_GROUP = re.compile(r"\\text ?\{([^{}]*)\} ?")
_INTRODUCTION = re.compile(
    r"(?:\\text ?\{ ?)?(?:the )?(?:final |correct )?answer(?: is)?:?(?: ?\} ?(?:= ?)?| )(?=[^ ])"
    r"|\\(?:text|mathrm) ?\{ ?(?:about|approximately|approx\.?|roughly) ?\} ?"
    r"|(?:about|approximately|roughly) "
    r"|\\(?:therefore|approx) ?",
    re.IGNORECASE,
)
_WITH_COMMANDS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|limits)(?![A-Za-z])", ""),
        (r"\\(?:text)?color ?\{[A-Za-z]+\}", ""),
        (r"\\leq(?:slant)?(?![A-Za-z])", r"\\le"),
        (r"\\geq(?:slant)?(?![A-Za-z])", r"\\ge"),
        (r"\\neq(?![A-Za-z])", r"\\ne"),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset"),
        (r"\^ ?\{ ?(?:\\circ|o) ?\}|\^\\degree|(?<=[0-9])\\degree(?![A-Za-z])", r"^\\circ"),
        # Thousands separators that LaTeX spells in two more ways.
        (r",\\!\s*|(?<=[0-9])\\,(?=[0-9]{3}(?![0-9]))", ","),
        (r"(?<!\\)\\!", ""),
        (r"\\text ?\{ ?(\\?%|\^\\circ) ?\}", r"\1"),
        (r"(?<!\\)\\[,;: ]|\\q?quad(?![A-Za-z])", " "),
    )
)
_ALWAYS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\{([,.:])\}", r"\1"),
        (r"~|\s+", " "),
        (r" +", " "),
        # A space goes where it says nothing. It stays between words and digits, and where a list would
        # become a number: "1, 234", "1 -2".
        (r"(?<![\w.]) (?!(?<=,[ ])[0-9]{3}(?![0-9]))|(?<=[\w.]) (?![\w.]|[+-][^ ])", ""),
    )
)
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ('"', '"'))


def tidy(text: str) -> str:
    """`text` without outer `$`, emphasis, text wrappers, spacing and final stop; symbols as LaTeX."""
    if _TIDY.fullmatch(text):
        return text
    text = _without_stop(latex_symbols(text.strip()))
    for opening, closing in _DELIMITERS:
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            if opening not in inner and "$" not in inner and "\\(" not in inner and "\\[" not in inner:
                text = inner
                break
    if introduction := _INTRODUCTION.match(text):
        text = text[introduction.end() :]
        if introduction.group().count("{") > introduction.group().count("}"):
            text = text.replace("}", "", 1)
    if "\\" in text:
        for pattern, replacement in _WITH_COMMANDS:
            text = pattern.sub(replacement, text)
        if _TEXT_RUN.fullmatch(text):
            text = _TEXT_GROUP.sub(r"\1", text)
    for pattern, replacement in _ALWAYS:
        text = pattern.sub(replacement, text)
    text = text.strip()
    while wrapped := _WRAPPER.fullmatch(text):
        text = wrapped.group(1).strip()
    return _without_stop(text)


def _without_stop(text: str) -> str:
    return text[:-1] if text.endswith(".") and not text.endswith(("..", "a.m.", "p.m.")) else text
