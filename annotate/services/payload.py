"""What a rating page sends, checked against the slot's item and the project's protocol.

The form of a payload::

    {"scores":    {"<completion id>": {"<criterion id>": 1..5, …}, …},
     "ranks":     {"<completion id>": 1..9, …},
     "edits":     {"<completion id>": "text", …},
     "flags":     {"<completion id>": "note", …},
     "norms":     {"<completion id>": {"<norm version id>": {"verdict": "comply|violate|na", "quote": "…"}, …}, …},
     "both_bad":  false,
     "strength":  1..3,
     "rationale": "text",
     "active_ms": 12345}

Every part may be left out, but something must be judged. A part that is unknown, or that the project
does not collect, comes from a page that was opened before the project or the site changed: it is
refused with the advice to reload, never passed over.

Two answers are compared by ``ranks`` 1 and 2, or 1 and 1 for equals, or by ``both_bad`` without ranks;
``strength`` says by how much the better one is better: 1 slightly, 2 clearly, 3 much. ``active_ms`` is the time at work
since the version that the payload starts from, or since the item was first opened.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _

from annotate.markdown import to_text
from annotate.models import Criterion, NormVerdict, NormVersion, Project, Slot
from annotate.models.content import MAX_COMPLETIONS
from annotate.prepared import Prepared
from annotate.services import Refused

MAX_RATIONALE = 10_000
MAX_EDIT = 50_000
MAX_QUOTE = 2_000
MAX_ACTIVE_MS = 4 * 60 * 60 * 1000
STRENGTHS = (1, 2, 3)
PARTS = frozenset({"scores", "ranks", "edits", "flags", "norms", "both_bad", "strength", "rationale", "active_ms"})

_asked = Prepared(lambda project: Criterion.objects.filter(project=project, active=True).only("pk"))


@dataclass(frozen=True)
class Verdict:
    """Whether a completion keeps a norm, and the part of it that shows so, "" for none."""

    verdict: str
    quote: str = ""


@dataclass(frozen=True)
class Payload:
    """A checked judgement: completion, criterion and norm version ids exist and belong to the item."""

    scores: dict[int, dict[int, int]] = field(default_factory=dict)
    ranks: dict[int, int] = field(default_factory=dict)
    edits: dict[int, str] = field(default_factory=dict)
    flags: dict[int, str] = field(default_factory=dict)
    norms: dict[int, dict[int, Verdict]] = field(default_factory=dict)
    both_bad: bool = False
    strength: int | None = None
    rationale: str = ""
    active_ms: int = 0


def digest(raw: dict[str, Any]) -> str:
    """SHA-256 of a payload in canonical form: equal judgements have equal digests."""
    canonical = json.dumps(raw, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def check(raw: Any, slot: Slot) -> Payload:
    """Turn what the page sent into a :class:`Payload`.

    :raises Refused: naming the first part that is wrong.
    """
    if not isinstance(raw, dict):
        raise Refused(_("The answer is not a JSON object."))
    if unknown := sorted(set(raw) - PARTS):
        raise outdated(_("there is no part %(part)s of an answer") % {"part": unknown[0][:40]})
    texts, project = slot.shown, slot.project
    ranks = _ranks(raw.get("ranks"), texts, project)
    payload = Payload(
        scores=_scores(raw.get("scores"), texts, project),
        ranks=ranks,
        edits=_edits(raw.get("edits"), texts, project),
        flags={k: plain_text(v, "flags", 500) for k, v in _by_completion(raw.get("flags"), texts, "flags").items()},
        norms=_norms(raw.get("norms"), texts, project),
        both_bad=_both_bad(raw.get("both_bad", False), ranks),
        strength=_strength(raw.get("strength"), ranks, project),
        rationale=_rationale(raw.get("rationale", ""), project),
        active_ms=_active(raw.get("active_ms", 0)),
    )
    if not (payload.scores or payload.ranks or payload.edits or payload.norms or payload.both_bad):
        raise Refused(_("Nothing is judged yet: judge at least one answer, or skip the item."))
    return payload


def outdated(what: str, place: str = "") -> Refused:
    """The refusal of an answer that a page from before some change has sent.

    :param what: what does not fit, as part of a sentence.
    """
    sentence = _("This page is older than the project (%(what)s). Reload it: what you typed is kept.")
    return Refused(sentence % {"what": what}, place=place)


def _by_completion(value: Any, texts: dict[int, str], place: str) -> dict[int, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(_("%(place)s must be an object by completion.") % {"place": place}, place=place)
    numbers = {str(completion): completion for completion in texts}
    for key in value:
        if key not in numbers:
            raise outdated(_("there is no completion %(id)s in this item") % {"id": str(key)[:40]}, place)
    return {numbers[key]: entry for key, entry in value.items()}


def _scores(value: Any, texts: dict[int, str], project: Project) -> dict[int, dict[int, int]]:
    by_completion = _by_completion(value, texts, "scores")
    if not by_completion:
        return {}
    if not project.score_on:
        raise outdated(_("it does not collect scores"), "scores")
    criteria = {str(criterion.pk): criterion.pk for criterion in _asked(project=project.pk)}
    result: dict[int, dict[int, int]] = {}
    for completion, scores in by_completion.items():
        if not isinstance(scores, dict):
            raise Refused(_("Scores must be given by criterion."), place="scores")
        for criterion, score in scores.items():
            if criterion not in criteria:
                raise outdated(_("it has no criterion %(id)s") % {"id": str(criterion)[:40]}, "scores")
            if not (isinstance(score, int) and not isinstance(score, bool) and 1 <= score <= 5):
                raise Refused(_("A score is a whole number from 1 to 5."), place="scores")
            result.setdefault(completion, {})[criteria[criterion]] = score
    return result


def _ranks(value: Any, texts: dict[int, str], project: Project) -> dict[int, int]:
    ranks = _by_completion(value, texts, "ranks")
    if not ranks:
        return {}
    if not project.rank_on:
        raise outdated(_("it does not collect rankings"), "ranks")
    for rank in ranks.values():
        if not (isinstance(rank, int) and not isinstance(rank, bool) and 1 <= rank <= len(texts)):
            raise Refused(_("A rank is a whole number from 1 to %(count)s.") % {"count": len(texts)}, place="ranks")
    if set(ranks.values()) != set(range(1, max(ranks.values()) + 1)):
        raise Refused(_("The ranks leave a gap: use 1, 2, 3 … and give ties the same number."), place="ranks")
    return ranks


def _edits(value: Any, texts: dict[int, str], project: Project) -> dict[int, str]:
    edits = {k: plain_text(v, "edits", MAX_EDIT) for k, v in _by_completion(value, texts, "edits").items()}
    if edits and not project.edit_on:
        raise outdated(_("it does not collect edits"), "edits")
    for completion, text in edits.items():
        if not text.strip():
            raise Refused(_("An edit must not be empty."), place="edits")
        if _lines(text) == _lines(texts[completion]):
            raise Refused(_("An edit is the same as the original."), place="edits")
    return edits


def _lines(text: str) -> list[str]:
    """A text however its lines end: a form sends them in another way than a model writes them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def current_norms(project: Project) -> list[NormVersion]:
    """The newest version of each active norm, in the order in which the norms were written."""
    versions = NormVersion.objects.filter(norm__project=project, norm__active=True).select_related("norm")
    return list(versions.order_by("norm_id", "-number").distinct("norm_id"))


