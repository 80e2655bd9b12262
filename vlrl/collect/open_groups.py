"""Groups on their way, some of whose rollouts are finished: what partial rollouts and streaming keep."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vlrl.collect.requests import EncodedPrompt, ThinkingBudget, make_group, make_requests, repetition_rule
from vlrl.config.run import RunConfig
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import SampleRequest
from vlrl.trajectory import Group, Segment, Verdict


@dataclass(slots=True)
class OpenGroup:
    """One visit to a prompt. `number` counts visits over the whole run and names its random streams.

    `segments` holds each rollout's so far, `phases` how many phases each has had; `version` is the policy
    version when the group was begun. `graded` is the finished group.
    """

    number: int
    prompt_index: int
    version: int
    segments: list[list[Segment]]
    phases: list[int]
    graded: Group | None = field(default=None)

    @classmethod
    def begin(cls, number: int, prompt_index: int, version: int, rollouts: int) -> "OpenGroup":
        return cls(number, prompt_index, version, [[] for _ in range(rollouts)], [0] * rollouts)

    @property
    def unfinished(self) -> list[int]:
        """Indices of rollouts that still want sampling."""
        return [i for i, s in enumerate(self.segments) if not s or s[-1].finish_reason == "paused"]

    def state(self) -> dict[str, Any]:
        """Everything but the prompt, for JSON."""
        verdicts = (
            [asdict(r.verdict) if r.verdict else None for r in self.graded.rollouts] if self.graded else None
        )
        return {
            "number": self.number,
            "prompt_index": self.prompt_index,
            "version": self.version,
            "segments": [[asdict(s) for s in rollout] for rollout in self.segments],
            "phases": self.phases,
            "verdicts": verdicts,
        }


class OpenGroups:
    """Makes, continues and restores open groups of a run's prompts."""

    def __init__(self, prompts: list[EncodedPrompt], processor: PolicyProcessor, config: RunConfig) -> None:
        self._prompts, self._processor, self._config = prompts, processor, config
        self._budget = ThinkingBudget.of(config.rl, processor)

    def requests(self, group: OpenGroup, pause_after: int | None = None) -> list[SampleRequest]:
        """A request for every unfinished rollout, going on from its segments."""
        config = self._config
        made = make_requests(
            [self._prompts[group.prompt_index]],
            len(group.segments),
            seed=config.seed,
            purpose=("rl-group", group.number),
            max_tokens=config.rl.max_response_tokens,
            temperature=config.sampling.temperature,
            top_p=config.sampling.top_p,
            budget=self._budget,
            repetition=repetition_rule(config.rl),
        )
        return [
            replace(made[i], segments=group.segments[i], pause_after=pause_after) for i in group.unfinished
        ]

    def finish(self, group: OpenGroup) -> Group:
        """The group as rollouts, ungraded; every one of them must be finished."""
        assert not group.unfinished
        group.graded = make_group(self._prompts[group.prompt_index], group.segments, self._processor)
        return group.graded

    def restore(self, state: dict[str, Any]) -> OpenGroup:
        """The group that `OpenGroup.state` described."""
        segments = [[Segment(**s) for s in rollout] for rollout in state["segments"]]
        group = OpenGroup(
            state["number"], state["prompt_index"], state["version"], segments, list(state["phases"])
        )
        if state["verdicts"] is not None:
            for rollout, verdict in zip(self.finish(group).rollouts, state["verdicts"], strict=True):
                rollout.verdict = Verdict(**verdict) if verdict else None
        return group
