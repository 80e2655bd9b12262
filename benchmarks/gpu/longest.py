"""The longest document whose forward and backward pass fits, at the shape of Qwen3-VL-4B.

    python benchmarks/gpu/longest.py           # on a GPU: up to 131,072 tokens and beyond
    python benchmarks/gpu/longest.py --tiny    # anywhere, in seconds: does it run?

Random weights, bf16, one document of text, every token scored, activation checkpointing, the fp32 head in
chunks. What is held is weights, gradients and activations; the optimizer's state (12 bytes a weight, which
ZeRO spreads over ranks or offloads) is not. Lengths double until one does not fit, then the gap is halved.
"""

import argparse
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from workbench import DEVICE, OutOfMemory, build_policy, describe, peak_gb, reset_peak, text_ids, timed

from vlrl.policy.model import Policy
from vlrl.policy.packing import TrainDocument, pack
from vlrl.policy.processor import PolicyProcessor


def main() -> None:
    arguments = _arguments()
    size = "nano" if arguments.tiny else "4b"
    first, most, grain = (64, 512, 64) if arguments.tiny else (16_384, arguments.most, 8192)
    policy, processor, attention = build_policy(size, arguments.attention, checkpointing=True)
    table = Table("tokens", "seconds", "tokens/s", "peak, GB", title=describe(attention, size))

    def fits(tokens: int) -> bool:
        try:
            seconds = _forward_backward(policy, processor, tokens)
        except OutOfMemory:
            seconds = None
        policy.zero_grad(set_to_none=True)
        if seconds is None:
            table.add_row(f"{tokens:,}", "out of memory")
            return False
        table.add_row(f"{tokens:,}", f"{seconds:.2f}", f"{tokens / seconds:,.0f}", f"{peak_gb():.1f}")
        return True

    found = longest(fits, first, most, grain)
    Console(width=160).print(table)
    print(f"longest that fits: {found:,} tokens" + (", the most that was tried" if found == most else ""))


def longest(fits: Callable[[int], bool], first: int, most: int, grain: int) -> int:
    """The largest length up to `most`, to within `grain`, that fits; 0 where `first` does not."""
    low, high = 0, first
    while low < most and fits(high):
        low, high = high, min(2 * high, most)
    if low in (0, most):
        return low
    while high - low > grain:
        middle = (low + high) // 2 // grain * grain
        if middle <= low:
            break
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _forward_backward(policy: Policy, processor: PolicyProcessor, tokens: int) -> float:
    reset_peak()
    allowed = text_ids(processor)
    ids = [allowed[i * 7 % len(allowed)] for i in range(tokens)]
    document = TrainDocument(ids, [], [0] + [1] * (tokens - 1))
    batch = pack([document], [0], policy, processor, DEVICE)

    def work() -> None:
        logprobs, _ = policy(batch.inputs)
        (-logprobs.mean()).backward()

    work()  # kernels are chosen and compiled
    policy.zero_grad(set_to_none=True)
    return timed(work)[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model and short documents")
    parser.add_argument("--attention", default="auto", choices=["auto", "sdpa", "flex", "varlen"])
    parser.add_argument("--most", type=int, default=262_144, help="tokens that are not exceeded")
    return parser.parse_args()


if __name__ == "__main__":
    main()
