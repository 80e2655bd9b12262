"""Attention over packed documents, one function registered with transformers by name.

Linear layers run on one packed row [1, T]; attention must not cross documents. On CPU a dense
block-diagonal mask costs forty times what the work does, so documents are gathered into padded batches of
similar length, attended causally, and scattered back. Padding stands after each document's last token, so
the causal mask alone keeps it out: no mask tensor is needed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

PACKED_ATTENTION = "vlrl_packed"
# A bucket holds documents up to this many times its shortest one.
_BUCKET_RATIO = 1.3


@dataclass(slots=True)
class Documents:
    """Where documents lie in a packed row, as gather indices.

    `buckets` are int64 [documents, longest] indices into the row (padding points at the document's first
    token and is never read back); `scatter` is int64 [T], a place of each token in the buckets, end to end.
    """

    buckets: list[torch.Tensor]
    scatter: torch.Tensor

    @classmethod
    def from_spans(cls, spans: list[torch.Tensor], device: torch.device | str = "cpu") -> "Documents":
        """Documents by the places of their tokens in the row, int64 [length] each.

        Together they cover the row. Documents may share tokens at their beginning: there causal attention
        gives each of them the same output, so any one of them may be read back.
        """
        lengths = [len(span) for span in spans]
        order = sorted(range(len(spans)), key=lambda d: (lengths[d], d))
        scatter = torch.empty(1 + max(int(span.max()) for span in spans), dtype=torch.int64)
        buckets, base = [], 0
        for members in _bucketed(order, lengths):
            longest = lengths[members[-1]]
            index = torch.empty(len(members), longest, dtype=torch.int64)
            for row, d in enumerate(members):
                index[row, : lengths[d]] = spans[d]
                index[row, lengths[d] :] = spans[d][0]
                scatter[spans[d]] = base + row * longest + torch.arange(lengths[d])
            buckets.append(index.to(device))
            base += index.numel()
        return cls(buckets, scatter.to(device))


def _bucketed(order: list[int], lengths: list[int]) -> list[list[int]]:
    out: list[list[int]] = []
    for d in order:
        if out and lengths[d] <= _BUCKET_RATIO * lengths[out[-1][0]] + 8:
            out[-1].append(d)
        else:
            out.append([d])
    return out


def packed_attention(
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
    """query [1, heads, T, dim]; key, value [1, kv_heads, T, dim] -> [1, T, heads, dim].

    `sliding_window` counts the tokens that a layer's token sees, itself included; None is all of them.
    Without `documents` (generation with a cache) it is transformers' own SDPA, windows being in its mask.
    """
    if documents is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    heads, kv_heads = query.shape[1], key.shape[1]
    # [T, heads, dim], so that gathering a token is copying one contiguous row
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    outputs = []
    for index in documents.buckets:
        qb, kb, vb = (_gather(x, index) for x in (q, k, v))
        window = _window_mask(index, sliding_window)
        out = scaled_dot_product_attention(
            qb,
            kb,
            vb,
            attn_mask=window,
            is_causal=window is None,
            scale=scaling,
            dropout_p=dropout,
            enable_gqa=heads != kv_heads,
        )
        outputs.append(out.transpose(1, 2).reshape(-1, heads, out.shape[-1]))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return joined.index_select(0, documents.scatter).unsqueeze(0), None


def _gather(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """[T, heads, dim] -> [documents, heads, longest, dim]"""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:]).transpose(1, 2)


def _window_mask(index: torch.Tensor, sliding_window: int | None) -> torch.Tensor | None:
    """bool [longest, longest] of what each place sees, where the window is shorter than the documents."""
    longest = index.shape[1]
    if sliding_window is None or sliding_window >= longest:
        return None
    causal = torch.ones(longest, longest, dtype=torch.bool, device=index.device).tril()
    return causal.triu(1 - sliding_window)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
