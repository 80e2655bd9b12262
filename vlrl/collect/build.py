"""The collector that a config asks for."""

from typing import Any, Protocol, cast

from vlrl.collect.collector import Collected, Collector, GroupGrader
from vlrl.collect.partial import PartialCollector
from vlrl.collect.requests import EncodedPrompt
from vlrl.collect.streaming import StreamingCollector
from vlrl.collect.truncation import training_grader
from vlrl.config.run import RunConfig
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import Sampler, StreamingSampler


class AnyCollector(Protocol):
    """Graded groups, a batch a step; its state is all that a resumed run needs to go on."""

    def next_batch(self, step: int) -> Collected: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


def make_collector(
    prompts: list[EncodedPrompt],
    sampler: Sampler,
    processor: PolicyProcessor,
    grader: GroupGrader,
    config: RunConfig,
) -> AnyCollector:
    """Synchronous iterations; over several phases with `rl.partial`; streaming with `rl.max_lag` above 0.

    All grade under the objective's truncation policy.
    """
    grader = training_grader(grader, config)
    if config.rl.max_lag > 0:
        # The config lets only an engine that streams come here.
        return StreamingCollector(prompts, cast(StreamingSampler, sampler), processor, grader, config)
    if config.rl.partial is not None:
        return PartialCollector(prompts, sampler, processor, grader, config)
    return Collector(prompts, sampler, processor, grader, config)
