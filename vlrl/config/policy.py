from typing import Literal

from pydantic import Field, model_validator

from vlrl.config.base import Section

Architecture = Literal["qwen3_vl", "qwen2_5_vl", "idefics3", "qwen3"]
Part = Literal["vision", "projector", "language"]


class InitConfig(Section):
    """A model built from random weights instead of loaded (`vlrl init-model` in a config)."""

    architecture: Architecture = "qwen3_vl"
    """Model family."""
    size: str = "tiny"
    """A named size of the family; `vlrl init-model --list` prints them."""


class PolicyConfig(Section):
    """The model that is trained."""

    path: str | None = None
    """Local folder or Hugging Face hub id of a checkpoint with its processor."""
    revision: str | None = None
    """Hub revision of `path`."""
    init: InitConfig | None = None
    """Build a random-weight model instead of loading one."""
    max_pixels: int | None = Field(default=None, gt=0)
    """Images larger than this are scaled down before the processor, for sampler and trainer alike."""
    min_pixels: int | None = Field(default=None, gt=0)
    """Images smaller than this are scaled up likewise."""
    freeze: list[Part] = []
    """Parts that are not trained."""
    context_length: int | None = Field(default=None, gt=0)
    """Prompt + response tokens; the checkpoint's own limit when unset."""
    chat_template_kwargs: dict[str, bool | int | str] = {}
    """Arguments of the chat template, such as `enable_thinking`."""

    @model_validator(mode="after")
    def _one_source(self) -> "PolicyConfig":
        if (self.path is None) == (self.init is None):
            raise ValueError("give exactly one of 'path' (a checkpoint) and 'init' (random weights)")
        return self
