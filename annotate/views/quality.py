"""Quality, for leads: answer keys, objections to them, disagreements, and how raters fare."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.db.models import Avg, Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotate.access import LEAD, SignedInRequest, get_contest, get_judgement, get_key, get_member, get_project
from annotate.models import AnswerKey, Contest, Project
from annotate.services import Refused, contests, disagreements, figures, keys, qualification, raters
from annotate.views import answers


@require_GET
def quality(request: SignedInRequest, slug: str) -> HttpResponse:
    """The page of all that tells how well is judged."""
    project = get_project(request, slug, role=LEAD)
    shared = raters.shared_items(project)
    context = {
        "project": project,
        "contests": _contests(project),
        "disagreements": disagreements.of(project, shared),
        "usual": disagreements.USUAL,
        "keys": _keys(project),
        "raters": raters.table(project, shared),
        "few": figures.FEW,
        "tab": "quality",
    }
    return render(request, "quality/page.html", context)


@require_POST
def make_key(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Make a judgement the key of its item: ``use`` and ``explanation``."""
    judgement = get_judgement(request, slug, pk)

    def make() -> str:
        keys.make(
            judgement=judgement,
            use=request.POST.get("use", ""),
            explanation=request.POST.get("explanation", ""),
            actor=request.user,
        )
        return _("Others are now held against this judgement.")

    return _done(request, make, "judgement", slug, pk)


@require_POST
def explain_key(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Change a key's ``explanation``."""
    key = get_key(request, slug, pk)

    def explain() -> str:
        keys.explain(key=key, explanation=request.POST.get("explanation", ""), actor=request.user)
        return _("The explanation is saved.")

    return _done(request, explain, "quality", slug)


@require_POST
def switch_key(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Retire a key, or bring it back where ``active`` is sent."""
    key = get_key(request, slug, pk)
    active = bool(request.POST.get("active"))

    def switch() -> str:
        keys.switch(key=key, active=active, actor=request.user)
        return _("The key is in use again.") if active else _("The key is retired.")

    return _done(request, switch, "quality", slug)


@require_POST
def move_key(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Move a key of the qualification by one place, ``earlier`` where that is sent."""
    key = get_key(request, slug, pk)
    keys.move(key=key, earlier=bool(request.POST.get("earlier")), actor=request.user)
    return redirect("quality", slug=slug)


@require_POST
def decide_contest(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Accept or refuse an objection: ``decision``, ``reply``, and ``retire`` for an accepted one."""
    contest = get_contest(request, slug, pk)

    def decide() -> str:
        decision = request.POST.get("decision")
        if decision not in ("accept", "refuse"):
            raise Refused(_("Accept or refuse the objection."))
        contests.decide(
            contest=contest,
            accept=decision == "accept",
            reply=request.POST.get("reply", ""),
            retire=bool(request.POST.get("retire")),
            actor=request.user,
        )
        return _("Your decision is stored, and the rater sees it.")

    return _done(request, decide, "quality", slug)


@require_POST
def allow_another(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Let a rater try the qualification again."""
    member = get_member(request, slug, pk)

    def allow() -> str:
        qualification.allow_another(membership=member, actor=request.user)
        return _("%(name)s can try again.") % {"name": member.user}

    return _done(request, allow, "quality", slug)


@require_POST
def let_through(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Let a rater judge real items without having passed."""
    member = get_member(request, slug, pk)

    def let() -> str:
        qualification.let_through(membership=member, actor=request.user)
        return _("%(name)s gets real items from now on.") % {"name": member.user}

    return _done(request, let, "quality", slug)


def _done(request: SignedInRequest, act: Callable[[], str], page: str, *where: object) -> HttpResponse:
    """Do it, say what came of it, and go back to a page."""
    try:
        messages.success(request, act())
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect(page, *where)


def _keys(project: Project) -> list[tuple[str, list[AnswerKey]]]:
    """Keys by use, each with how many judgements it was held against and how far these agree."""
    accepted = Q(checks__contest__state=Contest.State.ACCEPTED)
    found = (
        AnswerKey.objects.filter(item__project=project)
        .select_related("item__prompt", "revision__judgement__rater")
        .annotate(n=Count("checks", filter=~accepted), mean=Avg("checks__agreement", filter=~accepted))
        .order_by("-active", "position", "pk")
    )
    return [(use, [key for key in found if key.use == use]) for use in AnswerKey.Use.values]


def _contests(project: Project) -> list[dict[str, object]]:
    """Open objections, the oldest first, each with the two judgements side by side."""
    criteria = list(project.criteria.order_by("position"))
    open_ones = Contest.objects.filter(check_result__key__item__project=project, state=Contest.State.OPEN)
    related = (
        "check_result__key__revision",
        "check_result__judgement__slot__item__prompt",
        "check_result__judgement__rater",
    )
    return [
        {"contest": contest, "comparison": answers.comparison(contest.check_result, criteria)}
        for contest in open_ones.select_related(*related).order_by("pk")
    ]
