"""The stages on real engines: what a step does to the weights, and what a run leaves behind."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ModelBuilder
from tests.plain import Plain
from vlrl.collect.build import make_collector
from vlrl.collect.collector import is_flat
from vlrl.config import load_config
from vlrl.config.objective import AnyObjective, CispoConfig, OmdConfig
from vlrl.errors import UserError
from vlrl.images import ImageRef, ImageStore
from vlrl.launch import launch
from vlrl.objectives import RunningScale, group_advantages
from vlrl.objectives.metrics import Stats, count
from vlrl.policy.packing import MicroBatch
from vlrl.runs.directory import RunDirectory
from vlrl.runs.rollouts import read_rollouts
from vlrl.sampling.base import Sampler, SampleRequest
from vlrl.schema import read_rows
from vlrl.training.learn import learn
from vlrl.training.length import length_term
from vlrl.training.parity import check_parity
from vlrl.training.ranks import start_ranks
from vlrl.training.rl_batch import GradedRollouts, RlBatch, build_batch, graded_rollouts
from vlrl.training.rl_metrics import alarms, rollout_metrics
from vlrl.training.session import Session
from vlrl.training.stage import StageRun
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

CONFIG = """
name: stages
stages: [sft, rl]
policy: {{path: {model}}}
data:
  warmup: [{{path: {folder}/traces.jsonl}}]
  train: [{{path: {folder}/problems.jsonl}}]
  validation: [{{path: {folder}/problems.jsonl}}]
sft: {{steps: 2, conversations_per_step: 6, max_tokens: 200, optimizer: {{lr: 1.0e-3}}}}
rl:
  steps: 1
  prompts_per_step: 2
  rollouts_per_prompt: 2
  max_prompt_tokens: 64
  max_response_tokens: 12
  optimizer: {{lr: 1.0e-3, weight_decay: 0.0}}
