"""PPO's arithmetic against hand calculations and plain float64 loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from policy.objectives import (
    adapt_beta,
    gae,
    group_relative,
    leave_one_out,
    mismatch_kl,
    policy_loss,
    sampler_weights,
    token_rewards,
    value_loss,
    whiten,
)

MASK = torch.tensor([[True, True, True], [True, False, False]])


def random_batch(n: int = 7, width: int = 11, seed: int = 0):
    """Two random arrays [n, T] and a mask of random lengths, as numpy float64."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, width + 1, n)
    mask = np.arange(width) < lengths[:, None]
    return rng.normal(size=(n, width)), rng.normal(size=(n, width)), mask


def gae_by_definition(rewards, values, length, gamma, lam):
    """A_t = Σ_l (γλ)^l δ_{t+l}, summed as equation 16 of Schulman et al. 2016 is written."""
    deltas = [rewards[t] + gamma * (values[t + 1] if t + 1 < length else 0.0) - values[t] for t in range(length)]
    return [sum((gamma * lam) ** k * deltas[t + k] for k in range(length - t)) for t in range(length)]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_advantages_are_the_discounted_sum_of_temporal_differences(gamma, lam):
    rewards, values, mask = random_batch()
    advantages, returns = gae(torch.tensor(rewards), torch.tensor(values), torch.tensor(mask), gamma, lam)
    for i, row in enumerate(mask):
        length = int(row.sum())
        expected = gae_by_definition(rewards[i], values[i], length, gamma, lam)
        assert advantages[i, :length].tolist() == pytest.approx(expected)
        assert advantages[i, length:].tolist() == [0.0] * (len(row) - length)
        assert returns[i, :length].tolist() == pytest.approx(list(np.array(expected) + values[i, :length]))


def test_advantages_by_hand():
    """γ = 1, λ = ½: δ = (1 + 2 − 1, 0 + 3 − 2, 4 − 3) = (2, 1, 1), so A = (2 + ½·1.5, 1 + ½·1, 1)."""
    rewards = torch.tensor([[1.0, 0.0, 4.0]])
    values = torch.tensor([[1.0, 2.0, 3.0]])
    advantages, returns = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), 1.0, 0.5)
    assert advantages[0].tolist() == pytest.approx([2.75, 1.5, 1.0])
    assert returns[0].tolist() == pytest.approx([3.75, 3.5, 4.0])


def test_what_lies_behind_an_answer_does_not_reach_its_advantages():
    rewards = torch.tensor([[1.0, 99.0, -99.0]])
    values = torch.tensor([[0.5, 77.0, -77.0]])
    advantages, _ = gae(rewards, values, torch.tensor([[True, False, False]]), 1.0, 0.95)
    assert advantages[0].tolist() == pytest.approx([0.5, 0.0, 0.0])


def test_a_token_earns_the_kl_penalty_and_the_last_one_the_score():
    """β = 0.1: −0.1·(−1 − (−2)) = −0.1 and so on; scores 5 and 7 at tokens 3 and 1."""
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 9.0, 9.0]])
    reference = torch.tensor([[-2.0, -2.0, -1.0], [-4.0, 1.0, 1.0]])
    rewards = token_rewards(torch.tensor([5.0, 7.0]), logprobs, reference, MASK, beta=0.1)
    assert rewards.flatten().tolist() == pytest.approx([-0.1, 0.0, 5.2, 6.7, 0.0, 0.0])


def test_whitened_values_have_mean_zero_and_unit_variance_over_drawn_tokens():
    values, _, mask = random_batch()
    whitened = whiten(torch.tensor(values), torch.tensor(mask)).numpy()
    assert whitened[mask].mean() == pytest.approx(0.0, abs=1e-12)
    assert whitened[mask].std() == pytest.approx(1.0)
    assert whitened[mask] == pytest.approx((values[mask] - values[mask].mean()) / values[mask].std())
    assert (whitened[~mask] == 0).all()


def test_rewards_are_whitened_without_shifting_their_mean():
    """Values 1, 2, 3 and 6: mean 3, deviation √3.5, so 3 + (x − 3)/√3.5."""
    values = torch.tensor([[1.0, 2.0, 3.0], [6.0, 9.0, 9.0]], dtype=torch.float64)
    whitened = whiten(values, MASK, shift_mean=False)
    assert whitened[MASK].tolist() == pytest.approx([3 + (x - 3) / math.sqrt(3.5) for x in (1, 2, 3, 6)], abs=1e-6)
    assert whitened[MASK].mean().item() == pytest.approx(3.0)
    assert (whitened[~MASK] == 0).all()


