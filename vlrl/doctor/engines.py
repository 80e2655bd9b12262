"""Probes that start an engine and have it do a little of its work."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from vlrl.doctor.finding import Finding


def deepspeed_ops() -> Finding:
    """The small operators that DeepSpeed compiles at the first start."""
    folder = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    compiled = sorted({path.parent.name for path in folder.rglob("*.so")})
    if compiled:
        return Finding("ok", f"compiled under {folder}: {', '.join(compiled)}")
    absent = [tool for tool in ("g++", "ninja") if shutil.which(tool) is None]
    if absent:
        return Finding(
            "missing", f"no {' and no '.join(absent)}: DeepSpeed does without", f"install {', '.join(absent)}"
        )
    return Finding("missing", f"none under {folder} yet", "nothing: the first run compiles them, a minute")


def deepspeed_step() -> Finding:
    from vlrl.training.ranks import start_ranks

    ranks = start_ranks(threads=1)
    import deepspeed
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1).to(ranks.device)
    before = model.weight.detach().clone()
    config = {
        "train_batch_size": ranks.world,
        "train_micro_batch_size_per_gpu": 1,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.1, "torch_adam": True}},
    }
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    engine.backward(engine(torch.ones(1, 4, device=ranks.device)).sum())
    engine.step()
    if torch.equal(before, model.weight):
        return Finding("broken", "the weights did not change")
    return Finding("ok", f"on {ranks.device}")


def vllm_sample() -> Finding:
    """Build a nano model, start vLLM on it, sample a few tokens of it."""
    from vlrl.config.policy import PolicyConfig
    from vlrl.config.sampling import SamplingConfig
    from vlrl.policy.architectures import init_model
    from vlrl.policy.load import load_processor
    from vlrl.sampling.base import SampleRequest
    from vlrl.sampling.vllm_sampler import VllmSampler
    from vlrl.sampling.vllm_start import EngineStart

    with tempfile.TemporaryDirectory() as folder:
        path = str(init_model(Path(folder) / "nano", "qwen3", "nano", ["a few words to learn"] * 9, seed=0))
        processor = load_processor(path, PolicyConfig(path=path))
        config = SamplingConfig(max_sequences=4, kv_cache_gb=0.1, threads=1, gpu_memory_utilization=0.2)
        start = EngineStart(path, config, trainer_dtype="float32", max_model_len=128, seed=0)
        sampler = VllmSampler(start, processor, folder)
        ids = processor.encode([{"role": "user", "content": "a few words"}], []).prompt_ids
        segments = sampler.sample([SampleRequest("doctor", ids, ids, [], seed=0, max_tokens=8)], timeout=60)
        sampler.close()
    return Finding("ok", f"{sum(len(s.token_ids) for s in segments[0])} tokens of a nano model")


LOOKS: dict[str, Callable[[], Finding]] = {
    look.__name__: look for look in (deepspeed_ops, deepspeed_step, vllm_sample)
}
