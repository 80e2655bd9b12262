"""Streaming (PipelineRL-k): the sampler goes on while the trainer trains, at most `max_lag` versions behind.

A group begun under version v must be learned from by the step that starts from version v + max_lag. Groups
are taken as they finish, oldest first, unless that would leave so many unfinished ones to the steps before
their deadline that one of them must come late: then the trainer waits.
"""

import time
from collections.abc import Iterable
from typing import Any

from vlrl.collect.collector import Collected, GroupGrader
from vlrl.collect.open_groups import OpenGroup, OpenGroups
from vlrl.collect.pool import PromptPool
from vlrl.collect.requests import EncodedPrompt
from vlrl.config.run import RunConfig
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import StreamingSampler


class StreamingCollector:
    """Keeps `max_lag + 1` batches of groups in the sampler and hands out finished ones."""

    def __init__(
        self,
        prompts: list[EncodedPrompt],
        sampler: StreamingSampler,
        processor: PolicyProcessor,
        grader: GroupGrader,
        config: RunConfig,
    ) -> None:
        self._rl, self._timeout = config.rl, config.sampling.timeout_s
        self._sampler, self._grader = sampler, grader
        self._groups = OpenGroups(prompts, processor, config)
        self._pool = PromptPool(prompts, config.rl.prompts, config.seed)
        self._begun, self._busy = 0, 0.0
        self._open: dict[int, OpenGroup] = {}
        self._ready: list[OpenGroup] = []
        self._asked: dict[str, tuple[int, int]] = {}

    def next_batch(self, step: int) -> Collected:
        """`prompts_per_step` finished groups for the step that starts from version `step - 1`.

        Raises:
            UserError: no prompts are left, and too few groups are on their way.
            WaitTimeout: no rollout finished within the sampler's deadline.
            EngineError: the engine or the graders failed.
        """
        version, started, grading = step - 1, time.perf_counter(), 0.0
        self._resume_asked()
        self._begin_groups(version)
        while (batch := self._choose(version)) is None:
            finished = self._take()
            before = time.perf_counter()
            if finished is not None:
                content = self._groups.finish(finished)
                self._grader.grade([content])
                self._pool.record(finished.prompt_index, content)
                self._ready.append(self._open.pop(finished.number))
            grading += time.perf_counter() - before
        self._ready = [group for group in self._ready if group not in batch]
        groups = [group.graded for group in batch if group.graded is not None]
        oldest = min(r.oldest_version for group in groups for r in group.rollouts)
        assert version - oldest <= self._rl.max_lag, f"lag {version - oldest} at version {version}"
        waited = time.perf_counter() - started - grading
        before, self._busy = self._busy, self._sampler.busy_seconds
        # "generate" is what the trainer waited; the sampler's own time since the last batch is beside it.
        return Collected(groups, {"generate": waited, "reward": grading, "sampler_busy": self._busy - before})

    def state(self) -> dict[str, Any]:
        """Order, and every token of finished rollouts; running ones are sampled anew after a resume."""
        return self._pool.state() | {
            "begun": self._begun,
            "open": [group.state() for group in self._open.values()],
            "ready": [group.state() for group in self._ready],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._pool.restore(state)
        self._begun = state["begun"]
        restored = [self._groups.restore(group) for group in state["open"]]
        self._open = {group.number: group for group in restored}
        self._ready = [self._groups.restore(group) for group in state["ready"]]

    def _begin_groups(self, version: int) -> None:
        """Fill up to as many groups as can be learned from in time, but no more than the run still needs."""
        size = self._rl.prompts_per_step
        held = len(self._open) + len(self._ready)
        count = min((self._rl.max_lag + 1) * size - held, self._rl.steps * size - self._begun)
        # Prompts that retirement has used up end the run once what was begun before is used up too.
        if count <= 0 or (held >= size and self._pool.is_empty(version + 1)):
            return
        for index in self._pool.take(count, version + 1):
            group = OpenGroup.begin(self._begun, index, version, self._rl.rollouts_per_prompt)
            self._begun += 1
            self._open[group.number] = group
            self._ask(group)

    def _resume_asked(self) -> None:
        """After a restore, ask again for what was running."""
        for group in self._open.values():
            if not any(number == group.number for number, _ in self._asked.values()):
                self._ask(group)

    def _ask(self, group: OpenGroup) -> None:
        requests = self._groups.requests(group)
        for request, index in zip(requests, group.unfinished, strict=True):
            self._asked[request.request_id] = (group.number, index)
        self._sampler.submit(requests)

    def _take(self) -> OpenGroup | None:
        """Wait for one rollout; its group if that was the last one missing."""
        request_id, segments = self._sampler.take(self._timeout)
        number, index = self._asked.pop(request_id)
        group = self._open[number]
        group.segments[index] += segments
        return None if group.unfinished else group

    def _choose(self, version: int) -> list[OpenGroup] | None:
        size = self._rl.prompts_per_step
        ready = sorted(self._ready, key=lambda group: (group.version, group.number))
        batch, left = ready[:size], [*ready[size:], *self._open.values()]
        deadlines = [group.version + self._rl.max_lag for group in left]
        return batch if len(batch) == size and in_time(deadlines, version, size) else None


def in_time(deadlines: Iterable[int], version: int, size: int) -> bool:
    """Whether steps of `size` groups from version + 1 on can meet every deadline.

    Earliest deadline first is optimal: at most j * size groups may be due by version + j.
    """
    return all(
        deadline > version and place < (deadline - version) * size
        for place, deadline in enumerate(sorted(deadlines))
    )
