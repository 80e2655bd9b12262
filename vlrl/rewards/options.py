"""The options that a prompt of multiple choice brings along."""

from collections.abc import Mapping
from typing import Any

from vlrl.errors import UserError
from vlrl.rewards.choices import LETTERS, is_letter, plain_words, read_choice
from vlrl.rewards.fast_path import fast_compare
from vlrl.rewards.tidy import tidy
from vlrl.trajectory import Prompt


def options_of(extra: Mapping[str, Any]) -> dict[str, str]:
    """A prompt's `extra["options"]` by letter: a list is lettered from A. Empty where there are none."""
    given = extra.get("options")
    if isinstance(given, Mapping):
        return {str(letter).strip("(). ").upper(): str(text) for letter, text in given.items()}
    return dict(zip(LETTERS, map(str, given or ()), strict=False))


def check_options(prompt: Prompt) -> None:
    """
    Raises:
        UserError: the options are neither a list that letters suffice for nor an object.
    """
    given = prompt.extra.get("options")
    if not given or isinstance(given, Mapping):
        return
    if not isinstance(given, list) or len(given) > len(LETTERS):
        raise UserError(
            f"{prompt.name}: options must be a list of at most {len(LETTERS)}, or an object of letters and "
            f"texts, found {given!r:.80}"
        )


def among_options(options: Mapping[str, str], gold: str, answer: str) -> tuple[str, str] | None:
    """The pair that is to be compared in place of a gold and an answer that may be letters or texts.

    None where the answer is wrong by its letter, or its text is that of several options.
    """
    texts = {letter: tidy(text) for letter, text in options.items()}
    letter = _letter_of(texts, tidy(gold))
    if letter is None:
        return gold, answer
    choice = read_choice(tidy(answer))
    if choice is not None and choice.letter in texts:
        if choice.letter != letter:
            return None
        return (texts[letter], choice.text) if choice.text else (letter, letter)
    same = [other for other, text in texts.items() if fast_compare(text, answer)[0]]
    return (texts[letter], answer) if same in ([], [letter]) else None


def _letter_of(texts: Mapping[str, str], gold: str) -> str | None:
    """The option that the ground truth names by its letter or its text."""
    if is_letter(gold) and plain_words(gold).strip("()") in texts:
        return plain_words(gold).strip("()")
    same = [letter for letter, text in texts.items() if text == gold]
    return same[0] if len(same) == 1 else None
