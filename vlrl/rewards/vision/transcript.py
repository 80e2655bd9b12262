"""The transcript in a response, the forms it is compared in, and whether it repeats itself."""

import unicodedata
from collections import Counter

import regex

from vlrl.rewards.answer import final_text, last_span

NORMALISATIONS = ("none", "spaces", "spaces_case")

# Marks on one letter cost NFC the square of their number, and no text has so many (Unicode's stream-safe
# format, UAX #15 section 13, stops at 30).
_MARKS = regex.compile(r"\p{M}{31}")
_GRAM = 20


def transcript_of(response: str, thinking_open: bool = False) -> str | None:
    """What follows the thinking, or the last closed answer span in it, without a code fence that wraps all
    of it; None where the thinking was never closed."""
    text = final_text(response, thinking_open)
    if text is None:
        return None
    span = last_span(text)
    if span is not None:
        text = text[span[0] : span[1]]
    return _without_fence(text.strip())


def normalised(text: str, how: str) -> str | None:
    """A text in the form that it is compared in; None where it cannot be read.

    `none`: NFC, line ends as `\\n`, no blanks around the whole. `spaces`: besides, runs of blanks are one
    space, lines have none at their ends, and empty lines go. `spaces_case`: besides, case is folded.
    """
    if _MARKS.search(text):
        return None
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").strip()
    if how == "none":
        return text
    text = "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))
    return unicodedata.normalize("NFC", text.casefold()) if how == "spaces_case" else text


def repeated_share(text: str, reference: str = "") -> float:
    """The share in [0, 1] of the windows of 20 characters that stand in `text` more often than once, and
    more often than in `reference`; 0 for texts of fewer than 40 characters."""
    count = len(text) - _GRAM + 1
    if count <= _GRAM:
        return 0.0
    allowed = Counter(reference[i : i + _GRAM] for i in range(len(reference) - _GRAM + 1))
    seen = Counter(text[i : i + _GRAM] for i in range(count))
    surplus = sum(times - max(1, allowed[gram]) for gram, times in seen.items() if times > 1)
    return max(0, surplus) / count


def _without_fence(text: str) -> str:
    """The inside of a code fence that wraps the whole (stripped) text."""
    first, _, rest = text.partition("\n")
    fence = first[:3]
    if fence in ("```", "~~~") and rest.endswith(fence) and fence not in rest[:-3]:
        return rest[:-3].strip()
    return text
