"""Transcripts: error rates, gates, and the unit tests of a page."""

import json
import random
import time
from typing import Any

import pytest

from tests.vision_rows import rewards, row, verdicts
from vlrl.errors import UserError
from vlrl.rewards.vision.fuzzy import first_end, last_start
from vlrl.rewards.vision.page_tests import PageTestsVerifier
from vlrl.rewards.vision.transcription import TranscriptionVerifier, accuracy

OCR, PAGE = TranscriptionVerifier(), PageTestsVerifier()
POEM = "The quick brown fox\njumps over\nthe lazy dog"


def _edits(left: Any, right: Any, anywhere: bool = False) -> list[int]:
    """Edit distances of `left` to every beginning of `right` (`anywhere`: to the best end of each)."""
    above = [0] * (len(right) + 1) if anywhere else list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        line = [i]
        for j, b in enumerate(right, start=1):
            line.append(min(above[j] + 1, line[j - 1] + 1, above[j - 1] + (a != b)))
        above = line
    return above


def test_error_rates_are_those_of_a_plain_reference() -> None:
    rng = random.Random(0)
    for _ in range(1500):
        left, right = ("".join(rng.choice("ab \n\u4e00") for _ in range(rng.randrange(30))) for _ in range(2))
        for unit, parts in (("chars", list), ("words", str.split), ("lines", lambda text: text.split("\n"))):
            if parts(left):
                expected = 1 - min(1.0, _edits(parts(left), parts(right))[-1] / len(parts(left)))
                assert accuracy(left, right, unit) == expected, (left, right, unit)


def test_what_a_transcript_earns() -> None:
    # 11 characters: one edit is 1/11; the space between words is a character.
    found = verdicts(OCR, row("hello world"), "hello world", "hallo world", "helloworld", "world hello")
    assert rewards(found) == [1.0, 1 - 1 / 11, 1 - 1 / 11, 1 - 8 / 11]
    assert [(v.status, v.rule) for v in found if v] == [("correct", "cer")] + [("wrong", "cer")] * 3
    # Words: one of two is wrong; one too much is one edit of two. Lines: one of three.
    assert rewards(verdicts(OCR, row("hello world", unit="words"), "hallo world", "hello my world")) == [
        0.5,
        0.5,
    ]
    assert rewards(verdicts(OCR, row(POEM, unit="lines"), POEM.replace("over", "0ver"))) == [1 - 1 / 3]


def test_the_transcript_is_what_follows_the_thinking() -> None:
    told = [
        "<think>hm</think>\nhello",
        "<think>x</think>Here: <answer>hello</answer>",
        "```text\nhello\n```",
        "hello\n",
    ]
    assert rewards(verdicts(OCR, row("hello"), *told)) == [1.0] * 4
    assert rewards(
        verdicts(OCR, row("hello"), "<think>hello", "<answer>hullo</answer><answer>hello</answer>")
    ) == [
        None,
        1.0,
    ]
    assert rewards(verdicts(OCR, row("hello"), "hello", "so</think>hello", thinking_open=True)) == [None, 1.0]
    assert (
        rewards(verdicts(OCR, row("hello"), "", " \n", "<think>x</think>", "<answer></answer>")) == [0.0] * 4
    )


def test_normalisation() -> None:
    spaced = "The  quick\tbrown fox \r\n\r\njumps over\r\nthe lazy dog\n"
    assert rewards(verdicts(OCR, row(POEM), spaced, POEM.upper())) == [1.0, pytest.approx(1 - 34 / 43)]
    assert rewards(verdicts(OCR, row(POEM, normalise="spaces_case"), POEM.upper())) == [1.0]
    (strict,) = rewards(verdicts(OCR, row(POEM, normalise="none"), spaced))
    assert strict == pytest.approx(1 - 4 / 43)  # two blanks, a tab for a space and an empty line
    assert rewards(verdicts(OCR, row("caf\u00e9"), "cafe\u0301")) == [1.0]


