"""Baselines, ratios of rollouts, targets, KL, corrections and lengths, against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from vlrl.objectives import (
    RunningScale,
    correction_weights,
    group_advantages,
    grpo,
    gspo,
    gspo_token,
    kl_terms,
    length_rewards,
    mean_square,
    mean_stats,
    minirl,
    overlong_rewards,
    reinforce,
    target_advantages,
    token_weights,
)

REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
GROUP = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])


def wide(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def leaf(*values: float) -> Tensor:
    return wide(*values).requires_grad_()


def slopes(logprobs: Tensor, terms: Tensor) -> list[float]:
    terms.sum().backward()
    assert logprobs.grad is not None
    return logprobs.grad.tolist()


# ---------------------------------------------------------------- advantages


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        # The others' means: 1/3 or 2/3 in the first group, 2/3 or 1 in the second.
        ("leave_one_out", [2 / 3, -2 / 3, -2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3, -1, 0, 0]),
        # 0.5 log((e^2 + 1) / 2) = 0.716890 and 0.5 log((3 e^2 + 1) / 4) = 0.878221
        (
            "log_mean_exp",
            [0.283110, -0.716890, -0.716890, 0.283110, 0.121779, 0.121779, 0.121779, -0.878221, 0, 0],
        ),
        ("none", REWARDS.tolist()),
    ],
)
def test_baselines_by_hand(baseline: str, expected: list[float]) -> None:
    advantages = group_advantages(REWARDS, GROUP, "none", baseline, tau=0.5)
    assert advantages.tolist() == pytest.approx(expected, abs=1e-6)


def test_log_mean_exp_is_the_mean_for_a_large_tau_and_the_maximum_for_a_small_one() -> None:
    mean = group_advantages(REWARDS, GROUP, "none", "mean")
    torch.testing.assert_close(group_advantages(REWARDS, GROUP, "none", "log_mean_exp", tau=1e6), mean)
    best = group_advantages(REWARDS, GROUP, "none", "log_mean_exp", tau=1e-4)
    assert best.tolist() == pytest.approx([0, -1, -1, 0, 0, 0, 0, -1, 0, 0], abs=1e-3)


def test_leave_one_out_is_the_mean_baseline_scaled() -> None:
    """RLOO: A0 * G / (G - 1)."""
    scaled = group_advantages(REWARDS, GROUP, "none", "mean") * 4 / 3
    torch.testing.assert_close(group_advantages(REWARDS, GROUP, "none", "leave_one_out"), scaled)


def test_whitening_over_tokens_by_hand() -> None:
    """REINFORCE++: four tokens 1, 0, 0, 0 have mean 1/4 and sample variance 1/4."""
    whitened = group_advantages(
        torch.tensor([1.0, 0.0]),
        torch.tensor([0, 1]),
        "tokens",
        "none",
        lengths=torch.tensor([1, 3]),
    )
    assert whitened.tolist() == pytest.approx([1.5, -0.5], abs=1e-5)


def test_the_running_scale_by_hand() -> None:
    # Deviations 0.5 (four times), 0.25 (three times), 0.75: (1 + 0.1875 + 0.5625) / 8
    assert mean_square(REWARDS, GROUP) == pytest.approx(0.21875)
    scale = RunningScale(0.5)
    first = scale.update(0.21875)
    assert first == pytest.approx(math.sqrt(0.21875))
    advantages = group_advantages(REWARDS, GROUP, "ema", scale=first)
    torch.testing.assert_close(advantages, group_advantages(REWARDS, GROUP, "batch"))
    kept = RunningScale(0.5)
    kept.restore(scale.state())
    # (0.25 * 0.21875 + 0.5 * 0.25) / 0.75
    assert scale.update(0.25) == kept.update(0.25) == pytest.approx(math.sqrt(0.239583333))
    assert scale.update(None) == pytest.approx(math.sqrt(0.239583333))
    assert mean_square(torch.ones(4), torch.tensor([0, 0, 1, 1])) is None
    assert RunningScale(0.5).update(None) == 1.0


# -------------------------------------------------------------------- losses


def test_dual_clip_by_hand() -> None:
    """verl's vanilla loss: with A < 0 no term is above 3 |A|."""
    logprobs = leaf(math.log(4), math.log(2), math.log(4))
    advantages = wide(-1.0, -1.0, 1.0)
    terms, stats = grpo(logprobs, wide(0, 0, 0), advantages, 0.2, 0.2, dual_clip=3.0)
    assert terms.tolist() == pytest.approx([3.0, 2.0, -1.2])
    assert slopes(logprobs, terms) == pytest.approx([0.0, 2.0, 0.0])
    assert float(stats["clip_high_count"]) == 2


def test_reinforce_by_hand() -> None:
    logprobs = leaf(-2.0, -0.5)
    terms, _ = reinforce(logprobs, wide(0.5, -3.0))
    assert terms.tolist() == pytest.approx([1.0, -1.5])
    assert slopes(logprobs, terms) == pytest.approx([-0.5, 3.0])


