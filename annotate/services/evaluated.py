"""By which answers to test prompts generations are measured.

Settings of sampling may change between evaluations. An evaluation samples a generation and its parent alike, so only
answers of one evaluation are held against each other.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from django.db.models import Q, QuerySet

from annotate.models import Completion, Generation, Project, Run, Split


def beside_parent(generation: Generation) -> QuerySet[Completion]:
    """A generation's and its parent's answers of the newest evaluation that has both."""
    runs = Run.objects.filter(kind=Run.Kind.EVALUATE, state=Run.State.SUCCEEDED)
    for each in (generation, generation.parent):
        runs = runs.filter(pk__in=Completion.objects.filter(generation=each).values("run"))
    newest = runs.order_by("-created_at").first()
    return _answers().filter(run=newest, generation__in=[generation, generation.parent])


def newest(project: Project) -> QuerySet[Completion]:
    """The answers of each generation's newest evaluation."""
    answers = _answers().filter(generation__project=project, run__state=Run.State.SUCCEEDED)
    runs = dict(answers.order_by("run__created_at").values_list("generation", "run").distinct())
    chosen = [Q(generation=generation, run=run) for generation, run in runs.items()]
    return answers.filter(reduce(or_, chosen, Q(pk__in=[])))


def _answers() -> QuerySet[Completion]:
    return Completion.objects.filter(run__kind=Run.Kind.EVALUATE, prompt__split=Split.TEST)
