"""What a decision on a generation rested on, as the trail keeps it, in a sentence."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from annotate.models import User
from annotate.templatetags.hone import interval, percent
from annotate.views.statistics_words import IN_SHORT, KINDS


def evidence_words(evidence: Any) -> str:
    """What people said of the blind comparison, and then what programs of each kind did.

    :param evidence: as :func:`annotate.services.gate.evidence` gives it, or an earlier version did: of people alone.
    """
    if not isinstance(evidence, dict):
        return str(evidence)
    programs = evidence.get("programs")
    said = {User.Kind.HUMAN.value: evidence, **(programs if isinstance(programs, dict) else {})}
    parts = [_words(kind, of_kind) for kind, of_kind in said.items() if isinstance(of_kind, dict)]
    if "planned" in evidence:
        parts.append(_("test prompts planned: %(count)s") % {"count": evidence["planned"]})
    return "; ".join(parts)


def _words(kind: str, said: dict[str, Any]) -> str:
    verdict = said.get("verdict")
    words = {"who": KINDS.get(kind, kind), "verdict": IN_SHORT.get(str(verdict), verdict)}
    if said.get("win_rate") is None:
        return _("%(who)s: %(verdict)s") % words
    figures = {
        "share": percent(said["win_rate"]),
        "bounds": interval(said.get("bounds")) or "–",
        "prompts": said.get("prompts"),
    }
    return _("%(who)s: %(verdict)s, preferred on %(share)s of prompts (n = %(prompts)s, bounds %(bounds)s)") % {
        **words,
        **figures,
    }
