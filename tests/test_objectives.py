"""Advantages, losses and statistics against numbers worked out by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vlrl.objectives import (
    cispo,
    group_advantages,
    grpo,
    gspo,
    gspo_token,
    mean_stats,
    merge_stats,
    minirl,
    mismatch,
    omd,
    reinforce,
    sum_by_sequence,
    zero_variance,
)

REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
GROUP = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])


def floats(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def leaf(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


# ---------------------------------------------------------------- advantages


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("none", [0.5, -0.5, -0.5, 0.5, 0.25, 0.25, 0.25, -0.75, 0, 0]),
        # sample variances 1/3 and 1/4
        ("group", [0.866024, -0.866024, -0.866024, 0.866024, 0.499999, 0.499999, 0.499999, -1.499997, 0, 0]),
        # population variance of the eight that vary: (4 * 0.25 + 3 * 0.0625 + 0.5625) / 8 = 0.21875
        ("batch", [1.069043, -1.069043, -1.069043, 1.069043, 0.534521, 0.534521, 0.534521, -1.603564, 0, 0]),
    ],
)
def test_advantages_by_hand(normalisation: str, expected: list[float]) -> None:
    advantages = group_advantages(REWARDS, GROUP, normalisation)
    assert advantages.dtype == torch.float32
    torch.testing.assert_close(advantages, torch.tensor(expected), atol=1e-6, rtol=0)


def test_advantages_do_not_need_groups_in_order() -> None:
    shuffle = torch.tensor([7, 2, 9, 0, 4, 1, 8, 3, 6, 5])
    for normalisation in ("none", "group", "batch"):
        whole = group_advantages(REWARDS, GROUP, normalisation)
        mixed = group_advantages(REWARDS[shuffle], GROUP[shuffle], normalisation)
        torch.testing.assert_close(mixed, whole[shuffle])


def test_dropping_groups_without_variance_changes_no_other_advantage() -> None:
    kept = ~zero_variance(REWARDS, GROUP)[GROUP]
    assert kept.tolist() == [True] * 8 + [False] * 2
    for normalisation in ("none", "group", "batch"):
        before = group_advantages(REWARDS[kept], GROUP[kept], normalisation)
        after = group_advantages(REWARDS, GROUP, normalisation)
        assert torch.equal(before, after[kept])


def test_batch_normalisation_forgets_the_reward_scale_and_none_does_not() -> None:
    signed = 2 * REWARDS - 1
    torch.testing.assert_close(
        group_advantages(signed, GROUP, "batch"),
        group_advantages(REWARDS, GROUP, "batch"),
        atol=1e-5,
        rtol=0,
    )
    assert torch.equal(group_advantages(signed, GROUP, "none"), 2 * group_advantages(REWARDS, GROUP, "none"))


def test_zero_variance_sees_through_float_noise() -> None:
    third = sum([0.1] * 10)  # 0.9999999999999999
    rewards = torch.tensor([0.7, 0.7 + 6e-8, 0.7, 1.0, third, 0.5, 0.501, 0.2], dtype=torch.float64)
    group = torch.tensor([0, 0, 0, 1, 1, 3, 3, 4])
    assert rewards[0] != rewards[1] and rewards[3] != rewards[4]
    # group 2 has no rollout, group 4 has one
    assert zero_variance(rewards, group).tolist() == [True, True, True, False, True]
    for normalisation in ("none", "group", "batch"):
        advantages = group_advantages(rewards, group, normalisation)
        assert advantages[[0, 1, 2, 3, 4, 7]].tolist() == [0.0] * 6
        assert advantages[6] > 0 > advantages[5]


def test_without_a_baseline_nothing_blows_up() -> None:
    """Batch std of 1 and 0 is 0.5; where no group varies there is none."""
    varied = group_advantages(floats(1, 0, 1, 1), torch.tensor([0, 0, 1, 1]), "batch", "none")
    assert varied.tolist() == pytest.approx([2, 0, 2, 2], abs=1e-4)
    flat = group_advantages(floats(0, 0, 1, 1), torch.tensor([0, 0, 1, 1]), "batch", "none")
    assert flat.tolist() == [0, 0, 1, 1]
    for normalisation in ("group", "ema"):
        with pytest.raises(AssertionError, match="needs a baseline"):
            group_advantages(floats(1, 1), torch.tensor([0, 0]), normalisation, "none", scale=1.0)


def test_zero_variance_tolerance_grows_with_the_rewards() -> None:
    large = floats(1000.1, 1000.1 + 1e-4)
    assert large[0] != large[1]
    assert zero_variance(large, torch.tensor([0, 0])).tolist() == [True]
    assert zero_variance(floats(1000.0, 1000.1), torch.tensor([0, 0])).tolist() == [False]


@pytest.mark.parametrize("normalisation", ["none", "group", "batch"])
def test_nothing_to_learn_gives_zeros(normalisation: str) -> None:
    advantages = group_advantages(torch.ones(6), torch.tensor([0, 0, 0, 1, 1, 2]), normalisation)
    assert advantages.tolist() == [0.0] * 6
    empty = group_advantages(torch.zeros(0), torch.zeros(0, dtype=torch.long), normalisation)
    assert empty.shape == (0,)


def test_a_reward_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(AssertionError, match="finite"):
        group_advantages(floats(1.0, math.nan), torch.tensor([0, 0]), "none")


# --------------------------------------------------------------------- CISPO


def test_cispo_by_hand_and_its_cap_is_absolute() -> None:
    ratios = [4.9, 5.1, 1.0, 0.01]
    behaviour = torch.tensor([-2.0, -2.0, -0.5, -1.0], dtype=torch.float64)
    logprobs = (behaviour + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    advantages = torch.tensor([1.0, 2.0, -0.5, 1.0], dtype=torch.float64)
    terms, stats = cispo(logprobs, behaviour, advantages, cap_max=5.0)
    terms.sum().backward()
    # -(4.9 * 1), -(5 * 2), -(1 * -0.5), -(0.01 * 1)
    torch.testing.assert_close(logprobs.grad, torch.tensor([-4.9, -10.0, 0.5, -0.01], dtype=torch.float64))
    # log 4.9 = 1.589235, log 5.1 = 1.629241, log 0.01 = -4.605170
    by_hand = torch.tensor([-4.9 * -0.410765, -10 * -0.370759, 0.5 * -0.5, -0.01 * -5.605170])
    torch.testing.assert_close(terms.detach().float(), by_hand, atol=1e-5, rtol=0)
    assert float(stats["clip_high_count"]) == 1 and float(stats["clip_low_count"]) == 0
    assert float(stats["tokens"]) == 4
    assert float(stats["ratio_sum"]) == pytest.approx(11.01) and float(stats["ratio_max"]) == pytest.approx(
        5.1
    )
    # r - 1 - log r: 2.310765 + 2.470759 + 0 + 3.615170
    assert float(stats["k3_sum"]) == pytest.approx(8.396694, abs=1e-5)


def test_cispo_lower_cap() -> None:
    behaviour = torch.zeros(2, dtype=torch.float64)
    logprobs = leaf(math.log(0.5), math.log(0.9))
    terms, stats = cispo(logprobs, behaviour, torch.ones(2, dtype=torch.float64), cap_max=5.0, cap_min=0.8)
    terms.sum().backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([-0.8, -0.9], dtype=torch.float64))
    assert float(stats["clip_low_count"]) == 1


def test_cispo_clamp_leaves_ratios_below_the_cap_alone() -> None:
    behaviour = torch.linspace(-45, 0, 4501)
    logprobs = torch.full_like(behaviour, -30.0).requires_grad_()
    terms, _ = cispo(logprobs, behaviour, torch.ones_like(behaviour), cap_max=1e6)
    terms.sum().backward()
    ratio = torch.exp(logprobs.detach() - behaviour)
    below = ratio <= 1e6
    assert 0 < int((~below).sum()) < below.numel()
    assert logprobs.grad is not None and torch.equal(-logprobs.grad[below], ratio[below])
    assert set((-logprobs.grad[~below]).tolist()) == {1e6}


# ---------------------------------------------------------------------- GRPO


def test_grpo_by_hand_as_trl_and_verl() -> None:
    """verl's dual clip acts only at A < 0 with a ratio above 3, so both agree on every row here."""
    rows = [  # ratio, advantage, term, d term / d logp
        (1.5, 1.0, -1.2, 0.0),
        (0.5, 1.0, -0.5, -0.5),
        (1.5, -1.0, 1.5, 1.5),
        (0.5, -1.0, 0.8, 0.0),
        (1.0, 2.0, -2.0, -2.0),
        (1.1, -2.0, 2.2, 2.2),
        (1.5, 0.0, 0.0, 0.0),
    ]
    logprobs = leaf(*[-1 + math.log(ratio) for ratio, *_ in rows])
    advantages = torch.tensor([advantage for _, advantage, *_ in rows], dtype=torch.float64)
    terms, stats = grpo(logprobs, torch.full_like(logprobs, -1.0), advantages, clip_low=0.2, clip_high=0.2)
    terms.sum().backward()
    assert terms.tolist() == pytest.approx([term for *_, term, _ in rows])
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([slope for *_, slope in rows])
    assert float(stats["clip_high_count"]) == 1 and float(stats["clip_low_count"]) == 1


