"""The qualification: items with known answers that a rater judges before any real ones.

In a project with a pass mark and active keys for it, every person who joined as a rater qualifies, those
included who judged before it was introduced; what they hold in hand they may finish. A key that is a
rater's own judgement is left out of their round. The result of a round is the mean agreement with its
keys; changes of the keys or the mark count at once for those who have not passed. Leads may let somebody
through, or allow another round.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import AnswerKey, Check, Membership, Project, Purpose, Slot, User
from annotate.services import Refused, audit, ondemand
from annotate.services.checks import COUNTING

CLOSE = 1e-9
"""Means of shares that are equal on paper may differ by this much."""


@dataclass(frozen=True)
class Trial:
    """A rater in the qualification."""

    membership: Membership
    keys: list[AnswerKey]
    """In their order."""
    checks: dict[int, Check]
    """Of the round, by key."""
    counting: list[float]
    """Agreements of the round that count."""
    pass_mark: float

    @property
    def answered(self) -> int:
        """Keys of the round whose items are judged."""
        return len(self.checks)

    @property
    def next_key(self) -> AnswerKey | None:
        """The first key whose item is still to be judged."""
        return next((key for key in self.keys if key.pk not in self.checks), None)

    @property
    def agreement(self) -> float | None:
        """Mean agreement of the round so far; None before there is any."""
        return sum(self.counting) / len(self.counting) if self.counting else None

    @property
    def passed(self) -> bool:
        """Whether every item is judged and the mean reaches the mark; where nothing is left that counts, it is."""
        return self.next_key is None and (self.agreement is None or self.agreement >= self.pass_mark - CLOSE)

    @property
    def failed(self) -> bool:
        """Whether every item is judged and the mean stays below the mark."""
        return self.next_key is None and not self.passed


def trial(*, user: User, project: Project) -> Trial | None:
    """Where the rater stands in the qualification; None when they need none, or none any more."""
    if project.pass_mark is None or user.kind != User.Kind.HUMAN:
        return None
    membership = Membership.objects.filter(
        user=user, project=project, role=Membership.Role.RATER, qualified_at__isnull=True
    ).first()
    return trial_of(membership, project) if membership else None


def trial_of(membership: Membership, project: Project) -> Trial | None:
    """The same for a membership of a rater who has not passed; None where there is nothing to qualify with."""
    if project.pass_mark is None:
        return None
    keys = list(active_keys(project).exclude(revision__judgement__rater=membership.user_id).select_related("item"))
    if not keys:
        return None
    of_round = Check.objects.filter(
        judgement__rater=membership.user_id, key__in=keys, round=membership.qualification_round
    )
    counting = list(of_round.filter(COUNTING).values_list("agreement", flat=True))
    return Trial(membership, keys, {c.key_id: c for c in of_round if c.key_id}, counting, project.pass_mark)


def active_keys(project: Project) -> QuerySet[AnswerKey]:
    """Keys of the qualification that are in use, in their order."""
    keys = AnswerKey.objects.filter(item__project=project, use=AnswerKey.Use.QUALIFY, active=True)
    return keys.order_by("position", "pk")


def settle(trial: Trial) -> bool:
    """Write down that a rater has passed; False while they have not."""
    if not trial.passed:
        return False
    Membership.objects.filter(pk=trial.membership.pk, qualified_at__isnull=True).update(qualified_at=Now())
    return True


def slot_for(trial: Trial) -> Slot | None:
    """The slot of the item that comes next in the round; None after the last one."""
    key, user = trial.next_key, trial.membership.user
    if key is None:
        return None
    made = Slot.objects.filter(
        item=key.item_id, purpose=Purpose.QUALIFY, reserved_for=user, state=Slot.State.FREE
    ).first()
    return made or ondemand.new_slot(item=key.item, purpose=Purpose.QUALIFY, rater=user)


def why_waiting(*, user: User, project: Project) -> str:
    """Why a rater who did not pass gets no items; empty for everybody else."""
    found = trial(user=user, project=project)
    if found is None or not found.failed:
        return ""
    return _(
        "The qualification was not passed this time. A lead can allow another try; it then appears here by itself."
    )


def allow_another(*, membership: Membership, actor: User) -> None:
    """Let a rater who did not pass try again, with the same items.

    :raises Refused: when they have passed, or are still at it.
    """
    with transaction.atomic():
        held = _not_passed(membership)
        found = trial_of(held, held.project)
        if found is None or not found.failed:
            raise Refused(_("%(name)s is still at work on this round.") % {"name": held.user})
        held.qualification_round += 1
        held.save(update_fields=["qualification_round"])
        audit.record(
            "allowed another try",
            held,
            actor=actor,
            project=held.project,
            user=held.user.username,
            round=held.qualification_round,
        )


def let_through(*, membership: Membership, actor: User) -> None:
    """Let a rater judge real items without having passed.

    :raises Refused: when they have passed.
    """
    with transaction.atomic():
        held = _not_passed(membership)
        Membership.objects.filter(pk=held.pk).update(qualified_at=Now())
        audit.record("let through", held, actor=actor, project=held.project, user=held.user.username)


def _not_passed(membership: Membership) -> Membership:
    held = Membership.objects.select_for_update(no_key=True, of=("self",)).select_related("user", "project")
    found = held.filter(pk=membership.pk, role=Membership.Role.RATER).first()
    if found is None:
        raise Refused(_("This person is not a rater of the project any more."))
    if found.qualified_at is not None:
        raise Refused(_("%(name)s has qualified already.") % {"name": found.user})
    return found
