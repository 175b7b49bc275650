"""Whether more rating still helps: the project's reward models up to one, by how much they learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotate.models import RewardModel, Split
from annotate.services.reward_reports.outcomes import plain
from annotate.services.reward_reports.predictions import Predicted, margins_of, read
from annotate.stats.estimate import CHANGE_OF_SHARE
from annotate.stats.intervals import clustered_mean, clustered_share
from annotate.stats.reward_models import right

MOST = 30
"""Models that are put beside each other."""


def learning_curve(reward_model: RewardModel, predicted: Mapping[str, Predicted]) -> list[dict[str, Any]]:
    """Each model's accuracy on its own test pairs, and how much better this one is on those that both were tested on.

    Test prompts of one model are test prompts of all, so that none has learned from them.

    :param predicted: of this model.
    :returns: the least data first; ``accuracy`` or ``ahead`` is None where the predictions are not here any more.
    """
    earlier = reward_model.project.reward_models.filter(number__lte=reward_model.number)
    points = []
    for model in earlier.select_related("run", "snapshot").order_by("-number")[:MOST]:
        of_model = predicted if model == reward_model else read(model.run)
        test = None if of_model is None else _test(of_model)
        points.append(
            {
                "number": model.number,
                "loss": model.loss,
                "pairs": model.snapshot.counts.get("pairs_train", 0),
                "accuracy": None if test is None else plain(_accuracy(test)),
                "ahead": None if test is None or model == reward_model else plain(_ahead(_test(predicted), test)),
            }
        )
    return sorted(points, key=lambda point: (point["pairs"], point["number"]))


def _test(predicted: Mapping[str, Predicted]) -> dict[str, Predicted]:
    return {row: ranking for row, ranking in predicted.items() if ranking.split == Split.TEST}


def _accuracy(test: Mapping[str, Predicted]) -> Any:
    margins, prompts = margins_of(test.values())
    return clustered_share(right(margins), prompts)


def _ahead(ours: Mapping[str, Predicted], theirs: Mapping[str, Predicted]) -> Any:
    """By how much more of the pairs of the rankings that both have are right."""
    both = [row for row in ours if row in theirs and ours[row].ranks == theirs[row].ranks]
    margins, prompts = margins_of(ours[row] for row in both)
    others, _same = margins_of(theirs[row] for row in both)
    return clustered_mean(right(margins) - right(others), prompts, bounds=CHANGE_OF_SHARE)
