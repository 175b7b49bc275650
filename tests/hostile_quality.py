"""Hostile texts where judgements are held against others: keys, objections, the qualification."""

from __future__ import annotations

from annotate.models import AnswerKey, Contest, Judgement, Project, Purpose, Slot, User
from annotate.services import checks, contests, keys
from annotate.services.claiming import claim
from annotate.services.guidelines import mark_read
from tests.annotate.factory import World
from tests.annotate.keyed import WRONG, answer, handed, member
from tests.hostile import TEXTS

PASS_MARK = 0.9


def prepare(stage: World) -> None:
    """Make each of Bob's judgements a key, which one rater contests, and have another one about to qualify."""
    objector, newcomer = (member(stage, name) for name in ("objector", "newcomer"))
    mark_read(user=newcomer, guideline=stage.project.guidelines.get())
    judged = Judgement.objects.filter(rater=stage.bob).order_by("pk")
    for text, judgement in zip(TEXTS, judged, strict=False):
        key = keys.make(judgement=judgement, use=AnswerKey.Use.GOLD, explanation=text, actor=stage.alice)
        answer(handed(key.item, Purpose.GOLD, objector), WRONG, rationale=text)
    checks.reveal(user=objector, project=stage.project)
    for text, check in zip(reversed(TEXTS), checks.revealed_gold(user=objector, project=stage.project), strict=False):
        contests.contest(check=check, reason=text[: contests.LONGEST].strip() or "-", user=objector)
    for judgement in judged[:2]:
        keys.make(judgement=judgement, use=AnswerKey.Use.QUALIFY, explanation="-", actor=stage.alice)


def rename(text: str) -> None:
    """Make a text the explanation of every key, and every objection and reply."""
    AnswerKey.objects.update(explanation=text)
    Contest.objects.update(reason=text, reply=text)


def begin_qualification(stage: World) -> None:
    """Have raters qualify from now on; what the newcomer was given before goes back."""
    Project.objects.filter(pk=stage.project.pk).update(pass_mark=PASS_MARK)
    held = Slot.objects.filter(rater__username="newcomer", state=Slot.State.LEASED)
    held.update(state=Slot.State.FREE, rater=None, lease_expires_at=None, ahead=False)


def judge_next(stage: World, text: str) -> None:
    """Have the newcomer judge the next item of the qualification the wrong way round, with a text as the reason."""
    slot = claim(user=User.objects.get(username="newcomer"), project=Project.objects.get(pk=stage.project.pk))
    assert slot is not None
    assert slot.purpose == Purpose.QUALIFY
    answer(slot, WRONG, rationale=text)
