"""Making a project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Criterion, Generation, GuidelineVersion, Membership, Project, User
from annotate.services import Refused, audit, files
from rewardmodel.rundir import BrokenFolder, verify

DEFAULT_MODEL = "SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class CriterionText:
    """A scoring criterion as a lead writes it."""

    name: str
    description: str
    anchors: dict[str, str]
    translations: dict[str, dict[str, Any]] = field(default_factory=dict)


def default_model() -> Path:
    """Folder of the model that comes with Hone."""
    return Path(settings.MODELS_DIR) / DEFAULT_MODEL


def create_project(
    *,
    slug: str,
    name: str,
    instructions: str,
    criteria: Sequence[CriterionText],
    base_model: str,
    actor: User | None,
    translations: dict[str, dict[str, str]] | None = None,
    guideline_translations: dict[str, dict[str, str]] | None = None,
    **protocol: Any,
) -> Project:
    """Make a project with its first guideline, its criteria and generation 0.

    :param base_model: folder of the model that is generation 0, absolute or relative to the data folder.
    :param protocol: other fields of :class:`~annotate.models.Project`, such as ``overlap`` or ``score_on``.
    :raises Refused: when the slug is taken or the model folder will not do.
    """
    folder = files.check_model_folder(base_model)
    if Project.objects.filter(slug=slug).exists():
        raise Refused(_("There is a project %(slug)s already.") % {"slug": slug}, place="slug")
    try:
        manifest = verify(folder)
    except BrokenFolder:
        manifest = ""  # a folder from elsewhere carries no manifest of ours
    with transaction.atomic():
        project = Project.objects.create(
            slug=slug,
            name=name,
            base_model=files.stored(folder),
            created_by=actor,
            translations=translations or {},
            **protocol,
        )
        GuidelineVersion.objects.create(
            project=project, number=1, text=instructions, created_by=actor, translations=guideline_translations or {}
        )
        Criterion.objects.bulk_create(
            Criterion(
                project=project,
                name=c.name,
                description=c.description,
                anchors=c.anchors,
                translations=c.translations,
                position=position,
            )
            for position, c in enumerate(criteria)
        )
        Generation.objects.create(
            project=project,
            number=0,
            weights_path=files.stored(folder),
            manifest_sha256=manifest,
            how_made={"method": "base model"},
            state=Generation.State.PROMOTED,
        )
        if actor is not None and not actor.is_superuser:
            Membership.objects.create(user=actor, project=project, role=Membership.Role.LEAD)
        audit.record("created", project, actor=actor, project=project)
    return project
