"""The least time that the arithmetic of a step takes: its multiplications over the measured matmul rate."""

import time
from typing import Any

from rl_step_task import PROMPTS, RESPONSE_TOKENS, Task


def floor(task: Task, prompt_tokens: int) -> dict[str, float]:
    """Seconds of `generate` and `train`, and the `rate` in GFLOP/s that they are counted at.

    Counts two operations a weight and token forward, four backward, every prompt and its image computed once
    a group. Leaves out attention's own products, element-wise work and the optimizer, so it is a bound.
    `prompt_tokens`: of all prompts of a step, one rollout each.
    """
    weights = _weights(task)
    responses = PROMPTS * task.shape.rollouts * RESPONSE_TOKENS
    image_tokens = PROMPTS * (task.shape.image_side // 28) ** 2
    prefill = (
        weights["text"] * prompt_tokens
        + weights["vision"] * 4 * image_tokens
        + weights["merger"] * image_tokens
    )
    decode = (weights["text"] + weights["head"]) * responses
    rate = _matmul_rate(task.threads)
    return {
        "generate": 2 * (prefill + decode) / rate,
        "train": 6 * (prefill + decode) / rate,
        "rate": rate / 1e9,
    }


def _weights(task: Task) -> dict[str, int]:
    """Weights that multiply every text token, patch, image token (four patches) and sampled token."""
    import torch

    from vlrl.policy.load import load_model

    model: Any = load_model(str(task.model), torch.float32)
    counts = {"text": 0, "vision": 0, "merger": 0}
    for name, weight in model.named_parameters():
        if weight.dim() < 2 or "embed_tokens" in name or "lm_head" in name:
            continue
        part = "merger" if "merger" in name else "vision" if "visual" in name else "text"
        counts[part] += weight.numel()
    return counts | {"head": model.get_output_embeddings().weight.numel()}


def _matmul_rate(threads: int) -> float:
    """FLOP/s of a large fp32 product, the fastest of 100: others on the machine can only slow it."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = []
    for _ in range(100):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return 2 * 1024**3 / min(seconds)