def test_equal_values_stay_finite_when_whitened():
    assert whiten(torch.full((2, 3), 4.0), MASK)[MASK].tolist() == [0.0] * 4


def test_a_score_is_compared_with_the_mean_of_the_others():
    """1 against (2 + 6)/2, 2 against (1 + 6)/2, 6 against (1 + 2)/2."""
    assert leave_one_out(torch.tensor([[1.0, 2.0, 6.0]]))[0].tolist() == pytest.approx([-3.0, -1.5, 4.5])


def test_within_a_group_a_score_is_measured_in_deviations():
    """1, 2 and 6: mean 3, deviation √((4 + 1 + 9)/2) = √7; scores that are equal but for rounding say nothing."""
    found = group_relative(torch.tensor([[1.0, 2.0, 6.0]]))
    assert found[0].tolist() == pytest.approx([-2 / math.sqrt(7), -1 / math.sqrt(7), 3 / math.sqrt(7)], abs=1e-4)
    assert group_relative(torch.full((1, 8), 1.99)).abs().max() < 0.01
    assert group_relative(torch.tensor([[0.5, 0.5 + 1e-6, 0.5]])).abs().max() < 0.05


def test_the_mismatch_of_sampler_and_trainer_by_hand():
    """ρ = 2 and ½ at the tokens drawn: (1 − ln 2 + ½ − 1 + ln 2)/2 = ¼; behind an answer nothing counts."""
    trainer = torch.tensor([[math.log(0.2), math.log(0.1), 7.0]])
    sampler = torch.tensor([[math.log(0.1), math.log(0.2), -7.0]])
    found = mismatch_kl(trainer, sampler, torch.tensor([[True, True, False]]))
    assert found.item() == pytest.approx(0.25)


