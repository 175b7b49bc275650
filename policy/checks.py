"""What is refused before anything heavy is loaded, where a reward model judges the policy's answers."""

from __future__ import annotations

from pathlib import Path

from policy.contract import EngineConfig, Sampling
from policy.data import Prompt
from policy.engines.base import check_length
from rewardmodel.chat import load_tokenizer, prompt_ids
from rewardmodel.contract import JobError


def check_same_text(policy: str, reward_model: str) -> None:
    """Refuse a reward model that reads text in another way than the policy writes it.

    :raises JobError: when tokenizer or chat template differ.
    """
    tokenizer, scored_with = load_tokenizer(policy), load_tokenizer(reward_model)
    if scored_with.get_vocab() != tokenizer.get_vocab() or scored_with.chat_template != tokenizer.chat_template:
        raise JobError(
            f"The reward model in {reward_model} reads text with another tokenizer or chat template than the policy in "
            f"{policy}; train a reward model on this policy's base model."
        )


def tokenized(policy: str, prompts: list[Prompt], engine: EngineConfig, sampling: Sampling) -> list[list[int]]:
    """The token ids of each prompt.

    :raises JobError: naming the first prompt that leaves no room for its answer.
    """
    tokenizer = load_tokenizer(policy)
    ids = [prompt_ids(tokenizer, prompt.messages) for prompt in prompts]
    for prompt, own in zip(prompts, ids, strict=True):
        check_length(engine, Path(policy), len(own), sampling.max_tokens, prompt.prompt_id)
    return ids
