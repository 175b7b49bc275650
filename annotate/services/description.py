"""A project as a lead writes it down, in a file or in the form: what makes one and what may change later."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from django.utils.translation import gettext as _
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from annotate.models.content import (
    MAX_COMPLETIONS,
    MAX_LEASE_MINUTES,
    MIN_COMPLETIONS,
    Criterion,
    Norm,
    Project,
)
from annotate.services import Refused

PROBLEMS_SHOWN = 5
MOST_CRITERIA, MOST_NORMS, MOST_OVERLAP = 20, 50, 100
MOST_QUOTA = 10_000_000
MOST_TOKENS = 100_000
LONGEST_TEXT = 100_000
"""Characters of instructions, a description or a norm."""
LONGEST_ANCHOR = 1_000
"""Characters."""


def _limit(model: type[Project | Criterion | Norm], field: str) -> int | None:
    length: int | None = model._meta.get_field(field).max_length  # type: ignore[union-attr]
    return length


def _storable(text: str) -> str:
    if "\x00" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise PydanticCustomError("not_storable", "The text holds characters that cannot be stored")
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "The text is blank")
    return text


PLAIN = (
    *("name", "description", "completions_per_item", "overlap", "quota", "lease_minutes"),
    *("random_share", "gold_rate", "repeat_rate", "adjudicate_above", "pass_mark"),
)
"""Fields that a description and the project's row have under one name."""

Storable = AfterValidator(_storable)
Said = AfterValidator(_said)
Slug = Annotated[str, Field(pattern=r"^[-a-zA-Z0-9_]+$", max_length=_limit(Project, "slug"))]
ProjectName = Annotated[str, Field(min_length=1, max_length=_limit(Project, "name")), Storable, Said]
CriterionName = Annotated[str, Field(min_length=1, max_length=_limit(Criterion, "name")), Storable, Said]
NormName = Annotated[str, Field(min_length=1, max_length=_limit(Norm, "name")), Storable, Said]
Text = Annotated[str, Field(max_length=LONGEST_TEXT), Storable]
NeededText = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), Storable, Said]
Anchors = dict[
    Literal["1", "2", "3", "4", "5"], Annotated[str, Field(min_length=1, max_length=LONGEST_ANCHOR), Storable, Said]
]
"""Words for each value of a score."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CriterionRendering(_Strict):
    """A criterion in another language; what is left out shows as it was written."""

    name: Annotated[str, Field(max_length=_limit(Criterion, "name")), Storable] = ""
    description: Text = ""
    anchors: Anchors = {}


class CriterionDescription(_Strict):
    """A question that a score from 1 to 5 answers."""

    name: CriterionName
    description: Text = ""
    anchors: Annotated[Anchors, Field(min_length=5)]
    translations: dict[str, CriterionRendering] = {}


class NormDescription(_Strict):
    """A rule that answers should follow."""

    name: NormName
    text: NeededText


class ProjectRendering(_Strict):
    """The project's texts in another language; what is left out shows as it was written."""

    name: Annotated[str, Field(max_length=_limit(Project, "name")), Storable] = ""
    description: Text = ""
    instructions: Text = ""


class Protocol(_Strict):
    """What raters are asked for."""

    score: bool = True
    rank: bool = True
    edit: bool = True
    norms: bool = False
    rationale: bool = True
    strength: bool = False


class SamplingDescription(_Strict):
    """How answers are drawn."""

    temperature: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.7
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 64


