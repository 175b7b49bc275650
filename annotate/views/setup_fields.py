"""The fields of a project's form: what each is called, what it is for, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.models.content import MAX_COMPLETIONS, MAX_LEASE_MINUTES, MIN_COMPLETIONS
from annotate.services import description as d

Kind = Literal["line", "text", "whole", "number", "percent", "switch"]


@dataclass(frozen=True)
class Spec:
    """One field.

    :param low: smallest value, as it is typed: per cent where the kind is that.
    :param high: largest value, the same.
    :param optional: whether it may be left empty.
    :param longest: characters.
    """

    label: str | Promise
    help: str | Promise = ""
    kind: Kind = "line"
    low: float | None = None
    high: float | None = None
    optional: bool = False
    longest: int | None = None


@dataclass(frozen=True)
class Field:
    """An input as templates show it."""

    name: str
    value: str
    problem: str
    spec: Spec

    @property
    def on(self) -> bool:
        """Whether a switch is on."""
        return self.value == "on"


@dataclass(frozen=True)
class Row:
    """A criterion or a norm in the form."""

    key: str
    fields: dict[str, Field]
    anchors: list[tuple[str, Field]]
    renderings: list[tuple[dict[str, Any], dict[str, Field], list[tuple[str, Field]]]]
    open: bool = False
    """Whether a problem lies in one of the renderings."""


FIELDS: dict[str, Spec] = {
    "name": Spec(_("Name"), _("What raters see on their page."), longest=200),
    "slug": Spec(
        _("Name in addresses"),
        _("Letters, digits, - and _. Made from the name if you leave it empty; it stays as it is later."),
        optional=True,
        longest=50,
    ),
    "description": Spec(
        _("Description"), _("A sentence or two on what this is for."), "text", optional=True, longest=d.LONGEST_TEXT
    ),
    "score_on": Spec(
        _("Scores"), _("Each answer gets 1 to 5 on every criterion below, each value with words of its own."), "switch"
    ),
    "rank_on": Spec(
        _("Ranking"),
        _("Answers are put in order, best first; equals may share a place. A reward model learns most from it."),
        "switch",
    ),
    "edit_on": Spec(_("Edits"), _("Raters may turn an answer into the one that they would have wanted."), "switch"),
    "norms_on": Spec(
        _("Norms"),
        _("For each rule below, raters say whether an answer keeps it, and show where it does not."),
        "switch",
    ),
    "rationale_on": Spec(_("Reasons"), _("A free line for why; nobody has to fill it in."), "switch"),
    "strength_on": Spec(
        _("Strength"), _("Where two answers are compared: is one slightly, clearly or much better?"), "switch"
    ),
    "completions_per_item": Spec(
        _("Answers side by side"),
        _("How many answers a rater compares at once. Four is a good start; two makes it a plain choice."),
        "whole",
        MIN_COMPLETIONS,
        MAX_COMPLETIONS,
    ),
    "instructions": Spec(
        _("Instructions"),
        _("Markdown. Raters read it before their first item and find it again by pressing i. Short is better."),
        "text",
        longest=d.LONGEST_TEXT,
    ),
    "overlap": Spec(
        _("Raters for each item"),
        _("How many people judge the same item. Two or more let you see how far they agree; each item costs as often."),
        "whole",
        1,
        d.MOST_OVERLAP,
    ),
    "quota": Spec(
        _("Most items of one rater"),
        _("Keeps one busy person's taste from deciding everything. Empty for no limit."),
        "whole",
        1,
        d.MOST_QUOTA,
        optional=True,
    ),
    "lease_minutes": Spec(
        _("Minutes that an item is kept"),
        _("For a rater who does nothing; then somebody else may have it. What was typed is kept in any case."),
        "whole",
        1,
        MAX_LEASE_MINUTES,
    ),
    "random_share": Spec(
        _("Items drawn at random"),
        _("The others come first where a reward model is unsure. A share at random keeps the picture fair."),
        "percent",
        0,
        100,
    ),
    "gold_rate": Spec(
        _("Items with a known answer"),
        _("Mixed in unseen, to notice who lost the thread. You choose them on the judgements' pages. 0 for none."),
        "percent",
        0,
        50,
    ),
    "repeat_rate": Spec(
        _("Items shown again"),
        _("A rater judges some items a second time, days or hours later, to see how steady they are. 0 for none."),
        "percent",
        0,
        50,
    ),
    "adjudicate_above": Spec(
        _("Disagreement that a third person settles"),
        _("From 0, full agreement, to 100, the opposite order. Above this, somebody else decides. Empty for never."),
        "percent",
        0,
        100,
        optional=True,
    ),
    "pass_mark": Spec(
        _("Agreement to begin with"),
        _("New raters first judge some items with known answers, and must agree this far. Empty for no such test."),
        "percent",
        0,
        100,
        optional=True,
    ),
    "base_model": Spec(
        _("Folder"),
        _("A Hugging Face folder with safetensors weights and a chat template."),
        optional=True,
        longest=500,
    ),
    "temperature": Spec(
        _("Temperature"),
        _("How freely the model writes: 0.7 reads well. It holds for answers and for training alike."),
        "number",
        0.01,
        10,
    ),
    "max_tokens": Spec(
        _("Longest answer"),
        _("In tokens, each about three quarters of an English word. Short answers are quicker to judge."),
        "whole",
        1,
        d.MOST_TOKENS,
    ),
}
"""By the name of the project's field, which is also the name of the input."""

