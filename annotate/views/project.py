"""A project as its leads see it: the loop, and tables of all that it made."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, F, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.access import LEAD, SignedInRequest, get_project
from annotate.models import Completion, Generation, Judgement, Project, RewardModel, Run, Slot, Snapshot, Split
from annotate.templatetags.hone import duration
from annotate.views.background import Shown, at_work
from annotate.views.launch import terms_of
from annotate.views.reward_settings import SETTINGS, losses

RUNS_SHOWN = 8


@dataclass(frozen=True)
class Action:
    """A button that starts a run."""

    kind: str
    reason: str
    """Why it cannot be pressed now; empty when it can."""
    estimate: str
    run: Run | None
    """The run that it started and that still goes on."""


@dataclass(frozen=True)
class Loop:
    """The loop in numbers."""

    done: int
    total: int
    raters: int
    judgements_since_snapshot: int
    snapshot: Snapshot | None
    reward_model: RewardModel | None
    serving: Generation | None
    newest: Generation | None
    completions: int
    prompts: int
    invited: bool
    """Whether anybody but its leads rates, or may join to."""
    actions: dict[str, Action]
    freezing: list[Shown]
    """Snapshots that are being frozen."""

    @property
    def busy(self) -> bool:
        """Whether a run is queued or running."""
        return any(action.run for action in self.actions.values())


@require_GET
def project(request: SignedInRequest, slug: str) -> HttpResponse:
    """The lead's page; raters are sent on to rate."""
    project = get_project(request, slug)
    if request.role != LEAD:
        return redirect("rate", slug=slug)
    loop = loop_of(project)
    context = {
        "project": project,
        "loop": loop,
        "generations": project.generations.select_related("parent", "run")
        .annotate(answers=Count("completions"))
        .order_by("-number"),
        "reward_models": project.reward_models.select_related("snapshot", "run").order_by("-number"),
        "snapshots": project.snapshots.select_related("created_by"),
        "runs": project.runs.select_related("requested_by")[:RUNS_SHOWN],
        "losses": losses(),
        "reward_settings": SETTINGS,
        "splits": Split.choices,
        **(terms_of(loop.newest) if loop.newest and loop.newest.parent_id else {}),
        "tab": "project",
    }
    return render(request, "project/page.html", context)


@require_GET
def loop(request: SignedInRequest, slug: str) -> HttpResponse:
    """The picture of the loop alone, for the page to fetch again while something goes on."""
    project = get_project(request, slug, role=LEAD)
    return render(request, "project/loop.html", {"project": project, "loop": loop_of(project)})


def loop_of(project: Project) -> Loop:
    """Count where the loop stands."""
    slots = Slot.objects.filter(project=project, purpose__in=["collect", "evaluate"]).aggregate(
        total=Count("pk"),
        done=Count("pk", filter=Q(state=Slot.State.DONE)),
        raters=Count("rater", filter=Q(state=Slot.State.DONE), distinct=True),
    )
    snapshot = project.snapshots.first()
    judgements = Judgement.objects.filter(slot__project=project)
    generations = list(project.generations.order_by("number"))
    promoted = [g for g in generations if g.state == Generation.State.PROMOTED]
    reward_model = project.reward_models.order_by("-number").first()
    prompts = project.prompts.count()
    return Loop(
        **slots,
        judgements_since_snapshot=(
            judgements.filter(updated_at__gt=snapshot.created_at) if snapshot else judgements
        ).count(),
        snapshot=snapshot,
        reward_model=reward_model,
        serving=promoted[-1] if promoted else None,
        newest=generations[-1] if generations else None,
        completions=Completion.objects.filter(generation__project=project).count(),
        prompts=prompts,
        freezing=at_work(project.background_tasks.filter(kind__in=["snapshot", "train_reward"])),
        invited=project.memberships.filter(role="rater").exists() or project.invites.exists(),
        actions=_actions(
            project,
            {
                Run.Kind.GENERATE: "" if prompts else _("There are no prompts yet."),
                Run.Kind.TRAIN_REWARD: "" if slots["done"] or has_preferences(project) else _("Rate items first."),
                Run.Kind.IMPROVE: "" if reward_model or slots["done"] or teaches(project) else _("Rate items first."),
                Run.Kind.EVALUATE: "" if len(generations) > 1 else _("There is only the base model."),
            },
        ),
    )


def teaches(project: Project) -> bool:
    """Whether anything was imported that a policy can learn from."""
    return has_preferences(project) or project.demonstrations.exists()


def has_preferences(project: Project) -> bool:
    """Whether anything that prefers answers to others was imported."""
    return project.comparisons.exists() or project.ranked_lists.exists()


def _actions(project: Project, reasons: dict[Run.Kind, str]) -> dict[str, Action]:
    """Each kind of run, with why it cannot be started now and how long the last one took."""
    active = {run.kind: run for run in project.runs.filter(state__in=[Run.State.QUEUED, Run.State.RUNNING])}
    ended = project.runs.filter(state=Run.State.SUCCEEDED, started_at__isnull=False).order_by("kind", "-finished_at")
    times = dict(ended.distinct("kind").values_list("kind", F("finished_at") - F("started_at")))
    return {
        kind.value: Action(
            kind=kind.value,
            reason=_("Running already.") if kind in active else reason,
            estimate=_("The last one took %(time)s.") % {"time": duration(times[kind])} if kind in times else "",
            run=active.get(kind),
        )
        for kind, reason in reasons.items()
    }