def _norms(value: Any, texts: dict[int, str], project: Project) -> dict[int, dict[int, Verdict]]:
    by_completion = _by_completion(value, texts, "norms")
    if not by_completion:
        return {}
    if not project.norms_on:
        raise outdated(_("it does not collect norms"), "norms")
    versions = {str(version.pk): version.pk for version in current_norms(project)}
    result: dict[int, dict[int, Verdict]] = {}
    for completion, verdicts in by_completion.items():
        if not isinstance(verdicts, dict):
            raise Refused(_("Verdicts must be given by norm."), place="norms")
        for version, entry in verdicts.items():
            if version not in versions:
                raise outdated(_("it has no norm version %(id)s") % {"id": str(version)[:40]}, "norms")
            result.setdefault(completion, {})[versions[version]] = _verdict(entry, texts[completion])
    return result


def _verdict(entry: Any, text: str) -> Verdict:
    verdict = entry.get("verdict") if isinstance(entry, dict) else None
    if verdict not in NormVerdict.Verdict.values or set(entry) - {"verdict", "quote"}:
        raise Refused(_("A verdict on a norm is comply, violate or na."), place="norms")
    quote = plain_text(entry.get("quote", ""), "norms", MAX_QUOTE).strip()
    if quote and verdict == NormVerdict.Verdict.NOT_APPLICABLE:
        raise Refused(_("A passage can only show that a norm is kept or broken."), place="norms")
    if quote and not is_quoted(quote, text):
        raise Refused(_("The passage is not in the answer: mark it there, or copy it letter by letter."), place="norms")
    return Verdict(verdict, quote)


def is_quoted(quote: str, text: str) -> bool:
    """Whether a passage is part of a text, as it was written or as Markdown shows it; spaces do not count.

    A selection in a page has other line breaks than the text, and none between cells of a table.
    """
    wanted = _bare(quote)
    return wanted in _bare(text) or wanted in _bare_as_shown(text)


def _bare(text: str) -> str:
    return "".join(text.split())


@lru_cache(maxsize=MAX_COMPLETIONS)
def _bare_as_shown(text: str) -> str:
    """The same of rendered Markdown, made once for all passages of an answer."""
    return _bare(to_text(text))


def _rationale(value: Any, project: Project) -> str:
    if value and not project.rationale_on:
        raise outdated(_("it does not ask for reasons"), "rationale")
    return plain_text(value, "rationale", MAX_RATIONALE)


def _both_bad(value: Any, ranks: dict[int, int]) -> bool:
    if not isinstance(value, bool):
        raise Refused(_("both_bad must be true or false."), place="both_bad")
    if value and ranks:
        raise Refused(_("Answers are either put in an order or all bad, not both."), place="ranks")
    return value


def _strength(value: Any, ranks: dict[int, int], project: Project) -> int | None:
    if value is None:
        return None
    if not project.strength_on:
        raise outdated(_("it does not ask by how much an answer is better"), "ranks")
    if not (isinstance(value, int) and not isinstance(value, bool) and value in STRENGTHS):
        raise Refused(_("The strength of a preference is 1, 2 or 3."), place="ranks")
    if sorted(ranks.values()) != [1, 2]:
        raise Refused(_("Only where one of two answers is better can it be better by so much."), place="ranks")
    return value


def plain_text(value: Any, place: str, longest: int) -> str:
    """Text that the database can store.

    :param place: what the text is, for the refusal.
    :param longest: characters.
    :raises Refused: when it is no text, is too long, or holds NUL or half a surrogate pair.
    """
    if not isinstance(value, str):
        raise Refused(_("%(place)s must be text.") % {"place": place}, place=place)
    if "\x00" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise Refused(_("%(place)s holds characters that cannot be stored.") % {"place": place}, place=place)
    if len(value) > longest:
        raise Refused(
            _("%(place)s is longer than %(longest)s characters.") % {"place": place, "longest": longest}, place=place
        )
    return value


def _active(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Refused(_("active_ms must be a whole number of milliseconds."), place="active_ms")
    return min(value, MAX_ACTIVE_MS)
