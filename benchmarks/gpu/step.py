"""A training step at the shape of Qwen3-VL-4B: seconds, peak memory, MFU; prompts shared and not.

    python benchmarks/gpu/step.py            # on a GPU; by estimate 85 GB, or 32 with --optimizer none
    python benchmarks/gpu/step.py --tiny     # anywhere, in seconds: does it run?

Random weights, bf16. A step takes groups of rollouts, each group on one prompt with an image, packs them into
rows of 16,384 tokens, runs forward and backward over each and updates the weights by AdamW on fp32 masters:
what the trainer does on one rank, but for DeepSpeed. "tokens/s" counts every rollout's prompt, whatever was
computed; MFU counts what was computed, activations computed again left out, over the rate of a matrix product
measured in the same run. The time of packing and of decoding images is left out.

The masters and moments alone are 53 GB; "none" leaves them and the update out, as ZeRO does for most of them
on many ranks.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from workbench import (
    DEVICE,
    OutOfMemory,
    build_policy,
    describe,
    matmul_rate,
    model_flops,
    peak_gb,
    reset_peak,
    text_ids,
    timed,
)

from vlrl.images import ImageRef, describe_file
from vlrl.policy.model import Policy
from vlrl.policy.packing import TrainDocument, micro_batches
from vlrl.policy.processor import PolicyProcessor


@dataclass(frozen=True)
class Shape:
    """What a step is made of."""

    size: str
    row: int
    groups: int
    rollouts: int
    image_side: int
    prompt: int
    response: tuple[int, int]
    matmul: int


FULL = Shape("4b", 16_384, 4, 16, 512, 1024, (256, 1280), 8192)
TINY = Shape("nano", 512, 2, 4, 32, 64, (8, 40), 256)


def main() -> None:
    arguments = _arguments()
    shape = TINY if arguments.tiny else FULL
    policy, processor, attention = build_policy(shape.size, arguments.attention, arguments.checkpointing)
    optimizer = MasterAdamW(policy) if arguments.optimizer == "fp32" else None
    rate = matmul_rate(shape.matmul)
    heads = ("rows", "row tokens", "s a step", "optimizer, s", "tokens/s", "peak, GB", "TFLOP/s", "MFU")
    table = Table("prompts", *heads, title=describe(attention, shape.size))
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        shared = list(_documents(shape, processor, Path(scratch)))
        for kind in ("unshared", "shared"):
            documents = shared if kind == "shared" else [replace(d, prompt_tokens=0) for d in shared]
            try:
                cells, loss = _measure(policy, optimizer, processor, documents, shape.row, rate, arguments)
                losses.append(loss)
            except OutOfMemory:
                cells = ["out of memory"]
            policy.zero_grad(set_to_none=True)
            table.add_row(kind, *cells)
    Console(width=160).print(table)
    print(f"a matrix product of {shape.matmul}: {rate / 1e12:.3g} TFLOP/s")
    kept = "computed again" if arguments.checkpointing else "kept"
    print(
        f"{shape.groups} groups of {shape.rollouts}, median of {arguments.repeats} steps, activations {kept}"
    )
    if len(losses) == 2:
        print(f"loss unshared {losses[0]:.6f}, shared {losses[1]:.6f}")


def _measure(
    policy: Policy,
    optimizer: "MasterAdamW | None",
    processor: PolicyProcessor,
    documents: list[TrainDocument],
    row: int,
    rate: float,
    arguments: argparse.Namespace,
) -> tuple[list[str], float]:
    reset_peak()
    rows = list(micro_batches(documents, policy, processor, max_tokens=row, device=DEVICE))
    scored = sum(d.scored for d in documents)
    passes, updates, losses = [], [], []
    for _ in range(arguments.repeats + 2):
        seconds, loss = timed(lambda: _forward_backward(policy, rows, scored))
        passes.append(seconds)
        losses.append(loss)
        updates.append(timed(optimizer.step)[0] if optimizer else 0.0)
        policy.zero_grad(set_to_none=True)
    computing, update = statistics.median(passes[2:]), statistics.median(updates[2:])
    speed = sum(model_flops(policy, batch.inputs) for batch in rows) / (computing + update)
    tokens = sum(len(d.ids) for d in documents)
    return [
        str(len(rows)),
        f"{sum(len(batch.inputs.input_ids) for batch in rows):,}",
        f"{computing + update:.3f}",
        f"{update:.3f}",
        f"{tokens / (computing + update):,.0f}",
        f"{peak_gb():.1f}",
        f"{speed / 1e12:.3g}",
        f"{speed / rate:.1%}",
    ], losses[0]


def _forward_backward(policy: Policy, rows: list[Any], scored: int) -> float:
    total = 0.0
    for batch in rows:
        logprobs, _ = policy(batch.inputs)
        loss = -logprobs.sum() / scored
        loss.backward()
        total += loss.detach()
    return float(total)


class MasterAdamW:
    """AdamW on fp32 copies of the weights, one at a time: fp32 gradients of all never exist together.

    The learning rate is zero, so that every step and every way of packing meets the same weights.
    """

    def __init__(self, policy: Policy) -> None:
        self._weights = [p for p in policy.parameters() if p.requires_grad]
        self._masters = [p.detach().float().clone() for p in self._weights]
        self._optimizers = [torch.optim.AdamW([m], lr=0.0, fused=True) for m in self._masters]

    def step(self) -> None:
        for weight, master, optimizer in zip(self._weights, self._masters, self._optimizers, strict=True):
            if weight.grad is not None:
                master.grad, weight.grad = weight.grad.float(), None
                optimizer.step()
                master.grad = None
                weight.data.copy_(master)


def _documents(shape: Shape, processor: PolicyProcessor, scratch: Path) -> Iterator[TrainDocument]:
    """Rollouts of `shape.groups` prompts, each of its own image and `shape.prompt` tokens."""
    generator, allowed = random.Random(0), text_ids(processor)
    for group in range(shape.groups):
        image = _image(scratch / f"{group}.png", shape.image_side, group)
        prompt = processor.encode([{"role": "user", "content": "<image>?"}], [image]).expanded_ids
        prompt += generator.choices(allowed, k=shape.prompt - len(prompt))
        for _ in range(shape.rollouts):
            response = generator.choices(allowed, k=generator.randint(*shape.response))
            mask = [0] * len(prompt) + [1] * len(response)
            yield TrainDocument(prompt + response, [image], mask, len(prompt))


def _image(path: Path, side: int, index: int) -> ImageRef:
    from PIL import Image

    Image.effect_noise((side, side), 10 + index).convert("RGB").save(path)
    return describe_file(path, "benchmark")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model and short rows")
    parser.add_argument("--attention", default="auto", choices=["auto", "sdpa", "flex", "varlen"])
    parser.add_argument(
        "--optimizer", default="fp32", choices=["fp32", "none"], help="AdamW's masters, or no update"
    )
    parser.add_argument("--checkpointing", default=True, action=argparse.BooleanOptionalAction)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
