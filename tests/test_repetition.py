"""Signs of repetition, found where they are and nowhere else."""

import random
import time

import pytest

from vlrl.sampling.repetition import RepetitionRule, find_repetition

RULE = RepetitionRule()


def _text(length: int, seed: int = 0, vocabulary: int = 500) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(vocabulary) for _ in range(length)]


def _sign(ids: list[int], rule: RepetitionRule = RULE) -> str | None:
    return find_repetition(ids, [-2.0] * len(ids), rule)


@pytest.mark.parametrize("period", [1, 2, 17, 255, 256])
def test_eight_times_the_same_at_the_end_is_a_period(period: int) -> None:
    stretch = list(range(1000, 1000 + period))
    assert _sign(_text(100) + stretch * 8) == "period"
    assert _sign(_text(100) + stretch * 7) != "period"
    assert _sign(_text(100) + stretch * 8 + [7]) != "period"


def test_a_longer_period_is_left_to_the_ngrams() -> None:
    stretch = _text(300, seed=2)
    assert _sign(stretch * 4) == "ngrams"
    assert _sign(stretch * 2 + _text(600)) is None


def test_repeats_that_vary_are_found_by_their_ngrams() -> None:
    """The same forty tokens with a counter between them: no period, and most n-grams seen before."""
    ids: list[int] = []
    for count in range(30):
        ids += [*range(2000, 2040), 3000 + count]
    assert _sign(ids) is None or _sign(ids) == "ngrams"
    assert _sign(ids, RepetitionRule(ngram=10)) == "ngrams"


def test_plain_text_and_tables_are_no_repetition() -> None:
    assert _sign(_text(5000)) is None
    table = [t for row in range(60) for t in [9, *_text(14, seed=row), 9, 10]]
    assert _sign(table) is None
    assert _sign([]) is None and _sign([5]) is None


def test_thousands_of_certain_tokens_are_a_sign() -> None:
    """MiniMax-M1: 3000 in a row above 0.99."""
    ids = _text(4000)
    sure = [-0.009] * 4000
    assert find_repetition(ids, sure, RULE) == "certainty"
    assert find_repetition(ids, [*sure[:-1], -0.02], RULE) is None
    assert find_repetition(ids, [*sure[:1500], -0.02, *sure[:2499]], RULE) is None
    assert find_repetition(ids[:2999], sure[:2999], RULE) is None


def test_looking_takes_a_millisecond_or_two() -> None:
    ids, logprobs = _text(16_000), [-1.0] * 16_000
    started = time.perf_counter()
    for _ in range(20):
        find_repetition(ids, logprobs, RULE)
    assert (time.perf_counter() - started) / 20 < 0.05
