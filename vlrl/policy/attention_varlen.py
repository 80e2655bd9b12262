"""Attention with FlashAttention's kernel for documents of any length end to end, on CUDA in half precision.

The kernel aligns a document's queries with the end of its keys. So a document that shares its beginning asks
for its own tokens alone, over keys gathered from the shared ones and its own: each output is computed once.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.nn.attention.varlen import varlen_attn

from vlrl.policy.documents import Documents, gather

DTYPES = (torch.bfloat16, torch.float16)
MAX_HEAD_DIM, HEAD_DIM_MULTIPLE = 256, 8


@dataclass(slots=True)
class Ragged:
    """Documents end to end: where each one's queries and keys begin, int32 [documents + 1] each.

    `keys` int64 [K] are the places in the row of all documents' keys, None where nothing is shared.
    """

    query_starts: torch.Tensor
    key_starts: torch.Tensor
    keys: torch.Tensor | None
    longest_query: int
    longest_key: int

    @classmethod
    def of(cls, documents: Documents) -> "Ragged":
        lengths = [len(span) for span in documents.spans]
        own = [length - shared for length, shared in zip(lengths, documents.shared, strict=True)]
        starts = (torch.tensor([0, *accumulate(n)], dtype=torch.int32) for n in (own, lengths))
        query_starts, key_starts = (x.to(documents.device) for x in starts)
        keys = torch.cat(documents.spans).to(documents.device) if any(documents.shared) else None
        return cls(query_starts, key_starts, keys, max(own), max(lengths))


def varlen_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scaling: float | None,
    sliding_window: int | None,
    dropout: float,
) -> torch.Tensor:
    """query [1, heads, T, dim]; key, value [1, kv_heads, T, dim] -> [1, T, heads, dim], bf16 or fp16.

    `dim` is a multiple of 8, up to 256; `dropout` must be 0.
    """
    assert dropout == 0.0
    layout = documents.layout(Ragged.of)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if layout.keys is not None:
        k, v = (gather(x, layout.keys) for x in (k, v))
    out = varlen_attn(
        q,
        k,
        v,
        layout.query_starts,
        layout.key_starts,
        layout.longest_query,
        layout.longest_key,
        scale=scaling,
        # Tokens to the left, itself not counted; -1 is all of them.
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(out, torch.Tensor)
    return out.unsqueeze(0)
