"""What rollouts earn: verifiers by source, how they add up, and the graders behind them."""

from fnmatch import fnmatchcase
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from vlrl.config.base import Section
from vlrl.config.reward_models import ClassicRmConfig, CotRmConfig


class LengthRewardConfig(Section):
    """A reward for length, added to the verdict's before advantages."""

    kind: Literal["none", "k15", "overlong", "overlong_correct"] = "none"
    """k1.5's, by the group's shortest and longest (section 2.3.3); DAPO's soft overlong; the same on correct
    rollouts only (ScaleRL's length penalty)."""
    weight: float = Field(default=0.2, gt=0)
    """Of the length reward. Unpublished for k1.5; DAPO's is 1."""
    start_step: int = Field(default=1, ge=1)
    """First step that has it; k1.5 begins without ("warm-up")."""
    cache_tokens: int | None = Field(default=None, gt=0)
    """Tokens before rl.max_response_tokens over which `overlong` grows; DAPO's are 4096 of 20480."""

    @model_validator(mode="after")
    def _cache(self) -> Self:
        if self.kind.startswith("overlong") and self.cache_tokens is None:
            raise ValueError(f"kind '{self.kind}' needs 'cache_tokens'")
        return self


ROW = "row"  # in place of a verifier's name: the one that the row names


class TermConfig(Section):
    """One of the rewards that a source's rollouts earn."""

    verifier: str
    """Its name; `row` for the one that the row names; FILE.py:NAME for one of your own (docs/rewards.md)."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+$")
    """What metrics call it; unset: the verifier's own name."""
    weight: float = 1.0
    """Its reward, from 0 to 1, counts so many times."""
    gate: bool = False
    """It adds nothing, but where it is not earned the whole reward is `rewards.wrong`."""
    at_least: float = Field(default=1.0, gt=0, le=1)
    """From what reward on a gate is earned."""
    args: dict[str, Any] = {}
    """Arguments of the verifier, under those that a row brings in `extra_info`."""

    @property
    def label(self) -> str:
        """Under which its reward is reported."""
        return self.name or self.verifier.rpartition(":")[2]


class RewardConfig(Section):
    """What rollouts earn, and the graders that say so."""

    sources: dict[str, list[TermConfig]] = {}
    """Rewards by `data_source`; patterns (`math_*`, `*`) stand for many, and what spells out most counts.

    The first of a list says whether a rollout is correct; the others add to its reward or are gates. A source
    that none fits has the verifier that each row names.
    """
    workers: int = Field(default=1, gt=0)
    """Grading processes of mathematics."""
    timeout_s: float = Field(default=5.0, gt=0)
    """CPU seconds of its grading process that one grading may use, so that a busy machine fails no answer.

    By the wall clock a grading ends after four times as long, at least two seconds later than that.
    """
    memory_mb: int = Field(default=1024, gt=0)
    """Address space a grading process may use beyond what it needs to start."""
    user_timeout_s: float = Field(default=60.0, gt=0)
    """Deadline of one submission to a verifier of your own."""
    user_workers: int = Field(default=8, gt=0)
    """Calls of such a verifier at a time."""
    sandbox_url: str | None = None
    """Address of a `vlrl sandbox serve` for programs (token: VLRL_SANDBOX_TOKEN); unset: a sandbox of this
    machine, under `sandbox`."""
    classic_rm: ClassicRmConfig | None = None
    """The reward model of verifier `classic_rm`."""
    cot_rm: CotRmConfig | None = None
    """The judge of verifier `cot_rm`."""
    wrong: float = Field(default=0.0, lt=1)
    """Reward of a wrong, missing or truncated answer; a correct one earns 1, a partly right one its share of
    the way between."""
    repetition_penalty: float = Field(default=0.0, ge=0)
    """Taken off the reward of a response that was ended because it repeats itself; it earns `wrong`."""
    length: LengthRewardConfig = LengthRewardConfig()
    """Added for being short; accuracy and success rates never see it."""

    def terms_of(self, source: str) -> list[TermConfig]:
        """The rewards of a source: of the patterns that fit it, those of the one that spells out most."""
        fitting = [pattern for pattern in self.sources if fnmatchcase(source, pattern)]
        return self.sources[max(fitting, key=_letters)] if fitting else [TermConfig(verifier=ROW)]

    def floor(self, source: str) -> float:
        """What a rollout earns by the first reward alone where that gives nothing."""
        return self.terms_of(source)[0].weight * self.wrong

    def user_files(self) -> list[str]:
        """The files that verifiers of the user's own come from."""
        references = (t.verifier for terms in self.sources.values() for t in terms if ":" in t.verifier)
        return sorted({reference.rpartition(":")[0] for reference in references})

    @model_validator(mode="after")
    def _terms(self) -> Self:
        for source, terms in self.sources.items():
            if not terms or terms[0].gate:
                raise ValueError(f"sources.{source}: the first reward says what is correct; it is no gate")
            labels = [term.label for term in terms]
            if len(set(labels)) != len(labels):
                raise ValueError(f"sources.{source}: two rewards have one name; give each a 'name'")
        return self


def _letters(pattern: str) -> int:
    """How much of a source a pattern spells out."""
    return sum(character not in "*?" for character in pattern)
