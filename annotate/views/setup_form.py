"""A project's form: what was typed, as a description to check, and what is wrong with it, by input.

Inputs of rows are named ``criteria-<key>-name``; the order of the rows is that of the hidden inputs
``criteria``, each holding a key: ``c<number>`` for a stored row, anything else for a new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.http import QueryDict
from django.utils.text import slugify
from django.utils.translation import get_language_info
from pydantic import ValidationError

from annotate.models import Project
from annotate.services.description import PLAIN, ProjectDescription, Protocol, SamplingDescription
from annotate.views.setup_fields import (
    CRITERION_LABELS,
    FIELDS,
    FOLDS,
    NORM_LABELS,
    PLACES,
    ROW_LABELS,
    Field,
    Row,
    Spec,
    place_of,
    sentence,
)

KEY = re.compile(r"[a-z0-9]{1,20}")
STORED_KEY = re.compile(r"c[0-9]{1,18}")
LANGUAGE = re.compile(
    r"(?:criteria-\w+-)?translations-([a-z]{2,3}(?:-[a-z0-9]+)*)-(?:name|description|instructions|anchors-\d)"
)
VALUES = ("1", "2", "3", "4", "5")
TEXTS = ("name", "description", "instructions")
NUMBERS = [name for name in PLAIN if FIELDS[name].kind not in ("line", "text")]


@dataclass
class SetupForm:
    """The values of all inputs by name, the rows' keys in order by kind, and problems by input."""

    values: dict[str, str] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=lambda: {"criteria": [], "norms": []})
    problems: dict[str, str] = field(default_factory=dict)

    @classmethod
    def posted(cls, post: QueryDict) -> SetupForm:
        """What a browser sent."""
        values = {name: str(value).replace("\r\n", "\n") for name, value in post.items()}
        return cls(values, {kind: _keys(post.getlist(kind)) for kind in ("criteria", "norms")})

    @classmethod
    def of(cls, described: Mapping[str, Any], *, criteria: Iterable[int] = (), norms: Iterable[int] = ()) -> SetupForm:
        """The form that shows a description.

        :param criteria: numbers of the stored criteria, where it describes a stored project.
        :param norms: the same for norms.
        """
        form = cls({name: _shown(name, described[name]) for name in (*PLAIN, "slug", "instructions")})
        for name, on in described["protocol"].items():
            form.values[f"{name}_on"] = "on" if on else ""
        for name, value in described["sampling"].items():
            form.values[name] = _shown(name, value)
        form._render("translations", described["translations"])
        form.keys = {
            "criteria": _row_keys(criteria, described["criteria"]),
            "norms": _row_keys(norms, described["norms"]),
        }
        for key, criterion in zip(form.keys["criteria"], described["criteria"], strict=True):
            form._lay(f"criteria-{key}", criterion)
            form._render(f"criteria-{key}-translations", criterion["translations"])
        for key, norm in zip(form.keys["norms"], described["norms"], strict=True):
            form._lay(f"norms-{key}", norm)
        return form

    def _lay(self, prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, str):
                self.values[f"{prefix}-{name}"] = value
        for number, words in values.get("anchors", {}).items():
            self.values[f"{prefix}-anchors-{number}"] = words

    def _render(self, prefix: str, renderings: Mapping[str, Mapping[str, Any]]) -> None:
        for language, texts in renderings.items():
            self._lay(f"{prefix}-{language}", texts)

    # Reading

    def raw(self) -> dict[str, Any]:
        """The description as it was typed, unchecked."""
        return {
            **{name: self._number(name) for name in NUMBERS},
            "description": self._text("description"),
            "slug": self._text("slug").strip() or slugify(self._text("name"))[:50],
            "name": self._text("name").strip(),
            "instructions": self._text("instructions"),
            "protocol": {name: self.values.get(f"{name}_on") == "on" for name in Protocol.model_fields},
            "sampling": {name: self._number(name) for name in SamplingDescription.model_fields},
            "translations": self._renderings("translations", self._project_texts),
            "criteria": [
                {
                    **self._criterion(f"criteria-{key}"),
                    "anchors": {value: self._text(f"criteria-{key}-anchors-{value}") for value in VALUES},
                    "translations": self._renderings(f"criteria-{key}-translations", self._criterion),
                }
                for key in self.keys["criteria"]
            ],
            "norms": [
                {"name": self._text(f"norms-{key}-name").strip(), "text": self._text(f"norms-{key}-text")}
                for key in self.keys["norms"]
            ],
        }

    def check(self) -> ProjectDescription | None:
        """The description, or None with the problems told."""
        try:
            return ProjectDescription.model_validate(self.raw())
        except ValidationError as problem:
            for error in problem.errors(include_url=False, include_input=False):
                # A rule over several parts names its place in its context.
                name = place_of(error["loc"] or (error["ctx"]["place"],))
                percent = name in FIELDS and FIELDS[name].kind == "percent"
                self.problem(name, sentence(dict(error), percent=percent))
            return None

    def problem(self, place: str, words: str) -> None:
        """Note what is wrong at a place; rows may be named by number, as services name them."""
        kind, _, rest = place.partition("-")
        number, _, inner = rest.partition("-")
        keys = self.keys.get(kind, [])
        if inner and number.isdecimal() and int(number) < len(keys):
            place = f"{kind}-{keys[int(number)]}-{inner}"
        self.problems.setdefault(place, words)

    def stored_numbers(self, kind: str) -> list[int | None]:
        """For each row the number of the stored record that it shows; None for a new one."""
        return [int(key[1:]) if STORED_KEY.fullmatch(key) else None for key in self.keys[kind]]

    def _text(self, name: str) -> str:
        return self.values.get(name, "")

    def _text_or_none(self, name: str) -> str:
        """What was typed, white space and all; nothing where it is white space only."""
        text = self._text(name)
        return text if text.strip() else ""

    def _number(self, name: str) -> str | float | None:
        """What was typed for a number: per cent as a share, nothing as None where that is allowed."""
        text, spec = self._text(name).strip(), FIELDS[name]
        if not text and spec.optional:
            return None
        if spec.kind != "percent":
            return text
        try:
            return float(text) / 100
        except ValueError:
            return text

    def _project_texts(self, prefix: str) -> dict[str, Any]:
        return {name: self._text_or_none(f"{prefix}-{name}") for name in TEXTS}

    def _criterion(self, prefix: str) -> dict[str, Any]:
        anchors = {value: self._text_or_none(f"{prefix}-anchors-{value}") for value in VALUES}
        return {
            "name": self._text(f"{prefix}-name").strip(),
            "description": self._text_or_none(f"{prefix}-description"),
            "anchors": {value: words for value, words in anchors.items() if words},
        }

    def _renderings(self, prefix: str, read: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        found = {language["code"]: read(f"{prefix}-{language['code']}") for language in self.languages}
        return {language: texts for language, texts in found.items() if any(texts.values())}

    # Showing

    def __getitem__(self, name: str) -> Field:
        return self._field(name, FIELDS[name])

    @property
    def languages(self) -> list[dict[str, Any]]:
        """The site's languages, and others that a description came with."""
        known = [code for code, _name in settings.LANGUAGES]
        found = {match.group(1) for name in self.values if (match := LANGUAGE.fullmatch(name))}
        return [_language(code) for code in (*known, *sorted(found - set(known)))]

    @property
    def texts(self) -> list[tuple[dict[str, Any], dict[str, Field]]]:
        """The project's texts in each language."""
        return [
            (language, {name: self._field(f"translations-{language['code']}-{name}", FIELDS[name]) for name in TEXTS})
            for language in self.languages
        ]

    @property
    def criteria(self) -> list[Row]:
        """The rows of criteria."""
        return [self.criterion(key) for key in self.keys["criteria"]]

    @property
    def norms(self) -> list[Row]:
        """The rows of norms."""
        return [self.norm(key) for key in self.keys["norms"]]

    def criterion(self, key: str) -> Row:
        """A criterion's row."""
        prefix = f"criteria-{key}"
        renderings = []
        for language in self.languages:
            inner = f"{prefix}-translations-{language['code']}"
            renderings.append((language, self._named(inner, ("name", "description")), self._anchors(inner)))
        fields = self._named(prefix, ("name", "description"))
        return Row(key, fields, self._anchors(prefix), renderings, self._has_problem(f"{prefix}-translations-"))

    def norm(self, key: str) -> Row:
        """A norm's row."""
        prefix = f"norms-{key}"
        fields = {name: self._field(f"{prefix}-{name}", Spec(label)) for name, label in NORM_LABELS.items()}
        return Row(key, fields, [], [])

    @property
    def summary(self) -> list[tuple[str, str, str]]:
        """For each problem its input, what that is called, and the problem."""
        return [(name, self._called(name), words) for name, words in self.problems.items()]

    @property
    def open_folds(self) -> dict[str, bool]:
        """Which folds hold a problem and must not hide it."""
        return {fold: self._has_problem(*names) for fold, names in FOLDS.items()}

    def _has_problem(self, *beginnings: str) -> bool:
        return any(name.startswith(beginnings) for name in self.problems)

    def _field(self, name: str, spec: Spec) -> Field:
        return Field(name, self._text(name), self.problems.get(name, ""), spec)

    def _named(self, prefix: str, names: Iterable[str]) -> dict[str, Field]:
        return {name: self._field(f"{prefix}-{name}", Spec(CRITERION_LABELS[name])) for name in names}

    def _anchors(self, prefix: str) -> list[tuple[str, Field]]:
        return [
            (
                value,
                self._field(f"{prefix}-anchors-{value}", Spec(str(CRITERION_LABELS["anchors"]).format(value=value))),
            )
            for value in VALUES
        ]

    def _called(self, name: str) -> str:
        if name in FIELDS:
            return str(FIELDS[name].label)
        kind, *rest = name.split("-")
        words, keys = str(PLACES.get(kind, kind)), self.keys.get(kind, [])
        if not (rest and rest[0] in keys):
            return words
        inner = next((ROW_LABELS[part] for part in reversed(rest) if part in ROW_LABELS), "")
        return f"{words} {keys.index(rest[0]) + 1} · {str(inner).format(value=rest[-1])}"


def form_of(project: Project, described: Mapping[str, Any]) -> SetupForm:
    """The form that shows a stored project."""
    norms = [norm for norm in project.norms.filter(active=True).order_by("pk") if norm.versions.exists()]
    form = SetupForm.of(
        described,
        criteria=project.criteria.filter(active=True).order_by("position", "pk").values_list("pk", flat=True),
        norms=[norm.pk for norm in norms],
    )
    form.values["base_model"] = project.base_model
    return form


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if FIELDS[name].kind == "percent":
        return f"{value * 100:.10g}"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _keys(sent: Iterable[str]) -> list[str]:
    return [key for key in dict.fromkeys(sent) if KEY.fullmatch(key)]


def _row_keys(numbers: Iterable[int], rows: list[Any]) -> list[str]:
    stored = [f"c{number}" for number in numbers]
    return stored or [f"n{number}" for number in range(len(rows))]


def _language(code: str) -> dict[str, Any]:
    try:
        return {"code": code, "name": get_language_info(code)["name_local"]}
    except KeyError:
        return {"code": code, "name": code}