def test_minirl_by_hand() -> None:
    rows = [  # ratio to the sampler, ratio to the start, advantage, weight of A * logp
        (6.0, 1.0, 1.0, 5.0),
        (1.1, 1.28, 1.0, 0.0),
        (1.1, 1.26, 1.0, 1.1),
        (0.9, 0.79, -1.0, 0.0),
        (0.9, 0.81, -1.0, 0.9),
        (2.0, 1.50, -1.0, 2.0),
        (0.5, 0.50, 2.0, 0.5),
    ]
    logprobs = leaf(*[-1.0] * len(rows))
    behaviour = wide(*[-1.0 - math.log(r[0]) for r in rows])
    start = wide(*[-1.0 - math.log(r[1]) for r in rows])
    terms, stats = minirl(logprobs, behaviour, start, wide(*[r[2] for r in rows]), 5.0, 0.2, 0.27)
    assert terms.tolist() == pytest.approx([w * a for *_, a, w in rows])  # -w * a * -1
    assert slopes(logprobs, terms) == pytest.approx([-w * a for *_, a, w in rows])
    assert float(stats["clip_high_count"]) == float(stats["clip_low_count"]) == 1


def test_gspo_by_hand() -> None:
    """Mean log-ratios 0.1, -0.1, 0.03: ratios 1.105171 (clipped at 1.05), 0.904837, 1.030455."""
    old = wide(-1, -1, -1, -2, -2)
    logprobs = (old + wide(0.2, 0.0, -0.1, 0.02, 0.04)).requires_grad_()
    sequence = torch.tensor([0, 0, 1, 2, 2])
    terms, stats = gspo(logprobs, old, wide(1.0, -1.0, 2.0, 5.0), sequence, 0.2, 0.05)
    assert terms.tolist() == pytest.approx([-1.05, 0.904837, -2.060909, 0.0], abs=1e-6)
    assert slopes(logprobs, terms) == pytest.approx([0, 0, 0.904837, -1.030455, -1.030455], abs=1e-6)
    assert float(stats["sequence_clip_high_count"]) == 1 and float(stats["sequence_clip_low_count"]) == 0


def test_gspo_token_is_gspo_where_advantages_are_equal() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([3, 1, 5, 2])
    sequence = torch.repeat_interleave(torch.arange(4), lengths)
    old, advantages = -torch.rand(11, dtype=torch.float64), wide(1.0, -0.5, -1.5, 2.0)
    start = old + 0.3 * torch.randn(11, dtype=torch.float64)
    by_rollout, by_token = start.clone().requires_grad_(), start.clone().requires_grad_()
    whole, stats = gspo(by_rollout, old, advantages, sequence, 0.1, 0.1)
    parts, same = gspo_token(by_token, old, advantages[sequence], sequence, 0.1, 0.1)
    weights = token_weights(lengths, torch.zeros(4, dtype=torch.int64), "sample").double()[sequence]
    mean, total = whole.mean(), (parts * weights).sum()
    torch.testing.assert_close(mean, total, rtol=1e-6, atol=1e-9)
    assert slopes(by_token, total) == pytest.approx(slopes(by_rollout, mean), rel=1e-6, abs=1e-12)
    assert mean_stats(same) == pytest.approx(mean_stats(stats))
    assert float(stats["sequence_clip_high_count"] + stats["sequence_clip_low_count"]) > 0


# ------------------------------------------------------- target policy, KL


def test_target_advantages_by_hand() -> None:
    rewards, group = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), torch.tensor([0, 0, 0, 1, 1, 2, 2])
    old = wide(-3, -3, -3, math.log(2), 0, -1, -2)
    current = wide(-5, -5, -5, 0, 0, -1, -2)
    # z-scores sqrt(2), -1/sqrt(2) twice: q = 0.806617, 0.096692 twice, p = 1/3 each.
    # z-scores -1, 1 on p_old = 2/3, 1/3: q proportional to 2/e and e, p = 1/2 each.
    expected = [0.473283, -0.236642, -0.236642, -0.286986, 0.286986, 0, 0]
    found = target_advantages(rewards, group, current, old, eta=1.0)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    # Halved utilities: q proportional to 2 e^-0.5 and e^0.5.
    assert target_advantages(rewards, group, current, old, eta=2.0)[4] == pytest.approx(0.076116, abs=1e-5)


def test_target_advantages_are_the_gradient_of_the_cross_entropy() -> None:
    torch.manual_seed(0)
    rewards, group = torch.rand(9), torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    old, current = torch.randn(9).double(), torch.randn(9).double().requires_grad_()
    loss = wide(0.0).sum()
    for index in range(3):
        members = group == index
        r = rewards[members].double()
        utility = (r - r.mean()) / r.std(correction=0)
        target = (old[members].log_softmax(0) + utility / 0.7).softmax(0)
        loss = loss - (target * current[members].log_softmax(0)).sum()
    loss.backward()
    assert current.grad is not None
    found = target_advantages(rewards, group, current.detach(), old, eta=0.7)
    torch.testing.assert_close(found.double(), -current.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "term", "slope"),
    [("k1", 0.5, 1.0), ("k2", 0.125, 0.5), ("k3", math.exp(-0.5) - 0.5, 1 - math.exp(-0.5))],
)
def test_kl_terms_by_hand(estimator: str, term: float, slope: float) -> None:
    logprobs = leaf(-1.0)
    terms = kl_terms(logprobs, wide(-1.5), estimator)
    assert terms.tolist() == pytest.approx([term])
    assert slopes(logprobs, terms) == pytest.approx([slope])


