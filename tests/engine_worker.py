"""A training process of the engine tests, in a launcher's environment: `engine_worker.py CHECKPOINT OUT`.

Everything that a world size can be asked is measured in one process, since starting one costs ten seconds.
The main rank writes what it measured to OUT with torch.save; it is compared across world sizes.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from vlrl.config.objective import (
    CispoConfig,
    CorrectionConfig,
    GrpoConfig,
    GspoConfig,
    KlConfig,
    MiniRlConfig,
    ObjectiveConfig,
    OmdConfig,
    ReinforcePlusPlusConfig,
    RlooConfig,
    TpoConfig,
)
from vlrl.config.policy import Part
from vlrl.config.training import OptimizerConfig, TrainerConfig
from vlrl.images import describe_file
from vlrl.objectives.advantages import RunningScale
from vlrl.objectives.metrics import mean_stats
from vlrl.policy.load import freeze, load_model
from vlrl.policy.model import Policy
from vlrl.policy.packing import TrainDocument, document_lengths, micro_batches, plan
from vlrl.policy.processor import PolicyProcessor
from vlrl.training.engine import TrainEngine
from vlrl.training.ranks import Ranks, start_ranks
from vlrl.training.rl_batch import RlBatch, aimed, build_batch, graded_rollouts
from vlrl.training.rl_loss import rl_loss
from vlrl.trajectory import FinishReason, Group, Prompt, Rollout, Segment, Verdict

OBJECTIVES: dict[str, ObjectiveConfig] = {
    "cispo token": CispoConfig(aggregation="token"),
    "cispo sample": CispoConfig(aggregation="sample"),
    "cispo prompt": CispoConfig(aggregation="prompt", truncated="mask"),
    "cispo constant": CispoConfig(aggregation="constant", constant_length=40),
    "cispo sequence": CispoConfig(aggregation="sequence"),
    "cispo balanced": CispoConfig(aggregation="balanced"),
    "cispo ema": CispoConfig(normalisation="ema", baseline="leave_one_out"),
    "grpo sample": GrpoConfig(),
    "grpo token": GrpoConfig(aggregation="token", normalisation="none"),
    "grpo kl": GrpoConfig(kl=KlConfig(coefficient=0.5)),
    "grpo masked": GrpoConfig(old="trainer", correction=CorrectionConfig(kind="masked", low=0.96)),
    "gspo": GspoConfig(clip_low=0.2, clip_high=0.3),
    "gspo kl": GspoConfig(level="token", clip_low=0.2, clip_high=0.3, kl=KlConfig(coefficient=0.5)),
    "gspo mean kl": GspoConfig(clip_low=0.2, clip_high=0.3, truncated="mask", kl=KlConfig(coefficient=0.5)),
    "rloo": RlooConfig(),
    "rloo truncated": RlooConfig(correction=CorrectionConfig(kind="sequence_truncated", high=0.9)),
    "reinforce++": ReinforcePlusPlusConfig(),
    "tpo": TpoConfig(length_normalised=True),
    "minirl": MiniRlConfig(),
    "omd": OmdConfig(),
    "omd per length": OmdConfig(form="per_length", truncated="mask"),
    "omd token": OmdConfig(form="token", baseline="log_mean_exp"),
    "omd geometric": OmdConfig(correction=CorrectionConfig(kind="geometric", low=0.98, high=2)),
}
SPLITS = (1, 2, 4)


class Bench:
    """Engines on one checkpoint, and one fixed batch of rollouts for them."""

    def __init__(self, checkpoint: Path, ranks: Ranks) -> None:
        self.checkpoint, self.ranks = checkpoint, ranks
        self.processor = PolicyProcessor.load(str(checkpoint))
        self.groups = _groups(self.processor, checkpoint.parent)

    def engine(
        self,
        stage: int,
        dtype: Any = "float32",
        *,
        path: Path | None = None,
        clip: float = 1e9,
        frozen: Sequence[Part] = (),
        **more: Any,
    ) -> TrainEngine:
        model = load_model(str(path or self.checkpoint), torch.float32)
        freeze(model, list(frozen))
        policy = Policy(model, banned_ids=self.processor.banned_ids)
        trainer = TrainerConfig(dtype=dtype, zero_stage=stage, **more)
        # A large epsilon keeps updates proportional to gradients, so that rounding is not blown up.
        optimizer = OptimizerConfig(lr=0.01, eps=0.01, weight_decay=0.0, grad_clip=clip)
        return TrainEngine(policy, trainer, optimizer, 10, self.ranks)

    def batch(self, objective: ObjectiveConfig, groups: slice = slice(None)) -> RlBatch:
        graded = graded_rollouts(self.groups[groups], objective)
        assert graded is not None
        batch = build_batch(graded, objective, RunningScale(0.9))
        assert batch is not None
        if isinstance(objective, TpoConfig):
            batch = aimed(
                batch, objective, [(b - 0.1 * (i % 2)).tolist() for i, b in enumerate(batch.behaviour)]
            )
        return batch

    def pack(self, engine: TrainEngine, documents: list[TrainDocument], split: int) -> Any:
        tokens = _capacity(documents, split)
        ranks = self.ranks
        return micro_batches(
            documents,
            engine.policy,
            self.processor,
            max_tokens=tokens,
            rank=ranks.rank,
            world=ranks.world,
            use_every_weight=engine.must_use_every_weight,
        )

    def step(
        self, engine: TrainEngine, objective: ObjectiveConfig, split: int = 2, groups: slice = slice(None)
    ) -> dict[str, float]:
        batch = self.batch(objective, groups)
        start = [(b - 0.05 * (i % 3)).tolist() for i, b in enumerate(batch.behaviour)]
        batch.frozen = [(b + 0.03 * (i % 4)).tolist() for i, b in enumerate(batch.behaviour)]
        loss = rl_loss(batch, objective, start if objective.reads_start else None)
        return engine.step(self.pack(engine, batch.documents, split), loss)


def _capacity(documents: list[TrainDocument], count: int) -> int:
    """The fewest tokens a micro-batch with which there are `count` of them."""
    lengths, shared = document_lengths([d for d in documents if d.scored])
    tokens = max(lengths)
    while len(plan(lengths, shared, tokens)) > count:
        tokens += 1
    assert len(plan(lengths, shared, tokens)) == count
    return tokens


def _groups(processor: PolicyProcessor, folder: Path) -> list[Group]:
    """Five prompts of 0 to 2 images, three to five rollouts each, from one token to sixty."""
    random = torch.Generator().manual_seed(3)
    images = [describe_file(path, "test image") for path in sorted(folder.glob("*.png"))]
    allowed = [i for i in range(300) if i not in processor.banned_ids + processor.stop_ids]
    groups = []
    for index in range(5):
        used = [images[i % len(images)] for i in range(index, index + index % 3)]
        question = "<image>" * len(used) + f"What is {index}" * (1 + index)
        messages = [{"role": "user", "content": question}]
        prompt = Prompt(f"p{index}", messages, used, "math", "1")
        rollouts = []
        for sample in range(3 + index % 3):
            length = int(torch.randint(1, 60, (), generator=random)) if sample else 1
            picks = torch.randint(len(allowed), (length,), generator=random).tolist()
            logprobs = (-5.9 + 0.5 * torch.randn(length, generator=random)).tolist()
            reason: FinishReason = "length" if sample == 1 else "stop"
            mask = [int(place % 7 != 5) for place in range(length)]
            segment = Segment([allowed[p] for p in picks], logprobs, 0, mask, reason)
            ids = processor.encode(messages, used).expanded_ids
            rollout = Rollout(prompt.id, sample, ids, [segment], used)
            error = (index, sample) == (2, 2)
            rollout.verdict = Verdict(float(sample % 2), "grader_error" if error else "wrong")
            rollouts.append(rollout)
        groups.append(Group(prompt, rollouts))
    return groups


def weights_of(engine: TrainEngine) -> dict[str, torch.Tensor]:
    return {name: weight.float().clone() for name, weight in engine.named_weights()}


def optimizer_of(engine: TrainEngine) -> Any:
    optimizer = engine._engine.optimizer
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def measure_gradients(bench: Bench) -> dict[str, Any]:
    """Whole gradients before the optimizer sees them, for every objective and split; weights stay put."""
    engine = bench.engine(0)
    captured: dict[str, torch.Tensor] = {}

    def capture(*_: Any) -> None:
        for name, parameter in engine.policy.model.named_parameters():
            assert parameter.grad is not None
            captured[name] = parameter.grad.clone()
            parameter.grad = None

    optimizer_of(engine).register_step_pre_hook(capture)
    out = {}
    for name, objective in OBJECTIVES.items():
        for split in SPLITS:
            stats = mean_stats(bench.step(engine, objective, split))
            out[f"{name}, {split}"] = (dict(captured), stats)
    engine.close()
    return out


def measure_updates(bench: Bench) -> dict[str, Any]:
    """Change of the weights after two steps in every ZeRO stage, with clipping."""
    out = {}
    for stage in (0, 1, 2, 3):
        for split in (1, 4):
            engine = bench.engine(stage, clip=0.01)
            before = weights_of(engine)
            norms = [bench.step(engine, OBJECTIVES["cispo prompt"], split)["grad_norm"] for _ in range(2)]
            after = weights_of(engine)
            out[f"stage {stage}, {split}"] = ({n: after[n] - before[n] for n in before}, norms)
            engine.close()
    return out


def measure_logprobs(bench: Bench) -> dict[str, Any]:
    """Log-probs of every document by stage and dtype, gathered from the ranks."""
    out = {}
    batch = bench.batch(OBJECTIVES["cispo token"])
    for stage, dtype in ((0, "float32"), (3, "float32"), (1, "bfloat16"), (3, "bfloat16")):
        engine = bench.engine(stage, dtype)
        for split in (1, 4):
            packed = bench.pack(engine, batch.documents, split)
            out[f"{stage} {dtype} {split}"] = engine.logprobs(packed, len(batch.documents))
        engine.close()
    return out


def measure_resets(bench: Bench, folder: Path) -> dict[str, Any]:
    """A second step with and without a reset before it, and a fresh engine's first on the same weights."""
    out = {}
    objective = OBJECTIVES["cispo token"]
    for stage in (0, 1, 2, 3):
        ends = []
        path = folder / f"reset-{stage}"
        for reset in (False, True):
            engine = bench.engine(stage)
            bench.step(engine, objective, groups=slice(0, 2))
            if reset:
                engine.save_policy(path)
                dist.barrier()
                engine.reset_optimizer()
            bench.step(engine, objective, groups=slice(2, 5))
            ends.append(weights_of(engine))
            engine.close()
        fresh = bench.engine(stage, path=path)
        bench.step(fresh, objective, groups=slice(2, 5))
        out[f"stage {stage}"] = (*ends, weights_of(fresh))
        fresh.close()
    return out


