"""``manage.py improve``: make the next generation of a project's policy."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import CommandError

from annotate.management.base import ServiceCommand, find_snapshot
from annotate.models import Generation, Project, RewardModel, User
from annotate.services.imitation import SOURCES
from annotate.services.improving import Wish
from annotate.services.methods import Method
from annotate.services.runs import launch_improve


class Command(ServiceCommand):
    help = (
        "Improve the served generation. ppo, rloo, grpo and bestofn draw answers to the training prompts and need a "
        "reward model; sft and dpo learn from a snapshot."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--method", choices=Method.values, default=Method.PPO.value)
        parser.add_argument("--reward-model", type=int, metavar="NUMBER", help="default: the latest")
        parser.add_argument("--other-reward-model", type=int, metavar="NUMBER", help="only watches PPO, RLOO or GRPO")
        parser.add_argument("--snapshot", metavar="PROJECT/NAME", help="default: the judgements as they are now")
        parser.add_argument("--rater-kind", action="append", choices=User.Kind.values, help="whose judgements")
        parser.add_argument("--source", action="append", choices=SOURCES, help="what SFT imitates (default: all)")
        parser.add_argument("--tag", action="append", default=[], help="only training prompts with any of these tags")
        parser.add_argument("--from-base", action="store_true", help="fine-tune the base model, not the parent")
        parser.add_argument("--samples", type=int, help="answers that PPO, RLOO or GRPO draw and learn from")
        parser.add_argument("--minutes", type=float, help="longest time of training")
        parser.add_argument("--learning-rate", type=float)
        parser.add_argument("--updates", type=int, help="of PPO, RLOO or GRPO, instead of --samples and --minutes")
        parser.add_argument("--epochs", type=int, help="passes over the answers or comparisons")
        parser.add_argument("--n", type=int, help="answers a prompt of which best-of-n keeps one")
        parser.add_argument("--beta", type=float, help="of DPO: how dear it is to move away from the parent")
        parser.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="any other field of the job, as JSON"
        )
        parser.add_argument("--planned", type=int, metavar="N", help="test prompts that raters compare afterwards")
        parser.add_argument("--leads-rate", action="store_true", help="leads compare afterwards, too")
        parser.add_argument("--seed", type=int, default=0)

    def perform(self, *, project: str, method: str, **options: Any) -> None:
        chosen = self.project(project)
        named = {name: options[name] for name in ("learning_rate", "updates", "epochs", "n", "beta")}
        wish = Wish(
            method=Method(method),
            reward_model=_reward_model(chosen, options["reward_model"]),
            other_reward_model=_reward_model(chosen, options["other_reward_model"]),
            snapshot=find_snapshot(options["snapshot"]) if options["snapshot"] else None,
            tags=options["tag"],
            samples=options["samples"],
            minutes=options["minutes"],
            from_base=options["from_base"],
            sources=options["source"] or SOURCES,
            planned=options["planned"],
            leads_rate=options["leads_rate"],
            settings={name: value for name, value in named.items() if value is not None} | _settings(options["set"]),
        )
        run = launch_improve(
            project=chosen,
            actor=options["actor"],
            wish=wish,
            kinds=options["rater_kind"] or [User.Kind.HUMAN],
            seed=options["seed"],
            ring=False,
        )
        self.follow(run)
        made = Generation.objects.get(run=run)
        self.stdout.write(f"Generation {made.number}, a candidate; evaluate it, then promote or reject it.")


def _reward_model(project: Project, number: int | None) -> RewardModel | None:
    if number is None:
        return None
    try:
        return project.reward_models.get(number=number)
    except RewardModel.DoesNotExist:
        raise CommandError(f"There is no reward model {number} in {project.slug}.") from None


def _settings(texts: list[str]) -> dict[str, Any]:
    """Fields of the job given as NAME=VALUE, the value as JSON or else as text."""
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--set takes NAME=VALUE, not {text}.")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings
