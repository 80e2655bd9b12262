"""The answer of a response: the last `\\boxed{...}` or `<answer>...</answer>` after the thinking.

Everything here is one forward pass or a substring search, so a 1 MB response costs milliseconds.
"""

import re

from vlrl.trajectory import THINK_CLOSE, THINK_OPEN

ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"

# An escaped brace is text, and so is the `\\` of a LaTeX line break. No part repeats a character that
# an earlier failed match already scanned, hence linear time on any input.
_BRACES = re.compile(r"\\[^b]|(?<=\\)boxed\s*+\{|[{}]")


def final_text(response: str, thinking_open: bool = False) -> str | None:
    """What follows the thinking; None where the thinking was never closed.

    `thinking_open` says that the generation prompt itself ended in `<think>`. A response without think
    tags (and `thinking_open` False) is returned whole.
    """
    closed = response.rfind(THINK_CLOSE)
    if closed >= 0:
        rest = response[closed + len(THINK_CLOSE) :]
    elif thinking_open:
        return None
    else:
        rest = response
    return None if THINK_OPEN in rest else rest


def extract_answer(response: str, thinking_open: bool = False) -> str | None:
    """The stripped answer of a response, "" where it was left empty, None where there is none.

    Of a box and an answer span the later one counts; a box inside the span, or nested in another box,
    is the answer itself.
    """
    text = final_text(response, thinking_open)
    if text is None:
        return None
    box, span = _last_box(text), last_span(text)
    found = max((place for place in (box, span) if place is not None), default=None)
    return None if found is None else text[found[0] : found[1]].strip()


def _last_box(text: str) -> tuple[int, int] | None:
    """Start and end of the content of the balanced `\\boxed{...}` that opens last."""
    if "boxed" not in text:
        return None
    best: tuple[int, int] | None = None
    stack: list[int] = []  # where each open brace's content starts; -1 for a brace that is no box
    for match in _BRACES.finditer(text):
        token = match.group()
        if token == "{":
            stack.append(-1)
        elif token.startswith("boxed"):
            stack.append(match.end())
        elif token == "}" and stack:
            start = stack.pop()
            if start >= 0 and (best is None or start > best[0]):
                best = (start, match.start())
    return best


def last_span(text: str) -> tuple[int, int] | None:
    """Start and end of the content of the last closed answer span."""
    last_close = text.rfind(ANSWER_CLOSE)
    if last_close < 0:
        return None
    opened = text.rfind(ANSWER_OPEN, 0, last_close)
    if opened < 0:
        return None
    start = opened + len(ANSWER_OPEN)
    return start, text.find(ANSWER_CLOSE, start)
