"""Documents in a packed row, and what an attention makes of them once a row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

Layout = TypeVar("Layout")


@dataclass(slots=True)
class Documents:
    """Where documents lie in a packed row.

    `spans` are the places of each document's tokens, int64 [length] on the CPU; the first `shared` of them
    are tokens of the document before it. Causal attention gives a shared token the same output in each
    document.
    """

    spans: list[torch.Tensor]
    shared: list[int]
    tokens: int
    device: torch.device
    _layouts: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def from_spans(cls, spans: list[torch.Tensor], device: torch.device | str = "cpu") -> "Documents":
        """Documents by the places of their tokens, int64 [length] each; attention will run on `device`.

        Raises:
            ValueError: a document does not begin with tokens of the one before it (or none), or those that
                it brings itself do not continue the row.
        """
        shared: list[int] = []
        tokens, before = 0, torch.empty(0, dtype=torch.int64)
        for span in spans:
            count = int((span < tokens).sum())
            own = torch.arange(tokens, tokens + len(span) - count)
            if not torch.equal(span, torch.cat([before[:count], own])):
                raise ValueError(
                    f"document {len(shared)} of the row neither shares a prefix nor continues it"
                )
            shared.append(count)
            tokens, before = tokens + len(own), span
        return cls(spans, shared, tokens, torch.device(device))

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return max(len(span) for span in self.spans)

    def layout(self, make: Callable[..., Layout], *options: Any) -> Layout:
        """`make(self, *options)`, made when a layer first asks for it and kept for the other layers."""
        key = (make, *options)
        if key not in self._layouts:
            self._layouts[key] = make(self, *options)
        return self._layouts[key]


def gather(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of `x` [T, ...] by `index` int64 [N] -> [N, ...]; gradients of a row taken often add up in fp32.

    A prompt's keys are taken once by each of its documents, and a GPU adds bf16 to bf16: the longer such a
    sum, the more of each new term it rounds away.
    """
    return _Gather.apply(x, index)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,), grad = ctx.saved_tensors, grads[0]
        summed = grad.new_zeros(ctx.rows, *grad.shape[1:], dtype=torch.float32)
        return summed.index_add_(0, index, grad.float()).to(grad.dtype), None
