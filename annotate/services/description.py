"""A project as a file: what a lead writes down to make one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from annotate.models.content import MAX_COMPLETIONS, MIN_COMPLETIONS, Criterion, Project
from annotate.services import Refused

PROBLEMS_SHOWN = 5

Anchors = dict[Literal["1", "2", "3", "4", "5"], Annotated[str, Field(min_length=1)]]
"""Words for each value of a score."""


def _limit(model: type[Project | Criterion], field: str) -> int | None:
    length: int | None = model._meta.get_field(field).max_length  # type: ignore[union-attr]
    return length


Slug = Annotated[str, Field(pattern=r"^[-a-zA-Z0-9_]+$", max_length=_limit(Project, "slug"))]
ProjectName = Annotated[str, Field(min_length=1, max_length=_limit(Project, "name"))]
CriterionName = Annotated[str, Field(min_length=1, max_length=_limit(Criterion, "name"))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CriterionRendering(_Strict):
    """A criterion in another language."""

    name: str
    description: str = ""
    anchors: Anchors


class CriterionDescription(_Strict):
    """A question that a score from 1 to 5 answers."""

    name: CriterionName
    description: str = ""
    anchors: Annotated[Anchors, Field(min_length=5)]
    translations: dict[str, CriterionRendering] = {}


class ProjectRendering(_Strict):
    """The project's texts in another language."""

    name: str
    description: str = ""
    instructions: str


class Protocol(_Strict):
    """What raters are asked for."""

    score: bool = True
    rank: bool = True
    edit: bool = True
    norms: bool = False
    rationale: bool = True


class SamplingDescription(_Strict):
    """How answers are drawn."""

    temperature: Annotated[float, Field(gt=0)] = 0.7
    max_tokens: Annotated[int, Field(ge=1)] = 64


class ProjectDescription(_Strict):
    """All that a project is before it has prompts."""

    slug: Slug
    name: ProjectName
    description: str = ""
    instructions: Annotated[str, Field(min_length=1)]
    translations: dict[str, ProjectRendering] = {}
    criteria: list[CriterionDescription] = []
    protocol: Protocol = Protocol()
    sampling: SamplingDescription = SamplingDescription()
    completions_per_item: Annotated[int, Field(ge=MIN_COMPLETIONS, le=MAX_COMPLETIONS)] = 4
    overlap: Annotated[int, Field(ge=1)] = 1

    def fields(self) -> dict[str, Any]:
        """The fields of :class:`~annotate.models.Project` that it sets, without the slug and translations."""
        return {
            "name": self.name,
            "description": self.description,
            **{f"{name}_on": on for name, on in self.protocol.model_dump().items()},
            **self.sampling.model_dump(),
            "completions_per_item": self.completions_per_item,
            "overlap": self.overlap,
        }


def read_description(path: Path) -> ProjectDescription:
    """Read a project's description from a JSON file.

    :raises Refused: naming each place that is wrong and why.
    """
    try:
        return ProjectDescription.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as problem:
        raise Refused(
            _("%(path)s cannot be read: %(problem)s.") % {"path": path, "problem": problem.strerror}
        ) from problem
    except UnicodeDecodeError as problem:
        raise Refused(_("%(path)s is not UTF-8 text.") % {"path": path}) from problem
    except json.JSONDecodeError as problem:
        raise Refused(
            _("%(path)s is not JSON: %(problem)s in line %(line)d.")
            % {"path": path, "problem": problem.msg, "line": problem.lineno}
        ) from problem
    except ValidationError as problem:
        places = "; ".join(
            f"{'.'.join(map(str, error['loc'])) or 'file'}: {error['msg']}"
            for error in problem.errors()[:PROBLEMS_SHOWN]
        )
        raise Refused(_("%(path)s does not describe a project. %(places)s.") % {"path": path, "places": places}) from (
            problem
        )