def test_kl_estimates_are_unbiased_and_k2_has_the_right_gradient() -> None:
    torch.manual_seed(0)
    theta = torch.randn(6, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, dtype=torch.float64).log_softmax(0)
    policy = theta.log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    (wanted,) = torch.autograd.grad(exact, theta)
    probabilities = policy.detach().exp()
    for estimator in ("k1", "k3"):
        value = (probabilities * kl_terms(policy.detach(), reference, estimator)).sum()
        assert float(value) == pytest.approx(float(exact.detach()))
    expected_k2 = (probabilities * kl_terms(theta.log_softmax(0), reference, "k2")).sum()
    (found,) = torch.autograd.grad(expected_k2, theta)
    torch.testing.assert_close(found, wanted)
    useless = (probabilities * kl_terms(theta.log_softmax(0), reference, "k1")).sum()
    assert torch.autograd.grad(useless, theta)[0].abs().max() < 1e-12


# --------------------------------------------------------------- corrections


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected", "zeros", "capped"),
    [
        ("truncated", 0.5, 2.5, [2, 0.25, 2.5], 0, 1),
        ("masked", 0.5, 2.5, [2, 0, 0], 2, 0),
        # The first rollout's product is 0.5, its geometric mean 0.707.
        ("sequence_truncated", 0.5, 2.5, [0.5, 0.5, 2.5], 0, 1),
        ("sequence_masked", 0.4, 2.5, [0.5, 0.5, 0], 1, 0),
        ("geometric", 0.7, 1.4, [1, 1, 0], 1, 0),
        ("geometric", 0.71, 1.4, [0, 0, 0], 3, 0),
        # w - 1 - log w: 0.306853 and 0.636294, mean 0.471574; 0.901388
        ("k3", 0.5, 0.48, [1, 1, 0], 1, 0),
        ("k3", 0.5, 0.47, [0, 0, 0], 3, 0),
    ],
)
def test_corrections_by_hand(
    kind: str, low: float, high: float, expected: list[float], zeros: int, capped: int
) -> None:
    """Ratios 2 and 1/4 in one rollout, 3 in another."""
    sampler = wide(-3, -1, -4)
    trainer = (sampler + wide(2, 0.25, 3).log()).requires_grad_()
    if kind == "k3":
        low = 0.0
    weights, stats = correction_weights(trainer, sampler, torch.tensor([0, 0, 1]), 2, kind, low, high)
    assert weights.tolist() == pytest.approx(expected) and not weights.requires_grad
    assert float(stats["correction_zero_count"]) == zeros
    assert float(stats["correction_capped_count"]) == capped
    assert float(stats["correction_sum"]) == pytest.approx(sum(expected))


@pytest.mark.parametrize(
    "kind", ["truncated", "masked", "sequence_truncated", "sequence_masked", "geometric", "k3"]
)
def test_engines_that_agree_need_no_correction(kind: str) -> None:
    same = wide(-1, -2, -3)
    weights, _ = correction_weights(same, same, torch.tensor([0, 0, 1]), 3, kind, 0.5, 2.0)
    assert weights.tolist() == [1, 1, 1]


# ------------------------------------------------------------------- lengths


def test_the_length_reward_by_hand() -> None:
    """k1.5 section 2.3.3: the shortest gets 0.5 if right, at most 0 if wrong."""
    lengths = torch.tensor([100, 200, 300, 400, 100, 70, 70])
    correct = torch.tensor([True, True, True, False, False, True, False])
    found = length_rewards(lengths, correct, torch.tensor([0, 0, 0, 0, 0, 1, 1]))
    assert found.tolist() == pytest.approx([0.5, 1 / 6, -1 / 6, -0.5, 0.0, 0.0, 0.0])


def test_the_longest_of_the_wrong_is_punished_most() -> None:
    found = length_rewards(
        torch.tensor([10, 20, 30]), torch.zeros(3, dtype=torch.bool), torch.zeros(3).long()
    )
    assert found.tolist() == pytest.approx([0.0, 0.0, -0.5])


def test_soft_overlong_punishment_by_hand() -> None:
    """DAPO's 20480 tokens and cache of 4096."""
    lengths = torch.tensor([5, 16384, 17408, 18432, 20480, 30000])
    assert overlong_rewards(lengths, 20480, 4096).tolist() == pytest.approx([0, 0, -0.25, -0.5, -1, -1])