def test_grpo_clip_higher() -> None:
    terms, _ = grpo(leaf(math.log(1.25), math.log(1.3)), torch.zeros(2), torch.ones(2), 0.2, 0.28)
    assert terms.tolist() == pytest.approx([-1.25, -1.28])


def test_on_policy_grpo_and_cispo_have_the_policy_gradient() -> None:
    advantages = floats(1.0, -2.0, 0.5)
    for loss in (
        lambda x: grpo(x, x.detach().clone(), advantages, 0.2, 0.2),
        lambda x: cispo(x, x.detach().clone(), advantages, 5.0),
    ):
        logprobs = leaf(-0.1, -3.0, -7.0, dtype=torch.float32)
        terms, stats = loss(logprobs)
        terms.sum().backward()
        assert logprobs.grad is not None and torch.equal(logprobs.grad, -advantages)
        assert float(stats["k3_sum"]) == 0 and float(stats["ratio_sum"]) == 3


# ----------------------------------------------------------------------- OMD


def test_omd_by_hand() -> None:
    sums, reference = leaf(-10.0, -6.0), torch.tensor([-12.0, -5.0], dtype=torch.float64)
    advantages = torch.tensor([0.5, -0.5], dtype=torch.float64)
    terms, stats = omd(sums, reference, advantages, torch.arange(2), tau=0.1)
    # -(0.5 * -10) + 0.05 * 2^2 and -(-0.5 * -6) + 0.05 * 1
    assert terms.tolist() == pytest.approx([5.2, -2.95])
    terms.sum().backward()
    # -A + tau * (L - L_ref)
    assert sums.grad is not None and sums.grad.tolist() == pytest.approx([-0.3, 0.4])
    assert mean_stats(stats) == pytest.approx(
        {
            "sequences": 2,
            "sequence_log_ratio_mean": 0.5,
            "sequence_log_ratio_abs_mean": 1.5,
            "sequence_log_ratio_abs_max": 2,
            "sequence_penalty_mean": 0.125,
            "sequence_gain_mean": 0.75,
        }
    )


