"""Changing a project that is in use: nothing that was judged loses its meaning, and no lead overwrites another unseen.

The form carries a stamp of each part as it was when it was opened. A part whose stamp is not that of
the stored part any more was changed meanwhile by somebody else; where the form would put something
else in its place, nothing is stored and the lead is shown both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Completion, Criterion, Norm, NormVersion, Project, User
from annotate.services import Conflict, Refused, audit, files, guidelines
from annotate.services.description import ProjectDescription, criterion_fields, describe, filled
from annotate.services.projects import manifest_of

Record = TypeVar("Record", Criterion, Norm)
Parts = dict[str, Any]
"""Values of a project's parts by name; one name for each place of the form."""


class ChangedMeanwhile(Conflict):
    """Somebody else changed parts that this change would overwrite.

    :param parts: their names.
    :param mine: those among them that this change was meant to change too.
    """

    def __init__(self, parts: list[str], mine: list[str]) -> None:
        super().__init__(_("Somebody else changed these settings meanwhile; nothing of yours is stored yet."))
        self.parts = parts
        self.mine = mine


def parts_of(project: Project) -> Parts:
    """The project's parts as they are stored."""
    return {**_parts(describe(project)), "base_model": project.base_model}


def stamps(parts: Parts) -> dict[str, str]:
    """A short hash of each part."""
    return {name: _stamp(value) for name, value in parts.items()}


def is_model_fixed(project: Project) -> bool:
    """Whether something was made with the base model, so that another one would be another project."""
    return project.runs.exists() or Completion.objects.filter(generation__project=project).exists()


def change_project(
    *,
    project: Project,
    description: ProjectDescription,
    base_model: str,
    criteria: Sequence[int | None],
    norms: Sequence[int | None],
    must_read: bool,
    seen: Mapping[str, str],
    actor: User,
) -> list[str]:
    """Change the settings of a project.

    Criteria and norms that are left out are retired, never deleted; one that is added under the name of
    a retired one brings that back. Another text of the instructions or of a norm makes a new version.

    :param base_model: folder of generation 0, absolute or relative to the data folder.
    :param criteria: for each criterion of the description the number of the stored one that it is; None for a new one.
    :param norms: the same for norms.
    :param must_read: whether raters are shown new instructions before they go on.
    :param seen: :func:`stamps` of the parts as they were when the lead began to change them.
    :returns: names of the parts that were changed; none where everything was so already.
    :raises ChangedMeanwhile: when somebody else changed one of the parts to something else.
    :raises Refused: when a part cannot be changed so.
    """
    with transaction.atomic():
        # A run that is launched in this very moment may still be given the model from before.
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if description.slug != locked.slug:
            raise Refused(_("The name in addresses stays: links that people have would break."), place="slug")
        folder = files.located(base_model)
        stored = parts_of(locked)
        wanted = {**_parts(description.model_dump()), "base_model": files.stored(folder)}
        changed = [name for name in wanted if wanted[name] != stored[name]]
        if overtaken := [name for name in changed if seen.get(name) != _stamp(stored[name])]:
            raise ChangedMeanwhile(overtaken, [name for name in overtaken if seen.get(name) != _stamp(wanted[name])])
        if not changed:
            return []
        if "base_model" in changed:
            _change_model(locked, base_model)
        for name, value in description.fields().items():
            setattr(locked, name, value)
        locked.save()
        texts = description.instructions_in_languages()
        newest = locked.guidelines.order_by("-number").first()
        if newest is None or (newest.text, newest.translations) != (description.instructions, texts):
            guidelines.publish(
                project=locked, text=description.instructions, translations=texts, must_read=must_read, actor=actor
            )
        _write_criteria(locked, description, criteria)
        _write_norms(locked, description, norms)
        audit.record("changed", locked, actor=actor, project=locked, fields=changed)
    return changed


def _stamp(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _parts(described: Mapping[str, Any]) -> Parts:
    """A description's parts in one canonical form, so that equal ones compare equal."""
    parts = {name: value for name, value in described.items() if name not in ("slug", "protocol", "sampling")}
    criteria = [{**c, "translations": filled(c["translations"].items())} for c in described["criteria"]]
    return {
        **parts,
        **{f"{name}_on": on for name, on in described["protocol"].items()},
        **described["sampling"],
        "translations": filled(described["translations"].items()),
        "criteria": criteria,
    }


def _change_model(project: Project, base_model: str) -> None:
    if is_model_fixed(project):
        raise Refused(_("The model has been at work here already: it stays."), place="base_model")
    folder = files.check_model_folder(base_model)
    project.base_model = files.stored(folder)
    project.generations.filter(number=0).update(
        weights_path=project.base_model, manifest_sha256=manifest_of(folder), how_made={"method": "base model"}
    )


def _write_criteria(project: Project, description: ProjectDescription, keys: Sequence[int | None]) -> None:
    wanted = [criterion.name for criterion in description.criteria]
    records = _matched(project, Criterion, wanted, keys, "criteria")
    for position, (record, criterion) in enumerate(zip(records, description.criteria, strict=True)):
        for name, value in criterion_fields(criterion).items():
            setattr(record, name, value)
        record.position, record.active = position, True
        record.save()
    project.criteria.exclude(pk__in=[record.pk for record in records]).update(active=False)


def _write_norms(project: Project, description: ProjectDescription, keys: Sequence[int | None]) -> None:
    records = _matched(project, Norm, [norm.name for norm in description.norms], keys, "norms")
    for record, norm in zip(records, description.norms, strict=True):
        record.name, record.active = norm.name, True
        record.save()
        newest = record.versions.order_by("-number").first()
        if newest is None or newest.text != norm.text:
            number = newest.number + 1 if newest else 1
            NormVersion.objects.create(norm=record, number=number, text=norm.text)
    project.norms.exclude(pk__in=[record.pk for record in records]).update(active=False)


def _matched(
    project: Project, model: type[Record], names: Sequence[str], keys: Sequence[int | None], place: str
) -> list[Record]:
    """For each name the stored record that it stands for, or a new one.

    :raises Refused: when a record would take the name of a retired one.
    """
    stored = {record.pk: record for record in model.objects.filter(project=project)}
    loose = {record.name: record for record in stored.values() if record.pk not in keys}
    records = []
    for number, (name, key) in enumerate(zip(names, keys, strict=True)):
        if key in stored and name in loose:
            raise Refused(
                _("One of this name was retired: choose another name, or add it anew to bring that one back."),
                place=f"{place}-{number}-name",
            )
        records.append(stored.get(key) or loose.get(name) or model(project=project))  # type: ignore[arg-type]
    return records
