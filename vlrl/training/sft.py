"""Supervised stage: the long-CoT warm-up before reinforcement learning (k1.5 section 2.2)."""

import time

import torch

from vlrl.collect.order import VisitOrder
from vlrl.config.run import RunConfig
from vlrl.errors import UserError
from vlrl.objectives.metrics import Stats, count
from vlrl.policy.packing import MicroBatch, TrainDocument
from vlrl.schema import Conversation
from vlrl.training.engine import LossFunction
from vlrl.training.session import Session


def train_sft(session: Session) -> None:
    """Learn the assistant's tokens: the mean over the global batch's tokens of -log p."""
    config = session.config
    with session.ranks.together():
        documents, dropped = _encode(session, session.conversations())
    order = VisitOrder(len(documents), config.seed, "sft-conversations")
    with session.stage(
        "sft", config.sft.steps, config.sft.optimizer, config.sft.steps, {"order": order}
    ) as stage:
        if dropped:
            stage.note(f"dropped {dropped} conversations longer than {_limit(config)}")
        session.validate_due(stage, config.sft.validate_every)
        for step in stage.remaining():
            started = time.perf_counter()
            batch = [documents[i] for i in order.take(config.sft.conversations_per_step)]
            stats = stage.engine.step(stage.pack(batch), token_mean_loss(sum(d.scored for d in batch)))
            metrics = {
                "loss": stats["loss"],
                "tokens": stats["tokens"],
                "grad_norm": stats["grad_norm"],
                "lr": stats["lr"],
            }
            seconds = {"train": time.perf_counter() - started}
            stage.log(step, metrics, seconds, {"loss": metrics["loss"], "lr": metrics["lr"]})
            stage.commit()
            session.validate_due(stage, config.sft.validate_every)


def token_mean_loss(tokens: int) -> LossFunction:
    """-log p summed and divided by `tokens`, the scored tokens of the global batch."""

    def loss(batch: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor) -> tuple[torch.Tensor, Stats]:
        return -logprobs.sum() / tokens, {"tokens": count(logprobs)}

    return loss


def _limit(config: RunConfig) -> str:
    """The smaller of the two lengths that a conversation must not exceed, by its name."""
    if config.sft.max_tokens <= config.trainer.tokens_per_micro_batch:
        return f"sft.max_tokens = {config.sft.max_tokens}"
    return f"trainer.tokens_per_micro_batch = {config.trainer.tokens_per_micro_batch}"


def _encode(session: Session, rows: list[Conversation]) -> tuple[list[TrainDocument], int]:
    limit = min(session.config.sft.max_tokens, session.config.trainer.tokens_per_micro_batch)
    documents = []
    for row in rows:
        try:
            ids, mask = session.encode_conversation(row)
        except UserError as error:
            raise UserError(f"{row.name}: {error}") from None
        if len(ids) <= limit and any(mask[1:]):
            documents.append(TrainDocument(ids, row.images, mask))
    if not documents:
        raise UserError(f"data.warmup: none of {len(rows)} conversations fits in {_limit(session.config)}")
    return documents, len(rows) - len(documents)