class ProjectDescription(_Strict):
    """All that a project is before it has prompts."""

    slug: Slug
    name: ProjectName
    description: Text = ""
    instructions: NeededText
    translations: dict[str, ProjectRendering] = {}
    criteria: Annotated[list[CriterionDescription], Field(max_length=MOST_CRITERIA)] = []
    norms: Annotated[list[NormDescription], Field(max_length=MOST_NORMS)] = []
    protocol: Protocol = Protocol()
    sampling: SamplingDescription = SamplingDescription()
    completions_per_item: Annotated[int, Field(ge=MIN_COMPLETIONS, le=MAX_COMPLETIONS)] = 4
    overlap: Annotated[int, Field(ge=1, le=MOST_OVERLAP)] = 1
    quota: Annotated[int, Field(ge=1, le=MOST_QUOTA)] | None = None
    lease_minutes: Annotated[int, Field(ge=1, le=MAX_LEASE_MINUTES)] = 30
    random_share: Share = 0.2
    gold_rate: Rate = 0.0
    repeat_rate: Rate = 0.0
    adjudicate_above: Share | None = None
    pass_mark: Share | None = None

    @model_validator(mode="after")
    def _collects_something(self) -> Self:
        asked = self.protocol
        if not (asked.rank or asked.edit or (asked.score and self.criteria) or (asked.norms and self.norms)):
            raise PydanticCustomError(
                "collects_nothing",
                "Raters are asked for nothing: turn a part on; scores need a criterion and norms a rule",
                {"place": "protocol"},
            )
        for place, names in (("criteria", [c.name for c in self.criteria]), ("norms", [n.name for n in self.norms])):
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise PydanticCustomError(
                    "name_twice", "Two of the {place} are named {name}", {"place": place, "name": twice}
                )
        return self

    def fields(self) -> dict[str, Any]:
        """The fields of :class:`~annotate.models.Project` that it sets, without the slug."""
        return {
            **{name: getattr(self, name) for name in PLAIN},
            **{f"{name}_on": on for name, on in self.protocol.model_dump().items()},
            **self.sampling.model_dump(),
            "translations": filled(
                (language, {"name": text.name, "description": text.description})
                for language, text in self.translations.items()
            ),
        }

    def instructions_in_languages(self) -> dict[str, dict[str, str]]:
        """Renderings of the instructions, as :class:`~annotate.models.GuidelineVersion` keeps them."""
        return filled((language, {"text": text.instructions}) for language, text in self.translations.items())


def criterion_fields(criterion: CriterionDescription) -> dict[str, Any]:
    """The fields of :class:`~annotate.models.Criterion` that a description sets."""
    values = criterion.model_dump()
    return {**values, "translations": filled(values["translations"].items())}


def filled(renderings: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Renderings without empty texts and without languages that have none."""
    kept = ((language, {name: text for name, text in fields.items() if text}) for language, fields in renderings)
    return {language: fields for language, fields in kept if fields}


def describe(project: Project) -> dict[str, Any]:
    """A project as the fields of a :class:`ProjectDescription`; what was retired is left out."""
    guideline = project.guidelines.order_by("-number").first()
    renderings = {language: dict(fields) for language, fields in project.translations.items()}
    if guideline is not None:
        for language, fields in guideline.translations.items():
            renderings.setdefault(language, {})["instructions"] = fields.get("text", "")
    norms = project.norms.filter(active=True).order_by("pk").prefetch_related("versions")
    return {
        "slug": project.slug,
        **{name: getattr(project, name) for name in PLAIN},
        "description": _as_typed(project.description),
        "instructions": _as_typed(guideline.text) if guideline else "",
        "translations": filled(renderings.items()),
        "criteria": [
            {
                "name": criterion.name,
                "description": criterion.description,
                "anchors": criterion.anchors,
                "translations": criterion.translations,
            }
            for criterion in project.criteria.filter(active=True).order_by("position", "pk")
        ],
        "norms": [
            {"name": norm.name, "text": max(norm.versions.all(), key=lambda version: version.number).text}
            for norm in norms
            if norm.versions.all()
        ],
        "protocol": {name: getattr(project, f"{name}_on") for name in Protocol.model_fields},
        "sampling": {name: getattr(project, name) for name in SamplingDescription.model_fields},
    }


def _as_typed(text: str) -> str:
    """A text with the line ends that every form sends, whatever form it came from."""
    return text.replace("\r\n", "\n")


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
