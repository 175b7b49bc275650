"""Which reward models' scores of a generation are looked at, and with which seed another one is trained."""

from __future__ import annotations

from collections.abc import Iterable

from annotate.models import Generation, Project, RewardModel


def scorers(generation: Generation, models: Iterable[RewardModel]) -> tuple[RewardModel | None, RewardModel | None]:
    """The reward model that a generation was trained against, or the newest, and the newest one of another seed.

    Where the first one's scores rise above the other's, the policy has learned what pleases only the first.

    :param models: to choose from, with their runs.
    """
    newest_first = sorted(models, key=lambda model: -model.number)
    trained = generation.run.reward_model_id if generation.run else None
    first = next((model for model in newest_first if model.pk == trained), next(iter(newest_first), None))
    if first is None:
        return None, None
    return first, of_another_seed(first, newest_first)


def of_another_seed(first: RewardModel, models: Iterable[RewardModel]) -> RewardModel | None:
    """The first of some reward models that shares no seed with one; None where there is none.

    :param models: to choose from, with their runs.
    """
    return next((model for model in models if not _seeds(model) & _seeds(first)), None)


def unused_seed(project: Project) -> int:
    """The lowest seed above those that the project's reward models had."""
    models = project.reward_models.select_related("run")
    return max((max(_seeds(model)) + 1 for model in models), default=0)


def _seeds(model: RewardModel) -> set[int]:
    """Of its members."""
    seed = model.run.job.get("seed", 0)
    return set(range(seed, seed + model.run.job.get("members", 1)))
