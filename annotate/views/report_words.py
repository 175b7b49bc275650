"""Words for what a reward model's report counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Criterion, NormVersion, Project, User
from annotate.stats.estimate import Reason
from annotate.views.dataset_words import KINDS
from annotate.views.judging_words import STRENGTHS

Text = str | Promise

REASONS: dict[str, Text] = {
    Reason.NO_DATA.name: gettext_lazy("There is nothing to measure it on."),
    Reason.NO_VARIATION.name: gettext_lazy("All answers are called the same, so that there is nothing to tell apart."),
    Reason.ONE_SIDED.name: gettext_lazy(
        "No temperature is best: the dev pairs are all ordered rightly, or no better than by chance."
    ),
}
ACCURACY: dict[str, tuple[Text, Text]] = {
    "model": (gettext_lazy("This reward model"), gettext_lazy("of all test pairs")),
    "length": (gettext_lazy("The longer answer"), gettext_lazy("what a model that only counts would reach")),
    "model with rater": (
        gettext_lazy("This reward model with one rater"),
        gettext_lazy("on pairs that several raters judged"),
    ),
    "rater with rater": (
        gettext_lazy("Another rater with that rater"),
        gettext_lazy("on the same pairs: what a model can be expected to reach"),
    ),
    "model with majority of others": (
        gettext_lazy("This reward model with a majority of raters"),
        gettext_lazy("with the same majorities as the rater below: those of a pair's raters but one"),
    ),
    "rater with majority of others": (
        gettext_lazy("One rater with the majority of the others"),
        gettext_lazy("on pairs that three or more judged"),
    ),
}
CLASSIFICATION: dict[str, tuple[Text, Text]] = {
    "precision": (gettext_lazy("Precision"), gettext_lazy("of those called good, so many are")),
    "recall": (gettext_lazy("Recall"), gettext_lazy("of the good ones, so many are called good")),
    "f1": (gettext_lazy("F1"), gettext_lazy("harmonic mean of the two")),
    "base": (gettext_lazy("Good ones among all"), gettext_lazy("the precision of calling everything good")),
}
SLICES: dict[str, Text] = {
    "rater": gettext_lazy("By rater"),
    "criterion": gettext_lazy("By criterion: its order of the answers alone"),
    "norm": gettext_lazy("By norm: what complies above what violates it"),
    "kind": gettext_lazy("By what was said"),
    "source": gettext_lazy("By source"),
    "strength": gettext_lazy("By how much better"),
    "lengths": gettext_lazy("By length of the preferred answer"),
    "position": gettext_lazy("By place on the rater's screen"),
    "script": gettext_lazy("By script of the answers"),
    "tag": gettext_lazy("By tag of the prompt"),
}
PLACES: dict[str, Mapping[Any, Text]] = {
    "kind": KINDS,
    "source": {
        "human": gettext_lazy("people"),
        "simulated": gettext_lazy("simulated raters"),
        "ai": gettext_lazy("AI judges"),
    },
    "strength": STRENGTHS,
    "lengths": {
        "preferred much longer": gettext_lazy("more than 1.5 times the other's"),
        "of like length": gettext_lazy("like the other's"),
        "preferred much shorter": gettext_lazy("less than two thirds of the other's"),
    },
    "position": {
        "first": gettext_lazy("the preferred one stood before the other"),
        "later": gettext_lazy("the preferred one stood after the other"),
    },
    "script": {
        "Latin": gettext_lazy("Latin"),
        "Chinese": gettext_lazy("Chinese"),
        "Japanese": gettext_lazy("Japanese"),
        "Hangul": gettext_lazy("Korean"),
        "Cyrillic": gettext_lazy("Cyrillic"),
        "Arabic": gettext_lazy("Arabic"),
        "Devanagari": gettext_lazy("Devanagari"),
    },
}


def names_of(by: str, keys: Iterable[Any], project: Project) -> Mapping[Any, Text]:
    """What the places of a slice are called; a place without a name is called by its key."""
    if by == "rater":
        return {user.pk: str(user) for user in User.objects.filter(pk__in=keys)}
    if by == "criterion":
        return {criterion.pk: criterion.name for criterion in Criterion.objects.filter(pk__in=keys, project=project)}
    if by == "norm":
        versions = NormVersion.objects.filter(pk__in=keys, norm__project=project).select_related("norm")
        return {version.pk: str(version) for version in versions}
    return PLACES.get(by, {})


def author_name(author: str) -> str:
    """What wrote an answer, as rankings name it."""
    kind, _space, number = author.partition(" ")
    if kind == "generation":
        return _("Generation %(number)s") % {"number": number}
    return {"edit": _("Edits"), "imported": _("Imported")}.get(author, author)