# Two rollouts, of two tokens and of one: L = -3 and -1, L_ref = -4.5 and -2.
OMD_TOKENS = (-1.0, -2.0, -1.0)
OMD_REFERENCE = torch.tensor([-2.0, -2.5, -2.0], dtype=torch.float64)
OMD_SEQUENCE = torch.tensor([0, 0, 1])


@pytest.mark.parametrize(
    ("form", "terms", "slopes"),
    [
        # -(0.5 * -3) + 0.1 * 1.5^2 and -(-1 * -1) + 0.1 * 1; slopes -A + 0.2 * (L - L_ref)
        ("sequence", [1.725, -0.9], [-0.2, -0.2, 1.2]),
        ("per_length", [0.8625, -0.9], [-0.1, -0.1, 1.2]),
        # 1.5 + 0.1 * (1 + 0.25) and as before; slopes -A + 0.2 * (lp - ref)
        ("token", [1.625, -0.9], [-0.3, -0.4, 1.2]),
    ],
)
def test_omd_forms_by_hand(form: str, terms: list[float], slopes: list[float]) -> None:
    logprobs = leaf(*OMD_TOKENS)
    found, _ = omd(logprobs, OMD_REFERENCE, floats(0.5, -1.0), OMD_SEQUENCE, tau=0.2, form=form)
    assert found.tolist() == pytest.approx(terms)
    found.sum().backward()
    assert logprobs.grad is not None and logprobs.grad.tolist() == pytest.approx(slopes)


