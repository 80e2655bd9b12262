"""The sampler that a config asks for."""

from pathlib import Path

from vlrl.config.run import RunConfig
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import Sampler


def build_sampler(config: RunConfig, policy_path: str, processor: PolicyProcessor, log_dir: Path) -> Sampler:
    """Start the engine of `config.sampling` on the weights at `policy_path`.

    Raises:
        UserError: the engine is not installed.
        WaitTimeout: it does not come up in time.
    """
    longest = config.rl.max_prompt_tokens + config.rl.max_response_tokens
    if config.sampling.engine == "transformers":
        from vlrl.sampling.transformers_sampler import TransformersSampler

        return TransformersSampler.load(
            policy_path, config.sampling, processor, trainer_dtype=config.trainer.dtype
        )
    from vlrl.sampling.vllm_sampler import VllmSampler

    return VllmSampler(
        policy_path,
        config.sampling,
        processor,
        trainer_dtype=config.trainer.dtype,
        max_model_len=config.policy.context_length or longest,
        seed=config.seed,
        log_dir=log_dir,
        revision=config.policy.revision,
    )
