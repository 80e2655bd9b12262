"""Do sampler and trainer compute the same log-probs? Asked before the first step (DESIGN rule 4)."""

from vlrl.collect.requests import EncodedPrompt, make_requests
from vlrl.errors import UserError
from vlrl.policy.packing import TrainDocument
from vlrl.training.session import Session
from vlrl.training.stage import StageRun

# Mean |difference| in nats a token: fp32 pairs measure 1e-7, bf16 pairs 2e-3 to 6e-3.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
_PROMPTS, _TOKENS = 4, 32


def check_parity(session: Session, stage: StageRun) -> None:
    """Sample a few rollouts (images included) and recompute their log-probs in the trainer.

    Raises:
        UserError: they differ by more than the dtype explains.
    """
    sampled = _sample(session) if session.ranks.is_main else None
    documents, behaviour = session.ranks.share(sampled)
    recomputed = stage.engine.logprobs(stage.pack(documents), len(documents))
    gaps = [abs(a - b) for x, y in zip(behaviour, recomputed, strict=True) for a, b in zip(x, y, strict=True)]
    mean = sum(gaps) / len(gaps)
    dtype = session.config.trainer.dtype
    if not mean <= _TOLERANCE[dtype]:  # so that NaN is refused too
        raise UserError(
            f"sampler and trainer disagree: log-probs of the same tokens differ by {mean:.2g} nats on "
            f"average (at most {_TOLERANCE[dtype]:g} with trainer.dtype {dtype}); check sampling.dtype and "
            "sampling.fp32_head, or use sampling.engine: transformers for this model"
        )
    stage.note(
        f"parity: sampler and trainer log-probs differ by {mean:.1e} nats on average, {max(gaps):.1e} at most"
    )


def _sample(session: Session) -> tuple[list[TrainDocument], list[list[float]]]:
    config, prompts = session.config, _choose(session.train_prompts())
    requests = make_requests(
        prompts,
        1,
        seed=config.seed,
        purpose=("parity",),
        max_tokens=min(_TOKENS, config.rl.max_response_tokens),
        temperature=config.sampling.temperature,
    )
    sampled = session.sampler.sample(requests, config.sampling.timeout_s)
    documents, behaviour = [], []
    for request, segments in zip(requests, sampled, strict=True):
        ids = [t for s in segments for t in s.token_ids]
        mask = [0] * len(request.expanded_ids) + [1] * len(ids)
        documents.append(TrainDocument(request.expanded_ids + ids, request.images, mask))
        behaviour.append([p for s in segments for p in s.logprobs])
    return documents, behaviour


def _choose(prompts: list[EncodedPrompt]) -> list[EncodedPrompt]:
    """Prompts with the most images first, so that images are part of the check wherever there are any."""
    return sorted(prompts, key=lambda p: -len(p.prompt.images))[:_PROMPTS]
