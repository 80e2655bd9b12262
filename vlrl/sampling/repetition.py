"""Has a response begun to repeat itself? Asked while it is sampled, so that it can be ended early.

k1.5 (section 2.6.2) ends repetitions early and does not say how it finds them. Three signs are looked for:
the end of the response is one stretch again and again; recent n-grams are mostly repeats; or, as
MiniMax-M1 has it, the policy has been all but certain of every token for thousands of them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlrl.trajectory import Segment

Sign = Literal["period", "ngrams", "certainty"]


@dataclass(slots=True, frozen=True)
class RepetitionRule:
    """When a response counts as repeating itself.

    `repeats` times the same stretch of at most `max_period` tokens at the end; more than `ngram_share` of the
    n-grams of the last `window` tokens seen before in it; `certain_tokens` in a row, each with a log-prob
    above that of `certain_probability`. Looked for whenever a run of sampled tokens is a multiple of
    `check_every` long; a phrase that is put in begins a new run.
    """

    max_period: int = 256
    repeats: int = 8
    ngram: int = 20
    window: int = 1024
    ngram_share: float = 0.5
    certain_tokens: int = 3000
    certain_probability: float = 0.99
    check_every: int = 64


class RepetitionWatch:
    """Applies a rule to one part of a response as it is sampled.

    It looks at the same lengths of a run whatever parts it is sampled in, and however many tokens an engine
    shows at a time, so where a response ends depends on neither.

    Args:
        rule: None finds nothing.
        run: what was sampled of the run before this part.
    """

    def __init__(self, rule: RepetitionRule | None, run: list[Segment]) -> None:
        self._rule = rule
        self._ids = [token for segment in run for token in segment.token_ids]
        self._logprobs = [logprob for segment in run for logprob in segment.logprobs]
        self._before = len(self._ids)

    @property
    def taken(self) -> int:
        """Tokens of the part so far."""
        return len(self._ids) - self._before

    def add(self, ids: list[int], logprobs: list[float]) -> int | None:
        """Take the part's next tokens; its length in tokens once it must end because it repeats itself."""
        if self._rule is None:
            return None
        every, looked = self._rule.check_every, len(self._ids)
        self._ids += ids
        self._logprobs += logprobs
        for count in range(looked - looked % every + every, len(self._ids) + 1, every):
            if find_repetition(self._ids[:count], self._logprobs[:count], self._rule) is not None:
                return count - self._before
        return None


def find_repetition(ids: list[int], logprobs: list[float], rule: RepetitionRule) -> Sign | None:
    """The first sign of repetition at the end of a response, if there is one.

    Args:
        ids: token ids so far.
        logprobs: nats, one a token.
    """
    tokens = np.asarray(ids[-max(rule.window, rule.max_period * rule.repeats) :])
    if _is_periodic(tokens, rule):
        return "period"
    if _repeats_ngrams(tokens[-rule.window :], rule):
        return "ngrams"
    recent = logprobs[-rule.certain_tokens :]
    if len(recent) == rule.certain_tokens and min(recent) > np.log(rule.certain_probability):
        return "certainty"
    return None


def _is_periodic(tokens: np.ndarray, rule: RepetitionRule) -> bool:
    for period in range(1, min(rule.max_period, len(tokens) // rule.repeats) + 1):
        tail = tokens[-period * rule.repeats :]
        # A stretch that repeats equals itself moved on by one period.
        if np.array_equal(tail[period:], tail[:-period]):
            return True
    return False


def _repeats_ngrams(tokens: np.ndarray, rule: RepetitionRule) -> bool:
    if len(tokens) < rule.window:
        return False
    ngrams = np.lib.stride_tricks.sliding_window_view(tokens, rule.ngram)
    distinct = len(np.unique(ngrams, axis=0))
    return 1 - distinct / len(ngrams) > rule.ngram_share