sampling: {{engine: transformers, temperature: 0.8}}
trainer: {{dtype: float32, zero_stage: 0, tokens_per_micro_batch: 512, threads: 1}}
validation: {{samples_per_prompt: 1, temperature: 0.7}}
"""
Configure = Callable[..., Any]


@pytest.fixture
def configure(tmp_path: Path, build_model: ModelBuilder, draw_image: Callable[..., ImageRef]) -> Configure:
    """`configure("key=value", ...)` -> the config, over files of six problems and as many traces."""
    problems, traces = [], []
    for index in range(6):
        images = [draw_image(index + i).path for i in range(index % 3)]
        problems.append({"images": images, "question": f"How many? {index}", "answer": str(index)})
        content = "<image>" * len(images) + f"How many? {index}"
        answer = "so " * 4 * index + f"\\boxed{{{index}}}"
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
        traces.append({"images": images, "messages": messages})
    for name, rows in (("problems", problems), ("traces", traces)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(model=build_model("qwen3_vl"), folder=tmp_path))
    return lambda *overrides: load_config(path, list(overrides))


@contextmanager
def rl_stage(config: Any, root: Path) -> Iterator[tuple[Session, StageRun]]:
    """The RL stage of a run, before its first step."""
    run = RunDirectory.create(root, config, [])
    data = {"train": [Path(s.path) for s in config.data.train], "validation": [], "warmup": []}
    with (
        Session(config, run, start_ranks(1), config.policy.path, data) as session,
        session.stage("rl", 1, config.rl.optimizer, 10, {}) as stage,
    ):
        yield session, stage
    run.finish()


def run_all(config: Any, root: Path) -> RunDirectory:
    def no_recipes(*_: Any) -> None:
        raise AssertionError("these configs name no recipe")

    launch(config, root, resume=False, materialise=no_recipes, command=["test"])
    return RunDirectory.open(root)


def metrics_of(run: RunDirectory, stage: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.stage(stage).metrics.read_text().splitlines()]


def make_groups(session: Session, rewards: list[list[float]], length: int = 6) -> list[Group]:
    """A group for each list of rewards; every response ends by itself and differs from all others."""
    groups = []
    for index, wanted in enumerate(rewards):
        images = session.train_prompts()[index % 6].prompt.images
        messages = [{"role": "user", "content": "<image>" * len(images) + f"How many? {index}"}]
        ids = session.processor.encode(messages, images).expanded_ids
        rollouts = []
        for sample, reward in enumerate(wanted):
            tokens = [60 + (7 * index + 5 * sample + 3 * i) % 100 for i in range(length + sample)]
            segment = Segment(tokens, [-5.5] * len(tokens), 0, [1] * len(tokens), "stop")
            rollout = Rollout(f"p{index}", sample, ids, [segment], images)
            rollout.verdict = Verdict(reward, "correct" if reward else "wrong")
            rollouts.append(rollout)
        groups.append(Group(Prompt(f"p{index}", messages, images, "math", "1"), rollouts))
    return groups


def weights_of(stage: StageRun) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in stage.engine.named_weights()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(after[name], weight) for name, weight in before.items())


def sums(values: list[list[float]]) -> torch.Tensor:
    return torch.tensor([sum(v) for v in values], dtype=torch.float64)


def test_sft_loss_is_the_token_mean_of_the_global_batch(configure: Configure, tmp_path: Path) -> None:
    runs = {}
    for tokens in (200, 4096):
        config = configure("stages=[sft]", "data.validation=[]", f"trainer.tokens_per_micro_batch={tokens}")
        runs[tokens] = metrics_of(run_all(config, tmp_path / str(tokens)), "sft")
    assert [row["step"] for row in runs[200]] == [1, 2]
    for split, whole in zip(runs[200], runs[4096], strict=True):
        assert split == pytest.approx(whole, rel=1e-5)
    # Before the first step the weights are the checkpoint's, so its loss is known from transformers alone.
    plain = Plain(Path(config.policy.path))
    banned = media_ids(plain)
    loss, tokens = 0.0, 0
    for row in read_rows(tmp_path / "traces.jsonl", "conversation", ImageStore(tmp_path / "store")):
        question = row.messages[0]["content"].removeprefix("<image>" * len(row.images))
        response = plain.processor.tokenizer(row.messages[1]["content"] + "<|im_end|>")["input_ids"]
        logprobs = plain.logprobs((question, row.images), response, banned)
        loss -= float(logprobs.gather(1, torch.tensor(response)[:, None]).sum())
        tokens += len(response)
    assert runs[4096][0]["tokens"] == tokens
    assert runs[4096][0]["loss"] == pytest.approx(loss / tokens, rel=1e-5)


def media_ids(plain: Plain) -> list[int]:
    names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    return [plain.processor.tokenizer.convert_tokens_to_ids(name) for name in names]


def test_a_checkpoint_is_the_policy_that_was_measured(configure: Configure, tmp_path: Path) -> None:
    """The last held-out rollouts' log-probs, recomputed by transformers from the saved folder alone."""
    config = configure()
    run = run_all(config, tmp_path / "run")
    assert run.state() == "finished"
    steps = {stage.name: stage.checkpoints for stage in run.stages()}
    for name, step in (("sft", 2), ("rl", 1)):
        plain = Plain(steps[name] / f"step_{step:06d}" / "policy")
        start = Plain(Path(config.policy.path))
        rollouts = [
            (group.prompt, rollout)
            for path in (run.root / name / "validation").glob(f"step_{step:06d}*.parquet")
            for group in read_rollouts(path)
            for rollout in group.rollouts
        ]
        assert len(rollouts) == 6 and any(r.images for _, r in rollouts)
        gaps, stale = [], []
        for prompt, rollout in rollouts:
            question = prompt.messages[0]["content"].removeprefix("<image>" * len(rollout.images))
            case = (question, rollout.images)
            arguments = (case, rollout.response_ids, rollout.logprobs, media_ids(plain), 0.7)
            gaps.append(plain.worst_gap(*arguments))
            stale.append(start.worst_gap(*arguments))
        assert max(gaps) < 1e-4
        assert max(stale) > 1e-3  # training moved the log-probs, so the check can fail


class Shifted:
    """A sampler that reports log-probs a little off, as one with other kernels or other weights would."""

    def __init__(self, sampler: Sampler, shift: float) -> None:
        self._sampler, self._shift, self.policy_version = sampler, shift, 0

    def sample(self, requests: list[SampleRequest], timeout: float) -> list[list[Segment]]:
        return [
            [replace(s, logprobs=[p + self._shift for p in s.logprobs]) for s in segments]
            for segments in self._sampler.sample(requests, timeout)
        ]

    def update_weights(self, weights: Any, version: int) -> None:
        self._sampler.update_weights(weights, version)

    def close(self) -> None:
        self._sampler.close()


def batch_of(groups: list[Group], objective: AnyObjective) -> RlBatch | None:
    graded = graded_rollouts(groups, objective)
    return None if graded is None else build_batch(graded, objective)


