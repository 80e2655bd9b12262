from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vlrl.config.base import Section

Aggregation = Literal["token", "sample", "prompt", "constant"]
Normalisation = Literal["none", "group", "batch"]


class _Objective(Section):
    drop_zero_variance: bool = True
    """Drop groups whose rewards are all equal; dropped groups are not refilled (ScaleRL section 3.2)."""
    mask_truncated: bool = False
    """Keep rollouts cut by length in the baseline but out of the loss."""


class OmdConfig(_Objective):
    """k1.5's online mirror descent, eq. 3: sequence level, no clipping, no std."""

    name: Literal["omd"] = "omd"
    tau: float = Field(default=0.1, gt=0)
    """Weight of the squared log-ratio to the iteration's start policy. Unpublished; see docs."""
    reset_optimizer: bool = True
    """Reset Adam's state at the start of each iteration (k1.5 section 2.3.2)."""
    per_token: bool = False
    """Divide each sequence's term by its length (OpenKimi's variant); off is eq. 3."""

    @property
    def normalisation(self) -> Normalisation:
        return "none"


class CispoConfig(_Objective):
    """ScaleRL's loss: a detached, capped ratio times the log-prob."""

    name: Literal["cispo"] = "cispo"
    is_cap_max: float = Field(default=5.0, gt=1)
    """Cap of the importance ratio, in ratio units (5.0 is a ratio of 5)."""
    is_cap_min: float = Field(default=0.0, ge=0, lt=1)
    """Lower cap; 0 is none."""
    normalisation: Normalisation = "batch"
    """What divides the advantages."""
    aggregation: Aggregation = "prompt"
    """How token terms are averaged."""
    constant_length: int | None = Field(default=None, gt=0)
    """Tokens a rollout is divided by under `aggregation: constant`."""

    @model_validator(mode="after")
    def _constant(self) -> "CispoConfig":
        return _check_constant(self)


class GrpoConfig(_Objective):
    """GRPO: a clipped ratio; `clip_high` above `clip_low` is DAPO's clip-higher."""

    name: Literal["grpo"] = "grpo"
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """The ratio is clipped below 1 - clip_low."""
    clip_high: float = Field(default=0.2, gt=0)
    """The ratio is clipped above 1 + clip_high."""
    normalisation: Normalisation = "group"
    """What divides the advantages."""
    aggregation: Aggregation = "sample"
    """How token terms are averaged."""
    constant_length: int | None = Field(default=None, gt=0)
    """Tokens a rollout is divided by under `aggregation: constant`."""

    @model_validator(mode="after")
    def _constant(self) -> "GrpoConfig":
        return _check_constant(self)


def _check_constant(config: Any) -> Any:
    if config.aggregation == "constant" and config.constant_length is None:
        raise ValueError("aggregation 'constant' needs 'constant_length'")
    return config


ObjectiveConfig = Annotated[OmdConfig | CispoConfig | GrpoConfig, Field(discriminator="name")]
