"""One batch of experience: answers drawn, scored, and laid out for the trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policy.actor import Actor
from policy.contract import ImproveJob
from policy.data import Prompt
from policy.engines.base import Completion, Engine, Request, generate, make_request
from policy.reporting import Reporter
from policy.scoring import prompts_without_number, score_in_parts
from rewardmodel.batching import Row
from rewardmodel.chat import Answer, Message
from rewardmodel.contract import JobError

Reward = Callable[[Sequence[tuple[Sequence[Message], str]]], Tensor]
"""Scores answers to chats: n pairs of a chat and an answer in, float32 [n] out."""


@dataclass(frozen=True)
class TokenPrompt:
    """A prompt with its token ids."""

    prompt: Prompt
    ids: list[int]


@dataclass(frozen=True)
class Rollouts:
    """n answers of one policy, sample after sample of prompt after prompt; T is the longest answer's tokens."""

    rows: list[Row]
    """The answers packed behind their prompts; ``places`` are their numbers."""
    mask: Tensor
    """[n, T] bool, True at tokens drawn."""
    sampler_logprobs: Tensor
    """[n, T] float32, as the engine reported them."""
    ended: Tensor
    """[n] bool, whether an end token came."""
    conversations: list[tuple[Sequence[Message], str]]
    """Chat and answer, for the reward."""
    prompt_ids: list[str]
    """The id of each answer's prompt."""

    def prompts_of(self, rows: Sequence[Row]) -> list[str]:
        """The ids of the prompts in some rows, each once."""
        return list(dict.fromkeys(self.prompt_ids[place] for row in rows for place in row.places))


def prompts_of_update(prompts: Sequence[TokenPrompt], update: int, count: int, seed: int) -> list[TokenPrompt]:
    """The prompts of one update: distinct ones, and every pass over all prompts in an order of its own.

    :param update: number of the update, from 0.
    :param count: prompts wanted; all there are when they are fewer.
    """
    count = min(count, len(prompts))
    updates_per_pass = len(prompts) // count
    order = np.random.default_rng((seed, update // updates_per_pass)).permutation(len(prompts))
    first = update % updates_per_pass * count
    return [prompts[i] for i in order[first : first + count]]


def rollout_requests(job: ImproveJob, update: int, prompts: Sequence[TokenPrompt]) -> list[Request]:
    """The answers to ask for in one update, those to one prompt together."""
    return [
        make_request(
            job.sampling,
            prompt.prompt.messages,
            prompt.ids,
            "rollout",
            job.seed,
            update,
            prompt.prompt.prompt_id,
            sample,
        )
        for prompt in prompts
        for sample in range(job.samples_per_prompt)
    ]


def draw(
    job: ImproveJob,
    engine: Engine,
    actor: Actor,
    update: int,
    prompts: Sequence[TokenPrompt],
    shown: Sequence[TokenPrompt],
    reporter: Reporter,
) -> tuple[Rollouts, dict[str, str]]:
    """Draw the answers of one update, and one answer to each prompt that is shown.

    :param actor: reads the answers afterwards, which decides how they are laid out.
    :returns: the rollouts, and by prompt id the text of the answer to each shown prompt.
    """
    requests = rollout_requests(job, update, prompts)
    examples = [
        make_request(job.sampling, prompt.prompt.messages, prompt.ids, "shown", prompt.prompt.prompt_id)
        for prompt in shown
    ]
    completions = generate(
        engine,
        [*requests, *examples],
        lambda done: reporter.step("generate", done, len(requests) + len(examples), update=update),
        reporter.wait,
    )
    owners = [prompt for prompt in prompts for _ in range(job.samples_per_prompt)]
    texts = [completion.text for completion in completions[len(requests) :]]
    return (
        lay_out(job, actor, update, owners, completions[: len(requests)]),
        {prompt.prompt.prompt_id: text for prompt, text in zip(shown, texts, strict=True)},
    )


def lay_out(
    job: ImproveJob, actor: Actor, update: int, owners: list[TokenPrompt], completions: list[Completion]
) -> Rollouts:
    """Turn completions into what the trainer reads.

    :param owners: the prompt of each completion.
    :raises RuntimeError: when other weights drew one than those of this update.
    """
    versions = {completion.weights_version for completion in completions}
    if versions != {update}:
        raise RuntimeError(f"Update {update + 1} got answers of the weights {sorted(versions)}, not of {update}.")
    answers = [
        Answer(tuple(owner.ids), tuple(completion.token_ids))
        for owner, completion in zip(owners, completions, strict=True)
    ]
    lengths = torch.tensor([len(completion.token_ids) for completion in completions])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    sampler_logprobs = torch.zeros(mask.shape)
    sampler_logprobs[mask] = torch.tensor([logprob for completion in completions for logprob in completion.logprobs])
    return Rollouts(
        rows=actor.policy.pack(answers, job.tokens_per_batch),
        mask=mask,
        sampler_logprobs=sampler_logprobs,
        ended=torch.tensor([completion.finish_reason == "stop" for completion in completions]),
        conversations=[
            (owner.prompt.messages, completion.text) for owner, completion in zip(owners, completions, strict=True)
        ],
        prompt_ids=[owner.prompt.prompt_id for owner in owners],
    )


def score(reward: Reward, rollouts: Rollouts, update: int, reporter: Reporter) -> Tensor:
    """The reward of every answer, float32 [n] on the CPU.

    :raises JobError: when one is no number, naming its prompt.
    """
    total = len(rollouts.conversations)
    scores = score_in_parts(
        reward, rollouts.conversations, lambda done: reporter.step("score", done, total, update=update)
    )
    if bad := prompts_without_number(scores, rollouts.prompt_ids):
        raise JobError(
            f"The reward of an answer in update {update + 1} is not a number, on the prompts {', '.join(bad)}."
        )
    return torch.tensor(scores)
