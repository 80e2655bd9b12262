"""The policy as the trainer runs it: packed rows in, log-probs of the response tokens out."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from vlrl.policy.documents import Documents
from vlrl.policy.logprobs import token_logprobs
from vlrl.policy.processor import join_media


@dataclass(slots=True)
class PackedInputs:
    """One forward pass.

    `input_ids` int64 [T]; `position_ids` int64 [T], or [3, T] for M-RoPE; `images` holds the model inputs
    of each distinct image, `image_use` which of them stands at each image's place in the row; `predict_from`
    int64 [M] are the places whose next token is scored, `targets` int64 [M] those tokens. `idle_image`, in
    a row without images, is encoded so that the vision tower takes part, and changes nothing.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    documents: Documents
    images: list[dict[str, torch.Tensor]]
    image_use: list[int]
    predict_from: torch.Tensor
    targets: torch.Tensor
    idle_image: dict[str, torch.Tensor] | None = None


class Policy(nn.Module):
    """A transformers causal or image-text model, computing token log-probs of packed rows."""

    def __init__(
        self, model: Any, *, banned_ids: list[int], temperature: float = 1.0, logprob_chunk: int = 1024
    ) -> None:
        super().__init__()
        self.model = model
        self.banned_ids = banned_ids
        self.temperature = temperature
        self.logprob_chunk = logprob_chunk

    @property
    def uses_mrope(self) -> bool:
        return hasattr(self.model.model, "get_rope_index")

    def forward(self, inputs: PackedInputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies, float32 [M] each, of `inputs.targets`."""
        return token_logprobs(
            self.hidden(inputs).index_select(0, inputs.predict_from),
            self.model.get_output_embeddings().weight,
            inputs.targets,
            temperature=self.temperature,
            banned_ids=self.banned_ids,
            chunk=self.logprob_chunk,
        )

    def hidden(self, inputs: PackedInputs) -> torch.Tensor:
        """Last hidden states [T, H], after the final norm, of a whole row."""
        base = self.model.model
        extra: dict[str, Any] = {}
        if inputs.image_use:
            extra["mm_encoder_outputs"] = {"image": _image_features(base, inputs.images, inputs.image_use)}
        # Before the rest of the model, where the other ranks have their images' features made.
        idle = None if inputs.idle_image is None else _idle_features(base, inputs.idle_image)
        hidden = base(
            input_ids=inputs.input_ids[None],
            position_ids=inputs.position_ids.unsqueeze(-2),
            documents=inputs.documents,
            # Already four-dimensional, so that no mask over [T, T] is built; `documents` does its work.
            attention_mask=inputs.input_ids.new_ones((1, 1, 1, 1), dtype=torch.bool),
            use_cache=False,
            **extra,
        ).last_hidden_state[0]
        return hidden if idle is None else hidden + idle

    def positions(self, ids: torch.Tensor, images: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Position ids of one document: int64 [T], or [3, T] under M-RoPE. ids: int64 [T]."""
        if not self.uses_mrope:
            return torch.arange(len(ids))
        if not images:
            return torch.arange(len(ids)).expand(3, -1)
        return self.model.model.get_rope_index(
            ids[None],
            mm_token_type_ids=(ids == self.model.config.image_token_id).int()[None],
            image_grid_thw=torch.cat([x["image_grid_thw"] for x in images]),
        )[0][:, 0]


def _image_features(base: Any, images: list[dict[str, torch.Tensor]], use: list[int]) -> SimpleNamespace:
    """Features of each distinct image, computed once, laid out in the order in which the row uses them."""
    features = base.get_image_features(**join_media(images), return_dict=True)
    pooled = features.pooler_output
    if isinstance(pooled, torch.Tensor):
        # Tile models: [tiles of all images, tokens, H]
        tiles = [x["pixel_values"].shape[1] if x["pixel_values"].dim() == 5 else 1 for x in images]
        split = pooled.split(tiles)
        return SimpleNamespace(pooler_output=torch.cat([split[i] for i in use]))
    deepstack = getattr(features, "deepstack_features", None)
    return SimpleNamespace(
        pooler_output=tuple(pooled[i] for i in use),
        deepstack_features=None if deepstack is None else [tuple(f[i] for i in use) for f in deepstack],
    )


def _idle_features(base: Any, image: dict[str, torch.Tensor]) -> torch.Tensor:
    """Zero, and yet a function of every weight of the vision tower."""
    features = base.get_image_features(**join_media([image]), return_dict=True)
    outputs = [features.pooler_output, *(getattr(features, "deepstack_features", None) or [])]
    tensors = [t for output in outputs for t in ([output] if isinstance(output, torch.Tensor) else output)]
    return torch.stack([tensor.sum() for tensor in tensors]).sum() * 0.0
