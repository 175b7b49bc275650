"""``manage.py improve``: make the next generation of a project's policy with PPO."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import CommandError

from annotate.management.base import ServiceCommand
from annotate.models import Generation, Project, RewardModel
from annotate.services.runs import launch_improve
from policy.contract import ImproveJob


class Command(ServiceCommand):
    help = "Improve the served generation with PPO against a reward model."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--reward-model", type=int, metavar="NUMBER", help="default: the latest")
        parser.add_argument("--updates", type=int, default=ImproveJob.updates)
        parser.add_argument("--learning-rate", type=float, default=ImproveJob.learning_rate)
        parser.add_argument("--seed", type=int, default=0)

    def perform(self, *, project: str, reward_model: int | None, **options: Any) -> None:
        chosen = self.project(project)
        run = launch_improve(
            project=chosen,
            actor=options["actor"],
            reward_model=None if reward_model is None else _reward_model(chosen, reward_model),
            seed=options["seed"],
            settings={name: options[name] for name in ("updates", "learning_rate")},
            ring=False,
        )
        self.follow(run)
        made = Generation.objects.get(run=run)
        self.stdout.write(f"Generation {made.number}, a candidate; evaluate it, then promote or reject it.")


def _reward_model(project: Project, number: int) -> RewardModel:
    try:
        return project.reward_models.get(number=number)
    except RewardModel.DoesNotExist:
        raise CommandError(f"There is no reward model {number} in {project.slug}.") from None
