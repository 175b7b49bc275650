"""The page on which a snapshot's recipe is edited, with what it would take beside it, and then frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
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
Form = dict[str, list[str]]

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
SWITCHES = ("demonstrations", "leave_out_flagged")
UNLESS_0 = ("guideline_from", "shortest")
"""Numbers that let everything through where they are 0."""
MOST_DIGITS = 15


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def recipe(request: SignedInRequest, slug: str) -> HttpResponse:
    """Edit a recipe (``?from=`` a snapshot's) and freeze it; htmx posts the form for what it would take alone."""
    project = get_project(request, slug, role=LEAD)
    sources = sources_of(project)
    if request.method != "POST":
        wanted = _first_recipe(request, project)
        return _page(request, project, _filled(wanted, sources), _look(project, wanted))
    live, look = request.headers.get("HX-Request"), {}
    try:
        wanted = _posted(request.POST, sources)
        look = _look(project, wanted)
        return render(request, "datasets/look.html", look) if live else freeze(request, project, wanted)
    except Refused as refusal:
        problem = str(refusal)
    if live:
        return render(request, "datasets/look.html", {"problem": problem})
    # What was typed stays as it is, be it a recipe or not.
    typed = {name: [text.replace("\x00", "") for text in texts] for name, texts in request.POST.lists()}
    return _page(request, project, typed, {**look, "refused": problem}, status=INVALID)


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
    request: SignedInRequest, project: Project, filled: Form, look: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """The whole page.

    :param filled: the form as a browser would send it.
    """
    typed = {name: texts[0] for name, texts in filled.items() if texts}

    def choices(field: str, known: Sequence[tuple[str, Any]]) -> list[tuple[str, Any, bool, str, str]]:
        mix = {value: (typed.get(f"most:{value}", ""), typed.get(f"share:{value}", "")) for value, _label in known}
        return [(value, label, value in filled.get(field, ()), *mix[value]) for value, label in known]

    context = {
        "project": project,
        "typed": typed,
        "kinds": choices("kinds", User.Kind.choices),
        "sources": choices("sources", [(source, source) for source in sources_of(project)]),
        "parts": choices("parts", [(part, PART_WORDS[part]) for part in PARTS]),
        "rules": [(rule, label, RULE_HELP[rule], rule == typed.get("aggregation")) for rule, label in RULES.items()],
        "split_choices": choices("splits", Split.choices),
        "raters": raters_of(project),
        **look,
    }
    return render(request, "datasets/recipe.html", context, status=status)


def _filled(wanted: Recipe, known: list[str]) -> Form:
    """The form that holds a recipe; :func:`_posted` reads it back.

    :param known: sources of imported data.
    """
    values = dataclasses.asdict(wanted)
    filled: Form = {name: values[name] for name in ("kinds", "parts", "splits")}
    filled["sources"] = known if wanted.sources is None else wanted.sources
    filled["aggregation"] = [wanted.aggregation]
    filled |= {name: ["on"] for name in SWITCHES if values[name]}
    filled |= {name: [", ".join(values[name])] for name in LISTS}
    filled |= {name: [values[name]] for name in TEXT}
    filled |= {
        name: [f"{values[name]:.15g}"]
        for name in (*WHOLE, *DECIMAL)
        if values[name] is not None and (values[name] or name not in UNLESS_0)
    }
    filled |= {f"most:{source}": [str(most)] for source, most in wanted.most.items()}
    filled |= {f"share:{source}": [f"{100 * share:.10g}"] for source, share in wanted.shares.items()}
    return filled


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
        **{name: form.get(name) == "on" for name in SWITCHES},
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
