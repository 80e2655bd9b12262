"""Prompts in, graded groups out."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from vlrl.collect.pool import PromptPool
from vlrl.collect.requests import EncodedPrompt, ThinkingBudget, make_groups, make_requests, repetition_rule
from vlrl.config.run import RunConfig
from vlrl.objectives.advantages import all_equal
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import Sampler
from vlrl.trajectory import Group


class GroupGrader(Protocol):
    """Fills in the verdict of every rollout."""

    def grade(self, groups: list[Group]) -> None: ...


@dataclass(slots=True)
class Collected:
    """A batch of graded groups and the seconds that sampling and grading took.

    `discarded` were sampled too, and replaced.
    """

    groups: list[Group]
    seconds: dict[str, float] = field(default_factory=dict)
    discarded: list[Group] = field(default_factory=list)

    @property
    def sampled(self) -> list[Group]:
        """All groups, whether they are learned from or not."""
        return self.groups + self.discarded


class Collector:
    """Takes prompts in order, samples a group for each, grades them."""

    def __init__(
        self,
        prompts: list[EncodedPrompt],
        sampler: Sampler,
        processor: PolicyProcessor,
        grader: GroupGrader,
        config: RunConfig,
    ) -> None:
        self._prompts, self._sampler, self._processor, self._grader = prompts, sampler, processor, grader
        self._config = config
        self._budget = ThinkingBudget.of(config.rl, processor)
        self._pool = PromptPool(prompts, config.rl.prompts, config.seed)

    def next_batch(self, step: int) -> Collected:
        """The groups of one step, sampled from the policy that the sampler now holds.

        Raises:
            WaitTimeout: the sampler or the graders outlived their deadline.
            EngineError: one of them failed.
        """
        collected = self._round(step, 0, self._config.rl.prompts_per_step)
        kept, discarded = collected.groups, []
        for number in range(1, self._config.rl.refill_rounds + 1):
            flat = [group for group in kept if is_flat(group)]
            if not flat:
                break
            kept = [group for group in kept if not is_flat(group)]
            discarded += flat
            more = self._round(step, number, len(flat))
            kept += more.groups
            collected.seconds = {k: v + more.seconds[k] for k, v in collected.seconds.items()}
        return Collected(kept, collected.seconds, discarded)

    def _round(self, step: int, number: int, count: int) -> Collected:
        rl, sampling = self._config.rl, self._config.sampling
        indices = self._pool.take(count, step)
        prompts = [self._prompts[i] for i in indices]
        requests = make_requests(
            prompts,
            rl.rollouts_per_prompt,
            seed=self._config.seed,
            purpose=("rl", step, "refill", number) if number else ("rl", step),
            max_tokens=rl.max_response_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            budget=self._budget,
            repetition=repetition_rule(rl),
        )
        started = time.perf_counter()
        groups = make_groups(prompts, self._sampler.sample(requests, sampling.timeout_s), self._processor)
        sampled = time.perf_counter()
        self._grader.grade(groups)
        for index, group in zip(indices, groups, strict=True):
            self._pool.record(index, group)
        graded = time.perf_counter()
        return Collected(groups, {"generate": sampled - started, "reward": graded - sampled})

    def state(self) -> dict[str, Any]:
        return self._pool.state()

    def restore(self, state: dict[str, Any]) -> None:
        self._pool.restore(state)


def is_flat(group: Group) -> bool:
    """Whether nothing can be learned from a group: its rewards are all equal."""
    return all_equal(group.rewards)
