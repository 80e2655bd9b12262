"""Aggregation weights by hand, and the same gradient from any split of a batch."""

import math
from collections.abc import Callable
from itertools import chain

import pytest
import torch
from torch import Tensor

from vlrl.objectives import cispo, grpo, omd, sequence_weights, token_weights
from vlrl.objectives.aggregation import prompt_weights

MODES = ["token", "sample", "prompt", "constant", "sequence", "balanced"]
# Prompts 0, 1, 2 with 3, 2, 1 counted rollouts; one rollout of prompt 1 and all of prompt 3 have no tokens.
LENGTHS = torch.tensor([2, 4, 2, 5, 0, 1, 6, 0])
GROUP = torch.tensor([0, 0, 0, 1, 1, 1, 2, 3])
SEQUENCE = torch.repeat_interleave(torch.arange(8), LENGTHS)
ADVANTAGES = torch.tensor([0.5, -1.0, 0.5, 1.5, 0.0, -1.5, 0.8, 0.0])


@pytest.mark.parametrize(
    ("mode", "denominators"),
    [
        ("token", [20, 20, 20, 20, math.inf, 20, 20, math.inf]),
        ("sample", [12, 24, 12, 30, math.inf, 6, 36, math.inf]),
        ("prompt", [24, 24, 24, 18, math.inf, 18, 18, math.inf]),
        ("constant", [60, 60, 60, 60, math.inf, 60, 60, math.inf]),
        ("sequence", [9, 9, 9, 6, math.inf, 6, 3, math.inf]),
        # Prompt 0: 2 of 3 positive with 4 tokens, 1 of 3 with 4; prompt 1: 1 of 2 with 5, 1 of 2 with 1.
        ("balanced", [18, 36, 18, 30, math.inf, 6, 18, math.inf]),
    ],
)
def test_token_weights_by_hand(mode: str, denominators: list[float]) -> None:
    weights = token_weights(LENGTHS, GROUP, mode, constant_length=10, advantages=ADVANTAGES)
    assert weights.dtype == torch.float32
    assert (1 / weights).tolist() == pytest.approx(denominators, rel=1e-6)
    if mode not in ("constant", "sequence"):
        assert float((weights * LENGTHS).sum()) == pytest.approx(1.0)


def test_sequence_weights_by_hand() -> None:
    weights = sequence_weights(LENGTHS, GROUP)
    assert (1 / weights).tolist() == pytest.approx([9, 9, 9, 6, math.inf, 6, 3, math.inf], rel=1e-6)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert prompt_weights(LENGTHS, GROUP).tolist() == pytest.approx([1 / 3] * 4 + [0] + [1 / 3] * 2 + [0])


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_without_tokens_has_no_weight(mode: str) -> None:
    empty = torch.zeros(3, dtype=torch.long)
    group, signs = torch.tensor([0, 0, 1]), torch.tensor([1.0, -1.0, 0.0])
    assert token_weights(empty, group, mode, 4, signs).tolist() == [0.0] * 3
    assert sequence_weights(empty, group).tolist() == prompt_weights(empty, group).tolist() == [0.0] * 3
    assert token_weights(empty[:0], empty[:0], mode, 4, signs[:0]).shape == (0,)


def test_constant_needs_its_length() -> None:
    with pytest.raises(AssertionError, match="constant_length"):
        token_weights(LENGTHS, GROUP, "constant")
    with pytest.raises(AssertionError, match="advantages"):
        token_weights(LENGTHS, GROUP, "balanced")


def test_averages_of_grpo_terms_by_hand() -> None:
    """Two rollouts of 1 and 3 tokens; terms -1.2 | -0.5, 0.8, 1.5 as in TRL's `grpo`/`dapo`, verl's
    `seq-mean-token-mean`/`token-mean`, and Dr.GRPO with 10 tokens (TRL: 2 rollouts * 10)."""
    ratios = torch.tensor([1.5, 0.5, 0.5, 1.5])
    terms, _ = grpo(ratios.log(), torch.zeros(4), torch.tensor([1.0, 1.0, -1.0, -1.0]), 0.2, 0.2)
    lengths, group = torch.tensor([1, 3]), torch.tensor([0, 0])
    sequence = torch.tensor([0, 1, 1, 1])
    # (-1.2 + 0.6) / 2; 0.6 / 4; 0.6 / 4; 0.6 / 20
    for mode, expected in {"sample": -0.3, "token": 0.15, "prompt": 0.15, "constant": 0.03}.items():
        weights = token_weights(lengths, group, mode, constant_length=10)
        assert float((terms * weights[sequence]).sum()) == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------ split invariance

torch.manual_seed(0)
FEATURES = torch.randn(20, 6, 5)
TOKENS = torch.randint(6, (20,))
BEHAVIOUR = (FEATURES @ torch.linspace(-0.5, 0.7, 5)).log_softmax(-1)[torch.arange(20), TOKENS]