def test_sampler_weights_are_ratios_cut_off_at_the_cap():
    trainer = torch.tensor([[math.log(0.2), math.log(0.9), math.log(0.1)]], requires_grad=True)
    sampler = torch.tensor([[math.log(0.1), math.log(0.1), math.log(0.2)]])
    weights = sampler_weights(trainer, sampler, cap=2.0)
    assert weights[0].tolist() == pytest.approx([2.0, 2.0, 0.5])
    assert not weights.requires_grad


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [
        # ε = 0.2. Inside the range the gradient of ratio·A flows; beyond it only what makes things worse.
        (1.0, 2.0, 2.0, 2.0),
        (1.1, -1.0, -1.1, -1.1),
        (1.5, 2.0, 2.4, 0.0),
        (1.5, -2.0, -3.0, -3.0),
        (0.5, 2.0, 1.0, 1.0),
        (0.5, -2.0, -1.6, 0.0),
    ],
)
def test_the_surrogate_is_clipped_only_where_it_would_gain(ratio, advantage, objective, slope):
    logprobs = torch.tensor([[math.log(ratio)]], requires_grad=True)
    one = torch.ones(1, 1)
    loss, clipped = policy_loss(logprobs, 0 * one, advantage * one, one, one.bool(), clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(-objective)
    assert logprobs.grad.tolist() == [[pytest.approx(-slope)]]
    assert clipped.item() == (slope == 0.0)


def test_the_policy_loss_is_the_sum_over_drawn_tokens():
    old, advantages, mask = random_batch()
    rng = np.random.default_rng(1)
    new, weights = old + 0.3 * rng.normal(size=old.shape), rng.uniform(0, 2, old.shape)
    expected = clipped = 0.0
    for i, t in zip(*np.nonzero(mask), strict=True):
        ratio = math.exp(new[i, t] - old[i, t])
        bounded = min(max(ratio, 0.8), 1.2)
        expected -= weights[i, t] * min(ratio * advantages[i, t], bounded * advantages[i, t])
        clipped += bounded * advantages[i, t] < ratio * advantages[i, t]
    tensors = (torch.tensor(a) for a in (new, old, advantages, weights, mask))
    loss, count = policy_loss(*tensors, 0.2)
    assert loss.item() == pytest.approx(expected)
    assert count.item() == clipped


def test_the_value_loss_takes_the_worse_of_the_plain_and_the_clipped_error():
    """Old value 1, clip 0.2, return 2: 1.5 counts as 1.2, ½·0.8²; 0.5 stands, ½·1.5²."""
    one = torch.ones(1, 1)
    for value, expected, slope in ((1.5, 0.32, 0.0), (0.5, 1.125, -1.5), (1.1, 0.405, -0.9)):
        values = torch.tensor([[value]], requires_grad=True)
        loss = value_loss(values, one, 2 * one, one.bool(), clip=0.2)
        loss.backward()
        assert loss.item() == pytest.approx(expected)
        assert values.grad.tolist() == [[pytest.approx(slope)]]


def test_values_behind_an_answer_cost_nothing():
    values = torch.full((2, 3), 5.0)
    loss = value_loss(values, values, values - MASK.float(), MASK, clip=0.2)
    assert loss.item() == pytest.approx(4 * 0.5)


@pytest.mark.parametrize(
    ("kl", "beta"),
    [
        # β = 0.05, target 6, 64 of 640 episodes: a tenth of the clipped error of ±0.2.
        (60.0, 0.05 * 1.02),
        (0.0, 0.05 * 0.98),
        (6.0, 0.05),
        (6.6, 0.05 * 1.01),
    ],
)
def test_the_kl_coefficient_follows_the_distance_from_the_target(kl, beta):
    assert adapt_beta(0.05, kl, target=6.0, episodes=64, horizon=640) == pytest.approx(beta)


@pytest.mark.parametrize("seed", range(5))
def test_one_update_by_the_book(seed):
    """Rewards, advantages, returns and both losses of a random batch against loops over plain numbers."""
    rng = np.random.default_rng(seed)
    n, width, beta, lam, eps = 6, 9, 0.07, 0.95, 0.2
    lengths = rng.integers(1, width + 1, n)
    mask = np.arange(width) < lengths[:, None]
    old, reference, values, sampled = (rng.normal(-2, 0.5, (n, width)) for _ in range(4))
    new, new_values = old + rng.normal(0, 0.3, old.shape), values + rng.normal(0, 0.3, old.shape)
    scores = rng.normal(size=n)

    advantages, returns, rewards = np.zeros_like(old), np.zeros_like(old), np.zeros_like(old)
    for i, length in enumerate(lengths):
        for t in range(length):
            rewards[i, t] = -beta * (old[i, t] - reference[i, t]) + (scores[i] if t == length - 1 else 0.0)
        advantages[i, :length] = gae_by_definition(rewards[i], values[i], length, 1.0, lam)
        returns[i, :length] = advantages[i, :length] + values[i, :length]
    drawn = [advantages[i, t] for i in range(n) for t in range(lengths[i])]
    mean, deviation = np.mean(drawn), np.std(drawn)
    loss = value = 0.0
    for i in range(n):
        for t in range(lengths[i]):
            advantage = (advantages[i, t] - mean) / deviation
            ratio, weight = math.exp(new[i, t] - old[i, t]), min(math.exp(old[i, t] - sampled[i, t]), 2.0)
            loss -= weight * min(ratio * advantage, min(max(ratio, 1 - eps), 1 + eps) * advantage)
            bounded = values[i, t] + min(max(new_values[i, t] - values[i, t], -eps), eps)
            value += 0.5 * max((new_values[i, t] - returns[i, t]) ** 2, (bounded - returns[i, t]) ** 2)

    t_mask = torch.tensor(mask)
    t_old, t_reference, t_values, t_sampled, t_new, t_new_values = map(
        torch.tensor, (old, reference, values, sampled, new, new_values)
    )
    t_rewards = token_rewards(torch.tensor(scores), t_old, t_reference, t_mask, beta)
    assert t_rewards.numpy() == pytest.approx(rewards, abs=1e-6)
    t_advantages, t_returns = gae(t_rewards, t_values, t_mask, 1.0, lam)
    assert t_advantages.numpy() == pytest.approx(advantages, abs=1e-6)
    assert t_returns.numpy() == pytest.approx(returns, abs=1e-6)
    weights = sampler_weights(t_old, t_sampled, 2.0)
    t_loss, _clipped = policy_loss(t_new, t_old, whiten(t_advantages, t_mask), weights, t_mask, eps)
    assert t_loss.item() == pytest.approx(loss, abs=1e-6)
    assert value_loss(t_new_values, t_values, t_returns, t_mask, eps).item() == pytest.approx(value, abs=1e-6)
