"""What the GPU benchmarks share: a random policy at a real shape, the machine's matmul rate, a step's FLOPs.

They need torch and transformers, neither DeepSpeed nor vLLM.
"""

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vlrl.policy.architectures import make_parts
from vlrl.policy.attention import use_attention
from vlrl.policy.model import PackedInputs, Policy
from vlrl.policy.processor import PolicyProcessor

CORPUS = ["What is the number in this picture? First think, then answer in \\boxed{}."]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
OutOfMemory = torch.cuda.OutOfMemoryError


def build_policy(size: str, attention: str, checkpointing: bool) -> tuple[Policy, PolicyProcessor, str]:
    """A Qwen3-VL of a named size with random weights on the device, its processor, its attention's name."""
    from transformers import AutoModelForImageTextToText

    config, processor = make_parts("qwen3_vl", size, CORPUS)
    torch.manual_seed(0)
    with DEVICE:
        model = AutoModelForImageTextToText.from_config(config, dtype=DTYPE)
    name = use_attention(model, attention, DEVICE, DTYPE)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    wrapped = PolicyProcessor(processor, config, [processor.tokenizer.eos_token_id])
    return Policy(model, banned_ids=wrapped.banned_ids).train(), wrapped, name


def text_ids(processor: PolicyProcessor) -> list[int]:
    """Token ids that may stand in a text."""
    kept = {*processor.banned_ids, *processor.stop_ids}
    return [i for i in range(300) if i not in kept]


def describe(attention: str, size: str) -> str:
    """One line on what is measured, where and with what."""
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    dtype = str(DTYPE).removeprefix("torch.")
    today = time.strftime("%Y-%m-%d")
    return f"{today}, {where}, torch {torch.__version__}, Qwen3-VL {size}, {dtype}, attention {attention}"


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the device has done `work`, and what it returned."""
    _wait()
    started = time.perf_counter()
    result = work()
    _wait()
    return time.perf_counter() - started, result


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def matmul_rate(side: int) -> float:
    """FLOP/s of a square matrix product of random numbers, as measured here: what MFU is a share of."""
    a, b = (torch.randn(side, side, device=DEVICE, dtype=DTYPE) for _ in range(2))
    seconds = [timed(lambda: a @ b)[0] for _ in range(13)]
    return 2 * side**3 / statistics.median(seconds[3:])


def reset_peak() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gb() -> float:
    """GB that tensors held at most since `reset_peak`; on CPU, that the process ever held."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def model_flops(policy: Policy, inputs: PackedInputs) -> float:
    """FLOPs of a forward and backward pass over a row; what checkpointing computes again is not counted.

    Matrix products only: a token sees those before it in its document, an image's patches each other.
    """
    base, text = policy.model.model, policy.model.config.text_config
    vision, visual = policy.model.config.vision_config, base.visual
    documents = inputs.documents
    spans = zip(documents.spans, documents.shared, strict=True)
    pairs = sum(len(s) * (len(s) + 1) // 2 - shared * (shared + 1) // 2 for s, shared in spans)
    head = policy.model.get_output_embeddings().weight.numel()
    forward = 2 * _weights(base.language_model) * len(inputs.input_ids)
    forward += 4 * text.num_hidden_layers * text.num_attention_heads * text.head_dim * pairs
    forward += 2 * head * len(inputs.targets)
    stem = 0
    for image in inputs.images:
        patches = int(image["image_grid_thw"].prod())
        mergers = _weights(visual.merger) + _weights(visual.deepstack_merger_list)
        stem += 2 * visual.patch_embed.proj.weight.numel() * patches
        forward += 2 * _weights(visual.blocks) * patches
        forward += 2 * mergers * patches // vision.spatial_merge_size**2
        forward += 4 * vision.depth * vision.hidden_size * patches**2
    return 3.0 * forward + 2.0 * stem  # pixels have no gradient


def _weights(module: nn.Module) -> int:
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))
