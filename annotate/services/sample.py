"""The sample project: what a newcomer finds after the first start."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction

from annotate.models import Generation, Membership, Project, User
from annotate.services.description import read_description
from annotate.services.files import stored
from annotate.services.projects import create_project, default_model
from annotate.services.prompts import add_prompts, read_jsonl

FOLDER = Path(__file__).resolve().parent.parent / "sample"
PEOPLE = (("lead", Membership.Role.LEAD), ("rater1", Membership.Role.RATER), ("rater2", Membership.Role.RATER))


@dataclass(frozen=True)
class SignIn:
    """A name and password for the sample site."""

    username: str
    password: str
    role: str


@dataclass(frozen=True)
class Sample:
    """What was made: the project, its first generation and its people."""

    project: Project
    generation: Generation
    sign_ins: list[SignIn]


def create_sample() -> Sample:
    """Make the sample project with 96 prompts, one lead and two raters with random passwords.

    The lead of a fresh site also administers it.

    :raises Refused: when it was made before or the default model is not there.
    """
    with transaction.atomic():
        project = create_sample_project(slug=None, actor=None)
        sign_ins = []
        for username, role in PEOPLE:
            password = secrets.token_urlsafe(9)
            user = User.objects.create_user(username, password=password)
            if role == Membership.Role.LEAD:
                user.is_staff = user.is_superuser = True
                user.save(update_fields=["is_staff", "is_superuser"])
            Membership.objects.create(user=user, project=project, role=role)
            sign_ins.append(SignIn(username, password, role))
    return Sample(project, project.generations.get(number=0), sign_ins)


def sample_slug() -> str:
    """The sample project's slug."""
    return read_description(FOLDER / "project.json").slug


def create_sample_project(*, slug: str | None, actor: User | None, **protocol: Any) -> Project:
    """Make a project out of the sample's prompts, guideline and criteria.

    :param slug: another slug than the sample's own, for a second project of the same content.
    :param protocol: fields of the project that differ from the sample's.
    """
    description = read_description(FOLDER / "project.json")
    with open(FOLDER / "prompts.jsonl", encoding="utf-8") as file:
        rows = read_jsonl(file)
    with transaction.atomic():
        project = create_project(
            description=description, base_model=stored(default_model()), actor=actor, slug=slug, **protocol
        )
        add_prompts(project=project, rows=rows, actor=actor)
    return project