# A layout: for each rank its micro-batches, each a list of rollouts. The last puts everything out of order
# and unevenly, with an empty micro-batch.
LAYOUTS: list[list[list[list[int]]]] = [
    [[[0, 1, 2, 3], [4, 5, 6, 7]]],
    [[[0, 1], [2, 3], [4, 5], [6, 7]]],
    [[[0, 1, 2, 3]], [[4, 5, 6, 7]]],
    [[[0, 1], [2, 3]], [[4, 5], [6, 7]]],
    [[[0], [1, 2], [3], [4]], [[5], [6], [7], []]],
    [[[6, 0, 5], [7]], [[3, 2], [4, 1]]],
]
WHOLE = [[[0, 1, 2, 3, 4, 5, 6, 7]]]

Weigh = Callable[[Tensor, Tensor], Tensor]


def token_part(loss: str, logprobs: Tensor, chosen: Tensor, rollouts: list[int], weights: Tensor) -> Tensor:
    advantages, behaviour = ADVANTAGES[SEQUENCE[chosen]], BEHAVIOUR[chosen]
    if loss == "cispo":
        terms, _ = cispo(logprobs, behaviour, advantages, cap_max=1.5)
    else:
        terms, _ = grpo(logprobs, behaviour, advantages, 0.2, 0.2)
    return (terms * weights[SEQUENCE[chosen]]).sum()


def omd_part(loss: str, logprobs: Tensor, chosen: Tensor, rollouts: list[int], weights: Tensor) -> Tensor:
    index = torch.tensor(rollouts, dtype=torch.long)
    local = torch.full((8,), -1).index_put((index,), torch.arange(len(rollouts)))[SEQUENCE[chosen]]
    form = loss.removeprefix("omd ")
    terms, _ = omd(logprobs, BEHAVIOUR[chosen], ADVANTAGES[index], local, tau=0.4, form=form)
    return (terms * weights[index]).sum()


def gradient(loss: str, layout: list[list[list[int]]], weigh: Weigh, local: bool = False) -> Tensor:
    """The gradient after averaging over ranks, as DeepSpeed does, of ranks * (sum of micro-batches).

    `local` makes the mistake that the weights exist to avoid: counts of the micro-batch alone.
    """
    theta = torch.linspace(0.4, -0.3, 5).requires_grad_()
    ranks = []
    for micro_batches in layout:
        theta.grad = None
        for rollouts in micro_batches:
            chosen = torch.isin(SEQUENCE, torch.tensor(rollouts, dtype=torch.long)).nonzero().squeeze(1)
            logprobs = (FEATURES[chosen] @ theta).log_softmax(-1)[torch.arange(len(chosen)), TOKENS[chosen]]
            present = torch.isin(torch.arange(8), torch.tensor(rollouts, dtype=torch.long))
            lengths = LENGTHS * present if local else LENGTHS
            weights = weigh(lengths, GROUP)
            part = omd_part if loss.startswith("omd") else token_part
            (len(layout) * part(loss, logprobs, chosen, rollouts, weights)).backward()
        assert theta.grad is not None
        ranks.append(theta.grad)
    return torch.stack(ranks).mean(0)


def weigher(mode: str) -> Weigh:
    if mode == "sequence":
        return sequence_weights
    return lambda lengths, group: token_weights(lengths, group, mode, 6, ADVANTAGES)


CASES = [(loss, mode) for loss in ("cispo", "grpo") for mode in MODES]
CASES += [(f"omd {form}", "sequence") for form in ("sequence", "per_length", "token")]


@pytest.mark.parametrize(("loss", "mode"), CASES)
def test_any_split_gives_the_same_gradient(loss: str, mode: str) -> None:
    whole = gradient(loss, WHOLE, weigher(mode))
    assert whole.abs().max() > 1e-3
    for layout in LAYOUTS:
        torch.testing.assert_close(gradient(loss, layout, weigher(mode)), whole, rtol=1e-6, atol=1e-6)
    naive = gradient(loss, LAYOUTS[-1], weigher(mode), local=True)
    assert (naive - whole).abs().max() > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_weights_are_the_nested_means_they_stand_for(mode: str) -> None:
    """Means of means in plain Python over random terms."""
    terms = torch.randn(20, generator=torch.Generator().manual_seed(1))
    rollouts = [
        (int(GROUP[i]), float(ADVANTAGES[i]), terms[i == SEQUENCE].tolist()) for i in range(8) if LENGTHS[i]
    ]
    tokens = [tokens for *_, tokens in rollouts]
    groups = [[(a, t) for p, a, t in rollouts if p == prompt] for prompt in range(3)]

    def balanced(group: list[tuple[float, list[float]]]) -> float:
        sides = [[t for a, t in group if (a > 0) == positive] for positive in (True, False)]
        return sum(len(side) / len(group) * _mean(list(chain(*side))) for side in sides if side)

    expected = {
        "token": _mean(list(chain(*tokens))),
        "sample": _mean([_mean(t) for t in tokens]),
        "prompt": _mean([_mean([x for _, t in group for x in t]) for group in groups]),
        "constant": _mean([sum(t) / 6 for t in tokens]),
        "sequence": _mean([_mean([sum(t) for _, t in group]) for group in groups]),
        "balanced": _mean([balanced(group) for group in groups]),
    }[mode]
    weights = token_weights(LENGTHS, GROUP, mode, 6, ADVANTAGES)
    assert float((terms * weights[SEQUENCE]).sum()) == pytest.approx(expected, abs=1e-6)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
