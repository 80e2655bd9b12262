"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

import math

from vlrl.config.training import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Rate of optimizer step `step` (from 0) out of `total_steps`.

    Linear warm-up reaches the peak at step `warmup_steps`; then the schedule falls to
    `final_lr_ratio` of the peak at the last step.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return config.lr
    span = max(1, total_steps - 1 - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / span)
    shape = (1 + math.cos(math.pi * progress)) / 2 if config.schedule == "cosine" else 1 - progress
    return config.lr * (config.final_lr_ratio + (1 - config.final_lr_ratio) * shape)
