"""Every record of Hone. What must never happen is forbidden here, in the database."""

from annotate.models.audit import AuditEvent
from annotate.models.background import BackgroundTask
from annotate.models.content import (
    Completion,
    Criterion,
    Generation,
    GuidelineVersion,
    Item,
    ItemCompletion,
    Norm,
    NormVersion,
    Project,
    Prompt,
    Split,
)
from annotate.models.datasets import Comparison, Demonstration, Signal, Snapshot, SnapshotComparison, SnapshotRevision
from annotate.models.imports import Import
from annotate.models.judgements import (
    Draft,
    Edit,
    Flag,
    Judgement,
    JudgementRevision,
    Lease,
    NormVerdict,
    Purpose,
    Rank,
    Score,
    Skip,
    Slot,
    Submission,
)
from annotate.models.people import GuidelineReading, Invite, InviteUse, Membership, SignInTry, User
from annotate.models.quality import AnswerKey, Check, Contest
from annotate.models.runs import RewardModel, Run, RunEvent
from annotate.models.tallies import RaterFigures, Tally

__all__ = [
    "AnswerKey",
    "AuditEvent",
    "BackgroundTask",
    "Check",
    "Comparison",
    "Completion",
    "Contest",
    "Criterion",
    "Demonstration",
    "Draft",
    "Edit",
    "Flag",
    "Generation",
    "GuidelineReading",
    "GuidelineVersion",
    "Import",
    "Invite",
    "InviteUse",
    "Item",
    "ItemCompletion",
    "Judgement",
    "JudgementRevision",
    "Lease",
    "Membership",
    "Norm",
    "NormVerdict",
    "NormVersion",
    "Project",
    "Prompt",
    "Purpose",
    "Rank",
    "RaterFigures",
    "RewardModel",
    "Run",
    "RunEvent",
    "Score",
    "SignInTry",
    "Signal",
    "Skip",
    "Slot",
    "Snapshot",
    "SnapshotComparison",
    "SnapshotRevision",
    "Split",
    "Submission",
    "Tally",
    "User",
]
