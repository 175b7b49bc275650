"""Whose judgements a page of statistics shows: people's, simulated raters' and AI judges' are never mixed."""

from __future__ import annotations

from collections.abc import Collection

from annotate.access import SignedInRequest
from annotate.models import User
from annotate.views.asked import asked


def kind_shown(request: SignedInRequest, judged: Collection[str]) -> str:
    """The kind of raters that ``?kind=`` names; where it names none, people, or where only others judged, those.

    :param judged: kinds that have judged what the page shows.
    """
    chosen = asked(request, "kind")["kind"]
    if chosen in User.Kind.values:
        return chosen
    return next((kind for kind in User.Kind.values if kind in judged), User.Kind.HUMAN.value)
