"""A response in parts: what an engine is asked for, call by call.

Most responses are one part. Forced interruption (ScaleRL section 3.2, appendix A.11) ends a thinking that
outlives its budget, injects a phrase, and has the answer sampled as another part; a token budget for the
phase (partial rollouts, k1.5 section 2.6.2) pauses a response, to be continued from where it stands.
"""

from collections.abc import Callable
from dataclasses import replace

from vlrl.sampling.base import SampleRequest
from vlrl.seeds import derive_seed
from vlrl.trajectory import Segment


class ResponseParts:
    """One request's response as it grows: `next` says what to sample, `add` takes what was sampled.

    Args:
        request: with the segments of earlier phases in `request.segments`.
        closes_thinking: whether a response's ids hold the end of the thinking.
    """

    def __init__(self, request: SampleRequest, closes_thinking: Callable[[list[int]], bool]) -> None:
        self.segments: list[Segment] = []
        self._request, self._closes_thinking = request, closes_thinking
        self._done = False

    def next(self) -> SampleRequest | None:
        """The next part as a request of its own, whose prompt ends with the response so far, or None."""
        if self._done:
            return None
        limit = min(self._left(), self._left_of_phase())
        plan = self._request.interruption
        if plan is not None and self._answer_tokens() is None:
            thinking = plan.thinking_tokens - len(self._response())
            if thinking > 0:
                limit = min(limit, thinking)
            elif not self._closes_thinking(self._response()):
                self._inject(plan.phrase_ids)
                limit = min(self._left(), self._left_of_phase())
        if limit <= 0:
            self._end()
            return None
        return self._part(limit)

    def add(self, segments: list[Segment]) -> None:
        """Take one part's segments, as an engine returned them."""
        self.segments += segments
        reason = segments[-1].finish_reason
        if reason == "length":
            segments[-1].finish_reason = "paused"  # until `next` finds that nothing may follow
        else:
            self._done = True

    def _part(self, limit: int) -> SampleRequest:
        request, so_far = self._request, self._response()
        count = len(self._all())
        return replace(
            request,
            request_id=f"{request.request_id}-{count}" if count else request.request_id,
            prompt_ids=request.prompt_ids + so_far,
            expanded_ids=request.expanded_ids + so_far,
            seed=derive_seed(request.seed, "part", count) if count else request.seed,
            max_tokens=limit,
            segments=[],
            run=self._run(),
        )

    def _inject(self, phrase: list[int]) -> None:
        last = self._all()[-1]
        last.finish_reason = "interrupted"
        zeros = [0] * len(phrase)
        self.segments.append(
            Segment(list(phrase), [0.0] * len(phrase), last.policy_version, zeros, "interrupted")
        )

    def _end(self) -> None:
        self._done = True
        self._all()[-1].finish_reason = "length" if self._left() <= 0 else "paused"

    def _left(self) -> int:
        """Tokens that the response may still have."""
        left = self._request.max_tokens - len(self._response())
        plan, answer = self._request.interruption, self._answer_tokens()
        return left if plan is None or answer is None else min(left, plan.answer_tokens - answer)

    def _left_of_phase(self) -> int:
        if self._request.pause_after is None:
            return self._left()
        return self._request.pause_after - sum(len(s.token_ids) for s in self.segments)

    def _answer_tokens(self) -> int | None:
        """Tokens sampled since the phrase; None without a phrase."""
        count = None
        for segment in self._all():
            if segment.is_injected:
                count = 0
            elif count is not None:
                count += len(segment.token_ids)
        return count

    def _run(self) -> list[Segment]:
        """What was sampled since the phrase, or since the beginning."""
        run: list[Segment] = []
        for segment in self._all():
            run = [] if segment.is_injected else [*run, segment]
        return run

    def _all(self) -> list[Segment]:
        return [*self._request.segments, *self.segments]

    def _response(self) -> list[int]:
        return [token for segment in self._all() for token in segment.token_ids]
