"""Load a checkpoint as a trainable policy."""

from typing import Any

import torch

from vlrl.config.policy import Part, PolicyConfig
from vlrl.errors import UserError
from vlrl.policy.attention import PACKED_ATTENTION
from vlrl.policy.processor import PolicyProcessor
from vlrl.policy.supported import check_supported

# Module names by part, across the families of transformers; the first match on a parameter's path decides.
_PARTS: tuple[tuple[Part, tuple[str, ...]], ...] = (
    ("projector", ("merger", "deepstack_merger_list", "connector", "multi_modal_projector")),
    ("vision", ("visual", "vision_tower", "vision_model")),
)


def load_processor(path: str, config: PolicyConfig) -> PolicyProcessor:
    """The processor of the checkpoint at `path`, under the run's pixel bounds."""
    return PolicyProcessor.load(
        path,
        revision=config.revision,
        max_pixels=config.max_pixels,
        min_pixels=config.min_pixels,
        chat_template_kwargs=config.chat_template_kwargs,
    )


def load_model(path: str, dtype: torch.dtype, revision: str | None = None) -> Any:
    """A transformers image-text or causal model with packed attention in its language part.

    Raises:
        UserError: the folder or hub id holds no loadable weights, or an architecture that cannot be trained
            exactly on packed rows.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
        sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        attention = {"": "sdpa", "text_config": PACKED_ATTENTION} if sees else PACKED_ATTENTION
        model = auto.from_pretrained(path, revision=revision, dtype=dtype, attn_implementation=attention)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"policy.path {path}: not a loadable checkpoint ({reason})") from None
    check_supported(path, model)
    return model


def part_of(parameter_name: str) -> Part:
    """Which part of the model a parameter belongs to."""
    modules = parameter_name.split(".")
    for part, names in _PARTS:
        if any(module in names for module in modules):
            return part
    return "language"


def freeze(model: Any, parts: list[Part]) -> None:
    """Stop training the named parts.

    Raises:
        UserError: a named part does not exist in this model, or nothing is left to train.
    """
    present = {part_of(name) for name, _ in model.named_parameters()}
    for part in parts:
        if part not in present:
            raise UserError(
                f"policy.freeze: this model has no '{part}' part; it has {', '.join(sorted(present))}"
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in parts)
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("policy.freeze: nothing is left to train")