def measure_restores(bench: Bench, folder: Path) -> dict[str, Any]:
    """A step after `save`, and the same step of another engine after `restore`."""
    out = {}
    objective = OBJECTIVES["grpo sample"]
    for stage, dtype in ((0, "float32"), (1, "float32"), (2, "float32"), (3, "float32"), (1, "bfloat16")):
        path = folder / f"restore-{stage}-{dtype}"
        engine = bench.engine(stage, dtype)
        bench.step(engine, objective, groups=slice(0, 2))
        engine.save(path)
        bench.step(engine, objective, groups=slice(2, 5))
        straight = weights_of(engine)
        engine.close()
        resumed = bench.engine(stage, dtype)
        resumed.restore(path)
        assert resumed.steps_taken == 1
        bench.step(resumed, objective, groups=slice(2, 5))
        out[f"stage {stage} {dtype}"] = (straight, weights_of(resumed))
        resumed.close()
    return out


def measure_options(bench: Bench) -> dict[str, Any]:
    """Updates under bf16, with recomputed activations and with a frozen part."""
    out = {}
    options: dict[str, Any]
    for name, stage, options in (
        ("float32", 1, {}),
        ("bfloat16", 1, {"dtype": "bfloat16"}),
        ("bfloat16 zero 3", 3, {"dtype": "bfloat16"}),
        ("checkpointing", 1, {"activation_checkpointing": True}),
        ("checkpointing zero 3", 3, {"activation_checkpointing": True}),
        ("frozen", 0, {"frozen": ["vision"]}),
        ("frozen zero 3", 3, {"frozen": ["vision"]}),
    ):
        engine = bench.engine(stage, **options)
        before = weights_of(engine)
        buffers = {b.dtype for b in engine.policy.buffers() if b.is_floating_point()}
        bench.step(engine, OBJECTIVES["cispo token"])
        after = weights_of(engine)
        out[name] = ({n: after[n] - before[n] for n in before}, buffers)
        engine.close()
    return out


