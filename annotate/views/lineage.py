"""Where things come from and what came of them: generations, completions."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.access import SignedInRequest, get_completion, get_generation
from annotate.models import Generation, Judgement, User
from annotate.services.comparison import may_see
from annotate.services.gate import latest_comparison
from annotate.services.generations import serving
from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.views.metrics import Table, side_by_side
from annotate.views.paging import page_of

PPO_FACTS = ("reward", "kl", "kl_coefficient", "entropy", "length", "end_rate", "clip_fraction")
"""What tells most of how PPO went; the rest stands on the run's page."""
TUNING_FACTS = ("n", "kl_bound", "mean_score", "best_score", "steps", "best_step", "dev_loss", "tokens_per_second")


@require_GET
def generation(request: SignedInRequest, slug: str, number: int) -> HttpResponse:
    """A generation of the policy, with what it wrote."""
    generation = get_generation(request, slug, number)
    completions = generation.completions.select_related("prompt", "run").order_by("prompt_id", "sample")
    context = {
        "project": generation.project,
        "generation": generation,
        "serving": serving(generation.project),
        "children": generation.children.order_by("number"),
        "runs": generation.runs.all(),
        "training": _training_of(generation),
        "evaluated": side_by_side(
            {_generation_name(part["generation"]): part for part in (generation.gate or {}).get("generations", [])}
        ),
        "win_rate": _win_rate(generation, request.user),
        "page": page_of(request, completions),
    }
    return render(request, "lineage/generation.html", context)


@require_GET
def completion(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """A completion: what wrote it, what it was scored, what raters said of it."""
    completion = get_completion(request, slug, pk)
    context = {
        "project": completion.prompt.project,
        "completion": completion,
        "signals": completion.signals.select_related("reward_model").order_by("source", "version"),
        "edits": completion.edits.prefetch_related("made_by_edits__revision__judgement__rater"),
        "origin": completion.made_by_edits.select_related("revision__judgement__rater").first(),
        "judgements": Judgement.objects.filter(item__completions=completion).select_related("rater", "slot"),
    }
    return render(request, "lineage/completion.html", context)


def _win_rate(generation: Generation, user: User) -> Estimate | Undefined | None:
    """The win-rate of the gate's report; None where there is no parent, or somebody must not see it yet."""
    if generation.parent is None:
        return None
    found = latest_comparison(generation)
    if found is None:
        return Undefined(Reason.NO_DATA)
    return found.win_rate() if may_see(evaluation=found.evaluation, user=user) else None


def _training_of(generation: Generation) -> Table | None:
    """The first and the last update of the PPO that made a generation, or the figures of its fine-tuning."""
    metrics = generation.how_made.get("metrics", {})
    updates = metrics.get("updates", [])
    if not updates:
        figures = {**metrics, **metrics.get("training", {})}
        return side_by_side({_("Value"): {name: figures.get(name) for name in TUNING_FACTS}})
    first, last = updates[0], updates[-1]
    return side_by_side(
        {
            _("Update %(number)d") % {"number": part["update"]}: {name: part.get(name) for name in PPO_FACTS}
            for part in (first, last)
        }
    )


def _generation_name(number: int) -> str:
    return _("Generation %(number)s") % {"number": number}
