"""Methods of improving the policy: what each needs, and which program carries it out.

All of them are runs of the kind *improve*, so that one at a time is under way in a project; which method it is stands
in the run's selection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import TextChoices

from annotate.models import Run
from policy.contract import ImproveJob
from policy.methods import BestOfNJob, DpoJob, SftJob


class Method(TextChoices):
    """A way to make the next generation; the names are those of the literature in every language."""

    PPO = "ppo", "PPO"
    RLOO = "rloo", "RLOO"
    GRPO = "grpo", "GRPO"
    BEST_OF_N = "bestofn", "Best-of-n"
    SFT = "sft", "SFT"
    DPO = "dpo", "DPO"


@dataclass(frozen=True)
class Way:
    """How a method is carried out."""

    kind: str
    """Of ``spec.json``."""
    module: str
    """The program."""
    job: type[Any]
    draws: bool
    """Whether it draws answers to prompts and has a reward model score them; otherwise it learns from a snapshot."""


_DRAWS_AND_LEARNS = Way("improve", "policy.train", ImproveJob, draws=True)
WAYS = {
    Method.PPO: _DRAWS_AND_LEARNS,
    Method.RLOO: _DRAWS_AND_LEARNS,
    Method.GRPO: _DRAWS_AND_LEARNS,
    Method.BEST_OF_N: Way("bestofn", "policy.bestofn", BestOfNJob, draws=True),
    Method.SFT: Way("sft", "policy.sft", SftJob, draws=False),
    Method.DPO: Way("dpo", "policy.dpo", DpoJob, draws=False),
}
POLICY_GRADIENT = (Method.PPO, Method.RLOO, Method.GRPO)
"""Methods that draw, score and learn update by update."""


def method_of(run: Run) -> Method:
    """The method of a run that improves the policy."""
    return Method(run.selection.get("method", Method.PPO))


def way_of(run: Run) -> Way:
    """How such a run is carried out."""
    return WAYS[method_of(run)]


def spec_kind(run: Run) -> str:
    """The kind that a run's ``spec.json`` and ``result.json`` name."""
    return way_of(run).kind if run.kind == Run.Kind.IMPROVE else run.kind