def measure_mixed(bench: Bench) -> dict[str, Any]:
    """Steps in which some micro-batches have images and the rest have none, then one without any image."""
    out = {}
    objective, mixed, text = OBJECTIVES["cispo prompt"], slice(0, 2), slice(0, 1)
    documents = bench.batch(objective, mixed).documents
    options: dict[str, Any]
    for name, stage, options in (
        *((f"stage {stage}", stage, {}) for stage in (0, 1, 2, 3)),
        ("checkpointing", 3, {"activation_checkpointing": True}),
        ("frozen", 0, {"frozen": ["vision"]}),
        ("frozen zero 3", 3, {"frozen": ["vision"]}),
        ("sight", 0, {"frozen": ["language"]}),
        ("sight zero 2", 2, {"frozen": ["language"]}),
    ):
        engine = bench.engine(stage, **options)
        for step, (split, groups) in enumerate(((3, mixed), (2, mixed), (2, text))):
            micro = list(bench.pack(engine, documents, split))
            with_images = torch.tensor([float(bool(batch.inputs.images)) for batch in micro])
            dist.all_reduce(with_images)
            ranks_differ = 1 in with_images.tolist()
            assert ranks_differ or groups == text or bench.ranks.world == 1
            before = weights_of(engine)
            logprobs = engine.logprobs(micro, len(documents))
            bench.step(engine, objective, split, groups)
            after = weights_of(engine)
            out[f"{name}, {step}"] = ({n: after[n] - before[n] for n in before}, logprobs)
        engine.close()
    return out


def measure_policy(bench: Bench, folder: Path) -> dict[str, Any]:
    """The folder that `save_policy` writes under ZeRO-3, and the weights it was written from."""
    engine = bench.engine(3)
    bench.step(engine, OBJECTIVES["cispo token"])
    engine.save_policy(folder / "policy")
    weights = weights_of(engine)
    engine.close()
    return {"path": str(folder / "policy"), "weights": weights}


def main(checkpoint: Path, out: Path) -> None:
    ranks = start_ranks(threads=1)
    bench = Bench(checkpoint, ranks)
    folder = out.with_suffix(".files")
    folder.mkdir(exist_ok=True)
    result = {
        "gradients": measure_gradients(bench),
        "updates": measure_updates(bench),
        "logprobs": measure_logprobs(bench),
        "resets": measure_resets(bench, folder),
        "restores": measure_restores(bench, folder),
        "options": measure_options(bench),
        "mixed": measure_mixed(bench),
        "policy": measure_policy(bench, folder),
    }
    if ranks.is_main:
        torch.save(result, out)
    dist.barrier()
    dist.destroy_process_group()
    # Gloo's threads may abort an interpreter that shuts down in its own time.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
