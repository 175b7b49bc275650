"""Making a project, and stopping and going on with its queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from pydantic import ValidationError

from annotate.models import Criterion, Generation, GuidelineVersion, Membership, Norm, NormVersion, Project, User
from annotate.services import Refused, audit, files
from annotate.services.description import ProjectDescription, criterion_fields
from rewardmodel.publish import BrokenFolder, verify

DEFAULT_MODEL = "SmolLM2-135M-Instruct"


def default_model() -> Path:
    """Folder of the model that comes with Hone."""
    return Path(settings.MODELS_DIR) / DEFAULT_MODEL


def create_project(
    *, description: ProjectDescription, base_model: str, actor: User | None, slug: str | None = None, **fields: Any
) -> Project:
    """Make a project with its first guideline, its criteria, its norms and generation 0; its maker leads it.

    :param base_model: folder of the model that is generation 0, absolute or relative to the data folder.
    :param slug: another slug than the description's own.
    :param fields: of :class:`~annotate.models.Project`, where they differ from the description.
    :raises Refused: when the slug is taken or the model folder will not do.
    """
    slug = slug or description.slug
    folder = files.check_model_folder(base_model)
    with transaction.atomic():
        project, new = Project.objects.get_or_create(
            slug=slug,
            defaults={"base_model": files.stored(folder), "created_by": actor, **description.fields(), **fields},
        )
        if not new:
            raise Refused(_("There is a project %(slug)s already.") % {"slug": slug}, place="slug")
        GuidelineVersion.objects.create(
            project=project,
            number=1,
            text=description.instructions,
            created_by=actor,
            translations=description.instructions_in_languages(),
        )
        Criterion.objects.bulk_create(
            Criterion(project=project, position=position, **criterion_fields(criterion))
            for position, criterion in enumerate(description.criteria)
        )
        norms = Norm.objects.bulk_create(Norm(project=project, name=norm.name) for norm in description.norms)
        NormVersion.objects.bulk_create(
            NormVersion(norm=norm, number=1, text=described.text)
            for norm, described in zip(norms, description.norms, strict=True)
        )
        Generation.objects.create(
            project=project,
            number=0,
            weights_path=files.stored(folder),
            manifest_sha256=manifest_of(folder),
            how_made={"method": "base model"},
            state=Generation.State.PROMOTED,
        )
        if actor is not None and not actor.is_superuser:
            Membership.objects.create(user=actor, project=project, role=Membership.Role.LEAD)
        audit.record("created", project, actor=actor, project=project)
    return project


def create_plain_project(*, slug: str, actor: User | None) -> Project:
    """Make a project that says nothing special, on the model that comes with Hone: data want a place to be.

    :raises Refused: when the slug will not do or is taken, or the model is not there.
    """
    described = {"slug": slug, "name": slug, "instructions": _("Rank the answers: the more helpful one goes first.")}
    try:
        description = ProjectDescription.model_validate(described)
    except ValidationError as problem:
        raise Refused(
            _("%(slug)s cannot be the name of a project in addresses: letters, digits, - and _ will do.")
            % {"slug": slug},
            place="slug",
        ) from problem
    return create_project(description=description, base_model=files.stored(default_model()), actor=actor)


def manifest_of(folder: Path) -> str:
    """SHA-256 of a model folder's manifest; empty for a folder from elsewhere, which carries none of ours."""
    try:
        return verify(folder)
    except BrokenFolder:
        return ""


def pause(*, project: Project, actor: User) -> None:
    """Hand out no items any more; those in hand can be finished.

    :raises Refused: when it is paused already.
    """
    with transaction.atomic():
        if not Project.objects.filter(pk=project.pk, paused_at__isnull=True).update(paused_at=Now()):
            raise Refused(_("The project is paused already."))
        audit.record("paused", project, actor=actor, project=project)


def resume(*, project: Project, actor: User) -> None:
    """Hand out items again.

    :raises Refused: when it is not paused.
    """
    with transaction.atomic():
        if not Project.objects.filter(pk=project.pk, paused_at__isnull=False).update(paused_at=None):
            raise Refused(_("The project is not paused."))
        audit.record("resumed", project, actor=actor, project=project)
