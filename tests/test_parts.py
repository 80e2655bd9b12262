"""Responses in parts: interruption and phases, with an engine that says `t` tokens and then stops."""

import itertools

import pytest

from vlrl.sampling.base import Interruption, SampleRequest
from vlrl.sampling.parts import ResponseParts
from vlrl.trajectory import Segment

PROMPT, PHRASE, CLOSE, STOP = [1, 2, 3], [90, 91, 92], 80, 99


def _request(max_tokens: int, **changes: object) -> SampleRequest:
    return SampleRequest("r", [1, 2], PROMPT, [], 7, max_tokens, **changes)  # type: ignore[arg-type]


class Speaker:
    """Would say `script` and then stop; knows what it said from the prompt alone, as an engine does."""

    def __init__(self, script: list[int]) -> None:
        self.script = [*script, STOP]
        self.asked: list[SampleRequest] = []

    def sample(self, part: SampleRequest) -> list[Segment]:
        self.asked.append(part)
        assert part.expanded_ids[: len(PROMPT)] == PROMPT and part.prompt_ids[:2] == [1, 2]
        said = [t for t in part.expanded_ids[len(PROMPT) :] if t not in PHRASE]
        tokens = self.script[len(said) : len(said) + part.max_tokens]
        reason = "stop" if tokens[-1] == STOP else "length"
        return [Segment(tokens, [-1.0] * len(tokens), 3, [1] * len(tokens), reason)]


def _run(request: SampleRequest, speaker: Speaker) -> list[Segment]:
    parts = ResponseParts(request, lambda ids: CLOSE in ids)
    for _ in range(100):
        part = parts.next()
        if part is None:
            return parts.segments
        parts.add(speaker.sample(part))
    raise AssertionError("it never ends")


def _tokens(segments: list[Segment]) -> list[int]:
    return [t for s in segments for t in s.token_ids]


def test_a_plain_response_is_one_part_under_its_own_seed_and_name() -> None:
    speaker = Speaker([10, 11, 12])
    (segment,) = _run(_request(8), speaker)
    assert segment.token_ids == [10, 11, 12, STOP] and segment.finish_reason == "stop"
    assert [(p.seed, p.request_id, p.max_tokens) for p in speaker.asked] == [(7, "r", 8)]


def test_a_response_that_fills_its_budget_is_cut_by_length() -> None:
    (segment,) = _run(_request(3), Speaker([10] * 9))
    assert segment.token_ids == [10] * 3 and segment.finish_reason == "length"


def test_a_thinking_that_outlives_its_budget_is_interrupted() -> None:
    plan = Interruption(5, PHRASE, 4)
    segments = _run(_request(20, interruption=plan), Speaker([10] * 7 + [20, 21]))
    assert [s.token_ids for s in segments] == [[10] * 5, PHRASE, [10, 10, 20, 21]]
    assert [s.finish_reason for s in segments] == ["interrupted", "interrupted", "length"]
    assert segments[1].loss_mask == [0, 0, 0] and segments[1].is_injected
    assert not segments[0].is_injected and segments[0].loss_mask == [1] * 5
    stopped = _run(_request(20, interruption=plan), Speaker([10] * 7))
    assert stopped[-1].token_ids == [10, 10, STOP] and stopped[-1].finish_reason == "stop"


def test_a_thinking_that_ended_in_time_is_left_alone() -> None:
    plan = Interruption(5, PHRASE, 2)
    speaker = Speaker([10, CLOSE, *range(20, 30)])
    segments = _run(_request(9, interruption=plan), speaker)
    assert _tokens(segments) == [10, CLOSE, 20, 21, 22, 23, 24, 25, 26]
    assert not any(s.is_injected for s in segments) and segments[-1].finish_reason == "length"
    assert [p.max_tokens for p in speaker.asked] == [5, 4]
    assert len({p.seed for p in speaker.asked}) == 2 and len({p.request_id for p in speaker.asked}) == 2


def test_a_response_that_stops_before_its_thinking_budget_is_one_part() -> None:
    (segment,) = _run(_request(20, interruption=Interruption(5, PHRASE, 4)), Speaker([10, 11]))
    assert segment.token_ids == [10, 11, STOP]


@pytest.mark.parametrize("phase", [1, 2, 3, 4, 5, 7, 50])
@pytest.mark.parametrize("plan", [None, Interruption(6, PHRASE, 5), Interruption(2, PHRASE, 30)])
@pytest.mark.parametrize("script", [[10] * 30, [10, 11, CLOSE, 20, 21], [10] * 8, []])
def test_phases_change_nothing_but_where_a_response_is_cut(
    phase: int, plan: Interruption | None, script: list[int]
) -> None:
    whole = _run(_request(14, interruption=plan), Speaker(script))
    held: list[Segment] = []
    for count in itertools.count(1):
        request = _request(14, interruption=plan, segments=list(held), pause_after=phase)
        new = _run(request, Speaker(script))
        assert sum(len(s.token_ids) for s in new if not s.is_injected) <= phase
        held += new
        if held[-1].finish_reason != "paused":
            break
        assert count < 40
    assert _tokens(held) == _tokens(whole) and held[-1].finish_reason == whole[-1].finish_reason
    injected = [[s.token_ids for s in run if s.is_injected] for run in (held, whole)]
    assert injected[0] == injected[1]
