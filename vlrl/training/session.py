"""A run as its stages see it: config, run directory, processor, data, and the sampler that they share."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from vlrl.collect.build import AnyCollector, make_collector
from vlrl.collect.pool import read_levels
from vlrl.collect.requests import (
    EncodedPrompt,
    ThinkingBudget,
    encode_prompts,
    make_groups,
    make_requests,
    prepare_messages,
)
from vlrl.config.run import RunConfig, Stage
from vlrl.config.training import OptimizerConfig
from vlrl.errors import UserError
from vlrl.images import ImageStore, blank
from vlrl.policy.attention import use_attention
from vlrl.policy.load import load_model, load_processor
from vlrl.policy.model import Policy
from vlrl.rewards.grader import Grader
from vlrl.runs.directory import RunDirectory
from vlrl.runs.inputs import checkpoint_digests, file_digest, rows_digest
from vlrl.runs.rollouts import write_rollouts
from vlrl.runs.validation_files import (
    HELD_OUT,
    ValidationResult,
    is_measured,
    summarise,
    write_validation,
)
from vlrl.sampling.base import Sampler
from vlrl.sampling.build import build_sampler, check_installed
from vlrl.schema import Conversation, Kind, read_rows
from vlrl.training.engine import DTYPES
from vlrl.training.frozen import FrozenPolicy
from vlrl.training.ranks import Ranks
from vlrl.training.stage import StageRun, Stateful
from vlrl.trajectory import Group, Prompt

TEXT, BLANK_IMAGES = "text", "blank_images"


class Session:
    """One run in progress. `policy_path` is where the next stage's weights come from.

    `data` names the row files of each part of the run's data ("warmup", "train", "validation").
    Only the main rank samples, grades and writes.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        ranks: Ranks,
        policy_path: str,
        data: Mapping[str, list[Path]],
    ) -> None:
        self.config, self.run, self.ranks, self.policy_path = config, run, ranks, policy_path
        self._stage_started = time.monotonic()
        with ranks.together():
            self.processor = load_processor(policy_path, config.policy)
        self._data, self._store = data, ImageStore(run.images)
        self._close = ExitStack()
        self._grader: Grader | None = None
        self._sampler: Sampler | None = None
        self._frozen: FrozenPolicy | None = None
        self._warmup: list[Conversation] | None = None
        self._train: list[EncodedPrompt] | None = None
        self._held_out: list[EncodedPrompt] | None = None
        self._published: tuple[str, int] | None = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    @property
    def sampler(self) -> Sampler:
        """The engine, started when first needed."""
        if self._sampler is None:
            prompts = [*(self._train or []), *(self._held_out or [])]  # as `check` has read them
            most = max((len(p.prompt.images) for p in prompts), default=0)
            self._sampler = build_sampler(
                self.config, self.policy_path, self.processor, self.run.logs, most_images=most
            )
            self._close.callback(self._sampler.close)
        return self._sampler

    @property
    def grader(self) -> Grader:
        """The graders, started when first needed."""
        if self._grader is None:
            self._grader = Grader(
                self.config.rewards,
                self.processor.thinking_open,
                self.config.sandbox,
                self.run.root / "judge",
            )
            self._close.callback(self._grader.close)
        return self._grader

    @property
    def frozen_policy(self) -> FrozenPolicy:
        """The policy that the RL stage started from, loaded when first needed."""
        if self._frozen is None:
            dtype = DTYPES[self.config.trainer.dtype]
            model = load_model(self.policy_path, dtype, self.config.policy.revision)
            use_attention(model, self.config.trainer.attention, self.ranks.device, dtype)
            policy = Policy(
                model,
                banned_ids=self.processor.banned_ids,
                temperature=self.config.sampling.temperature,
                logprob_chunk=self.config.trainer.logprob_chunk,
            )
            self._frozen = FrozenPolicy(policy, self.ranks)
        return self._frozen

    def stage(
        self,
        name: Stage,
        steps: int,
        optimizer: OptimizerConfig,
        optimizer_steps: int,
        stateful: Mapping[str, Stateful],
    ) -> StageRun:
        """A stage on this session's current weights, restored from its latest checkpoint if it has one."""
        return StageRun(
            name,
            self.run.stage(name),
            self.config,
            policy_path=self.policy_path,
            processor=self.processor,
            ranks=self.ranks,
            steps=steps,
            optimizer=optimizer,
            optimizer_steps=optimizer_steps,
            stateful=stateful,
            started=self._stage_started,
        )

    def go_on_from(self, policy_path: str) -> None:
        """The next stage starts now, from these weights."""
        self.policy_path = policy_path
        self._stage_started = time.monotonic()

    def check(self) -> None:
        """Find now what would otherwise be found after hours of training.

        Raises:
            UserError: a prompt that cannot be used, rollouts longer than the checkpoint can read, no engine
                to sample with, or rows or weights that changed since the run began.
        """
        if self.ranks.is_main:
            self._check_inputs()
        self.ranks.share(None)

    def _check_inputs(self) -> None:
        for name, digest in checkpoint_digests(self.policy_path).items():
            self.run.remember(f"policy.{name}", digest, str(Path(self.policy_path) / name))
        for path in self.config.rewards.user_files():
            self.run.remember(f"rewards.{path}", file_digest(path), path)
        if "sft" in self.config.stages:
            self._warmup = self._rows("warmup", "conversation")
        if "rl" not in self.config.stages and not self.config.data.validation:
            return
        check_installed(self.config.sampling.engine)
        rl, limit = self.config.rl, self.processor.context_length
        longest = self.config.policy.context_length or rl.max_prompt_tokens + rl.max_response_tokens
        if longest > limit:
            raise UserError(
                f"policy.path {self.policy_path} reads at most {limit} tokens, but {longest} are asked for; "
                "lower policy.context_length, rl.max_prompt_tokens or rl.max_response_tokens"
            )
        ThinkingBudget.of(rl, self.processor)
        if "rl" in self.config.stages:
            read_levels(self.train_prompts(), rl.prompts)
        self.held_out()

    def conversations(self) -> list[Conversation]:
        """The rows of the warm-up; those that `check` has read are handed over."""
        rows, self._warmup = self._warmup, None
        return self._rows("warmup", "conversation") if rows is None else rows

    def encode_conversation(self, row: Conversation) -> tuple[list[int], list[int]]:
        """Ids and loss mask, under the config's system prompt and answer instruction."""
        messages = prepare_messages(row.messages, self.config.data)
        return self.processor.encode_conversation(messages, row.images)

    def train_prompts(self) -> list[EncodedPrompt]:
        """The prompts of the RL stage, checked and encoded once."""
        if self._train is None:
            self._train = self._encode(self._rows("train", "prompt"))
        return self._train

    def held_out(self) -> dict[str, list[EncodedPrompt]]:
        """The validation prompts by measurement: those with images, and apart from them those without."""
        if self._held_out is None:
            rows = self._rows("validation", "prompt")
            limit = self.config.validation.max_prompts
            self._held_out = self._encode(rows[:limit])
        seeing = [p for p in self._held_out if p.prompt.images]
        blind = [p for p in self._held_out if not p.prompt.images]
        return {HELD_OUT: seeing, TEXT: blind} if seeing and blind else {HELD_OUT: self._held_out}

    def collector(self) -> AnyCollector:
        """The main rank's source of graded groups."""
        return make_collector(self.train_prompts(), self.sampler, self.processor, self.grader, self.config)

    def reward_timings(self) -> dict[str, float]:
        """Seconds that each verifier took since the last call; on the main rank, which grades."""
        return self.grader.take_timings() if self.ranks.is_main else {}

    def publish(self, stage: StageRun, version: int) -> None:
        """Hand the stage's weights to the sampler. A collective under ZeRO-3."""
        weights = stage.engine.named_weights()
        if self.ranks.is_main:
            self.sampler.update_weights(weights, version)
        else:
            for _ in weights:
                pass
        self._published = (stage.directory.name, version)

    def validate_due(self, stage: StageRun, every: int | None, *, at_start: bool = False) -> None:
        """Measure mean@k on the held-out prompts if the stage's step asks for it and has no result yet.

        A kill may have come between the step's checkpoint and its validation.
        """
        step = stage.step
        due = stage.is_due(step, every) if step > 0 else at_start
        if not self.config.data.validation or not due:
            return
        names = self.held_out() if self.ranks.is_main else {}
        if not self.ranks.share(all(is_measured(stage.directory, step, name) for name in names)):
            self.validate(stage, step)

    def validate(self, stage: StageRun, step: int) -> None:
        """Measure mean@k on the held-out prompts and store it with its rollouts."""
        if self._published != (stage.directory.name, step):
            self.publish(stage, step)
        if self.ranks.is_main:
            for name, prompts in self.held_out().items():
                self._measure(stage, step, name, prompts)

    def measure_blank(self, stage: StageRun) -> None:
        """The held-out prompts once more, every image blanked: what can be guessed without looking."""
        if self.ranks.is_main and not is_measured(stage.directory, stage.step, BLANK_IMAGES):
            prompts = self._can_be_blanked()
            if not prompts:
                return
            blanked = [
                replace(p.prompt, images=[blank(i, self._store) for i in p.prompt.images]) for p in prompts
            ]
            self._measure(stage, stage.step, BLANK_IMAGES, self._encode(blanked))

    def is_measured(self, name: Stage) -> bool:
        """Whether a stage whose last step is committed has all its results too."""
        if not self.config.data.validation:
            return True
        directory = self.run.stage(name)
        step = (self.config.sft if name == "sft" else self.config.rl).steps
        names = []
        if self.ranks.is_main:
            names = list(self.held_out())
            if name == "rl" and self.config.validation.blank_images and self._can_be_blanked():
                names.append(BLANK_IMAGES)
        return self.ranks.share(all(is_measured(directory, step, n) for n in names))

    def _can_be_blanked(self) -> list[EncodedPrompt]:
        return [p for p in self.held_out()[HELD_OUT] if p.prompt.images]

    def keep_rollouts(self, stage: StageRun, step: int, groups: list[Group]) -> None:
        """Store a step's rollouts, images by reference."""
        if self.ranks.is_main:
            write_rollouts(stage.directory.rollouts(step), step, groups)

    def _measure(self, stage: StageRun, step: int, name: str, prompts: list[EncodedPrompt]) -> None:
        config = self.config
        requests = make_requests(
            prompts,
            config.validation.samples_per_prompt,
            seed=config.seed,
            purpose=("validation", name),
            max_tokens=config.rl.max_response_tokens,
            temperature=config.validation.temperature,
            budget=ThinkingBudget.of(config.rl, self.processor),
        )
        sampled = self.sampler.sample(requests, config.sampling.timeout_s)
        groups = make_groups(prompts, sampled, self.processor)
        self.grader.grade(groups)
        result = summarise(step, name, groups)
        write_validation(stage.directory, result, groups)
        stage.note(f"{stage.directory.name} {_describe(result)}")

    def _rows(self, part: str, kind: Kind) -> list[Any]:
        out = []
        for index, source in enumerate(getattr(self.config.data, part)):
            path = self._data[part][index]
            rows = list(islice(read_rows(path, kind, self._store), source.rows))
            if self.ranks.is_main:
                self.run.remember(f"data.{part}.{index}", rows_digest(rows), f"{path} (rows or images)")
            out += rows
        return out

    def _encode(self, prompts: list[Prompt]) -> list[EncodedPrompt]:
        self.grader.check(prompts)
        return encode_prompts(prompts, self.config.data, self.processor, self.config.rl.max_prompt_tokens)


def _describe(result: ValidationResult) -> str:
    low, high = result.ci95
    return (
        f"step {result.step} {result.name}: accuracy {result.accuracy:.3f} [{low:.3f}, {high:.3f}], "
        f"mean@{result.k:.0f} over {result.n} prompts"
    )