@pytest.mark.parametrize("form", ["sequence", "per_length", "token"])
def test_omd_survives_a_rollout_without_tokens(form: str) -> None:
    terms, _ = omd(leaf(-1.0), torch.tensor([-2.0]), floats(0.5, 0.5), torch.tensor([0]), 0.1, form)
    assert terms[1] == 0 and torch.isfinite(terms).all()


def test_omd_gradient_is_the_surrogates_over_two_tau() -> None:
    """The surrogate of k1.5 in plain floats, differentiated by finite differences."""
    tau, step = 0.3, 1e-5
    policy, start, gain = [-4.0, -9.5, -0.7], [-5.0, -9.0, -0.2], [0.6, -0.4, -0.2]

    def surrogate(point: list[float]) -> float:
        return sum((a - tau * (p - q)) ** 2 for p, q, a in zip(point, start, gain, strict=True)) / 3

    sums = leaf(*policy)
    terms, _ = omd(sums, torch.tensor(start).double(), torch.tensor(gain).double(), torch.arange(3), tau)
    terms.mean().backward()
    assert sums.grad is not None
    for i in range(3):
        up, down = list(policy), list(policy)
        up[i] += step
        down[i] -= step
        slope = (surrogate(up) - surrogate(down)) / (2 * step)
        assert float(sums.grad[i]) == pytest.approx(slope / (2 * tau), rel=1e-7)


def test_the_first_omd_step_is_reinforce_with_mean_baseline() -> None:
    torch.manual_seed(0)
    features, choice = torch.randn(12, 5, 4, dtype=torch.float64), torch.randint(5, (12,))
    sequence = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3])
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0])

    def gradient(loss: Callable[[Tensor], Tensor]) -> Tensor:
        theta = torch.full((4,), 0.3, dtype=torch.float64, requires_grad=True)
        logprobs = (features @ theta).log_softmax(-1)[torch.arange(12), choice]
        loss(logprobs).backward()
        assert theta.grad is not None
        return theta.grad

    def first_step(logprobs: Tensor, off: float = 0.0) -> Tensor:
        advantages = group_advantages(rewards, torch.zeros(4, dtype=torch.long), "none")
        return omd(logprobs, logprobs.detach() - off, advantages, sequence, tau=0.5)[0].mean()

    def reinforce(logprobs: Tensor) -> Tensor:
        signs = [0.5] * 3 + [-0.5] * 2 + [-0.5] * 4 + [0.5] * 3
        return -(torch.tensor(signs, dtype=torch.float64) * logprobs).sum() / 4

    torch.testing.assert_close(gradient(first_step), gradient(reinforce), rtol=1e-12, atol=1e-14)
    later = gradient(lambda x: first_step(x, off=1.0))
    assert (later - gradient(reinforce)).abs().max() > 1e-3


