"""Making a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Criterion, Generation, GuidelineVersion, Membership, Project, User
from annotate.services import Refused, audit, files
from annotate.services.description import ProjectDescription
from rewardmodel.publish import BrokenFolder, verify

DEFAULT_MODEL = "SmolLM2-135M-Instruct"


def default_model() -> Path:
    """Folder of the model that comes with Hone."""
    return Path(settings.MODELS_DIR) / DEFAULT_MODEL


def create_project(
    *, description: ProjectDescription, base_model: str, actor: User | None, slug: str | None = None, **fields: Any
) -> Project:
    """Make a project with its first guideline, its criteria and generation 0; its maker leads it.

    :param base_model: folder of the model that is generation 0, absolute or relative to the data folder.
    :param slug: another slug than the description's own.
    :param fields: of :class:`~annotate.models.Project`, where they differ from the description.
    :raises Refused: when the slug is taken or the model folder will not do.
    """
    slug = slug or description.slug
    folder = files.check_model_folder(base_model)
    if Project.objects.filter(slug=slug).exists():
        raise Refused(_("There is a project %(slug)s already.") % {"slug": slug}, place="slug")
    try:
        manifest = verify(folder)
    except BrokenFolder:
        manifest = ""  # a folder from elsewhere carries no manifest of ours
    renderings = {language: text.model_dump() for language, text in description.translations.items()}
    with transaction.atomic():
        project = Project.objects.create(
            slug=slug,
            base_model=files.stored(folder),
            created_by=actor,
            translations={
                language: {field: text[field] for field in ("name", "description")}
                for language, text in renderings.items()
            },
            **(description.fields() | fields),
        )
        GuidelineVersion.objects.create(
            project=project,
            number=1,
            text=description.instructions,
            created_by=actor,
            translations={language: {"text": text["instructions"]} for language, text in renderings.items()},
        )
        Criterion.objects.bulk_create(
            Criterion(project=project, position=position, **criterion.model_dump())
            for position, criterion in enumerate(description.criteria)
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
