"""The arithmetic of PPO as pure functions on padded batches of answers.

In every shape below n is the number of answers and T the tokens of the longest; answers are padded
on the right and `mask` is bool [n, T], True at tokens that were drawn. All tensors are float32
unless said otherwise, all logarithms natural.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values [n, T] over the tokens in mask [n, T], a scalar."""
    return (values * mask).sum() / mask.sum()


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale values to variance 1 over all tokens, and shift them to mean 0.

    :param values: [n, T].
    :param mask: bool [n, T].
    :param shift_mean: False leaves the mean where it is, for rewards, whose sign means something.
    :returns: [n, T], 0 outside the mask.

    Source: Huang et al. 2024, "The N+ implementation details of RLHF with PPO", section 3, "whiten".
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean).square(), mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened if shift_mean else whitened + mean) * mask


def leave_one_out(scores: Tensor) -> Tensor:
    """Each score less the mean score of the other answers to its prompt.

    The others' mean does not depend on the answer itself, so it is a baseline that leaves the policy
    gradient unbiased.

    :param scores: [prompts, samples], at least 2 samples.
    :returns: [prompts, samples].

    Source: Ahmadian et al. 2024, "Back to basics: revisiting REINFORCE", equation 8.
    """
    samples = scores.shape[1]
    return (scores - scores.mean(dim=1, keepdim=True)) * (samples / (samples - 1))


def group_relative(scores: Tensor) -> Tensor:
    """Each score less the mean of the answers to its prompt, in units of their standard deviation.

    :param scores: [prompts, samples], at least 2 samples.
    :returns: [prompts, samples], about 0 where the scores of a prompt differ by no more than rounding.

    Source: Shao et al. 2024, "DeepSeekMath", section 4.1.2 (outcome supervision), with TRL's 1e-4 beside the deviation.
    """
    centred = scores - scores.mean(dim=1, keepdim=True)
    return centred / (scores.std(dim=1, keepdim=True) + 1e-4)


def token_rewards(scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Reward of each token: −β·(log π_old − log π_ref), and the answer's score at its last token.

    :param scores: [n].
    :param logprobs: [n, T], of the policy that drew the answers.
    :param reference_logprobs: [n, T].
    :param mask: bool [n, T].
    :param beta: KL coefficient.
    :returns: [n, T], 0 outside the mask.

    Source: Ouyang et al. 2022, "Training language models to follow instructions", equation 2, taken per token.
    """
    rewards = -beta * (logprobs - reference_logprobs) * mask
    last = mask.sum(dim=1) - 1
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over answers that end after their last token.

    :param rewards: [n, T].
    :param values: [n, T], the value before each token was drawn.
    :param mask: bool [n, T].
    :param gamma: discount per token.
    :param lam: λ, 1 sums the whole return and 0 trusts the next value.
    :returns: advantages [n, T] and returns [n, T] (advantages plus values), 0 outside the mask.

    Source: Schulman et al. 2016, "High-dimensional continuous control using GAE", equation 16.
    """
    values = values * mask
    advantages = torch.zeros_like(values)
    next_value = torch.zeros_like(values[:, 0])
    next_advantage = torch.zeros_like(next_value)
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = (delta + gamma * lam * next_advantage) * mask[:, t]
        advantages[:, t] = next_advantage
        next_value = values[:, t]
    return advantages, advantages + values


def sampler_weights(trainer_logprobs: Tensor, sampler_logprobs: Tensor, cap: float) -> Tensor:
    """Weights min(π_trainer / π_sampler, cap) that correct for tokens drawn by a slightly different model.

    :param trainer_logprobs: [n, T], of the policy as the trainer computes it before any step.
    :param sampler_logprobs: [n, T], as the engine that drew the tokens reported them.
    :param cap: largest weight.
    :returns: [n, T], without gradient.

    Source: Espeholt et al. 2018, "IMPALA", section 4.1 (truncated importance sampling).
    """
    return (trainer_logprobs - sampler_logprobs).detach().exp().clamp(max=cap)


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, weights: Tensor, mask: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """The clipped surrogate objective, negated, summed over tokens.

    :param logprobs: [n, T], of the policy being trained; carries the gradient.
    :param old_logprobs: [n, T], of the same policy before this update.
    :param advantages: [n, T].
    :param weights: [n, T], see :func:`sampler_weights`.
    :param mask: bool [n, T].
    :param clip: ε.
    :returns: the sum over tokens of the loss, and the number of tokens whose gradient was clipped.

    Source: Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7.
    """
    ratio = ((logprobs - old_logprobs) * mask).exp()
    plain = ratio * advantages
    clipped = ratio.clamp(1 - clip, 1 + clip) * advantages
    loss = -torch.min(plain, clipped) * weights * mask
    return loss.sum(), ((clipped < plain) & mask).sum()


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error of the values, where a change beyond the clip range earns nothing, summed over tokens.

    :param values: [n, T], carries the gradient.
    :param old_values: [n, T], before this update.
    :param returns: [n, T].
    :param mask: bool [n, T].
    :param clip: largest change of a value that lowers the loss.
    :returns: a scalar.

    Source: Huang et al. 2022, "The 37 implementation details of PPO", detail 9.
    """
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    loss = 0.5 * torch.max((values - returns).square(), (clipped - returns).square())
    return (loss * mask).sum()


def mismatch_kl(trainer_logprobs: Tensor, sampler_logprobs: Tensor, mask: Tensor) -> Tensor:
    """KL between sampler and trainer, estimated on the sampler's tokens: the mean of ρ − 1 − log ρ, nats a token.

    :param trainer_logprobs: [n, T]; ``sampler_logprobs`` likewise.
    :param mask: bool [n, T].
    :returns: a scalar, never negative.

    Source: Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    difference = (trainer_logprobs - sampler_logprobs) * mask
    return masked_mean(difference.exp() - 1 - difference, mask)


def adapt_beta(beta: float, kl: float, target: float, episodes: int, horizon: float) -> float:
    """The KL coefficient after an update: β·(1 + clip(KL/target − 1, ±0.2)·episodes/horizon).

    :param kl: mean KL to the reference in the update, nats per answer.
    :param target: KL aimed at, nats per answer.
    :param episodes: answers in the update.
    :param horizon: answers over which the coefficient adapts.

    Source: Ziegler et al. 2019, "Fine-tuning language models from human preferences", section 2.2.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * episodes / horizon)