def test_sum_by_sequence_keeps_small_differences_of_large_sums() -> None:
    torch.manual_seed(0)
    logprobs = -torch.rand(40_000) * 20
    moved = logprobs.clone()
    moved[::1000] += 1e-3
    sequence = torch.arange(40_000) % 2
    difference = sum_by_sequence(moved, sequence, 3) - sum_by_sequence(logprobs, sequence, 3)
    assert difference.tolist() == pytest.approx([0.04, 0.0, 0.0], rel=1e-2)


# ------------------------------------------------------- gradients in general


def test_gradients_against_plain_float_formulas() -> None:
    old, gain, step = [-1.0, -2.0, -0.5, -3.0, -1.2], [1.0, -0.7, 0.3, -1.1, 0.9], 1e-6
    now = [-0.5, -1.9, -1.6, -1.5, -1.1]

    def grpo_term(x: float, o: float, a: float) -> float:
        ratio = math.exp(x - o)
        return -min(ratio * a, min(max(ratio, 0.8), 1.3) * a)

    logprobs = leaf(*now)
    behaviour, advantages = torch.tensor(old, dtype=torch.float64), torch.tensor(gain, dtype=torch.float64)
    grpo(logprobs, behaviour, advantages, 0.2, 0.3)[0].sum().backward()
    assert logprobs.grad is not None
    for i, (x, o, a) in enumerate(zip(now, old, gain, strict=True)):
        slope = (grpo_term(x + step, o, a) - grpo_term(x - step, o, a)) / (2 * step)
        assert float(logprobs.grad[i]) == pytest.approx(slope, abs=1e-7)

    other = leaf(*now)
    cispo(other, behaviour, advantages, 4.0)[0].sum().backward()
    assert other.grad is not None
    for i, (x, o, a) in enumerate(zip(now, old, gain, strict=True)):
        assert float(other.grad[i]) == pytest.approx(-min(math.exp(x - o), 4.0) * a, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_differences_give_finite_values_and_gradients(dtype: torch.dtype) -> None:
    now, old = [-1e-3, -2e4, -1e30, -5.0, -1e-3], [-3e4, -1e-3, -1.0, -1e30, -90.0]
    advantages = floats(1.0, 1.0, -1.0, -1.0, -1.0)
    behaviour = torch.tensor(old, dtype=dtype)
    for loss in (
        lambda x: cispo(x, behaviour, advantages, 5.0),
        lambda x: grpo(x, behaviour, advantages, 0.2, 0.2),
        lambda x: omd(x, behaviour, advantages, torch.arange(5), 0.1),
        lambda x: gspo(x, behaviour, advantages, torch.arange(5), 0.2, 0.2),
        lambda x: gspo_token(x, behaviour, advantages, torch.arange(5), 0.2, 0.2),
        lambda x: minirl(x, behaviour, behaviour, advantages, 5.0, 0.2, 0.27),
    ):
        logprobs = leaf(*now, dtype=dtype)
        terms, stats = loss(logprobs)
        terms.sum().backward()
        assert terms.dtype in (torch.float32, torch.float64)
        assert logprobs.grad is not None
        for tensor in (terms, logprobs.grad, *stats.values()):
            assert torch.isfinite(tensor).all()
    assert math.isfinite(mean_stats(mismatch(torch.tensor(now), torch.tensor(old)))["mismatch_k3_mean"])


def test_an_infinite_logprob_is_refused() -> None:
    bad, good, one = floats(-math.inf, -1.0), floats(-1.0, -1.0), torch.ones(2)
    for call in (
        lambda: cispo(bad, good, one, 5.0),
        lambda: grpo(good, bad, one, 0.2, 0.2),
        lambda: omd(bad, good, one, torch.arange(2), 0.1),
        lambda: gspo(bad, good, one, torch.arange(2), 0.2, 0.2),
        lambda: gspo_token(good, bad, one, torch.arange(2), 0.2, 0.2),
        lambda: minirl(good, bad, good, one, 5.0, 0.2, 0.27),
        lambda: reinforce(bad, one),
    ):
        with pytest.raises(AssertionError, match="finite"):
            call()


def test_no_gradient_reaches_behaviour_or_advantages() -> None:
    for loss in (
        lambda *x: cispo(*x, cap_max=5.0),
        lambda *x: grpo(*x, clip_low=0.2, clip_high=0.2),
        lambda *x: omd(*x, torch.arange(2), tau=0.1),
        lambda *x: gspo(*x, torch.arange(2), 0.2, 0.2),
        lambda *x: gspo_token(*x, torch.arange(2), 0.2, 0.2),
        lambda lp, old, a: minirl(lp, old, old, a, 5.0, 0.2, 0.27),
    ):
        logprobs, old, advantages = leaf(-1.0, -2.0), leaf(-1.1, -2.1), leaf(1.0, -1.0)
        terms, stats = loss(logprobs, old, advantages)
        terms.sum().backward()
        assert logprobs.grad is not None and old.grad is None and advantages.grad is None
        assert not any(value.requires_grad for value in stats.values())


# ---------------------------------------------------------------- statistics


def test_mismatch_by_hand() -> None:
    stats = mean_stats(mismatch(floats(-1.0, -2.0, -0.5, -3.0), floats(-1.0, -1.9, -0.7, -3.0)))
    # differences 0, -0.1, 0.2, 0; k3: 0.004837418, 0.021402758
    assert stats == pytest.approx(
        {
            "mismatch_tokens": 4,
            "mismatch_abs_mean": 0.075,
            "mismatch_abs_max": 0.2,
            "mismatch_k3_mean": 0.006560044,
        },
        rel=1e-5,
    )


def test_k3_estimates_the_kl_of_the_sampler_to_the_trainer() -> None:
    torch.manual_seed(0)
    sampler, trainer = torch.randn(2, 6, dtype=torch.float64).log_softmax(-1)
    tokens = torch.multinomial(sampler.exp(), 200_000, replacement=True)
    exact = float((sampler.exp() * (sampler - trainer)).sum())
    reverse = float((trainer.exp() * (trainer - sampler)).sum())
    estimate = mean_stats(mismatch(trainer[tokens], sampler[tokens]))["mismatch_k3_mean"]
    assert abs(exact - reverse) > 0.05 and estimate == pytest.approx(exact, rel=0.02)


def test_statistics_add_up_over_any_split() -> None:
    torch.manual_seed(0)
    logprobs, advantages = -torch.rand(50) * 3, torch.randn(50)
    old = logprobs + torch.randn(50)

    def sequence(part: slice) -> Tensor:
        return torch.arange(len(logprobs[part]))

    for loss in (
        lambda part: cispo(logprobs[part], old[part], advantages[part], 2.0, 0.5)[1],
        lambda part: grpo(logprobs[part], old[part], advantages[part], 0.2, 0.2)[1],
        lambda part: omd(logprobs[part], old[part], advantages[part], sequence(part), 0.1)[1],
        lambda part: gspo(logprobs[part], old[part], advantages[part], sequence(part), 0.2, 0.2)[1],
        lambda part: mismatch(logprobs[part], old[part]),
    ):
        whole = loss(slice(0, 50))
        parts = merge_stats([loss(slice(0, 7)), loss(slice(7, 7)), loss(slice(7, 31)), loss(slice(31, 50))])
        assert mean_stats(parts) == pytest.approx(mean_stats(whole), rel=1e-12)
    clipped = mean_stats(cispo(logprobs, old, advantages, 2.0, 0.5)[1])
    assert 0.1 < clipped["clip_high_fraction"] < 0.5 and 0.1 < clipped["clip_low_fraction"] < 0.5
