"""Attention with FlexAttention: the whole row at once, under a mask of blocks made once a row.

A token of the row sees a token before it as long as that one's documents go on: `ends` holds, for each token,
the end of the last document that holds it. Neighbours share prefixes alone, so this is exact for shared
prompts too, and each shared token is computed once.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from vlrl.policy.documents import Documents

# What the kernels are tuned for.
BLOCK = 128


def flex_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scaling: float | None,
    sliding_window: int | None,
    dropout: float,
) -> torch.Tensor:
    """query [1, heads, T, dim]; key, value [1, kv_heads, T, dim] -> [1, T, heads, dim], any float dtype.

    On CUDA compiled at first use. On CPU PyTorch runs it unfused, over all pairs of tokens, and has no
    backward pass. `dropout` must be 0.
    """
    assert dropout == 0.0
    if sliding_window is not None and sliding_window >= documents.longest:
        sliding_window = None
    out = _kernel(query.device.type)(
        query,
        key,
        value,
        block_mask=documents.layout(block_mask, sliding_window),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2)


@cache
def _kernel(device: str) -> Any:
    # Rows differ in length: without `dynamic` each length would be compiled anew. Uncompiled it would hold
    # the scores of all pairs of tokens, so what cannot be compiled must fail.
    return torch.compile(flex_attention, dynamic=True, fullgraph=True) if device == "cuda" else flex_attention


def block_mask(documents: Documents, sliding_window: int | None, block: int = BLOCK) -> BlockMask:
    """The row's mask: exact token by token, and which blocks of `block` tokens are seen in whole or in part.

    Blocks come from the least and the largest of each block's tokens, never from all pairs: at 131,072
    tokens those would be 17 billion, the blocks are a million. With a window a block in which nothing is
    seen may count as seen in part, which costs time and changes no value.
    """
    ends, places = torch.empty(2, documents.tokens, dtype=torch.int32)
    tokens = 0
    for span, shared in zip(documents.spans, documents.shared, strict=True):
        tokens += len(span) - shared
        ends[span] = tokens
        places[span] = torch.arange(len(span), dtype=torch.int32)
    ends, places = ends.to(documents.device), places.to(documents.device)

    count = -(-documents.tokens // block)
    rows = torch.arange(count, device=documents.device)
    first, last = rows[:, None] * block, rows[:, None] * block + block  # of the queries
    ends_low, ends_high = _bounds(ends, count, block)
    before = rows[:, None] > rows
    seen = (rows[:, None] == rows) | before & (ends_high > first)
    # A block that hangs over the row's end is never whole: its `ends_low` is 0, or `last` is beyond the row.
    whole = before & (ends_low >= last)
    if sliding_window is not None:
        low, high = _bounds(places, count, block)
        seen &= low[:, None] - high < sliding_window
        whole &= high[:, None] - low < sliding_window
    return BlockMask.from_kv_blocks(
        *_ordered(seen & ~whole),
        *_ordered(whole),
        BLOCK_SIZE=block,
        mask_mod=_sees(ends, places, sliding_window),
        seq_lengths=(documents.tokens, documents.tokens),
    )


def _sees(
    ends: torch.Tensor, places: torch.Tensor, sliding_window: int | None
) -> Callable[..., torch.Tensor]:
    window = sliding_window or 0

    def causal(batch: Any, head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (key <= query) & (query < ends[key])

    def windowed(batch: Any, head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return causal(batch, head, query, key) & (places[query] - places[key] < window)

    return causal if sliding_window is None else windowed


def _bounds(values: torch.Tensor, count: int, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the largest of each block, [count] each; beyond the row stand zeros."""
    padded = torch.nn.functional.pad(values, (0, count * block - len(values))).view(count, block)
    return padded.amin(1), padded.amax(1)


def _ordered(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """bool [count, count] -> how many a row has, int32 [1, 1, count], and which, those first."""
    index = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[None, None], index.int()[None, None]
