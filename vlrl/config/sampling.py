from typing import Literal

from pydantic import Field

from vlrl.config.base import Section, Temperature


class SamplingConfig(Section):
    """How rollouts are sampled, and by which engine."""

    engine: Literal["vllm", "transformers"] = "vllm"
    """`transformers` is the small reference sampler for machines without vLLM."""
    temperature: Temperature = 1.0
    """Of rollouts; the trainer divides its logits by the same."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Only 1.0 keeps the behaviour distribution equal to the policy's."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """The trainer's when unset."""
    max_sequences: int = Field(default=64, gt=0)
    """Sequences that run at a time."""
    kv_cache_gb: float = Field(default=1.0, gt=0)
    """KV cache on CPU (GPUs size theirs by `gpu_memory_utilization`)."""
    gpu_memory_utilization: float = Field(default=0.45, gt=0, le=1)
    """Share of a GPU's memory that vLLM takes; below one half leaves room for a colocated trainer."""
    tensor_parallel_size: int = Field(default=1, gt=0)
    """GPUs an engine spans."""
    threads: int = Field(default=2, gt=0)
    """CPU threads of the engine."""
    compile: bool = False
    """Compile the model in vLLM: starts slower by a minute or more, samples faster."""
    fp32_head: bool = True
    """LM head in fp32, as in the trainer (ScaleRL section 3.2)."""
    weight_transfer: Literal["auto", "shared_memory", "nccl", "ipc"] = "auto"
    """`auto`: shared memory on CPU, CUDA IPC on a GPU shared with the trainer."""
    stale_kv: Literal["keep", "recompute"] = "keep"
    """KV cache of responses that run while weights arrive (`rl.max_lag` above 0). `keep`: they go on at once,
    on keys and values of older weights (PipelineRL), so their later log-probs are not exactly the new
    weights'. `recompute`: each is prefilled again first, and they are.
    """
    batch_invariant: bool = False
    """vLLM's batch-invariant kernels (GPU): the same request gives the same bits in any batch."""
    startup_timeout_s: float = Field(default=600, gt=0)
    """Deadline for the engine to come up."""
    timeout_s: float = Field(default=1800, gt=0)
    """The longest that sampling may go without a rollout, or a part of one, coming to its end."""
