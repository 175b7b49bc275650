"""What an archive holds: one entry for each kind of row, in the order in which they are restored.

All columns of a kind are kept except those that it names with the reason why not. Every model is either here or in
:data:`LEFT_OUT`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Case, Expression, F, Model, PositiveBigIntegerField, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce

from annotate import models as records
from annotate.models import Import, Project, Run, Slot

ACTIVE_RUN = Q(state__in=[Run.State.QUEUED, Run.State.RUNNING])
HELD = Q(state=Slot.State.LEASED)
ABOUT_ARCHIVES = ("archived", "asked for archive", "restored")
"""What the trail says of archives themselves, which belongs to the site where it happened."""


@dataclass(frozen=True)
class Kind:
    """Rows of one model that belong to a project."""

    name: str
    """Of the member, without folder and ending."""
    model: type[Model]
    project: str
    """Path from the model to the project; empty for the project itself."""
    numbered: bool = True
    """Whether others refer to its rows, so that they keep their numbers, moved by a constant where need be."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Columns that are not kept, with the reason; restored rows have their defaults."""
    instead: Mapping[str, Expression | F | Case] = field(default_factory=dict)
    """What is kept in place of a column's value."""
    numbers_in: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Columns of JSON or of arrays that hold numbers of other rows: by their key ("" for all), the kind of those."""
    shapes: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    """Whether JSON that every page reads has the form that they count on."""
    order: tuple[str, ...] = ("pk",)
    only: Q = field(default_factory=Q)

    @property
    def member(self) -> str:
        """Name of its member of the archive."""
        return f"rows/{self.name}.jsonl"

    @property
    def label(self) -> str:
        """Name of its model, by which numbers are told apart."""
        return self.model._meta.model_name or ""

    def rows(self, project: Project) -> QuerySet[Any]:
        """A project's rows of the kind, in their order."""
        path = f"{self.project}__pk" if self.project else "pk"
        return self.model._default_manager.filter(self.only, **{path: project.pk}).order_by(*self.order)


def _over(fallback: Any, when: Q, otherwise: str) -> Case:
    return Case(When(when, then=fallback), default=F(otherwise))


def _is_chat(value: Any) -> bool:
    parts = ("role", "content")
    return isinstance(value, list) and all(
        isinstance(message, dict) and all(isinstance(message.get(part), str) for part in parts) for message in value
    )


def _are_anchors(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(word, str) for word in value.values())


_REVISION = "revision__judgement__slot__project"

