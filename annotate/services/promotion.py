"""The decision on a generation: serve it to raters, or leave it. The trail keeps what was known when it was taken."""

from __future__ import annotations

import contextlib

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Generation, User
from annotate.services import Conflict, Refused, audit, gate
from annotate.services.generations import serving
from annotate.services.runs import launch_generate


def promote(*, generation: Generation, actor: User | None, collect: bool = True) -> None:
    """Make a generation the one that is served; its parent stays promoted, for a rollback.

    :param collect: whether to ask at once for its answers, for raters to judge.
    :raises Refused: when it was promoted already, or a later one serves.
    """
    _decide(generation, Generation.State.PROMOTED, actor)
    if collect:
        with contextlib.suppress(Conflict):  # a generate run is under way; the lead can ask again after it
            launch_generate(project=generation.project, actor=actor, generation=generation)


def reject(*, generation: Generation, actor: User | None) -> None:
    """Decide against a generation, now or after it was promoted (a rollback).

    :raises Refused: for generation 0, the base model, or one that was rejected already.
    """
    _decide(generation, Generation.State.REJECTED, actor)


def _decide(generation: Generation, state: str, actor: User | None) -> None:
    with transaction.atomic():
        # All of the project, so that of two promotions at once the second one knows of the first.
        together = Generation.objects.select_for_update().filter(project=generation.project_id).order_by("pk")
        locked = next(each for each in together if each.pk == generation.pk)
        if locked.number == 0:
            raise Refused(_("Generation 0 is the base model; it always stays available."))
        if locked.state == state:
            raise Refused(
                _("Generation %(number)d is %(state)s already.")
                % {"number": locked.number, "state": locked.get_state_display()}
            )
        serves = serving(locked.project).number
        if state == Generation.State.PROMOTED and serves > locked.number:
            raise Refused(
                _(
                    "Generation %(serves)d is served, and an earlier one never is beside a later one: "
                    "reject generation %(serves)d to go back, then promote generation %(number)d."
                )
                % {"serves": serves, "number": locked.number}
            )
        before, locked.state = locked.state, state
        locked.save(update_fields=["state"])
        evidence = gate.evidence(locked)
        audit.record(state, locked, actor=actor, project=locked.project, before=before, evidence=evidence)
