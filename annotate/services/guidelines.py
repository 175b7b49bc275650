"""A project's instructions: publishing a new version, and who has read which."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Subquery
from django.db.models.functions import Coalesce

from annotate.models import GuidelineReading, GuidelineVersion, JudgementRevision, Project, User


@dataclass(frozen=True)
class Reading:
    """What a rater is to read before they go on.

    :param guideline: the newest version.
    :param known: the version that they read last; None on their first visit.
    """

    guideline: GuidelineVersion
    known: GuidelineVersion | None


def to_read(*, user: User, project: Project) -> Reading | None:
    """The instructions that are to be put before the rater; None where they know all that must be read."""
    versions = list(
        project.guidelines.order_by("-number").annotate(
            read=Exists(GuidelineReading.objects.filter(guideline=OuterRef("pk"), user=user))
        )
    )
    known = next((version for version in versions if version.read), None)
    unread = versions if known is None else versions[: versions.index(known)]
    if any(version.must_read for version in unread) or (unread and known is None):
        return Reading(versions[0], known)
    return None


def mark_read(*, user: User, guideline: GuidelineVersion) -> None:
    """Note that a rater has read a version of the instructions; a second time changes nothing."""
    GuidelineReading.objects.bulk_create([GuidelineReading(user=user, guideline=guideline)], ignore_conflicts=True)


def publish(
    *, project: Project, text: str, translations: dict[str, Any], must_read: bool, actor: User
) -> GuidelineVersion:
    """Add a version, in the caller's transaction, which holds the project's row."""
    newest = project.guidelines.order_by("-number").first()
    return GuidelineVersion.objects.create(
        project=project,
        number=newest.number + 1 if newest else 1,
        text=text,
        translations=translations,
        must_read=must_read,
        created_by=actor,
    )


def to_be_read(project: Project) -> list[int]:
    """Numbers of the versions that raters had to read, in order."""
    return list(project.guidelines.filter(must_read=True).order_by("number").values_list("number", flat=True))


def version_in_force(guideline: GuidelineVersion | None, versions: Sequence[int]) -> int:
    """The version under which somebody judged, 0 for none; small corrections since are the same instructions.

    :param guideline: the version that they had read.
    :param versions: those that had to be read.
    """
    known = bisect_right(versions, guideline.number) if guideline else 0
    return versions[known - 1] if known else 0


def known_at(judgement: str, version: str) -> Coalesce:
    """For a query: the number of the version that the rater of a judgement as it is now had read, 0 for none.

    :param judgement: the path from a row to the judgement's key.
    :param version: the path to the judgement's version.
    """
    revision = JudgementRevision.objects.filter(judgement=OuterRef(judgement), number=OuterRef(version))
    return Coalesce(Subquery(revision.values("guideline__number")), 0)
