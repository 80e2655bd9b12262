"""Which architectures are trained exactly; whatever would be trained as something else is refused by name.

The trainer runs a model's decoder itself, on packed rows with its own attention, and the LM head in chunks.
That is exact for decoders with rotary positions, softmax attention (full or in a sliding window) and a plain
linear head. What deviates would still run, in most cases, and give wrong log-probs.
"""

import inspect
from typing import Any

from torch import nn

from vlrl.errors import UserError

_LAYER_TYPES = {"full_attention", "sliding_attention"}
# Their image tokens attend to each other both ways.
_BOTH_WAYS = {
    "deepseek_ocr2",
    "diffusion_gemma",
    "gemma4",
    "gemma4_unified",
    "gemma3",
    "git",
    "paligemma",
    "step3p7",
}
# They tell attention about its window through the mask alone.
_WINDOW_IN_MASK = {"doge", "phimoe", "qwen2_moe"}
# Attention sinks have no key in the config.
_SINKS = {"deepseek_v4", "gpt_oss", "granite_swa", "granitemoe_swa", "hy_v4", "mimo_v2_flash"}
_LOGIT_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")


def check_supported(path: str, model: Any) -> None:
    """Refuse a loaded transformers model that packed training would not run as it was made.

    Raises:
        UserError: naming the architecture and the feature.
    """
    text = model.config.get_text_config()
    reason = _layout(model) or _attention(text, model.config.model_type) or _head(text, model)
    if reason:
        raise UserError(
            f"policy.path {path}: the architecture '{model.config.model_type}' has {reason}, which is not "
            "supported; use a decoder with rotary positions, softmax attention and a plain linear head, such "
            "as Qwen3-VL, Qwen2.5-VL, Idefics 3, Qwen3 or Llama"
        )


def _layout(model: Any) -> str | None:
    if model._is_stateful:
        return "recurrent layers, whose state would cross documents"
    base = getattr(model, "model", None)
    if base is None or "position_ids" not in inspect.signature(base.forward).parameters:
        return "another layout than transformers' decoders with position ids"
    if not model._supports_attention_backend:
        return "an attention that transformers' attention interface does not reach"
    tables = sum(isinstance(module, nn.Embedding) for module in _decoder(base).modules())
    return "embeddings beside those of its tokens, such as learned positions" if tables > 1 else None


def _decoder(base: Any) -> Any:
    """The language part of a base model."""
    return next((getattr(base, n) for n in ("language_model", "text_model") if hasattr(base, n)), base)


def _attention(text: Any, model_type: str) -> str | None:
    others = sorted(set(getattr(text, "layer_types", None) or ()) - _LAYER_TYPES)
    if others:
        return f"layers of type {', '.join(others)}"
    if getattr(text, "attn_logit_softcapping", None):
        return "attention with soft-capped logits (attn_logit_softcapping)"
    if text.model_type in _SINKS:
        return "attention sinks"
    if model_type in _BOTH_WAYS or getattr(text, "use_bidirectional_attention", False):
        return "tokens that attend to later ones"
    if text.model_type in _WINDOW_IN_MASK and getattr(text, "sliding_window", None):
        return "a sliding window that only its attention mask knows"
    return None


def _head(text: Any, model: Any) -> str | None:
    if getattr(text, "final_logit_softcapping", None):
        return "soft-capped output logits (final_logit_softcapping)"
    for name in _LOGIT_SCALES:
        if getattr(text, name, None) not in (None, 1, 1.0):
            return f"scaled output logits ({name})"
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        return "no linear output head"
    return "an output head with a bias" if head.bias is not None else None
