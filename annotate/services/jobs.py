"""The settings that every job has in common, and checking the rest before a run is queued."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.conf import settings as django_settings

from annotate.models import Generation, Project
from annotate.services import Refused
from policy.contract import Sampling
from rewardmodel.contract import JobError, parse_job

Settings = dict[str, Any]
"""Fields of a job."""


def checked(job_class: type[Any], values: Settings) -> Settings:
    """All fields of a job, those that are not given at their defaults.

    :raises Refused: naming the field that will not do.
    """
    try:
        return dataclasses.asdict(parse_job(job_class, values))
    except JobError as problem:
        raise Refused(str(problem)) from problem


def sampling(project: Project, seed: int) -> Settings:
    """How a project's answers are drawn."""
    return dataclasses.asdict(Sampling(temperature=project.temperature, max_tokens=project.max_tokens, seed=seed))


def engine() -> Settings:
    """The engine that the site's settings name."""
    found = {"name": django_settings.HONE_ENGINE}
    if found["name"] == "openai":
        found["base_url"] = django_settings.HONE_OPENAI_BASE_URL
        found["served_model"] = django_settings.HONE_OPENAI_MODEL
    return found


def next_sample(generation: Generation) -> int:
    """Number of the next answer of a generation to a prompt."""
    latest = generation.completions.order_by("-sample").values_list("sample", flat=True).first()
    return 0 if latest is None else latest + 1
