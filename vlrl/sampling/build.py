"""The sampler that a config asks for."""

import importlib.util
from pathlib import Path

from vlrl.config.run import RunConfig
from vlrl.errors import UserError
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import Sampler


def check_installed(engine: str) -> None:
    """
    Raises:
        UserError: vLLM is asked for and not installed.
    """
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise UserError(
            "sampling.engine 'vllm' needs vLLM: run `make install EXTRAS=cpu` (or gpu), "
            "or set sampling.engine: transformers"
        )


def build_sampler(
    config: RunConfig, policy_path: str, processor: PolicyProcessor, log_dir: Path, most_images: int = 0
) -> Sampler:
    """Start the engine of `config.sampling` on the weights at `policy_path`, on the trainer's device.

    `most_images` is the largest number of images that a prompt has.

    Raises:
        UserError: the engine is not installed, or there is no loadable checkpoint.
        WaitTimeout: it does not come up in time.
        EngineError: it dies on the way.
    """
    check_installed(config.sampling.engine)
    if config.sampling.engine == "transformers":
        return _transformers(config, policy_path, processor)
    from vlrl.sampling.vllm_sampler import VllmSampler
    from vlrl.sampling.vllm_start import EngineStart

    longest = config.rl.max_prompt_tokens + config.rl.max_response_tokens
    start = EngineStart(
        policy_path,
        config.sampling,
        trainer_dtype=config.trainer.dtype,
        max_model_len=config.policy.context_length or longest,
        seed=config.seed,
        revision=config.policy.revision,
        most_images=most_images,
    )
    return VllmSampler(start, processor, log_dir)


def _transformers(config: RunConfig, policy_path: str, processor: PolicyProcessor) -> Sampler:
    import torch

    from vlrl.policy.load import load_model
    from vlrl.sampling.transformers_sampler import TransformersSampler

    dtype = getattr(torch, config.sampling.dtype or config.trainer.dtype)
    model = load_model(policy_path, dtype, config.policy.revision)
    # The trainer has made its own GPU the current one.
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return TransformersSampler(model, processor, config.sampling.max_sequences)
