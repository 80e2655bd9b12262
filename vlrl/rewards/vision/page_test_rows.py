"""The unit tests of a page as a row gives them, and what may be wrong with them."""

import json
import re
from typing import Any

from rapidfuzz.distance import Levenshtein

from vlrl.errors import UserError
from vlrl.rewards.vision.labels import plain_label
from vlrl.rewards.vision.transcript import normalised
from vlrl.trajectory import Prompt

MAX_TESTS = 100
MAX_PHRASE_CHARS = 1000

NEIGHBOURS = ("up", "down", "left", "right", "top_heading", "left_heading")
# Which keys a test of each kind must have, and may have.
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "present": (("text",), ("max_edits", "case_sensitive", "first_n", "last_n")),
    "absent": (("text",), ("max_edits", "case_sensitive", "first_n", "last_n")),
    "order": (("before", "after"), ("max_edits", "case_sensitive")),
    "cell": (("cell",), NEIGHBOURS),
}
_MARKUP = re.compile(r"\*\*|__|^#{1,6} ", re.MULTILINE)
_ONE_KIND = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019", "'"),
        **dict.fromkeys("\u201c\u201d", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    }
)


def read_tests(prompt: Prompt) -> list[dict[str, Any]]:
    """The tests of a row with their defaults, phrases in the form in which they are looked for.

    Raises:
        UserError: naming the row and the number of the test that is no use.
    """
    given = prompt.extra.get("tests")
    if given is None:
        try:
            given = json.loads(prompt.ground_truth)
        except (ValueError, RecursionError):
            given = None
    if not isinstance(given, list) or not 0 < len(given) <= MAX_TESTS:
        raise UserError(f"{prompt.name}: tests must be a JSON list of 1 to {MAX_TESTS} tests")
    tests = []
    for number, test in enumerate(given, start=1):
        read, fault = _read(test)
        if read is None:
            raise UserError(f"{prompt.name}: test {number} {fault}")
        tests.append(read)
    if all(test["type"] == "absent" for test in tests):
        raise UserError(
            f"{prompt.name}: tests are all of type absent, so any page would pass; add a present one"
        )
    return tests


def _read(test: Any) -> tuple[dict[str, Any] | None, str]:
    """A test with its phrases as they are looked for and its defaults, or what is wrong with it."""
    kind = test.get("type") if isinstance(test, dict) else None
    if not isinstance(kind, str) or kind not in _KEYS:
        return None, f"must be an object whose type is one of {', '.join(_KEYS)}"
    required, optional = _KEYS[kind]
    unknown = set(test) - {"type", *required, *optional}
    if unknown:
        return (
            None,
            f"has the unknown key '{min(map(str, unknown))}'; use {', '.join((*required, *optional))}",
        )
    if kind != "cell":
        test = {"max_edits": 0, "case_sensitive": kind != "absent", **test}
        if not isinstance(test["case_sensitive"], bool):
            return None, "must have true or false for case_sensitive"
    read = dict(test)
    for key in (*required, *(k for k in NEIGHBOURS if k in test)):
        phrase = test.get(key)
        if not isinstance(phrase, str) or len(phrase) > MAX_PHRASE_CHARS:
            return None, f"must have text of at most {MAX_PHRASE_CHARS} characters under '{key}'"
        plain = plain_label(phrase) if kind == "cell" else plain_text(phrase)
        if not plain:
            return None, f"must have text under '{key}'"
        read[key] = plain if kind == "cell" or test["case_sensitive"] else plain.casefold()
    return (None, fault) if kind != "cell" and (fault := _fault_of_numbers(read, required)) else (read, "")


def _fault_of_numbers(test: dict[str, Any], phrases: tuple[str, ...]) -> str:
    for key, low in (("max_edits", 0), ("first_n", 1), ("last_n", 1)):
        value = test.get(key, low)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            return f"must have a whole number of at least {low} for {key}"
    if 2 * test["max_edits"] > min(len(test[key]) for key in phrases):
        return "has max_edits of more than half its text; lower it, or anything would match"
    if (
        test["type"] == "order"
        and Levenshtein.distance(test["before"], test["after"]) <= 2 * test["max_edits"]
    ):
        return "has a before and an after that max_edits makes one; lower it"
    return ""


def plain_text(text: str) -> str | None:
    """The text as one line, in the form in which phrases are looked for."""
    text_or_none = normalised(text, "spaces")
    if text_or_none is None:
        return None
    return " ".join(_MARKUP.sub("", text_or_none).translate(_ONE_KIND).split())
