"""What a published reward model holds beside weights and tokenizer: ``reward.json``."""

from __future__ import annotations

from dataclasses import dataclass, field

SETTINGS_FILE = "reward.json"
FORMAT_VERSION = 1


@dataclass
class Settings:
    """What a checkpoint holds beside weights and tokenizer."""

    base_model: str
    """Where the backbone came from."""
    loss: str
    """The loss it was trained with."""
    max_tokens: int
    """Longest prompt plus response in tokens."""
    shares_prompts: bool = False
    """Whether the backbone scores answers to one prompt equally well in one row."""
    mean: float = 0.0
    """Mean of the raw scores of the training answers."""
    scale: float = 1.0
    """What a raw score less the mean is multiplied by; 1 once :meth:`RewardModel.standardise` put it into the head."""
    member_means: list[float] = field(default_factory=list)
    """The same mean of each further member of an ensemble."""
    variance_penalty: float = 0.0
    """λ of the conservative score, mean − λ·variance over the members."""
    format_version: int = FORMAT_VERSION
    """Version of this file's layout."""
