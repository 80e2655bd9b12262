"""Prompts in, graded groups out."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from vlrl.collect.order import VisitOrder
from vlrl.collect.requests import EncodedPrompt, ThinkingBudget, make_groups, make_requests
from vlrl.config.run import RunConfig
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import Sampler
from vlrl.trajectory import Group


class GroupGrader(Protocol):
    """Fills in the verdict of every rollout."""

    def grade(self, groups: list[Group]) -> None: ...


@dataclass(slots=True)
class Collected:
    """A batch of graded groups and the seconds that sampling and grading took."""

    groups: list[Group]
    seconds: dict[str, float] = field(default_factory=dict)


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
        self._order = VisitOrder(len(prompts), config.seed, "rl-prompts")

    def next_batch(self, step: int) -> Collected:
        """The groups of one step, sampled from the policy that the sampler now holds.

        Raises:
            WaitTimeout: the sampler or the graders outlived their deadline.
            EngineError: one of them failed.
        """
        rl, sampling = self._config.rl, self._config.sampling
        prompts = [self._prompts[i] for i in self._order.take(rl.prompts_per_step)]
        requests = make_requests(
            prompts,
            rl.rollouts_per_prompt,
            seed=self._config.seed,
            purpose=("rl", step),
            max_tokens=rl.max_response_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            budget=self._budget,
        )
        started = time.perf_counter()
        groups = make_groups(prompts, self._sampler.sample(requests, sampling.timeout_s), self._processor)
        sampled = time.perf_counter()
        self._grader.grade(groups)
        graded = time.perf_counter()
        return Collected(groups, {"generate": sampled - started, "reward": graded - sampled})

    def state(self) -> dict[str, Any]:
        return self._order.state()

    def restore(self, state: dict[str, Any]) -> None:
        self._order.restore(state)