PROJECT = Kind("project", records.Project, "")
KINDS: tuple[Kind, ...] = (
    PROJECT,
    Kind("guidelines", records.GuidelineVersion, "project"),
    Kind("criteria", records.Criterion, "project", shapes={"anchors": _are_anchors}),
    Kind("norms", records.Norm, "project"),
    Kind("norm_versions", records.NormVersion, "norm__project"),
    Kind("memberships", records.Membership, "project"),
    Kind("readings", records.GuidelineReading, "guideline__project", numbered=False),
    Kind(
        "imports",
        records.Import,
        "project",
        left_out={
            "attempt": "work on it ends with the site",
            "heartbeat_at": "work on it ends with the site",
            "progress": "work on it ends with the site",
        },
        instead={
            # Uploaded files stay behind, so what was not written yet never will be.
            "state": Case(
                When(state=Import.State.UNDOING, then=Value(Import.State.DONE)),
                When(
                    state__in=[Import.State.CHECKING, Import.State.READY, Import.State.WRITING],
                    then=Value(Import.State.DISCARDED),
                ),
                default=F("state"),
            ),
            "first_number": Coalesce("first_number", "pk", output_field=PositiveBigIntegerField()),
        },
    ),
    Kind("prompts", records.Prompt, "project", shapes={"messages": _is_chat}),
    Kind("snapshots", records.Snapshot, "project"),
    Kind(
        "runs",
        records.Run,
        "project",
        order=("created_at", "pk"),
        left_out={
            "cancel_requested": "work on it ends with the site",
            "heartbeat_at": "work on it ends with the site",
        },
        instead={
            "state": _over(Value(Run.State.CANCELLED), ACTIVE_RUN, "state"),
            "finished_at": _over(Coalesce("heartbeat_at", "created_at"), ACTIVE_RUN, "finished_at"),
        },
    ),
    Kind(
        "run_events",
        records.RunEvent,
        "run__project",
        numbered=False,
        numbers_in={"metrics": {"examples": "prompt"}},
        order=("run__created_at", "run__pk", "attempt", "sequence"),
    ),
    Kind("generations", records.Generation, "project", numbers_in={"gate": {"run": "run"}}),
    Kind("reward_models", records.RewardModel, "project"),
    Kind("evaluations", records.Evaluation, "project"),
    Kind("evaluation_raters", records.EvaluationRater, "evaluation__project", numbered=False),
    Kind("completions", records.Completion, "prompt__project"),
    Kind("items", records.Item, "project"),
    Kind("item_completions", records.ItemCompletion, "item__project", numbered=False),
    Kind(
        "slots",
        records.Slot,
        "project",
        left_out={"lease_expires_at": "leases end with the site", "ahead": "leases end with the site"},
        instead={
            "state": _over(Value(Slot.State.FREE), HELD, "state"),
            "rater": _over(Value(None), HELD, "rater"),
        },
    ),
    Kind("leases", records.Lease, "slot__project", numbered=False),
    Kind("skips", records.Skip, "slot__project", numbered=False),
    Kind(
        "submissions",
        records.Submission,
        "slot__project",
        order=("slot__pk", "created_at", "pk"),
        numbers_in={
            "payload": {"scores": "completion criterion", "norms": "completion normversion"}
            | dict.fromkeys(("ranks", "edits", "flags"), "completion")
        },
    ),
    Kind("judgements", records.Judgement, "slot__project"),
    Kind(
        "revisions",
        records.JudgementRevision,
        "judgement__slot__project",
        numbers_in={"order_shown": {"": "completion"}},
    ),
    Kind("scores", records.Score, _REVISION, numbered=False),
    Kind("ranks", records.Rank, _REVISION, numbered=False),
    Kind("edits", records.Edit, _REVISION, numbered=False),
    Kind("norm_verdicts", records.NormVerdict, _REVISION, numbered=False),
    Kind("flags", records.Flag, _REVISION, numbered=False),
    Kind("keys", records.AnswerKey, "item__project"),
    Kind("checks", records.Check, "judgement__slot__project"),
    Kind("contests", records.Contest, "check_result__judgement__slot__project"),
    Kind("comparisons", records.Comparison, "project"),
    Kind("ranked_lists", records.RankedList, "project"),
    Kind("ranked_answers", records.RankedAnswer, "ranked_list__project", numbered=False),
    Kind("demonstrations", records.Demonstration, "project"),
    Kind("signals", records.Signal, "project", numbered=False),
    Kind("snapshot_revisions", records.SnapshotRevision, "snapshot__project", numbered=False),
    Kind("snapshot_comparisons", records.SnapshotComparison, "snapshot__project", numbered=False),
    Kind("snapshot_ranked_lists", records.SnapshotRankedList, "snapshot__project", numbered=False),
    Kind("snapshot_demonstrations", records.SnapshotDemonstration, "snapshot__project", numbered=False),
    Kind(
        "audit_events",
        records.AuditEvent,
        "project",
        numbered=False,
        only=~Q(action__in=ABOUT_ARCHIVES),
        numbers_in={"data": {"judgement": "judgement"}},
    ),
)
CYCLE_ENDS = "reward_models"
"""Until then rows refer to rows that come later: runs to what they learn from, and what they make to them."""
PEOPLE = "rows/users.jsonl"
"""The accounts that rows refer to, which are told by name and need no table."""
OF_PEOPLE = ("username", "first_name", "last_name", "kind", "date_joined")
"""What is kept of an account."""
LEFT_OUT: Mapping[type[Model], str] = {
    records.Aggregate: "computed again",
    records.BackgroundTask: "work on it ends with the site",
    records.Draft: "what somebody was typing",
    records.Invite: "links into the site where it was made",
    records.InviteUse: "links into the site where it was made",
    records.Origin: "how the site that it is restored into numbers its rows",
    records.RaterFigures: "counted again",
    records.RewardModelReport: "measured again",
    records.SignInTry: "belongs to the site",
    records.Tally: "counted again",
}
"""Models whose rows stay behind, with the reason."""
PEOPLE_LEFT_OUT = {
    **dict.fromkeys(("id", "password", "last_login", "email"), "belongs to the person and the site"),
    **dict.fromkeys(("is_active", "is_staff", "is_superuser"), "a right on the site"),
}
"""Columns of accounts that stay behind, with the reason; the number of each is kept beside its row."""
