"""Attention over packed documents: one function a backend, registered with transformers by name.

Linear layers run on one packed row [1, T]; attention must not cross documents. Three backends keep them
apart; `trainer.attention` says which one a model uses.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from vlrl.errors import UserError
from vlrl.policy import attention_varlen as varlen
from vlrl.policy.attention_flex import flex_attend
from vlrl.policy.attention_sdpa import sdpa_attend
from vlrl.policy.documents import Documents


class Attend(Protocol):
    """A backend: query [1, heads, T, dim]; key, value [1, kv_heads, T, dim] -> [1, T, heads, dim].

    `sliding_window` counts the tokens that a token sees, itself included; None is all of them.
    """

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        documents: Documents,
        scaling: float | None,
        sliding_window: int | None,
        dropout: float,
    ) -> torch.Tensor: ...


# The fastest first; the last one always works.
BACKENDS: dict[str, Attend] = {"varlen": varlen.varlen_attend, "flex": flex_attend, "sdpa": sdpa_attend}
# Their names in transformers' registry, where "sdpa" within a name would be read as its own.
NAMES = {"varlen": "vlrl_varlen", "flex": "vlrl_flex", "sdpa": "vlrl_packed"}
# A loaded model has this one until `use_attention` gives it another.
PACKED_ATTENTION = NAMES["sdpa"]


def packed_attention(attend: Attend) -> Callable[..., tuple[torch.Tensor, None]]:
    """The function that transformers calls for a backend."""

    def function(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        documents: Documents | None = None,
        sliding_window: int | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        if documents is None:
            # Generation with a cache: transformers' own SDPA, windows being in its mask.
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
            )
        return attend(query, key, value, documents, scaling, sliding_window, dropout), None

    return function


for _name, _attend in BACKENDS.items():
    AttentionInterface.register(NAMES[_name], packed_attention(_attend))
    AttentionMaskInterface.register(NAMES[_name], sdpa_mask)


def use_attention(model: Any, choice: str, device: torch.device, dtype: torch.dtype) -> str:
    """Have a loaded model's language part attend by a backend; returns its name.

    `choice` is what `trainer.attention` says; `device` and `dtype` are those that the model will run in.

    Raises:
        UserError: the backend asked for cannot run this model there.
    """
    config = model.config.get_text_config()
    reasons = {name: _why_not(name, config, device, dtype) for name in BACKENDS}
    name = next(name for name in BACKENDS if reasons[name] is None) if choice == "auto" else choice
    if reasons[name]:
        raise UserError(
            f"trainer.attention: '{name}' {reasons[name]}; use 'auto', or 'sdpa', which always works"
        )
    for part in model.modules():
        # Layers hold the text config of their model, which may be a copy of the one above.
        own: Any = getattr(part, "config", None)
        if getattr(own, "model_type", None) == config.model_type:
            own._attn_implementation = NAMES[name]
    return name


def _why_not(name: str, config: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    """What keeps a backend from running a model of this text config; None where it can."""
    if name == "sdpa":
        return None
    if device.type != "cuda":
        return f"needs a GPU, and training runs on {device.type}"
    if getattr(config, "attention_dropout", 0.0):
        return f"has no dropout, and the checkpoint asks for attention_dropout {config.attention_dropout}"
    if name != "varlen":
        return None
    if dtype not in varlen.DTYPES:
        return f"needs trainer.dtype bfloat16, not {str(dtype).removeprefix('torch.')}"
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if dim > varlen.MAX_HEAD_DIM or dim % varlen.HEAD_DIM_MULTIPLE:
        return f"takes heads of a multiple of 8 up to 256 dimensions, and the checkpoint's have {dim}"
    if getattr(config, "v_head_dim", dim) != dim:
        return "takes keys and values of one size, which the checkpoint's are not"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "needs a GPU of compute capability 8.0 (Ampere) or later"
    return None
