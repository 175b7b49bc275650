"""A project in which every text that somebody can write is hostile, and the pages that show them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import urlencode

from django.contrib import admin
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from annotate.models import (
    AuditEvent,
    Completion,
    Criterion,
    GuidelineVersion,
    Item,
    Judgement,
    Membership,
    Norm,
    NormVersion,
    Project,
    Run,
    Snapshot,
    Submission,
    User,
)
from annotate.services import audit, drafts, invites
from annotate.services.claiming import claim, shown_order, skip
from annotate.services.items import make_collect_items
from annotate.services.judging import submit
from annotate.services.prompts import PromptRow, add_prompts
from tests import hostile_quality
from tests.annotate.factory import World, run, user, world
from tests.hostile import TEXTS

K = 4
"""Answers of an item, messages of a prompt, versions of a judgement: each text comes once as each."""
ECHOED = TEXTS[:40]
"""Texts that are sent in addresses, for pages that repeat what was searched for."""


SEARCHES = (("prompts", "q"), ("prompts", "tag"), ("judgements", "rater"), ("history", "who"), ("mine", "q"))
RENAMED = TEXTS[::8]
"""Texts that stand for the project's own on pages that are made of those."""


@dataclass(frozen=True)
class Visit:
    """A page to look at: who looks, and which text stands there for the project's own fields."""

    person: str
    path: str
    text: str


def prepare() -> World:
    """Write every text into every field that takes it, by the services where they take such texts."""
    stage = world(prompts=0, norms_on=True)
    NormVersion.objects.create(norm=Norm.objects.create(project=stage.project, name="-"), number=1, text="-")
    with transaction.atomic():
        user("root", is_superuser=True, is_staff=True)
        _answers(stage)
        _skips(stage)
        _judgements(stage)
        hostile_quality.prepare(stage)
        _runs(stage)
        _names(stage)
    return stage


def _fours() -> Iterator[Sequence[str]]:
    for start in range(0, len(TEXTS), K):
        yield TEXTS[start : start + K]


def _answers(stage: World) -> None:
    roles = ("system", "user", "assistant", "user")
    rows = [
        PromptRow(
            [{"role": role, "content": text} for role, text in zip(roles, four, strict=True)],
            reference=four[0],
            tags=tuple(text[:50] for text in four),
            split="train",
        )
        for four in _fours()
    ]
    add_prompts(project=stage.project, rows=rows, actor=stage.alice)
    made_by = run(stage.project, "generate", generation=stage.generation)
    Completion.objects.bulk_create(
        Completion(
            prompt=prompt,
            generation=stage.generation,
            sample=sample,
            run=made_by,
            text=text,
            token_count=8,
            finish_reason="stop",
            engine="transformers",
            engine_version="5",
        )
        for prompt, four in zip(stage.project.prompts.order_by("pk"), _fours(), strict=True)
        for sample, text in enumerate(four)
    )
    make_collect_items(project=stage.project, generation=stage.generation)


def _skips(stage: World) -> None:
    for number in range(K):
        rater = user(f"skipper{number}")
        Membership.objects.create(user=rater, project=stage.project, role=Membership.Role.RATER)
        for text in TEXTS[number::K]:
            slot = claim(user=rater, project=stage.project)
            assert slot is not None
            skip(user=rater, slot=slot, reason=text[:400] if text.strip() else "empty")


def _judgements(stage: World) -> None:
    """Bob judges half of the items in as many versions as it has answers; the others stay, to be rated."""
    items = list(Item.objects.order_by("pk"))
    version_of_norm = NormVersion.objects.get().pk
    for number in range(len(items) // 2):
        slot = claim(user=stage.bob, project=stage.project)
        assert slot is not None
        order = shown_order(slot)
        for version in range(K):
            texts = [TEXTS[(2 * K * number + K * (version % 2) + place) % len(TEXTS)] for place in range(K)]
            raw = {
                "ranks": {str(pk): place for place, pk in enumerate(order, start=1)},
                "edits": {str(pk): f"{text}\nedited {version}" for pk, text in zip(order, texts, strict=True)},
                "norms": {
                    str(pk): {str(version_of_norm): {"verdict": "violate", "quote": shown[:500]}}
                    for pk, shown in slot.shown.items()
                },
                "flags": {str(pk): text[:500] for pk, text in zip(order, texts, strict=True)},
                "rationale": texts[version % K][:10_000],
            }
            submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw, version=version or None)
        Submission.objects.create(
            uuid=uuid.uuid4(),
            slot=slot,
            rater=stage.alice,
            payload={text: text for text in TEXTS[2 * K * number : 2 * K * (number + 1)]},
            payload_sha256="0" * 64,
            outcome=Submission.Outcome.LATE,
        )


def _runs(stage: World) -> None:
    half = len(TEXTS) // 2
    for error, log in zip(TEXTS[:half], TEXTS[half:], strict=True):
        run(
            stage.project,
            "generate",
            state=Run.State.FAILED,
            error=error,
            log_tail=log,
            job={log[:50]: error},
            progress={"stage": error[:40], "message": log},
            started_at=timezone.now(),
            finished_at=timezone.now(),
        )


