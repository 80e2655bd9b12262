"""The chunked head against the whole [tokens, vocabulary] matrix."""

import os
import subprocess
import sys

import pytest
import torch

from vlrl.policy.logprobs import BAN_BIAS, token_logprobs

BANNED = [3, 50, 96]


def _inputs(dtype: torch.dtype, tokens: int = 61, vocabulary: int = 97) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 24, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, 24, generator=generator).to(dtype).requires_grad_()
    allowed = torch.tensor([i for i in range(vocabulary) if i not in BANNED])
    targets = allowed[torch.randint(len(allowed), (tokens,), generator=generator)]
    return hidden, weight, targets, torch.randn(tokens, generator=generator)


def _whole(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float, banned: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = hidden.double() @ weight.double().T
    bias = torch.zeros(len(weight), dtype=torch.float64)
    bias[banned] = BAN_BIAS
    logprobs = ((logits + bias) / temperature).log_softmax(-1)
    entropy = torch.distributions.Categorical(logits=logprobs).entropy()
    return logprobs.gather(1, targets[:, None]).squeeze(1), entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("banned", [[], BANNED])
@pytest.mark.parametrize("chunk", [1, 16, 61, 4096])
def test_values_and_gradients_are_those_of_the_whole_matrix(
    dtype: torch.dtype, temperature: float, banned: list[int], chunk: int
) -> None:
    hidden, weight, targets, weights = _inputs(dtype)
    logprobs, entropy = token_logprobs(
        hidden, weight, targets, temperature=temperature, banned_ids=banned, chunk=chunk
    )
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert logprobs.requires_grad and not entropy.requires_grad
    expected, expected_entropy = _whole(hidden, weight, targets, temperature, banned)
    torch.testing.assert_close(logprobs.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy.double(), expected_entropy, rtol=1e-5, atol=1e-5)
    mine = torch.autograd.grad((logprobs * weights).sum(), (hidden, weight))
    theirs = torch.autograd.grad((expected * weights).sum(), (hidden, weight))
    for found, wanted, source in zip(mine, theirs, (hidden, weight), strict=True):
        assert found.dtype == source.dtype
        # A bf16 gradient is the fp32 one, rounded once.
        tolerance = 1e-5 if dtype == torch.float32 else 2**-8
        gap = (found.double() - wanted.double()).norm() / wanted.double().norm()
        assert gap < tolerance


def test_bf16_hidden_states_are_multiplied_in_fp32() -> None:
    """A bf16 head rounds each logit to eight bits, which is off by far more than the tolerance."""
    hidden, weight, targets, _ = _inputs(torch.bfloat16)
    expected, _ = _whole(hidden, weight, targets, 1.0, [])
    found = token_logprobs(hidden, weight, targets)[0].double()
    rounded = (hidden @ weight.T).float().log_softmax(-1).gather(1, targets[:, None]).squeeze(1).double()
    assert (found - expected).abs().max() < 1e-4 < (rounded - expected).abs().max()


def test_banned_ids_have_no_probability() -> None:
    hidden, weight, *_ = _inputs(torch.float32)
    with torch.no_grad():
        every = torch.arange(len(weight))
        row = hidden[:1].expand(len(every), -1)
        logprobs, _ = token_logprobs(row, weight, every, banned_ids=BANNED)
    assert (logprobs[BANNED] < -50).all()
    allowed = [i for i in range(len(weight)) if i not in BANNED]
    assert logprobs[allowed].exp().sum() == pytest.approx(1.0, abs=1e-5)


def test_gradient_of_a_frozen_head_is_not_computed() -> None:
    hidden, weight, targets, _ = _inputs(torch.float32)
    logprobs, _ = token_logprobs(hidden, weight.detach(), targets)
    logprobs.sum().backward()
    assert hidden.grad is not None and weight.grad is None


def test_no_tokens_give_no_logprobs_and_a_zero_gradient() -> None:
    hidden, weight, targets, _ = _inputs(torch.float32)
    logprobs, entropy = token_logprobs(hidden[:0], weight, targets[:0], banned_ids=BANNED)
    assert logprobs.shape == entropy.shape == (0,)
    logprobs.sum().backward()
    assert torch.count_nonzero(weight.grad) == 0


_PEAK = """
import re, sys, torch
from vlrl.policy.logprobs import token_logprobs
torch.set_num_threads(1)
tokens, vocabulary, chunk = map(int, sys.argv[1:])
# Not getrusage: its maximum is inherited from the process that started this one.
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
hidden = torch.randn(tokens, 16, requires_grad=True)
weight = torch.randn(vocabulary, 16, requires_grad=True)
targets = torch.randint(vocabulary, (tokens,))
before = peak()
logprobs, _ = token_logprobs(hidden, weight, targets, banned_ids=[1], chunk=chunk)
logprobs.sum().backward()
print((peak() - before) // 1024)
"""


def test_memory_is_that_of_one_chunk() -> None:
    """2,048 tokens of 32,768 ids are 256 MiB of logits; 64 of them are 8."""

    def peak(chunk: int) -> int:
        arguments = [sys.executable, "-c", _PEAK, "2048", "32768", str(chunk)]
        # Each buffer a mapping of its own: what glibc's heap keeps between them differs from run to run.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
        ended = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
        return int(ended.stdout)

    assert peak(64) < 50
    assert peak(2048) > 230  # so the measurement sees a whole matrix when there is one