def test_gates() -> None:
    gold = "abcdefghij"
    answers = ["abcde", "abcd", gold + gold, gold + gold + "a", ""]
    rules = [v.rule for v in verdicts(OCR, row(gold), *answers) if v]
    assert rules == ["cer", "length_gate", "cer", "length_gate", "empty"]
    rules = [v.rule for v in verdicts(OCR, row(gold, max_length_ratio=1.2), gold + "abc", gold + "ab") if v]
    assert rules == ["length_gate", "cer"]
    # A loop is no transcript, unless the page itself says it again.
    line = "All work and no play makes Jack a dull boy. "
    page = line + "Then he went out, saw the sun, and wrote about the sea for the rest of a long day."
    assert [v.rule for v in verdicts(OCR, row(page), line * 4) if v] == ["repetition"]
    assert rewards(verdicts(OCR, row(line * 4), line * 4)) == [1.0]
    (kept,) = verdicts(OCR, row(page, max_repeated=1), line * 4)
    assert kept is not None and kept.rule == "cer" and 0 < kept.reward < 0.5


def test_pass_at() -> None:
    near, far = verdicts(OCR, row("hello world", pass_at=0.9), "hallo world", "hallo w0rld")
    assert near is not None and (near.status, near.reward) == ("correct", 1 - 1 / 11)
    assert far is not None and (far.status, far.reward) == ("wrong", 1 - 2 / 11)


@pytest.mark.parametrize(
    ("gold", "extra", "message"),
    [
        (" \n", {}, "the ground truth has no readable text"),
        ("a" + "\u0301" * 50, {}, "the ground truth has no readable text"),
        ("a" * 100_001, {}, "has 100001 characters; cut the page into parts"),
        ("a", {"unit": "tokens"}, "unit 'tokens' must be one of chars, words, lines"),
        ("a", {"normalise": True}, "normalise True must be one of none, spaces, spaces_case"),
        ("a", {"max_length_ratio": 0.5}, "max_length_ratio 0.5 must be a number from 1 to 10"),
        ("a", {"pass_at": 0}, "pass_at 0 would pass anything"),
        ("a", {"pass_at": 1.5}, "pass_at 1.5 must be a number from 0 to 1"),
    ],
)
def test_transcription_refused(gold: str, extra: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"row 'row-7': .*{message}"):
        OCR.check(row(gold, **extra))


