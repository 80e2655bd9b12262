from typing import Literal

from pydantic import Field

from vlrl.config.base import Section


class CurriculumConfig(Section):
    """Every prompt for a while, then only hard ones (k1.5 section 3.5, figure 9: iteration 24)."""

    uniform_steps: int = Field(ge=0)
    """Steps that draw from all prompts."""
    hard_level: int | None = Field(default=None, ge=0)
    """A prompt is hard from this level up, where its row has a `level`."""
    hard_below: float = Field(default=0.5, gt=0, le=1)
    """Else it is hard while its success rate is below this."""


class PromptConfig(Section):
    """Which prompts are sampled."""

    order: Literal["shuffled", "prioritised"] = "shuffled"
    """`shuffled`: passes over all of them; `prioritised`: drawn by 1 - success rate (k1.5 section 2.3.4)."""
    floor: float = Field(default=0.02, gt=0, le=1)
    """Least weight of a solved prompt under `prioritised`, so that none starves."""
    success_ema: float = Field(default=0.5, ge=0, lt=1)
    """How much of a prompt's old success rate stays when it is visited again."""
    retire_above: float | None = Field(default=None, gt=0, le=1)
    """Never sample a prompt again once a visit's pass rate reached this (ScaleRL: 0.9)."""
    curriculum: CurriculumConfig | None = None
    """Unset: all prompts all the time."""
