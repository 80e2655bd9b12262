"""The root of the config tree."""

import math
from typing import Literal

from pydantic import Field, model_validator

from vlrl.config.base import Section
from vlrl.config.data import DataConfig
from vlrl.config.objective import CispoConfig, ObjectiveConfig, OmdConfig, TpoConfig
from vlrl.config.policy import PolicyConfig
from vlrl.config.rewards import RewardConfig
from vlrl.config.sampling import SamplingConfig
from vlrl.config.sandbox import SandboxConfig
from vlrl.config.training import (
    CheckpointConfig,
    RlConfig,
    SftConfig,
    TrainerConfig,
    ValidationConfig,
)

Stage = Literal["sft", "rl"]


class RunConfig(Section):
    """One run: a policy, its data, and the stages it goes through."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """Of the run directory."""
    seed: int = Field(default=0, ge=0)
    """Every random stream derives from it."""
    runs_dir: str = "runs"
    """Where run directories lie."""
    stages: list[Stage] = Field(default=["rl"], min_length=1)
    """In order; each starts from the weights the one before it left."""
    policy: PolicyConfig
    data: DataConfig
    sft: SftConfig = SftConfig()
    rl: RlConfig = RlConfig()
    objective: ObjectiveConfig = CispoConfig()
    sampling: SamplingConfig = SamplingConfig()
    rewards: RewardConfig = RewardConfig()
    sandbox: SandboxConfig = SandboxConfig()
    trainer: TrainerConfig = TrainerConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if len(set(self.stages)) != len(self.stages):
            raise ValueError("stages: each stage may stand once")
        if "sft" in self.stages and not self.data.warmup:
            raise ValueError("stage 'sft' needs 'data.warmup'")
        if "rl" in self.stages and not self.data.train:
            raise ValueError("stage 'rl' needs 'data.train'")
        if self.rl.prompts_per_step % self.rl.updates_per_step:
            raise ValueError(
                f"rl.prompts_per_step ({self.rl.prompts_per_step}) must be a multiple of "
                f"rl.updates_per_step ({self.rl.updates_per_step})"
            )
        if self.trainer.dtype == "bfloat16" and self.trainer.zero_stage == 0:
            raise ValueError("trainer.zero_stage must be at least 1 with trainer.dtype bfloat16")
        if self.rl.rollouts_per_prompt == 1 and "rl" in self.stages:
            raise ValueError("rl.rollouts_per_prompt must be at least 2: the baseline is the group's mean")
        if "rl" in self.stages and self.sampling.top_p != 1.0:
            raise ValueError("sampling.top_p must be 1.0 for stage 'rl': the trainer's distribution is whole")
        self._check_frozen()
        if "rl" in self.stages:
            self._check_collection()
        if self.validation.blank_images and not self.data.validation:
            raise ValueError("validation.blank_images needs 'data.validation'")
        longest = self.rl.max_prompt_tokens + self.rl.max_response_tokens
        if "rl" in self.stages and longest > self.trainer.tokens_per_micro_batch:
            raise ValueError(
                f"trainer.tokens_per_micro_batch ({self.trainer.tokens_per_micro_batch}) must hold one "
                f"rollout: rl.max_prompt_tokens + rl.max_response_tokens = {longest}"
            )
        if self.policy.context_length is not None and longest > self.policy.context_length:
            raise ValueError(
                f"policy.context_length ({self.policy.context_length}) must hold rl.max_prompt_tokens + "
                f"rl.max_response_tokens = {longest}"
            )
        return self

    def _check_frozen(self) -> None:
        """A row without images has no backward pass through a frozen language model, where ZeRO-3's ranks
        that have images would wait for it."""
        if "language" in self.policy.freeze and self.trainer.zero_stage == 3:
            raise ValueError("policy.freeze with language needs trainer.zero_stage 2 or less")

    def _check_collection(self) -> None:
        rl = self.rl
        if rl.refill_rounds > 0 and (rl.max_lag > 0 or rl.partial is not None):
            raise ValueError("rl.refill_rounds is for synchronous iterations: rl.max_lag 0, no rl.partial")
        if rl.refill_rounds > 0 and self.rewards.length.kind == "k15":
            raise ValueError(
                "rl.refill_rounds replaces prompts whose answers are all correct, from which "
                "rewards.length.kind k15 would learn to be short: choose one"
            )
        cache = self.rewards.length.cache_tokens
        if cache is not None and cache > rl.max_response_tokens:
            raise ValueError(
                f"rewards.length.cache_tokens ({cache}) is more than rl.max_response_tokens "
                f"({rl.max_response_tokens})"
            )
        if rl.interruption is not None:
            longest = rl.interruption.thinking_tokens[1] + rl.interruption.answer_tokens
            if longest > rl.max_response_tokens:
                raise ValueError(
                    f"rl.max_response_tokens ({rl.max_response_tokens}) must hold the longest thinking and "
                    f"the answer of rl.interruption, {longest} tokens, and its phrase"
                )
        segments = rl.partial.loss_segments if rl.partial else "all"
        if segments != "all" and isinstance(self.objective, TpoConfig):
            raise ValueError(
                "objective tpo compares whole responses: rl.partial.loss_segments must be 'all', not "
                f"'{segments}'"
            )
        if rl.max_lag > 0 and rl.updates_per_step > 1:
            raise ValueError(
                f"rl.max_lag above 0 needs rl.updates_per_step 1, not {rl.updates_per_step}: lag counts "
                "optimizer steps, and weights are published after each; lower rl.prompts_per_step instead"
            )
        if rl.max_lag > 0 and rl.partial is not None:
            raise ValueError("rl.max_lag above 0 and rl.partial: choose one, streaming needs no phases")
        if rl.max_lag > 0 and self.sampling.engine != "vllm":
            raise ValueError(
                "rl.max_lag above 0 needs sampling.engine vllm, which samples while training goes on"
            )
        in_flight = rl.partial.groups_in_flight if rl.partial else None
        if in_flight is not None and in_flight < rl.prompts_per_step:
            raise ValueError(
                f"rl.partial.groups_in_flight ({in_flight}) must be at least rl.prompts_per_step "
                f"({rl.prompts_per_step})"
            )

    def derived(self) -> dict[str, int]:
        """Every batch number of the run's stages that follows from those that are set."""
        out = {}
        if "sft" in self.stages:
            out["sft_conversations_in_all"] = self.sft.steps * self.sft.conversations_per_step
        if "rl" in self.stages:
            out |= self._derived_rl()
        held_out = [s.rows for s in self.data.validation]
        limit = self.validation.max_prompts
        if None not in held_out:
            prompts = sum(rows or 0 for rows in held_out)
            out["validation_rollouts"] = min(limit or prompts, prompts) * self.validation.samples_per_prompt
        return out

    def _derived_rl(self) -> dict[str, int]:
        rollouts = self.rl.prompts_per_step * self.rl.rollouts_per_prompt
        longest = self.rl.max_prompt_tokens + self.rl.max_response_tokens
        rollouts_per_update = rollouts // self.rl.updates_per_step
        # A micro-batch is full only when the next rollout does not fit, and no rollout is longer than this.
        surely_fit = self.trainer.tokens_per_micro_batch // longest
        return {
            "rollouts_per_step": rollouts,
            "rollouts_per_update": rollouts_per_update,
            "prompts_per_update": self.rl.prompts_per_step // self.rl.updates_per_step,
            "optimizer_steps": self.rl.steps * self.rl.updates_per_step,
            "rollouts_in_all": rollouts * self.rl.steps,
            "max_tokens_per_rollout": longest,
            "max_tokens_per_step": longest * rollouts,
            "max_micro_batches_per_update": math.ceil(rollouts_per_update / surely_fit),
        }

    def warnings(self) -> list[str]:
        """What is allowed and seldom meant, a sentence each."""
        found = []
        if "rl" in self.stages and isinstance(self.objective, OmdConfig) and self.rl.updates_per_step == 1:
            found.append(
                "objective omd with rl.updates_per_step 1: the policy is its own reference, so tau has no "
                "effect and the step is REINFORCE with a mean baseline"
            )
            if self.objective.reset_optimizer:
                found.append(
                    "objective.reset_optimizer with rl.updates_per_step 1: Adam's first step moves every "
                    "weight by the learning rate whatever its gradient; raise updates_per_step or turn it off"
                )
        return found + (self._warnings_of_collection() if "rl" in self.stages else [])

    def _warnings_of_collection(self) -> list[str]:
        found, rl = [], self.rl
        partial, objective = rl.partial, self.objective
        # TPO's target is made of the sampler's log-probs, so it knows who sampled.
        corrected = (
            objective.corrects_by_ratio
            or objective.correction.kind != "none"
            or isinstance(objective, TpoConfig)
        )
        older = "rl.max_lag above 0" if rl.max_lag > 0 else None
        if partial is not None and partial.loss_segments != "last":
            older = f"rl.partial.loss_segments {partial.loss_segments}"
        if older is not None and not corrected:
            found.append(
                f"objective {objective.name} with {older} learns from tokens of older versions without a "
                "ratio to the sampler's log-probs: set objective.correction, or objective.old to behaviour "
                "where there is one"
            )
        if partial is not None and partial.max_segments is not None:
            longest = partial.phase_tokens * partial.max_segments
            if longest < rl.max_response_tokens:
                found.append(
                    f"rl.partial cuts responses at phase_tokens x max_segments = {longest} tokens, before "
                    f"rl.max_response_tokens ({rl.max_response_tokens}): raise max_segments or leave it unset"
                )
        return found
