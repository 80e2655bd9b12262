"""Load a checkpoint as a trainable policy."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
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
        UserError: the folder or hub id holds no loadable weights, or not all of them, or an architecture
            that cannot be trained exactly on packed rows.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
        sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        attention = {"": "sdpa", "text_config": PACKED_ATTENTION} if sees else PACKED_ATTENTION
        with _without_report():
            model, loading = auto.from_pretrained(
                path,
                revision=revision,
                dtype=dtype,
                attn_implementation=attention,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below
            )
    except SafetensorError as error:
        raise UserError(
            f"policy.path {path}: a safetensors file is damaged or cut short ({error}); copy it again"
        ) from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"policy.path {path}: not a loadable checkpoint ({reason})") from None
    _check_complete(path, loading)
    check_supported(path, model)
    return model


@contextmanager
def _without_report() -> Iterator[None]:
    """Without transformers' table of the keys that `_check_complete` speaks of."""
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_is_error)  # a higher level of this logger makes transformers look for more to say
    try:
        yield
    finally:
        logger.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _check_complete(path: str, loading: dict[str, Any]) -> None:
    """transformers fills with random numbers what a checkpoint lacks; tied weights are not lacking."""
    mismatched = {key for key, *_ in loading["mismatched_keys"]}
    for keys, wrong in ((loading["missing_keys"], "not there"), (mismatched, "of another shape")):
        if keys:
            first, more = sorted(keys)[:3], "" if len(keys) <= 3 else f" and {len(keys) - 3} more"
            raise UserError(
                f"policy.path {path}: weights that its config.json asks for are {wrong}: "
                f"{', '.join(first)}{more}; copy the whole checkpoint again"
            )


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