def test_samplers_that_disagree_with_the_trainer_are_refused(configure: Configure, tmp_path: Path) -> None:
    with rl_stage(configure(), tmp_path / "run") as (session, stage):
        session.publish(stage, 0)
        check_parity(session, stage)
        session._sampler = Shifted(session.sampler, 1e-3)
        with pytest.raises(UserError, match=r"sampler and trainer disagree.*0\.001"):
            check_parity(session, stage)


@pytest.mark.skipif(torch.cuda.is_available(), reason="FlexAttention can train here")
def test_an_attention_that_cannot_train_here_is_refused_at_once(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trainer\.attention: 'flex' needs a GPU"):
        run_all(configure("trainer.attention=flex"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sampler_that_missed_the_weights_is_refused(configure: Configure, tmp_path: Path) -> None:
    with rl_stage(configure(), tmp_path / "run") as (session, stage):
        session.publish(stage, 0)
        learn(session, stage, make_groups(session, [[0, 1], [1, 0]]))
        with pytest.raises(UserError, match="sampler and trainer disagree"):
            check_parity(session, stage)
        session.publish(stage, 1)
        check_parity(session, stage)


@pytest.mark.parametrize(
    "objective",
    [
        "{name: omd}",
        "{name: cispo}",
        "{name: grpo}",
        "{name: grpo, aggregation: constant, constant_length: 12}",
        "{name: dapo, normalisation: ema}",
        "{name: dr_grpo, constant_length: 12, old: trainer, correction: {kind: masked}}",
        "{name: gspo}",
        "{name: gspo, level: token}",
        "{name: rloo, aggregation: balanced}",
        "{name: reinforce_pp}",
        "{name: reinforce_pp, baseline: mean, kl: {coefficient: 0.01, where: reward}}",
        "{name: minirl, kl: {coefficient: 0.01}}",
        "{name: tpo, length_normalised: true}",
    ],
)
def test_every_objective_makes_what_was_right_likelier(
    configure: Configure, tmp_path: Path, objective: str
) -> None:
    config = configure(f"objective={objective}", "rl.optimizer.lr=1.0e-3")
    with rl_stage(config, tmp_path / "run") as (session, stage):
        groups = make_groups(session, [[0, 1, 0], [1, 0, 0]])
        # The recorded log-probs are those of these weights, as a sampler's are.
        batch = batch_of(groups, CispoConfig())
        assert batch is not None
        behaviour = stage.engine.logprobs(stage.pack(batch.documents), len(batch.documents))
        for rollout, logprobs in zip([r for g in groups for r in g.rollouts], behaviour, strict=True):
            rollout.segments[0].logprobs = logprobs
        before = weights_of(stage)
        learned = learn(session, stage, groups, RunningScale(0.9))
        assert moved(before, weights_of(stage))
        assert learned["updates"] == 1 and learned["group_use"] == 1.0 and learned["grad_norm"] > 0
        assert learned["mismatch_abs_max"] < 1e-5
        after = stage.engine.logprobs(stage.pack(batch.documents), len(batch.documents))
        change = sums(after) - sums(behaviour)
        # Rewards less their group's mean: TPO's advantages are not known before the step.
        right = group_advantages(batch.rewards, batch.group, "none")
        assert float((change * right).sum()) > 0


def test_equal_rewards_leave_the_weights_alone_and_are_reported(configure: Configure, tmp_path: Path) -> None:
    with rl_stage(configure(), tmp_path / "run") as (session, stage):
        groups = make_groups(session, [[1, 1], [0, 0]])
        before = weights_of(stage)
        learned = learn(session, stage, groups)
        assert not moved(before, weights_of(stage))
        assert learned == {"updates": 0.0, "group_use": 0.0}
        notes = alarms(rollout_metrics(groups, version=0) | learned)
        assert any("nothing to learn from" in note for note in notes)
        half = learn(session, stage, make_groups(session, [[1, 1], [0, 1]]))
        assert half["group_use"] == 0.5 and half["updates"] == 1


@pytest.mark.parametrize("objective", [OmdConfig(), CispoConfig()])
def test_errors_have_no_part_in_baseline_or_loss(
    configure: Configure, tmp_path: Path, objective: OmdConfig | CispoConfig
) -> None:
    with rl_stage(configure(), tmp_path / "run") as (session, _):
        rewards = [[0.0, 1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
        clean = batch_of(make_groups(session, rewards), objective)
        dirty_groups = make_groups(session, [[*r, 0.0, 0.0] for r in rewards])
        for group in dirty_groups:
            group.rollouts[-1].verdict = Verdict(0.0, "grader_error")
            group.rollouts[-2].verdict = Verdict(0.0, "infra_error")
        # A group of nothing but errors stands between the others.
        lost = make_groups(session, [[1.0, 0.0]])[0]
        for rollout in lost.rollouts:
            rollout.verdict = Verdict(1.0, "grader_error")
        dirty = batch_of([dirty_groups[0], lost, *dirty_groups[1:]], objective)
        assert clean is not None and dirty is not None
        assert dirty.documents == clean.documents and dirty.groups == clean.groups == 3
        assert torch.equal(dirty.advantages, clean.advantages)
        assert torch.equal(dirty.weights, clean.weights)
        assert batch_of([lost], objective) is None
        assert rollout_metrics([lost, *dirty_groups], version=0)["error_rate"] == pytest.approx(8 / 15)


@pytest.mark.parametrize("name", ["omd", "cispo"])
def test_masked_truncated_rollouts_count_in_the_baseline_only(
    configure: Configure, tmp_path: Path, name: str
) -> None:
    config = configure(f"objective={{name: {name}, truncated: mask}}")
    objective = config.objective
    with rl_stage(config, tmp_path / "run") as (session, stage):
        groups = make_groups(session, [[0.0, 1.0, 0.0], [1.0, 0.0]])
        cut = groups[0].rollouts[2]
        cut.segments[0].finish_reason = "length"
        batch = batch_of(groups, objective)
        whole = batch_of(groups, objective.model_copy(update={"truncated": "keep"}))
        assert batch is not None and whole is not None
        assert torch.equal(batch.advantages, whole.advantages)
        assert [d.scored > 0 for d in batch.documents] == [True, True, False, True, True]
        assert batch.weights[2] == 0 and len(batch.behaviour[2]) == 0
        before = weights_of(stage)
        assert learn(session, stage, groups)["updates"] == 1
        assert moved(before, weights_of(stage))
        only = make_groups(session, [[0.0, 1.0]])
        for rollout in only[0].rollouts:
            rollout.segments[0].finish_reason = "length"
        assert batch_of(only, objective) is None


@pytest.mark.parametrize("where", ["loss", "reward"])
def test_a_kl_takes_masked_rollouts_too(configure: Configure, tmp_path: Path, where: str) -> None:
    """In the reward it is of all that was sampled; with no token in the loss there is nothing to learn."""
    config = configure(
        f"objective={{name: cispo, truncated: mask, kl: {{coefficient: 0.5, where: {where}}}}}"
    )
    with rl_stage(config, tmp_path / "run") as (session, stage):
        groups = make_groups(session, [[0.0, 1.0, 0.0], [1.0, 0.0]])
        groups[0].rollouts[2].segments[0].finish_reason = "length"
        learned = learn(session, stage, groups)
        assert learned["updates"] == 1 and learned["tokens"] == 6 + 7 + 6 + 7
        for rollout in groups[0].rollouts:
            rollout.segments[0].finish_reason = "length"
        assert learn(session, stage, groups[:1])["updates"] == 0


def test_a_rollout_without_a_token_is_no_obstacle(configure: Configure, tmp_path: Path) -> None:
    with rl_stage(configure(), tmp_path / "run") as (session, stage):
        groups = make_groups(session, [[0.0, 1.0, 0.0], [1.0, 0.0]])
        groups[0].rollouts[2].segments = [Segment([], [], 0, [], "stop")]
        assert learn(session, stage, groups)["updates"] == 1


def test_later_updates_of_mirror_descent_refer_to_the_iterations_start(
    configure: Configure, tmp_path: Path
) -> None:
    config = configure("objective={name: omd}", "rl.updates_per_step=2", "rl.optimizer.lr=1.0e-3")
    rewards = [[0, 1, 1], [1, 0, 1]]
    with rl_stage(config, tmp_path / "one") as (session, stage):
        parts = [batch_of([g], config.objective) for g in make_groups(session, rewards)]
        second = parts[1]
        assert second is not None
        start = stage.engine.logprobs(stage.pack(second.documents), len(second.documents))
        learn(session, stage, make_groups(session, rewards)[:1])
        moved_on = stage.engine.logprobs(stage.pack(second.documents), len(second.documents))
    distance = (sums(moved_on) - sums(start)).abs()
    assert distance.min() > 1e-3
    with rl_stage(config, tmp_path / "two") as (session, stage):
        groups = make_groups(session, rewards)
        learned = learn(session, stage, groups)
    assert learned["updates"] == 2
    # The first update's own distance is zero: three sequences of six are away from the start.
    assert learned["sequence_log_ratio_abs_max"] == pytest.approx(float(distance.max()), rel=1e-4)
    assert learned["sequence_log_ratio_abs_mean"] == pytest.approx(float(distance.sum()) / 6, rel=1e-4)


def test_a_length_reward_is_added_before_the_advantages(configure: Configure, tmp_path: Path) -> None:
    """Lengths 6, 7, 8 of one group: k1.5's lambda is 0.5, 0, -0.5, and at most 0 for the wrong one."""
    config = configure("rewards.length={kind: k15, weight: 0.4, start_step: 2}", "objective.name=omd")
    with rl_stage(config, tmp_path / "run") as (session, _):
        groups = make_groups(session, [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
        assert length_term(config, 1) is None
        graded = graded_rollouts(groups, config.objective, None, length_term(config, 2))
        assert graded is not None
        expected = [1.0 + 0.4 * 0.5, 1.0, 0.0 - 0.4 * 0.5, 0.0, 1.0, 1.0 - 0.4 * 0.5]
        assert graded.rewards.tolist() == pytest.approx(expected)
        # All right: no verdict tells them apart, their lengths do.
        batch = build_batch(graded_or_fail(make_groups(session, [[1.0, 1.0]]), config), config.objective)
        assert batch is not None and batch.advantages.tolist() == pytest.approx([0.2, -0.2])


def graded_or_fail(groups: list[Group], config: Any) -> GradedRollouts:
    graded = graded_rollouts(groups, config.objective, None, length_term(config, 2))
    assert graded is not None
    return graded


def test_overlong_rewards_look_at_the_longest_response(configure: Configure, tmp_path: Path) -> None:
    """12 tokens at most, a cache of 6: six tokens earn 0, seven -1/6, eight -1/3."""
    for kind, last in (("overlong", 0.0 - 1 / 3), ("overlong_correct", 0.0)):
        config = configure(f"rewards.length={{kind: {kind}, weight: 1.0, cache_tokens: 6}}")
        with rl_stage(config, tmp_path / kind) as (session, _):
            graded = graded_or_fail(make_groups(session, [[1.0, 1.0, 0.0]]), config)
            assert graded.rewards.tolist() == pytest.approx([1.0, 1.0 - 1 / 6, last])


def test_flat_groups_are_refilled_in_rounds(configure: Configure, tmp_path: Path) -> None:
    class Fickle:
        """Grades the first visits of a step as all right, later ones as one right."""

        def grade(self, groups: list[Group]) -> None:
            self.calls = getattr(self, "calls", 0) + 1
            for place, group in enumerate(groups):
                for rollout in group.rollouts:
                    right = (self.calls == 1 and place == 0) or rollout.sample_index == 0
                    rollout.verdict = Verdict(float(right), "correct" if right else "wrong")

    config = configure("rl.refill_rounds=3")
    with rl_stage(config, tmp_path / "run") as (session, stage):
        session.publish(stage, 0)
        grader = Fickle()
        parts = (session.train_prompts(), session.sampler, session.processor, grader, config)
        collected = make_collector(*parts).next_batch(1)
        assert grader.calls == 2 and len(collected.groups) == 2
        assert not any(is_flat(group) for group in collected.groups)
        assert len({group.prompt.id for group in collected.groups}) == 2
        assert len(collected.discarded) == 1 and is_flat(collected.discarded[0])
        assert len(collected.sampled) == 3


ENGINES = [("float32", 0), ("float32", 1), ("float32", 3), ("bfloat16", 1)]


@pytest.mark.parametrize(("dtype", "zero"), ENGINES)
@pytest.mark.parametrize("ruined", ["weights", "gradient"])
def test_a_step_that_is_not_finite_is_never_saved(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ruined: str, dtype: str, zero: int
) -> None:
    """The checkpoint of the last step is due at once; the advice is one that can be followed."""
    overrides = ["stages=[sft]", "sft.steps=1", f"trainer.zero_stage={zero}", f"trainer.dtype={dtype}"]
    if ruined == "weights":
        overrides.append("sft.optimizer={lr: 3.0e+36, weight_decay: 1.0e+4}")  # the gradient is finite
    else:
        monkeypatch.setattr("vlrl.training.sft.token_mean_loss", lambda tokens: ruinous)
    run = tmp_path / "run"
    with pytest.raises(UserError, match=f"step 1: its {ruined} (is|are) not finite; start a run of another"):
        run_all(configure(*overrides), run)
    assert not run.exists()


def ruinous(batch: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor) -> tuple[torch.Tensor, Stats]:
    return logprobs.sum() * math.inf, {"tokens": count(logprobs)}
