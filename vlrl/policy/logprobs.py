"""Log-probs of chosen tokens with an fp32 head, without ever holding the whole [tokens, vocabulary] matrix.

The head is recomputed chunk by chunk in the backward pass: memory is that of one chunk of logits, whatever
the number of tokens. Sampling temperature and the ban on media ids are part of the distribution, exactly
as the sampler applies them: (logits + bias) / temperature (ScaleRL section 3.2; DESIGN rules 3 and 4).
"""

from typing import Any

import torch

# What vLLM's logit_bias can subtract at most; exp(-100) is zero beside any fp32 sum it joins.
BAN_BIAS = -100.0


def token_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float = 1.0,
    banned_ids: list[int] | None = None,
    chunk: int = 1024,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs (nats) of `targets` and the entropy of each distribution.

    Args:
        hidden: [M, H] last hidden states, any float dtype.
        weight: [V, H] of the LM head.
        targets: int64 [M].

    Returns:
        logprobs float32 [M], differentiable in `hidden` and `weight`; entropy float32 [M], detached.
    """
    bias = None
    if banned_ids:
        bias = torch.zeros(weight.shape[0], device=weight.device)
        bias[torch.tensor(banned_ids, device=weight.device)] = BAN_BIAS
    return _TokenLogprobs.apply(hidden, weight, targets, temperature, bias, chunk)


def _logits(
    hidden: torch.Tensor, weight32: torch.Tensor, temperature: float, bias: torch.Tensor | None
) -> torch.Tensor:
    logits = hidden.float() @ weight32.T
    if bias is not None:
        logits += bias
    return logits.div_(temperature) if temperature != 1.0 else logits


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        bias: torch.Tensor | None,
        chunk: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight32 = weight.float()
        logprobs = torch.empty(len(targets), device=hidden.device)
        entropy, logsums = torch.empty_like(logprobs), torch.empty_like(logprobs)
        for start in range(0, len(targets), chunk):
            span = slice(start, start + chunk)
            logits = _logits(hidden[span], weight32, temperature, bias)
            logsums[span] = logits.logsumexp(-1)
            every = logits.sub_(logsums[span, None])
            logprobs[span] = every.gather(1, targets[span, None]).squeeze(1)
            # Not logsum - E[logit]: of a peaked distribution that is the small difference of large numbers.
            entropy[span] = -(every.exp() * every).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, logsums, bias)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, targets, logsums, bias = ctx.saved_tensors
        weight32 = weight.float()
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight32) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), ctx.chunk):
            span = slice(start, start + ctx.chunk)
            logits = _logits(hidden[span], weight32, ctx.temperature, bias)
            # d logprob / d logits = onehot - softmax
            grad = (logits - logsums[span, None]).exp_().neg_()
            grad.scatter_add_(1, targets[span, None], torch.ones_like(grad[:, :1]))
            grad *= (grads[0][span] / ctx.temperature)[:, None]
            grad_hidden[span] = (grad @ weight32).to(hidden.dtype)
            if grad_weight is not None:
                grad_weight.addmm_(grad.T, hidden[span].float())
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None,
            None,
            None,
            None,
        )
