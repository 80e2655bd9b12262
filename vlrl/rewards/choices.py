"""Choice letters: "B", "(B)", "B. 12 cm"."""

import re
from dataclasses import dataclass

from vlrl.rewards.tidy import tidy

LETTERS = "ABCDEFGHIJ"
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|bf|rm) ?\{([^{}]*)\}")
_GOLD = re.compile(rf"\(?[{LETTERS}]\)?")
_KIND = (
    r"(?:(?:the )?(?:correct )?(?:option|choice|answer|letter|figure|graph|statement|picture|image)"
    r"(?: is)?:? ?)?"
)
_ALONE = re.compile(rf"{_KIND}[(\[]?([A-Za-z])[)\]]?[.:]?", re.IGNORECASE)
# A letter with a text needs a mark between them: "A man" is no A.
_LABELLED = re.compile(
    rf"{_KIND}(?:[(\[]([A-Za-z])[)\]][.:]?|([A-Za-z])[.:)]) ?(.+)", re.DOTALL | re.IGNORECASE
)
_OTHER_LABEL = re.compile(rf"(?<![A-Za-z\\])[{LETTERS}][).:]|\b(?:or|and|not) \(?[{LETTERS}]\b|^[{LETTERS}]$")
_NEXT_LABEL = re.compile(r"\(?[a-j][).:]")
_ALTERNATIVE = re.compile(r"(?:or|and)\b|[,;/|]|\\\\", re.IGNORECASE)  # right behind the letter
_TEXT_OR = re.compile(r"\\(?:text|mbox|mathrm) ?\{ ?(?:or|and) ?\}")
_LETTER = re.compile(rf"\b[{LETTERS}]\b")


@dataclass(slots=True, frozen=True)
class Choice:
    """An answer's letter, in upper case, and the text after it ("" where it stands alone)."""

    letter: str
    text: str = ""


def is_letter(gold: str) -> bool:
    """Whether a tidied ground truth is a choice letter."""
    return bool(_GOLD.fullmatch(plain_words(gold)))


def read_choice(answer: str) -> Choice | None:
    """The choice that a tidied answer makes, or None."""
    text = plain_words(answer)
    if alone := _ALONE.fullmatch(text):
        return Choice(alone[1].upper())
    if labelled := _LABELLED.fullmatch(text):
        return Choice((labelled[1] or labelled[2]).upper(), tidy(labelled[3]))
    return None


def names_several(answer: str) -> bool:
    """Whether a tidied answer to a question of one letter names other letters or texts beside it."""
    choice = read_choice(answer)
    if choice is None:
        return len(set(_LETTER.findall(answer))) > 1
    return bool(
        _OTHER_LABEL.search(choice.text)
        or _NEXT_LABEL.match(choice.text)
        or _ALTERNATIVE.match(choice.text)
        or _TEXT_OR.search(answer)
    )


def same_choice(gold: str, answer: str) -> bool | None:
    """Whether the answer names the gold's letter; None where the gold may be no letter of a choice."""
    if not is_letter(gold):
        return None
    choice = read_choice(answer)
    if choice is not None:
        return choice.letter == plain_words(gold).strip("()")
    # A letter that is no choice would be met by another spelling of one symbol, not by words.
    return False if len(re.findall("[A-Za-z0-9]+", answer)) > 1 else None


def plain_words(text: str) -> str:
    """Words without wrappers, emphasis and LaTeX's spaces."""
    return " ".join(_TEXT.sub(r"\1", text).replace("*", "").replace("\\ ", " ").split())
