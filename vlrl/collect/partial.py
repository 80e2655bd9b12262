"""Partial rollouts: a token budget a phase, and a buffer for what it leaves unfinished (k1.5 2.6.2).

Every iteration samples for one phase at least, so that what can finish in it is of the iteration's policy. A
phase begins as many groups as the batch lacks finished ones: where all finish in one phase that is a batch an
iteration and none waits; where they take several, unfinished ones gather until each phase finishes a batch.
"""

import time
from typing import Any

from vlrl.collect.collector import Collected, GroupGrader
from vlrl.collect.open_groups import OpenGroup, OpenGroups
from vlrl.collect.pool import PromptPool
from vlrl.collect.requests import EncodedPrompt
from vlrl.config.run import RunConfig
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import Sampler
from vlrl.trajectory import Segment


class PartialCollector:
    """Samples in phases; a group is ready when all its rollouts ended, however many phases they took."""

    def __init__(
        self,
        prompts: list[EncodedPrompt],
        sampler: Sampler,
        processor: PolicyProcessor,
        grader: GroupGrader,
        config: RunConfig,
    ) -> None:
        assert config.rl.partial is not None
        self._partial, self._rl = config.rl.partial, config.rl
        self._sampler, self._grader, self._timeout = sampler, grader, config.sampling.timeout_s
        self._groups = OpenGroups(prompts, processor, config)
        self._pool = PromptPool(prompts, config.rl.prompts, config.seed)
        self._in_flight = self._partial.groups_in_flight or 2 * config.rl.prompts_per_step
        self._begun = 0
        self._open: list[OpenGroup] = []
        self._ready: list[OpenGroup] = []

    def next_batch(self, step: int) -> Collected:
        """The oldest `prompts_per_step` finished groups, after one phase or as many as that takes.

        Raises:
            UserError: no prompts are left, and too few groups are on their way.
            WaitTimeout: the sampler or the graders outlived their deadline.
            EngineError: one of them failed.
        """
        seconds = {"generate": 0.0, "reward": 0.0}
        phases = 0
        while phases == 0 or len(self._ready) < self._rl.prompts_per_step:
            started = time.perf_counter()
            self._begin_groups(step)
            if not self._open:  # neither run nor pool has more, and the rest is ready
                break
            self._run_phase()
            phases += 1
            sampled = time.perf_counter()
            self._move_finished()
            seconds["generate"] += sampled - started
            seconds["reward"] += time.perf_counter() - sampled
        batch = self._ready[: self._rl.prompts_per_step]
        self._ready = self._ready[self._rl.prompts_per_step :]
        groups = [group.graded for group in batch if group.graded is not None]
        assert len(groups) == self._rl.prompts_per_step
        return Collected(groups, seconds)

    def state(self) -> dict[str, Any]:
        """Order, and the buffer: every token of unfinished and of waiting groups."""
        return self._pool.state() | {
            "begun": self._begun,
            "open": [group.state() for group in self._open],
            "ready": [group.state() for group in self._ready],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._pool.restore(state)
        self._begun = state["begun"]
        self._open = [self._groups.restore(group) for group in state["open"]]
        self._ready = [self._groups.restore(group) for group in state["ready"]]

    def _begin_groups(self, step: int) -> None:
        """As many as the batch lacks, within what may be held and what the run still needs."""
        size, held = self._rl.prompts_per_step, len(self._open) + len(self._ready)
        # Should a whole batch be ready and nothing running, one group keeps the phase from being empty.
        lacking = max(size - len(self._ready), 0 if self._open else 1)
        count = min(lacking, self._in_flight - held, self._rl.steps * size - self._begun)
        # Prompts that retirement has used up end the run once what was begun before is used up too.
        if count <= 0 or (held >= size and self._pool.is_empty(step)):
            return
        for index in self._pool.take(count, step):
            version = self._sampler.policy_version
            self._open.append(OpenGroup.begin(self._begun, index, version, self._rl.rollouts_per_prompt))
            self._begun += 1

    def _run_phase(self) -> None:
        asked = [(group, index) for group in self._open for index in group.unfinished]
        requests = [
            r for group in self._open for r in self._groups.requests(group, self._partial.phase_tokens)
        ]
        sampled = self._sampler.sample(requests, self._timeout)
        for (group, index), segments in zip(asked, sampled, strict=True):
            self._extend(group, index, segments)

    def _extend(self, group: OpenGroup, index: int, segments: list[Segment]) -> None:
        group.segments[index] += segments
        group.phases[index] += 1
        last, most = group.segments[index][-1], self._partial.max_segments
        if last.finish_reason == "paused" and most is not None and group.phases[index] >= most:
            last.finish_reason = "length"

    def _move_finished(self) -> None:
        finished = [group for group in self._open if not group.unfinished]
        if finished:
            graded = [self._groups.finish(group) for group in finished]
            self._grader.grade(graded)
            for group, content in zip(finished, graded, strict=True):
                self._pool.record(group.prompt_index, content)
        self._open = [group for group in self._open if group.unfinished]
        self._ready = sorted([*self._ready, *finished], key=lambda group: group.number)
