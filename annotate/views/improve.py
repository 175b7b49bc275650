"""The page on which the next generation is asked for: a method, what it learns from, how much, how long it takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Manager, Model
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from annotate.access import LEAD, SignedInRequest, get_project
from annotate.models import Project, Split
from annotate.services import Refused, imitation, runs, snapshots
from annotate.services.estimates import Estimate, estimate
from annotate.services.evaluations import PLANNED_BY_ITSELF
from annotate.services.generations import serving
from annotate.services.improving import Wish, training_prompts, usual_answers
from annotate.services.methods import POLICY_GRADIENT, WAYS, Method
from annotate.services.scorers import of_another_seed
from annotate.templatetags.hone import duration
from annotate.views.improve_words import BUDGET, COMPARED, FINE_TUNING, METHODS, MORE, ORIGINAL_SHARE, SOURCES
from annotate.views.number_fields import MOST_DIGITS
from annotate.views.prompts import tags_of
from policy.contract import HIGHEST_FULL_LEARNING_RATE, ImproveJob

INVALID = 422


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def improve(request: SignedInRequest, slug: str) -> HttpResponse:
    """Choose and start; htmx posts the form for how long it would take alone."""
    project = get_project(request, slug, role=LEAD)
    if request.method != "POST":
        first = _first(project)
        return _page(request, project, first, _estimated(project, _wish(project, first)))
    live = request.headers.get("HX-Request")
    try:
        wish = _wish(project, request.POST)
        if live:
            return render(request, "improve/estimate.html", _estimated(project, wish))
        if not WAYS[wish.method].draws and wish.snapshot is None and not snapshots.is_quick(project):
            raise Refused(_("Freezing this project takes a while: take a snapshot first, then choose it here."))
        run = runs.launch_improve(project=project, actor=request.user, wish=wish)
        return redirect("run", slug=slug, pk=run.pk)
    except Refused as refusal:
        problem, place = str(refusal), refusal.place
    if live:
        return render(request, "improve/estimate.html", {"problem": problem})
    refused = {"refused": problem, "place": place, "problem": problem}
    return _page(request, project, request.POST, refused, status=INVALID)


def _first(project: Project) -> QueryDict:
    """What the form begins with: PPO where there is a reward model, watched by one of another seed; otherwise SFT."""
    filled = QueryDict(mutable=True)
    models = list(project.reward_models.select_related("run").order_by("-number"))
    filled["method"] = Method.PPO if models else Method.SFT
    if models and (other := of_another_seed(models[0], models)):
        filled["other_reward_model"] = str(other.number)
    filled.setlist("sources", list(imitation.SOURCES))
    return filled


def _wish(project: Project, form: QueryDict) -> Wish:
    """What a form asks for; fields of other methods are passed over.

    :raises Refused: naming the field that will not do.
    """
    named = str(form.get("method"))
    if named not in Method.values:
        raise Refused(_("Choose a method."), place="method")
    method = Method(named)
    numbers = {
        setting.name: value
        for setting in (*BUDGET, *MORE)
        if method in setting.methods and (value := setting.read(form)) is not None
    }
    _check_together(method, numbers)
    settings: dict[str, Any] = {name: numbers[name] for name in numbers if name not in ("samples", "minutes")}
    if method in (Method.SFT, Method.BEST_OF_N) and form.get("self_feedback"):
        settings["self_feedback"] = True
    if method == Method.SFT and (share := ORIGINAL_SHARE.read(form)) is not None:
        settings["original_share"] = share / 100
    draws = WAYS[method].draws
    planned = COMPARED.read(form)
    tag = form.get("tag", "")
    return Wish(
        method=method,
        reward_model=_chosen(form, "reward_model", project.reward_models, "number") if draws else None,
        other_reward_model=(
            _chosen(form, "other_reward_model", project.reward_models, "number") if method in POLICY_GRADIENT else None
        ),
        snapshot=None if draws else _chosen(form, "snapshot", project.snapshots, "pk"),
        tags=[tag] if tag and draws else [],
        samples=int(numbers["samples"]) if "samples" in numbers else None,
        minutes=numbers.get("minutes"),
        from_base=method in FINE_TUNING and bool(form.get("from_base")),
        sources=form.getlist("sources"),
        planned=None if planned is None else int(planned),
        leads_rate=bool(form.get("leads_rate")),
        settings=settings,
    )


def _check_together(method: Method, numbers: dict[str, float]) -> None:
    """Refuse numbers that contradict each other; the job would, too, in the words of its fields."""
    if method in POLICY_GRADIENT:
        target = numbers.get("kl_target", ImproveJob.kl_target)
        if numbers.get("kl_limit", ImproveJob.kl_limit) <= target:
            raise Refused(
                _("The KL at which it stops must be above the KL aimed at, %(target)s, or training ends before it.")
                % {"target": f"{target:g}"},
                place="kl_limit" if "kl_limit" in numbers else "kl_target",
            )
    if numbers.get("lora_rank") == 0 and numbers.get("learning_rate", 0) > HIGHEST_FULL_LEARNING_RATE:
        raise Refused(
            _("This learning rate is for adapters: all weights (rank 0) take at most %(highest)s.")
            % {"highest": f"{HIGHEST_FULL_LEARNING_RATE:g}"},
            place="learning_rate",
        )


def _page(
    request: SignedInRequest, project: Project, form: QueryDict, estimated: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    typed = {name: str(text).replace("\x00", "") for name, text in form.items()}
    usual = {"samples": usual_answers(project)}
    test_prompts = project.prompts.filter(split=Split.TEST).count()
    context = {
        "project": project,
        "parent": serving(project),
        "typed": typed,
        "methods": [(m.value, m.label, METHODS[m], m.value == typed.get("method")) for m in Method],
        "reward_models": project.reward_models.order_by("-number"),
        "snapshots": project.snapshots.all(),
        "sources": [(source, SOURCES[source], source in form.getlist("sources")) for source in SOURCES],
        "training_prompts": training_prompts(project, []).count(),
        "tags": tags_of(project),
        "budget": [(setting, typed.get(setting.name, ""), usual.get(setting.name)) for setting in BUDGET],
        "more": [(setting, typed.get(setting.name, "")) for setting in MORE],
        "compared": COMPARED,
        "test_prompts": test_prompts,
        "usually_compared": min(test_prompts, PLANNED_BY_ITSELF),
        "more_open": any(typed.get(setting.name) for setting in MORE),
        "tab": "project",
        **estimated,
    }
    return render(request, "improve/page.html", context, status=status)


def _estimated(project: Project, wish: Wish) -> dict[str, Any]:
    try:
        found: Estimate = estimate(project, wish)
    except Refused as refusal:
        return {"problem": str(refusal)}
    if not found.units:
        return {"problem": _("There is nothing on training prompts yet that it could learn from.")}
    return {
        "estimate": found,
        "time": None if found.seconds is None else _roughly(found.seconds),
        "draws": WAYS[wish.method].draws,
        "method": wish.method.label,
    }


def _roughly(seconds: float) -> str:
    """A length of time in whole minutes."""
    minutes = max(1, round(seconds / 60))
    return duration(timedelta(minutes=minutes)) if minutes >= 60 else _("%(minutes)d min") % {"minutes": minutes}


def _chosen(form: QueryDict, field: str, records: Manager[Any], by: str) -> Any:
    """The record that a form names, or None where the field is empty.

    :raises Refused: when there is none.
    """
    text = form.get(field, "").strip()
    if not text:
        return None
    found: Model | None = None
    if text.isascii() and text.isdecimal() and len(text) < MOST_DIGITS and int(text) < 2**31:
        found = records.filter(**{by: int(text)}).first()
    if found is None:
        sentence = (
            _("There is no snapshot %(text)s here.")
            if field == "snapshot"
            else _("There is no reward model %(text)s here.")
        )
        raise Refused(sentence % {"text": text[:40]}, place=field)
    return found
