"""A project in which everything has happened that an archive keeps."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone

from annotate.models import Item, Membership, Norm, NormVersion, Run, RunEvent, Slot, User
from annotate.services import contests, guidelines, imports
from annotate.services.claiming import claim, shown_order, skip
from annotate.services.judging import submit
from annotate.services.members import remove
from annotate.services.projects import pause, resume
from annotate.services.recipe import Recipe
from annotate.services.snapshots import create_snapshot
from tests.annotate.brought import PAIR, brought
from tests.annotate.factory import World, run, user, world
from tests.annotate.keyed import contested_key, member
from tests.annotate.lineage import ended, turn


def rich_project() -> World:
    """A project with a turn of the loop behind it, judgements of every kind, imports, and snapshots by every rule."""
    stage = world(prompts=12, overlap=3, norms_on=True)
    for number, text in enumerate(("Say what is true.", "Say what is so."), start=1):
        norm, _new = Norm.objects.get_or_create(project=stage.project, name="Honesty")
        NormVersion.objects.create(norm=norm, number=number, text=text)
    turn(stage)
    contest = contested_key(stage)
    Slot.objects.update(priority=0)
    dora, robot = member(stage, "dora"), user("robot", kind=User.Kind.SIMULATED)
    _judge_one_item(stage, [stage.bob, dora, stage.alice], robot)
    _be_late_and_hold_one(stage, dora)
    contests.decide(contest=contest, accept=True, reply="You are right.", retire=True, actor=stage.alice)
    _bring(stage)
    _run(stage)
    recipes = (
        Recipe(),
        Recipe(aggregation="majority", kinds=["human", "simulated"]),
        Recipe(aggregation="reliability"),
        Recipe(min_strength=1.0),
    )
    for number, recipe in enumerate(recipes):
        create_snapshot(project=stage.project, actor=stage.alice, name=f"rule {number}", recipe=recipe)
    guidelines.publish(project=stage.project, text="Be kind.", translations={}, must_read=True, actor=stage.alice)
    remove(membership=Membership.objects.get(project=stage.project, user=dora), actor=stage.alice)
    pause(project=stage.project, actor=stage.alice)
    resume(project=stage.project, actor=stage.alice)
    return stage


def _judge_one_item(stage: World, people: list[User], robot: User) -> None:
    """Ranks with ties, scores, an edit, a flag, verdicts, a reason; a second thought; "all are bad"; a program."""
    item = Item.objects.filter(purpose="collect", judgements=None, prompt__split="train").earliest("pk")
    Slot.objects.filter(item=item).update(priority=-(2**60))
    a, b, c, d = (str(pk) for pk in sorted(item.completions.values_list("pk", flat=True)))
    criterion, (old, new) = str(stage.criterion.pk), NormVersion.objects.order_by("pk")
    first: dict[str, Any] = {
        "ranks": {a: 2, b: 1, c: 2},
        "scores": {a: {criterion: 2}, d: {criterion: 5}},
        "edits": {c: " Better,\n\n你好 \u2028"},
        "flags": {d: "=1+1"},
        "norms": {a: {str(new.pk): {"verdict": "comply"}}, b: {str(new.pk): {"verdict": "violate", "quote": "Answer"}}},
        "rationale": "Because.",
        "active_ms": 1234,
    }
    slot = _judge(people[0], stage, {"both_bad": True})
    submit(user=people[0], slot=slot, uuid=uuid.uuid4(), raw=first, version=1)
    _judge(people[1], stage, {"ranks": {a: 1, b: 2, c: 3, d: 3}, "norms": {a: {str(new.pk): {"verdict": "na"}}}})
    _judge(people[2], stage, {"both_bad": True, "rationale": "None of them."})
    other = Item.objects.filter(purpose="collect", judgements=None, prompt__split="dev").earliest("pk")
    Slot.objects.filter(item=other).update(priority=-(2**60))
    e, f, *_rest = (str(pk) for pk in sorted(other.completions.values_list("pk", flat=True)))
    _judge(robot, stage, {"ranks": {e: 1, f: 2}})
    Membership.objects.create(user=robot, project=stage.project, role=Membership.Role.RATER)
    assert old.number < new.number


def _judge(rater: User, stage: World, raw: dict[str, Any]) -> Slot:
    slot = claim(user=rater, project=stage.project)
    assert slot is not None
    submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw)
    return slot


def _be_late_and_hold_one(stage: World, carol: User) -> None:
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    Slot.objects.filter(pk=slot.pk).update(rater=carol)
    raw = {"ranks": {str(pk): 1 for pk in shown_order(slot)}}
    assert submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw).outcome == "late"
    passed = claim(user=stage.alice, project=stage.project)
    assert passed is not None
    skip(user=stage.alice, slot=passed, reason="Too long.")
    assert claim(user=stage.alice, project=stage.project) is not None


def _bring(stage: World) -> None:
    """Imports: done, with pairs of a ranking, a label and a demonstration; undone; discarded; one that still waits."""
    ranking = {"prompt": "Rank.", "responses": ["one", "two", "three"], "ranks": [1, 2, 3]}
    label = {"prompt": "Good?", "completion": "Good.", "label": True}
    shown = {"prompt": "Show.", "completion": "So."}
    strong = {**PAIR, "strength": -1.5, "weight": 0.25}
    answers = [{"response": text, "score": score} for text, score in (("un", 1.0), ("deux", 4.5), ("trois", 2.0))]
    scored = {"instruction": "Score.", "completions": answers}
    for row in (PAIR, strong, ranking, scored, label, shown):
        done = brought(stage, row, source="lab", licence="MIT")
        imports.confirm(of=done, actor=stage.alice)
    undone = brought(stage, {**PAIR, "prompt": "Another?"})
    imports.confirm(of=undone, actor=stage.alice)
    undone.refresh_from_db()
    imports.take_back(of=undone, actor=stage.alice)
    imports.take_back(of=brought(stage, {**PAIR, "chosen": 4}), actor=stage.alice)
    brought(stage, {**PAIR, "prompt": "Who waits?"})


def _run(stage: World) -> None:
    """A run with progress that failed, and one at work."""
    failed = run(
        stage.project, error="It broke.", log_tail="…", result={"x": 1e-7, "y": 1e22}, **ended(Run.State.FAILED)
    )
    RunEvent.objects.create(
        run=failed, attempt=1, sequence=1, at=timezone.now(), stage="load", done=0.1, total=3, metrics={"loss": 0.1}
    )
    run(stage.project, "improve", state=Run.State.RUNNING, attempt=1, heartbeat_at=timezone.now())