def _names(stage: World) -> None:
    projects = Project.objects.bulk_create(
        Project(slug=f"h{number}", name=text[:200] or "-", description=text, base_model="x")
        for number, text in enumerate(TEXTS)
    )
    Membership.objects.bulk_create(Membership(user=stage.alice, project=project, role="lead") for project in projects)
    people = User.objects.bulk_create(User(username=text[:150], password="!") for text in TEXTS)
    Membership.objects.bulk_create(Membership(user=person, project=stage.project, role="rater") for person in people)
    Snapshot.objects.bulk_create(
        Snapshot(
            project=stage.project, name=text[:80], sha256=f"{number:064x}", recipe={"q": text}, counts={"pairs": 1}
        )
        for number, text in enumerate(TEXTS)
    )
    for text, person in zip(TEXTS, people, strict=True):
        audit.record(text[:60], stage.project, actor=person, project=stage.project, **{"note": text})


def visits(stage: World) -> Iterator[Visit]:
    """Every page that shows any of it; the project's own texts change from visit to visit."""
    token = invites.create(project=stage.project, actor=stage.alice, role="rater", days=1, max_uses=1)[1]
    texts = cycle(TEXTS)
    lists = {"prompts": 2, "judgements": 2, "runs": 5, "history": -(-AuditEvent.objects.count() // 25), "members": 1}
    for name, pages in {"project": 1, "loop": 1, "rate": 1, **lists}.items():
        for page in range(1, pages + 1):
            yield Visit("alice", f"{reverse(name, args=['garden'])}?page={page}", next(texts))
    for text in RENAMED:
        for person, name in (("alice", "quality"), ("alice", "settings"), ("bob", "mine"), ("objector", "mine")):
            yield Visit(person, reverse(name, args=["garden"]), text)
    yield Visit("bob", f"{reverse('mine', args=['garden'])}?page=2", next(texts))
    for path in (reverse("home"), reverse("account"), reverse("join", args=[token])):
        yield Visit("alice", path, next(texts))
    for name, keys in (
        ("prompt", stage.project.prompts.values_list("pk", flat=True)),
        ("judgement", Judgement.objects.values_list("pk", flat=True)),
        ("completion", Completion.objects.values_list("pk", flat=True)[:: 2 * K]),
        ("run", stage.project.runs.values_list("pk", flat=True)),
        ("snapshot", stage.project.snapshots.values_list("pk", flat=True)[:3]),
        ("generation", [0]),
    ):
        for key in keys:
            yield Visit("alice", reverse(name, args=["garden", key]), next(texts))
    for (name, field), text in zip(cycle(SEARCHES), ECHOED, strict=False):
        query = urlencode({field: text[:300]})
        yield Visit("alice", f"{reverse(name, args=['garden'])}?{query}", text)
    for model in admin.site._registry:
        yield Visit("root", reverse(f"admin:annotate_{model._meta.model_name}_changelist"), next(texts))
        if (first := model._default_manager.first()) is not None:
            yield Visit(
                "root", reverse(f"admin:annotate_{model._meta.model_name}_change", args=[first.pk]), next(texts)
            )


def rename(text: str) -> None:
    """Make a text the project's name, description, instructions, criterion and norm."""
    shared = {"description": text, "translations": {}}
    Project.objects.filter(slug="garden").update(name=text[:200] or "-", **shared)
    anchors = {str(value): text[:200] for value in range(1, 6)}
    Criterion.objects.update(name=text[:80] or "-", anchors=anchors, **shared)
    GuidelineVersion.objects.update(text=text)
    Norm.objects.update(name=text[:120] or "-")
    NormVersion.objects.update(text=text)
    hostile_quality.rename(text)


def keep_draft(stage: World, text: str) -> bool:
    """Make a text Bob's draft of the item that he is at; False when he has none."""
    slot = claim(user=stage.bob, project=stage.project)
    if slot is None:
        return False
    answer = {"rationale": text[:10_000], "edits": {"A": text}, "flags": {"B": text[:500]}}
    drafts.keep(user=stage.bob, slot=slot, typed=drafts.Typed(1, 0, uuid.uuid4(), 0, answer))
    return True


def hand_out_another(stage: World) -> None:
    """Take Bob's item from him, so that he is given another."""
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    skip(user=stage.bob, slot=slot, reason="seen")


def rationale(stage: World, text: str) -> None:
    """Make a text the rationale of Bob's last answer, as a new version of it."""
    judgement = Judgement.objects.filter(rater=stage.bob).select_related("slot").latest("updated_at")
    order = shown_order(judgement.slot)
    raw = {"ranks": {str(pk): 1 for pk in order}, "edits": {str(order[0]): f"{text}\nedited"}, "rationale": text}
    submit(user=stage.bob, slot=judgement.slot, uuid=uuid.uuid4(), raw=raw, version=judgement.version)
