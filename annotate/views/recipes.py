"""The page on which a snapshot's recipe is edited, with what it would take beside it, and then frozen."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from django.db.models import Manager, Model, QuerySet
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from annotate.access import LEAD, SignedInRequest, get_project
from annotate.models import Project, Split, User
from annotate.services import Refused
from annotate.services.looking import look
from annotate.services.recipe import PARTS, Recipe, parse_recipe, recipe_of
from annotate.services.selection import raters_of, sources_of
from annotate.views.background import freeze
from annotate.views.dataset_words import RULES, described

Record = TypeVar("Record", bound=Model)

INVALID = 422
PART_WORDS = {
    "order": gettext_lazy("rankings and scores"),
    "edits": gettext_lazy("edits, above their originals"),
    "norms": gettext_lazy("verdicts on norms"),
    "both bad": gettext_lazy("“all are bad”"),
}
RULE_HELP = {
    "every rater": gettext_lazy("Each judgement stands for itself."),
    "majority": gettext_lazy("Of two answers, the one that more raters put first; else a tie."),
    "reliability": gettext_lazy("The same, raters weighing as far as they agree with others."),
}
WHOLE = ("min_raters", "guideline_from", "shortest", "longest", "seed")
DECIMAL = ("min_strength", "norm_weight")
TEXT = ("since", "until", "licence")
LISTS = ("tags", "raters")
MOST_DIGITS = 15


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def recipe(request: SignedInRequest, slug: str) -> HttpResponse:
    """Edit a recipe (``?from=`` a snapshot's) and freeze it; htmx posts the form for what it would take alone."""
    project = get_project(request, slug, role=LEAD)
    if request.method != "POST":
        return _page(request, project, _first_recipe(request, project))
    try:
        wanted = _posted(request.POST, sources_of(project))
        if request.headers.get("HX-Request"):
            return render(request, "datasets/look.html", _look(project, wanted))
    except Refused as refusal:
        if request.headers.get("HX-Request"):
            return render(request, "datasets/look.html", {"problem": str(refusal)})
        return _page(request, project, Recipe(), problem=str(refusal))
    try:
        return freeze(request, project, wanted)
    except Refused as refusal:
        return _page(request, project, wanted, problem=str(refusal), name=request.POST.get("name", ""))


def _first_recipe(request: SignedInRequest, project: Project) -> Recipe:
    """What the form begins with: a snapshot's recipe, one that could not be frozen (``?again=``), or the usual one."""
    if earlier := _named(request, "from", project.snapshots):
        return recipe_of(earlier.recipe)[0]
    if task := _named(request, "again", project.background_tasks.filter(kind="snapshot")):
        return parse_recipe(task.asked["recipe"])
    return Recipe()


def _named(request: SignedInRequest, field: str, records: QuerySet[Record] | Manager[Record]) -> Record | None:
    """The one of some records whose number the address gives."""
    number = request.GET.get(field, "")
    if not (number.isascii() and number.isdecimal() and len(number) <= MOST_DIGITS):
        return None
    return records.filter(pk=int(number)).first()


def _look(project: Project, wanted: Recipe) -> dict[str, Any]:
    seen = look(project, wanted)
    return {
        "look": seen,
        "splits": [(split.label, seen.by_split.get(split.value, 0)) for split in Split],
        "left_out": described([dataclasses.asdict(entry) for entry in seen.left_out]),
    }


def _page(
    request: SignedInRequest, project: Project, wanted: Recipe, *, problem: str = "", name: str = ""
) -> HttpResponse:
    sources = sources_of(project)
    imported = sources if wanted.sources is None else wanted.sources
    context = {
        "project": project,
        "recipe": wanted,
        "name": name,
        "problem": problem,
        "kinds": [
            (kind.value, kind.label, kind.value in wanted.kinds, *_mix(wanted, kind.value)) for kind in User.Kind
        ],
        "sources": [(source, source in imported, *_mix(wanted, source)) for source in sources],
        "parts": [(part, PART_WORDS[part], part in wanted.parts) for part in PARTS],
        "rules": [(rule, label, RULE_HELP[rule], rule == wanted.aggregation) for rule, label in RULES.items()],
        "split_choices": [(split.value, split.label, split.value in wanted.splits) for split in Split],
        "raters": raters_of(project),
        "tags_text": ", ".join(wanted.tags),
        "raters_text": ", ".join(wanted.raters),
        **_look(project, wanted),
    }
    return render(request, "datasets/recipe.html", context, status=INVALID if problem else 200)


def _mix(wanted: Recipe, source: str) -> tuple[Any, Any]:
    share = wanted.shares.get(source)
    return wanted.most.get(source, ""), "" if share is None else f"{100 * share:g}"


def _posted(form: QueryDict, known: list[str]) -> Recipe:
    """The recipe that a form holds.

    :param known: sources of imported pairs; all of them chosen stand for whatever there is.
    :raises Refused: when a field cannot be read or will not do.
    """
    sources = form.getlist("sources")
    values: dict[str, Any] = {
        "kinds": form.getlist("kinds"),
        "parts": form.getlist("parts"),
        "splits": form.getlist("splits"),
        "sources": None if set(known) <= set(sources) else sources,
        "leave_out_flagged": form.get("leave_out_flagged") == "on",
        "aggregation": form.get("aggregation", Recipe.aggregation),
        "most": {},
        "shares": {},
    }
    given = {name: text for name in form if (text := form.get(name, "").strip())}
    values |= {name: given[name] for name in TEXT if name in given}
    values |= {name: _words(given.get(name, "")) for name in LISTS}
    values |= {name: _number(given[name], int) for name in WHOLE if name in given}
    values |= {name: _number(given[name], float) for name in DECIMAL if name in given}
    for name, text in given.items():
        what, _colon, source = name.partition(":")
        if what == "most":
            values["most"][source] = _number(text, int)
        elif what == "share":
            values["shares"][source] = _number(text, float) / 100
    return parse_recipe(values)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.replace("，", ",").split(",") if word.strip()]


def _number(text: str, kind: type[int] | type[float]) -> Any:
    try:
        if len(text) > MOST_DIGITS:
            raise ValueError
        return kind(text)
    except ValueError:
        raise Refused(_("“%(text)s” is not a number that will do here.") % {"text": text[:40]}) from None
