from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vlrl.config.base import Section, Temperature
from vlrl.config.prompts import PromptConfig
from vlrl.trajectory import THINK_CLOSE

_Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    lr: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    betas: tuple[_Beta, _Beta] = (0.9, 0.95)
    """Adam's moments."""
    eps: float = Field(default=1e-8, gt=0)
    """Adam's epsilon."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay."""
    warmup_steps: int = Field(default=0, ge=0)
    """Linear warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up, down to `final_lr_ratio` of the peak at the last step."""
    final_lr_ratio: float = Field(default=0.1, ge=0, le=1)
    """Of `linear` and `cosine`."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Global gradient norm."""


class TrainerConfig(Section):
    """The DeepSpeed engine, the same for every stage."""

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of weights in compute; bf16 keeps fp32 master weights."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO stage. bf16 needs at least 1 (stage 0 takes a phantom step in DeepSpeed 0.19)."""
    offload_optimizer: bool = False
    """Keep optimizer state in host memory (ZeRO-Offload)."""
    tokens_per_micro_batch: int = Field(default=8192, gt=0)
    """Packed tokens a forward pass holds on each rank."""
    logprob_chunk: int = Field(default=1024, gt=0)
    """Tokens whose logits exist at a time."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    attention: Literal["auto", "sdpa", "flex", "varlen"] = "auto"
    """How documents of a packed row attend; every choice computes the same.

    `sdpa`: document by document, on any device and in any dtype. `flex`: FlexAttention, on GPUs; compiled at
    first use. `varlen`: FlashAttention's kernel for documents end to end, in bf16 on GPUs of compute
    capability 8.0 on. `auto`: on a GPU `varlen` where it can run the model, else `flex`; on CPU `sdpa`.
    """
    threads: int = Field(default=2, gt=0)
    """CPU threads."""


class SftConfig(Section):
    """Supervised stage: long-CoT warm-up or vanilla SFT."""

    steps: int = Field(default=100, gt=0)
    """Optimizer steps."""
    conversations_per_step: int = Field(default=32, gt=0)
    """Global batch."""
    max_tokens: int = Field(default=4096, gt=0)
    """Longer conversations are dropped and counted."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-5)
    """k1.5 section 2.5: 2e-5 down to 2e-6."""
    validate_every: int | None = Field(default=None, gt=0)
    """Steps between held-out evaluations; unset: only after the last."""


class InterruptionConfig(Section):
    """Forced end of a thinking that outlives its budget (ScaleRL section 3.2 and appendix A.11)."""

    thinking_tokens: tuple[int, int]
    """The budget of each rollout is drawn evenly from this range, both ends included."""
    answer_tokens: int = Field(gt=0)
    """Tokens that may follow the phrase."""
    phrase: str = "Okay, time is up. Let me stop thinking and formulate a final answer now. </think>"
    """Put in at the budget's end, with loss mask 0; must close the thinking."""

    @model_validator(mode="after")
    def _closes(self) -> Self:
        low, high = self.thinking_tokens
        if not 0 < low <= high:
            raise ValueError(f"thinking_tokens [{low}, {high}]: write [lowest, highest], from 1 up")
        if THINK_CLOSE not in self.phrase:
            raise ValueError(f"phrase must hold {THINK_CLOSE}, else the thinking goes on")
        return self


class RepetitionConfig(Section):
    """When a response is ended early because it repeats itself (k1.5 section 2.6.2)."""

    repeats: int = Field(default=8, ge=2)
    """So many times the same stretch at the end ..."""
    max_period: int = Field(default=256, gt=0)
    """... of at most so many tokens;"""
    ngram_share: float = Field(default=0.5, gt=0, lt=1)
    """or more than this share of recent n-grams seen before ..."""
    ngram: int = Field(default=20, gt=0)
    """... of so many tokens ..."""
    window: int = Field(default=1024, gt=0)
    """... among so many;"""
    certain_tokens: int = Field(default=3000, gt=0)
    """or so many tokens in a row ..."""
    certain_probability: float = Field(default=0.99, gt=0, lt=1)
    """... each likelier than this (MiniMax-M1)."""
    check_every: int = Field(default=64, gt=0)
    """Tokens between two looks."""

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.window < self.ngram:
            raise ValueError(f"window ({self.window}) must hold one ngram ({self.ngram} tokens); raise it")
        return self


class PartialConfig(Section):
    """Partial rollouts (k1.5 section 2.6.2): long responses are sampled over several phases."""

    phase_tokens: int = Field(gt=0)
    """Tokens that a phase may add to a response; unfinished ones go on in the next, under newer weights."""
    groups_in_flight: int | None = Field(default=None, gt=0)
    """Most groups held at a time, unfinished and waiting ones; unset: twice the prompts per step.

    Each phase begins as many groups as the step still lacks finished ones, so those beyond the prompts per
    step are unfinished ones of earlier phases.
    """
    max_segments: int | None = Field(default=None, gt=0)
    """Phases after which a response is cut, as by length; unset: as many as its length takes."""
    loss_segments: Literal["last", "within_k", "all"] = "last"
    """Tokens that are learned from. `last`: those of the response's own newest version, which is older than
    the trainer's where a response ended in an earlier iteration than the rest of its group, or its group than
    the batch that took it. `within_k`: those of the k versions before that one too. `all`: every one.
    """
    within: int = Field(default=1, ge=0)
    """The k of `within_k`, in policy versions."""


