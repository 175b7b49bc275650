"""``manage.py train_reward``: train a reward model on a project's judgements."""

from __future__ import annotations

import argparse
import json
from typing import Any, get_args

from annotate.management.base import ServiceCommand, find_snapshot
from annotate.models import RewardModel, User
from annotate.services.reward_reports.report import make_report
from annotate.services.runs import launch_train_reward
from rewardmodel.contract import Loss, RewardJob

SETTINGS = ("loss", "members", "relative_weight", "regression_weight", "epochs", "learning_rate")
"""Options that are fields of the job."""


class Command(ServiceCommand):
    help = "Train a reward model on a snapshot, or on the judgements as they are now."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--snapshot", metavar="PROJECT/NAME")
        parser.add_argument("--rater-kind", action="append", choices=User.Kind.values, help="whose judgements")
        parser.add_argument("--loss", choices=get_args(Loss), default=RewardJob.loss)
        parser.add_argument("--members", type=int, default=RewardJob.members, help="models of an ensemble")
        parser.add_argument("--relative-weight", type=float, default=RewardJob.relative_weight, help="of that loss")
        parser.add_argument(
            "--regression-weight", type=float, default=RewardJob.regression_weight, help="of the error against scores"
        )
        parser.add_argument("--epochs", type=int, default=RewardJob.epochs)
        parser.add_argument("--learning-rate", type=float, default=RewardJob.learning_rate)
        parser.add_argument("--seed", type=int, help="one that no reward model had, if left out")

    def perform(self, *, project: str, snapshot: str | None, **options: Any) -> None:
        run = launch_train_reward(
            project=self.project(project),
            actor=options["actor"],
            snapshot=find_snapshot(snapshot) if snapshot else None,
            kinds=options["rater_kind"] or [User.Kind.HUMAN],
            seed=options["seed"],
            settings={name: options[name] for name in SETTINGS},
            ring=False,
        )
        self.follow(run)
        made = RewardModel.objects.select_related("run", "snapshot", "project").get(run=run)
        make_report(reward_model=made)
        self.stdout.write(f"Reward model {made.number}, from snapshot {made.snapshot}:")
        self.stdout.write(json.dumps(made.metrics, indent=1))