def test_phrases_are_found_where_a_plain_reference_finds_them() -> None:
    rng = random.Random(1)
    found = 0
    for _ in range(1500):
        size = rng.choice((3, 8, 20, 70))
        text = "".join(rng.choice("ab c") for _ in range(rng.randrange(3 * size)))
        at = rng.randrange(len(text) + 1)
        phrase = list(text[at : at + size])
        for _ in range(rng.randrange(5)):
            place = rng.randrange(len(phrase) + 1)
            phrase[place : place + 1] = rng.choice((["a"], [], ["b", "c"], ["q"]))
        if not phrase:
            continue
        edits = rng.randrange(len(phrase) // 2 + 1)
        ends = [end for end, cost in enumerate(_edits(phrase, text, anywhere=True)) if cost <= edits]
        wanted = "".join(phrase)
        assert first_end(wanted, text, edits) == (ends[0] if ends else None), (wanted, text, edits)
        starts = _edits(phrase[::-1], text[::-1], anywhere=True)
        start = next((len(text) - end for end, cost in enumerate(starts) if cost <= edits), None)
        assert last_start(wanted, text, edits) == start
        found += bool(ends)
    assert 300 < found < 1450


TESTS: list[dict[str, Any]] = [
    {"type": "present", "text": "The quick brown fox", "max_edits": 1},
    {"type": "absent", "text": "page 3"},
    {"type": "order", "before": "quick", "after": "lazy dog"},
    {"type": "cell", "cell": "20", "left": "10", "up": "Q2", "top_heading": "q2", "left_heading": "North"},
]
TABLE = "| |Q1|Q2|\n|-|-|-|\n|North|10|20|\n|South|30|40|"


@pytest.mark.parametrize(
    ("page", "share"),
    [
        (f"# The **quick** brown fox\n\njumps over the lazy\ndog\n\n{TABLE}", 1.0),
        (f"The quick brown fax jumps over the lazy dog\n\n{TABLE}", 1.0),
        (f"The quick brawn fax jumps over the lazy dog\n\n{TABLE}", 0.75),
        (f"The lazy dog, The quick brown fox\n\n{TABLE}", 0.75),
        (f"The quick brown fox, lazy dog\n\n{TABLE}\n\nPage 3", 0.75),
        (f"The quick brown fox, lazy dog\n\n{TABLE.replace('10', '11')}", 0.75),
        ("The quick brown fox, lazy dog <table><tr><td><td>Q1<td>Q2<tr><td>North<td>10<td>20</table>", 1.0),
        ("The quick brown fox", 0.5),
        ("anything", 0.0),
        ("", 0.0),
        ("a" + "\u0301" * 40, 0.0),
        ("x" * 50_001, 0.0),
        ("The quick brown fox, lazy dog. " * 20, 0.0),
    ],
)
def test_the_share_of_a_pages_tests(page: str, share: float) -> None:
    for prompt in (row(json.dumps(TESTS)), row("", tests=TESTS)):
        (verdict,) = verdicts(PAGE, prompt, f"<think>x</think>{page}")
        assert verdict is not None and verdict.reward == share
        assert verdict.status == ("correct" if share == 1.0 else "wrong")


def test_where_and_in_which_case_a_phrase_stands() -> None:
    def share(page: str, **test: Any) -> float | None:
        return rewards(verdicts(PAGE, row(json.dumps([{"type": "present", **test}])), page))[0]

    assert share("Contents of page", text="contents") == 0.0
    assert share("Contents of page", text="contents", case_sensitive=False) == 1.0
    assert share("one two three", text="two", first_n=6) == 0.0
    assert share("one two three", text="two", first_n=7) == 1.0
    assert share("one two three", text="two", last_n=9) == 1.0
    assert share("one two three", text="two", last_n=8) == 0.0
    assert share("one two three", text="three", first_n=3, last_n=5) == 1.0
    assert share("\u201cIt\u2019s\u201d a  co\u2010op", text='"It\'s" a co-op') == 1.0


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("nonsense", "tests must be a JSON list of 1 to 100 tests"),
        ("[]", "tests must be a JSON list"),
        ("[" * 100_000, "tests must be a JSON list"),
        ([{"type": "absent", "text": "a"}], "all of type absent, so any page would pass"),
        (
            [{"type": "present", "text": "a"}, {"type": "math"}],
            "test 2 must be an object whose type is one of",
        ),
        ([3], "test 1 must be an object"),
        ([{"type": []}], "test 1 must be an object"),
        (
            [{"type": "present", "text": "a", "max_diffs": 1}],
            "test 1 has the unknown key 'max_diffs'; use text",
        ),
        ([{"type": "present"}], "test 1 must have text of at most 1000 characters under 'text'"),
        ([{"type": "present", "text": " ** "}], "test 1 must have text under 'text'"),
        (
            [{"type": "present", "text": "abc", "max_edits": 2}],
            "test 1 has max_edits of more than half its text",
        ),
        ([{"type": "present", "text": "abc", "first_n": 0}], "whole number of at least 1 for first_n"),
        ([{"type": "present", "text": "abc", "case_sensitive": 1}], "true or false for case_sensitive"),
        ([{"type": "order", "before": "Part 1", "after": "Part 2", "max_edits": 1}], "max_edits makes one"),
        ([{"type": "cell", "cell": "a", "up": 3}], "must have text of at most 1000 characters under 'up'"),
    ],
)
def test_page_tests_refused(tests: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"row 'row-7': .*{message}"):
        PAGE.check(row(tests if isinstance(tests, str) else json.dumps(tests)))


def test_hostile_transcripts_take_no_time() -> None:
    rng = random.Random(2)
    page = "".join(rng.choice("abcdefgh ij") for _ in range(100_000))
    phrases = [{"type": "present", "text": f"lorem ipsum {i} " * 20, "max_edits": 60} for i in range(100)]
    cells = [{"type": "cell", "cell": "1", "up": "2", "top_heading": "1"}] * 100
    hostile = [
        "a" + "\u0301\u0323" * 24_000,
        "lorem ipsum " * 4_000,
        "|1" * 12_000 + "\n|2" * 8_000,
        "|1|2" * 12_000,
        "<td>" * 12_000,
        "```" * 16_000,
        "\n" * 1_000_000,
        "<answer>" * 125_000,
        page[:50_000],
    ]
    start = time.process_time()
    for prompt in (row("", tests=phrases), row("", tests=cells)):
        verdicts(PAGE, prompt, *hostile)
    assert time.process_time() - start < 2.0
    start = time.process_time()
    found = verdicts(OCR, row(page), page, page[::-1], *hostile, "a" + "\u0301\u0323" * 90_000)
    assert rewards(found)[0] == 1.0 and set(rewards(found)[2:]) == {0.0}
    assert time.process_time() - start < 3.0