class RlConfig(Section):
    """Reinforcement learning stage."""

    steps: int = Field(default=100, gt=0)
    """Iterations: one batch of rollouts each."""
    prompts_per_step: int = Field(default=32, gt=0)
    """Prompts sampled an iteration."""
    rollouts_per_prompt: int = Field(default=8, gt=0)
    """The group size."""
    updates_per_step: int = Field(default=1, gt=0)
    """Optimizer steps on one batch of rollouts, each on its own share of the prompts."""
    max_prompt_tokens: int = Field(default=2048, gt=0)
    """Expanded prompt tokens; longer prompts are refused by name when data is read."""
    max_response_tokens: int = Field(default=2048, gt=0)
    """Response tokens; longer ones are cut."""
    max_lag: int = Field(default=0, ge=0)
    """Most that a batch's oldest token may lie behind the trainer, in versions (PipelineRL-k's k).

    0 is the synchronous iteration. Above 0 the sampler goes on while the trainer trains, and a version is one
    optimizer step.
    """
    interruption: InterruptionConfig | None = None
    """Thinking budget; unset: none."""
    repetition: RepetitionConfig | None = None
    """End of responses that repeat themselves; unset: none."""
    prompts: PromptConfig = PromptConfig()
    """Which prompts are sampled: order, retirement, curriculum."""
    refill_rounds: int = Field(default=0, ge=0)
    """Times that groups whose graded rewards are all equal are replaced (DAPO's dynamic sampling).

    What was replaced counts in metrics and lies with the rollouts, but is not learned from.
    """
    partial: PartialConfig | None = None
    """Responses over several phases; unset: each is sampled to its end."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Of the policy."""
    validate_every: int | None = Field(default=None, gt=0)
    """Steps between held-out evaluations; unset: before the first and after the last."""


class ValidationConfig(Section):
    """Held-out measurement: mean@k with a confidence interval."""

    samples_per_prompt: int = Field(default=4, gt=0)
    """k of mean@k."""
    temperature: Temperature = 1.0
    """Of validation samples."""
    max_prompts: int | None = Field(default=None, gt=0)
    """Evaluate only the first of the held-out prompts."""
    blank_images: bool = False
    """After the last stage, measure once more with every image blanked (what text alone can guess)."""


class CheckpointConfig(Section):
    """What is kept to resume from."""

    every: int = Field(default=50, gt=0)
    """Steps between checkpoints; the last step always has one."""
    keep: int = Field(default=2, gt=0)
    """Newest checkpoints kept."""


class LengthRewardConfig(Section):
    """A reward for length, added to the verdict's before advantages."""

    kind: Literal["none", "k15", "overlong", "overlong_correct"] = "none"
    """k1.5's, by the group's shortest and longest (section 2.3.3); DAPO's soft overlong; the same on correct
    rollouts only (ScaleRL's length penalty)."""
    weight: float = Field(default=0.2, gt=0)
    """Of the length reward. Unpublished for k1.5; DAPO's is 1."""
    start_step: int = Field(default=1, ge=1)
    """First step that has it; k1.5 begins without ("warm-up")."""
    cache_tokens: int | None = Field(default=None, gt=0)
    """Tokens before rl.max_response_tokens over which `overlong` grows; DAPO's are 4096 of 20480."""

    @model_validator(mode="after")
    def _cache(self) -> Self:
        if self.kind.startswith("overlong") and self.cache_tokens is None:
            raise ValueError(f"kind '{self.kind}' needs 'cache_tokens'")
        return self


class RewardConfig(Section):
    """Graders."""

    workers: int = Field(default=1, gt=0)
    """Grading processes."""
    timeout_s: float = Field(default=5.0, gt=0)
    """CPU seconds of its grading process that one grading may use, so that a busy machine fails no answer.

    By the wall clock a grading ends after four times as long, at least two seconds later than that.
    """
    memory_mb: int = Field(default=1024, gt=0)
    """Address space a grading process may use beyond what it needs to start."""
    wrong: float = Field(default=0.0, lt=1)
    """Reward of a wrong, missing or truncated answer; a correct one earns 1."""
    repetition_penalty: float = Field(default=0.0, ge=0)
    """Taken off the reward of a response that was ended because it repeats itself; it earns `wrong`."""
    length: LengthRewardConfig = LengthRewardConfig()
    """Added for being short; accuracy and success rates never see it."""
