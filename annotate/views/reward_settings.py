"""What a lead can set of the training of a reward model, beside what it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from django.utils.translation import gettext_lazy

from annotate.views.number_fields import NumberField, Text
from rewardmodel.contract import Loss, RewardJob

LOSSES: dict[str, Text] = {
    "listmle": gettext_lazy("whole rankings (ListMLE)"),
    "logistic": gettext_lazy("pairs (Bradley–Terry), strong preferences by a wider margin"),
    "hinge": gettext_lazy("pairs, until they are apart by 1"),
    "listwise-hinge": gettext_lazy("pairs of a ranking, until they are apart by 1"),
    "davidson": gettext_lazy("pairs and ties (Davidson)"),
}


@dataclass(frozen=True)
class Setting(NumberField):
    """A number of the job; left empty, it is the job's default."""

    @property
    def default(self) -> float:
        """What it is when nothing is entered."""
        value: float = getattr(RewardJob, self.name)
        return value


SETTINGS = (
    Setting(
        "members",
        gettext_lazy("Models of an ensemble"),
        gettext_lazy(
            "From 2 on, it is known where they disagree: raters get those items first. Training takes so many times "
            "as long."
        ),
        1,
        8,
        True,
    ),
    Setting(
        "variance_penalty",
        gettext_lazy("Caution of an ensemble as a reward"),
        gettext_lazy("λ in mean − λ·variance: PPO then gains less from answers on which the models disagree."),
        0,
        100,
        False,
    ),
    Setting(
        "relative_weight",
        gettext_lazy("Weight of the order"),
        gettext_lazy("Of the loss above; 0 learns from scores alone."),
        0,
        100,
        False,
    ),
    Setting(
        "regression_weight",
        gettext_lazy("Weight of the scores"),
        gettext_lazy("Of the squared error against raters' mean scores, brought to deviation 1; 0 leaves them out."),
        0,
        100,
        False,
    ),
    Setting(
        "epochs",
        gettext_lazy("Epochs"),
        gettext_lazy("Passes over the rankings, at most: training stops when the loss on dev no longer falls."),
        1,
        100,
        True,
    ),
)


def losses() -> list[tuple[str, Text, bool]]:
    """Losses with what each learns from, and whether it is the default."""
    return [(name, LOSSES[name], name == RewardJob.loss) for name in get_args(Loss)]


def settings_of(sent: Mapping[str, Any]) -> dict[str, Any] | None:
    """Settings of the job that a form sends; None where all are left at their defaults.

    :raises Refused: naming the field whose value will not do.
    """
    settings: dict[str, Any] = {}
    if loss := sent.get("loss"):
        settings["loss"] = loss
    for setting in SETTINGS:
        if (value := setting.read(sent)) is not None:
            settings[setting.name] = value
    return settings or None