CRITERION_LABELS = {"name": _("Name"), "description": _("What is asked"), "anchors": _("Words for {value}")}
NORM_LABELS = {"name": _("Name"), "text": _("The rule")}
ROW_LABELS = {**CRITERION_LABELS, **NORM_LABELS}
"""Names of the inputs of a row, by the part of their name that says what they are."""
FOLDS = {
    "people": ("overlap", "quota", "lease_minutes", "random_share"),
    "quality": ("gold_rate", "repeat_rate", "adjudicate_above", "pass_mark"),
    "languages": ("translations",),
    "model": ("base_model", "temperature", "max_tokens"),
}
"""Parts of the form that are folded at first, with what they hold."""
PLACES = {
    "protocol": _("What raters do"),
    "criteria": _("Criteria"),
    "norms": _("Norms"),
    "translations": _("Languages"),
    "prompts": _("Prompts"),
    "prompts_file": _("Prompts from a file"),
}
"""Names of places that are more than one field."""


def place_of(location: tuple[Any, ...]) -> str:
    """The input that a place of a description belongs to, rows still by their number."""
    match location:
        case ("protocol", str(part)):
            return f"{part}_on"
        case ("sampling", str(part)):
            return part
    return "-".join(map(str, location))


def sentence(error: dict[str, Any], *, percent: bool = False) -> str:
    """What is wrong with a value, for the person who typed it.

    :param error: as pydantic tells it.
    :param percent: whether limits are shares of 1 that the form shows in per cent.
    """
    limits = error.get("ctx", {})

    def limit(name: str) -> str:
        return f"{limits[name] * 100:g} %" if percent else f"{limits[name]:g}"

    match error["type"]:
        case "string_too_short" | "blank" | "missing" | "too_short":
            return str(_("Fill this in."))
        case "string_too_long":
            return _("At most %(most)s characters.") % {"most": f"{limits['max_length']:,}"}
        case "string_pattern_mismatch":
            return str(_("Use only letters from a to z, digits, - and _."))
        case "greater_than_equal":
            return _("At least %(least)s.") % {"least": limit("ge")}
        case "greater_than":
            return _("More than %(least)s.") % {"least": limit("gt")}
        case "less_than_equal":
            return _("At most %(most)s.") % {"most": limit("le")}
        case "too_long":
            return _("At most %(most)s of them.") % {"most": limits["max_length"]}
        case "not_storable":
            return str(_("This holds characters that cannot be stored."))
        case "collects_nothing":
            return str(_("Ask raters for something: rank, edit, scores with a criterion, or norms with a rule."))
        case "name_twice":
            return _("Two of them are named %(name)s.") % {"name": limits["name"]}
        case "float_parsing" | "float_type" | "finite_number":
            return str(_("Write a number."))
    return str(_("Write a whole number."))
