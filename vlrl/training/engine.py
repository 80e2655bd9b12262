"""The DeepSpeed engine around a policy: the one place that knows how an optimizer step is taken.

Loss terms arrive weighted over the global batch, so micro-batches and ranks only add up: DeepSpeed's mean
over ranks is undone, and its division by accumulation steps is off (`managed_gradient_accumulation`).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from vlrl.config.training import OptimizerConfig, TrainerConfig
from vlrl.errors import UserError
from vlrl.objectives.metrics import Stats, merge_stats
from vlrl.policy.load import part_of
from vlrl.policy.model import Policy
from vlrl.policy.packing import MicroBatch
from vlrl.training.frozen import document_logprobs
from vlrl.training.ranks import Ranks
from vlrl.training.schedule import learning_rate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# (micro-batch, log-probs [M], entropy [M]) -> loss to add to the step's, statistics
LossFunction = Callable[[MicroBatch, torch.Tensor, torch.Tensor], tuple[torch.Tensor, Stats]]


class TrainEngine:
    """Takes optimizer steps on packed micro-batches and saves and restores all that they depend on."""

    def __init__(
        self,
        policy: Policy,
        trainer: TrainerConfig,
        optimizer: OptimizerConfig,
        total_steps: int,
        ranks: Ranks,
    ) -> None:
        import deepspeed

        self.ranks = ranks
        self.optimizer_config = optimizer
        self.total_steps = total_steps
        self.steps_taken = 0
        if trainer.activation_checkpointing:
            policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.train()
        self._engine, *_ = deepspeed.initialize(
            model=policy,
            model_parameters=_parameter_groups(policy, optimizer.weight_decay),
            config=_deepspeed_config(trainer, optimizer, ranks.world),
        )
        self._zero_stage = trainer.zero_stage
        parameters = policy.model.named_parameters()
        self._trains_language = any(p.requires_grad and part_of(n) == "language" for n, p in parameters)
        self._grad_norm = 0.0
        if self._zero_stage == 0:
            self._engine.optimizer.register_step_pre_hook(self._clip)
        if self._zero_stage == 3:
            head = policy.model.get_output_embeddings()
            # The head's weight is used by the policy itself, outside the head's own forward.
            deepspeed.zero.register_external_parameter(policy, head.weight)

    @property
    def policy(self) -> Policy:
        return self._engine.module

    @property
    def must_use_every_weight(self) -> bool:
        """Whether each micro-batch must use every weight, a row without images the vision tower too.

        Ranks gather and reduce weights together, each in the order it uses them. And ZeRO-3 overwrites its
        gradients in a step's first micro-batch only: a weight left out there keeps the step before's. Where
        only the vision side is trained, a row without images has no gradient at all.
        """
        return self.ranks.world > 1 or self._zero_stage == 3 or not self._trains_language

    def step(self, batches: Iterable[MicroBatch], loss: LossFunction) -> dict[str, Any]:
        """One optimizer step over this rank's micro-batches.

        Returns:
            The loss functions' statistics, merged over micro-batches and ranks, and `loss`, `grad_norm`
            (before clipping) and `lr`.
        """
        lr = learning_rate(self.optimizer_config, self.steps_taken, self.total_steps)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        parts: list[Stats] = []
        for batch in batches:
            value, stats = loss(batch, *self._engine(batch.inputs))
            if batch.empty:
                value, stats = value * 0.0, {}
            else:
                stats["loss"] = value.detach().double()
            self._engine.backward(value * self.ranks.world, scale_wrt_gas=False)
            parts.append(stats)
        self._engine.step()
        self.steps_taken += 1
        merged = {key: float(value) for key, value in merge_stats(parts).items()}
        merged["ruined_max"] = float(not self._weights_are_finite())
        summary = self.ranks.sum(merged)
        summary["grad_norm"] = float(self._engine.get_global_grad_norm() or self._grad_norm)
        # DeepSpeed's norm of what is not finite is inf, or -1.
        self._refuse(not 0 <= summary["grad_norm"] < math.inf, "gradient is")
        self._refuse(summary.pop("ruined_max") > 0, "weights are")
        summary["lr"] = lr
        return summary

    def _weights_are_finite(self) -> bool:
        """Of this rank's share under ZeRO-3."""
        weights = (getattr(p, "ds_tensor", p) for p in self.policy.parameters() if p.requires_grad)
        return all(bool(weight.isfinite().all()) for weight in weights)

    def _refuse(self, ruined: bool, what: str) -> None:
        """End the run before the step is published or saved: every checkpoint holds finite weights.

        The last one may be on its way to ruin all the same, and a resumed run would repeat its steps.
        """
        if ruined:
            raise UserError(
                f"optimizer step {self.steps_taken}: its {what} not finite; start a run of another name "
                "with a lower learning rate, and with policy.path at the policy folder of a checkpoint from "
                "before the trouble if there is one"
            )

    def logprobs(self, batches: Iterable[MicroBatch], documents: int) -> list[list[float]]:
        """Log-probs of the scored tokens of every document, under the current weights, on every rank."""
        return document_logprobs(self._engine, batches, documents, self.ranks)

    def reset_optimizer(self) -> None:
        """Forget Adam's moments and step counts (k1.5 section 2.3.2, at the start of an iteration)."""
        optimizer = self._engine.optimizer
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        for state in optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, torch.Tensor):
                    value.zero_()
                elif key == "step":
                    state[key] = 0

    def named_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight under its checkpoint name, whole. A collective: every rank must iterate it."""
        import deepspeed

        for name, parameter in self.policy.model.named_parameters():
            if self._zero_stage == 3:
                with deepspeed.zero.GatheredParameters([parameter]):
                    yield name, parameter.detach()
            else:
                yield name, parameter.detach()

    def save(self, folder: Path) -> None:
        """Optimizer and engine state under `folder` (every rank writes its share)."""
        self._engine.save_checkpoint(
            str(folder), tag="engine", client_state={"steps_taken": self.steps_taken}
        )

    def restore(self, folder: Path) -> None:
        """Weights, optimizer and step count as `save` left them."""
        _, client_state = self._engine.load_checkpoint(str(folder), tag="engine")
        self.steps_taken = client_state["steps_taken"]

    def save_policy(self, folder: Path) -> None:
        """The model as `from_pretrained` loads it. A collective; the main rank writes."""
        weights = (
            {name: tensor.cpu() for name, tensor in self.named_weights()} if self._zero_stage == 3 else None
        )
        if self.ranks.is_main:
            self.policy.model.save_pretrained(folder, state_dict=weights)

    def close(self) -> None:
        self._engine.destroy()

    def _clip(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Without ZeRO, DeepSpeed keeps the norm it clips by to itself; ranks are reduced when this runs."""
        trained = [p for p in self.policy.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                # No image in the whole step: Adam goes on with a gradient of zero, as under ZeRO.
                parameter.grad = torch.zeros_like(parameter)
        self._grad_norm = float(torch.nn.utils.clip_grad_norm_(trained, self.optimizer_config.grad_clip))


def _parameter_groups(policy: Policy, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only: norms and biases are left alone."""
    trained = [p for p in policy.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _deepspeed_config(trainer: TrainerConfig, optimizer: OptimizerConfig, world: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": trainer.zero_stage}
    if trainer.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        # Micro-batches are packed by tokens, so these say nothing but that DeepSpeed must not divide.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world,
        "managed_gradient_accumulation": False,
        # Without ZeRO the engine clips, and knows the norm.
        "gradient_clipping": optimizer.grad_clip if trainer.zero_stage > 0 else 0.0,
        "bf16": {"enabled": trainer.dtype == "bfloat16"},
        "zero_optimization": zero,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": optimizer.lr,
                "betas": list(optimizer.betas),
                "eps": optimizer.eps,
                "weight_decay": optimizer.weight_decay,
                # DeepSpeed's fused CPU op costs a minute of compilation and gives the same numbers.
                "torch_adam": not trainer.offload_optimizer and not torch.cuda.is_available(),
            },
        },
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
