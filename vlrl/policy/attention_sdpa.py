"""Attention document by document with PyTorch's own SDPA: on any device, in any dtype.

On CPU a dense block-diagonal mask costs forty times what the work does, so documents are gathered into padded
batches of similar length, attended causally, and scattered back. Padding stands after each document's last
token, so the causal mask alone keeps it out: no mask tensor is needed.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from vlrl.policy.documents import Documents, gather

# A bucket holds documents up to this many times its shortest one.
_BUCKET_RATIO = 1.3


@dataclass(slots=True)
class Buckets:
    """Documents of similar length as gather indices.

    `buckets` are int64 [documents, longest] indices into the row (padding points at the document's first
    token and is never read back); `scatter` is int64 [T], a place of each token in the buckets, end to end.
    """

    buckets: list[torch.Tensor]
    scatter: torch.Tensor

    @classmethod
    def of(cls, documents: Documents) -> "Buckets":
        spans = documents.spans
        lengths = [len(span) for span in spans]
        order = sorted(range(len(spans)), key=lambda d: (lengths[d], d))
        scatter = torch.empty(documents.tokens, dtype=torch.int64)
        buckets, base = [], 0
        for members in _bucketed(order, lengths):
            longest = lengths[members[-1]]
            index = torch.empty(len(members), longest, dtype=torch.int64)
            for row, d in enumerate(members):
                index[row, : lengths[d]] = spans[d]
                index[row, lengths[d] :] = spans[d][0]
                scatter[spans[d]] = base + row * longest + torch.arange(lengths[d])
            buckets.append(index.to(documents.device))
            base += index.numel()
        return cls(buckets, scatter.to(documents.device))


def _bucketed(order: list[int], lengths: list[int]) -> list[list[int]]:
    out: list[list[int]] = []
    for d in order:
        if out and lengths[d] <= _BUCKET_RATIO * lengths[out[-1][0]] + 8:
            out[-1].append(d)
        else:
            out.append([d])
    return out


def sdpa_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scaling: float | None,
    sliding_window: int | None,
    dropout: float,
) -> torch.Tensor:
    """query [1, heads, T, dim]; key, value [1, kv_heads, T, dim] -> [1, T, heads, dim], any float dtype."""
    heads, kv_heads = query.shape[1], key.shape[1]
    layout = documents.layout(Buckets.of)
    # [T, heads, dim], so that gathering a token is copying one contiguous row
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    outputs = []
    for index in layout.buckets:
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
    return joined.index_select(0, layout.scatter).unsqueeze(0)


def _gather(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """[T, heads, dim] -> [documents, heads, longest, dim]"""
    return gather(x, index.flatten()).view(*index.shape, *x.shape[1:]).transpose(1, 2)


def _window_mask(index: torch.Tensor, sliding_window: int | None) -> torch.Tensor | None:
    """bool [longest, longest] of what each place sees, where the window is shorter than the documents."""
    longest = index.shape[1]
    if sliding_window is None or sliding_window >= longest:
        return None
    causal = torch.ones(longest, longest, dtype=torch.bool, device=index.device).tril()
    return causal.triu(1 - sliding_window)
