"""What flows through reinforcement learning: prompt -> rollout (segments) -> group -> batch.

Everything here carries token ids, never text to be tokenised again (token in, token out), and images
by reference (content hash), never pixels.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vlrl.images import ImageRef

# How a response marks its thinking.
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"

FinishReason = Literal["stop", "length", "repetition", "interrupted", "paused", "error"]
Status = Literal["correct", "wrong", "no_answer", "truncated", "grader_error", "infra_error"]

ERROR_STATUSES: tuple[Status, ...] = ("grader_error", "infra_error")


@dataclass(slots=True, frozen=True)
class Prompt:
    """One question, ready to be sampled.

    `messages` are chat messages whose string content holds one `<image>` marker per image.
    `source` is verl's `data_source`: it routes the reward and groups the metrics. `where` is the file and
    row it was read from.
    """

    id: str
    messages: list[dict[str, str]]
    images: list[ImageRef]
    verifier: str
    ground_truth: str
    source: str = "default"
    extra: dict[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What an error calls it: an id may be a hash that no file shows."""
        return self.where or f"row '{self.id}'"


@dataclass(slots=True)
class Segment:
    """A run of tokens sampled by one policy version, or injected.

    The finish reason of all but a rollout's last segment says why another follows: `paused` (a weight update
    or the end of a phase) or `interrupted` (the thinking outlived its budget).

    `token_ids`, `logprobs` and `loss_mask` have one entry a token. `logprobs` are the behaviour
    log-probabilities (nats) at the sampling temperature; `loss_mask` is 0 for injected tokens.
    """

    token_ids: list[int]
    logprobs: list[float]
    policy_version: int
    loss_mask: list[int]
    finish_reason: FinishReason

    def __post_init__(self) -> None:
        assert len(self.token_ids) == len(self.logprobs) == len(self.loss_mask)

    @property
    def is_injected(self) -> bool:
        """Whether these tokens were put in, not sampled."""
        return bool(self.token_ids) and not any(self.loss_mask)


@dataclass(slots=True, frozen=True)
class Verdict:
    """What a reward says of one rollout. `rule` names the comparison that decided.

    `parts` are the rewards that made it up, each from 0 to 1, where there were several.
    """

    reward: float
    status: Status
    answer: str | None = None
    rule: str = ""
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        return self.status in ERROR_STATUSES


@dataclass(slots=True)
class Rollout:
    """One response to a prompt. `prompt_ids` are expanded: one placeholder id per image feature."""

    prompt_id: str
    sample_index: int
    prompt_ids: list[int]
    segments: list[Segment]
    images: list[ImageRef] = field(default_factory=list)
    text: str = ""
    verdict: Verdict | None = None

    @property
    def response_ids(self) -> list[int]:
        return [t for s in self.segments for t in s.token_ids]

    @property
    def logprobs(self) -> list[float]:
        return [p for s in self.segments for p in s.logprobs]

    @property
    def loss_mask(self) -> list[int]:
        return [m for s in self.segments for m in s.loss_mask]

    @property
    def versions(self) -> list[int]:
        """The policy version of each response token."""
        return [s.policy_version for s in self.segments for _ in s.token_ids]

    @property
    def finish_reason(self) -> FinishReason:
        return self.segments[-1].finish_reason if self.segments else "error"

    @property
    def oldest_version(self) -> int:
        return min(s.policy_version for s in self.segments)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Group:
    """All rollouts of one prompt."""

    prompt: Prompt
    rollouts: list[Rollout]

    @property
    def rewards(self) -> list[float]:
        """Rewards of the rollouts that were graded; errors have none."""
        return [r.verdict.reward for r in self.rollouts if r.verdict is not None and not r.verdict.is_error]
