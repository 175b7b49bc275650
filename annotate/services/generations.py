"""Which generation is which."""

from __future__ import annotations

from annotate.models import Generation, Project


def serving(project: Project) -> Generation:
    """The generation whose completions are collected: the promoted one with the highest number."""
    return project.generations.filter(state=Generation.State.PROMOTED).latest("number")
