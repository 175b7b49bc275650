"""An answer by letters, for people to read: alone, beside the right one, or as others gave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from annotate.models import AnswerKey, Check, Criterion, JudgementRevision, NormVerdict, NormVersion, Slot
from annotate.services import adjudication, places
from annotate.views.judging_words import STRENGTHS
from annotate.views.letters import LETTERS

Scores = list[tuple[Criterion, int | None]]


@dataclass(frozen=True)
class Part:
    """What an answer says of one completion."""

    letter: str
    text: str
    place: int | None = None
    scores: Scores = field(default_factory=list)
    edit: str = ""
    flag: str | None = None
    """The note of a flag, which may be empty; None where there is no flag."""
    strength: str = ""
    """By how much it is better than the other one, in words, where that was said."""
    verdicts: list[NormVerdict] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    """A whole answer."""

    parts: list[Part]
    both_bad: bool
    rationale: str


@dataclass(frozen=True)
class Pair:
    """A rater's part of an answer and the right one."""

    mine: Part
    right: Part

    @property
    def differs(self) -> bool:
        """Whether the two give different places, or where neither gives one, different scores."""
        if self.mine.place or self.right.place:
            return self.mine.place != self.right.place
        return self.mine.scores != self.right.scores


@dataclass(frozen=True)
class Comparison:
    """A judgement beside the key that it was held against."""

    check: Check
    key: AnswerKey
    slot: Slot
    mine: Shown
    right: Shown

    @property
    def pairs(self) -> list[Pair]:
        """By letter, in the order that the rater saw."""
        return [Pair(mine, right) for mine, right in zip(self.mine.parts, self.right.parts, strict=True)]


def of_revision(revision: JudgementRevision, slot: Slot, criteria: Iterable[Criterion]) -> Shown:
    """A judgement by the letters of a slot, which may be another one of the same item."""
    place = places.places(revision)
    given = {(score.completion_id, score.criterion_id): score.value for score in revision.scores.all()}
    used = {criterion for _completion, criterion in given}
    asked = [criterion for criterion in criteria if criterion.pk in used]
    edits = {edit.completion_id: edit.edited.text for edit in revision.edits.all()}
    flags = {flag.completion_id: flag.note for flag in revision.flags.all()}
    verdicts = sorted(revision.norm_verdicts.all(), key=lambda verdict: verdict.norm_version.norm_id)
    parts = [
        Part(
            letter=letter,
            text=text,
            place=place.get(pk),
            scores=[(criterion, given.get((pk, criterion.pk))) for criterion in asked],
            edit=edits.get(pk, ""),
            flag=flags.get(pk),
            strength=str(STRENGTHS.get(revision.strength or 0, "")) if place.get(pk) == 1 else "",
            verdicts=[verdict for verdict in verdicts if verdict.completion_id == pk],
        )
        for letter, (pk, text) in zip(LETTERS, slot.shown.items(), strict=False)
    ]
    return Shown(parts, revision.both_bad, revision.rationale)


def of_payload(
    payload: Mapping[str, Any], slot: Slot, criteria: Iterable[Criterion], norms: Mapping[int, NormVersion]
) -> Shown:
    """An answer as it was sent: what came late has nothing else.

    :param norms: the versions of the project's norms by id, each with its norm.
    """
    ranks, scores, edits, flags = (payload.get(part) or {} for part in ("ranks", "scores", "edits", "flags"))
    verdicts = payload.get("norms") or {}
    asked = [c for c in criteria if any(str(c.pk) in of_one for of_one in scores.values())]
    parts = [
        Part(
            letter=letter,
            text=text,
            place=ranks.get(str(pk)),
            scores=[(criterion, scores.get(str(pk), {}).get(str(criterion.pk))) for criterion in asked],
            edit=edits.get(str(pk), ""),
            flag=flags.get(str(pk)),
            strength=str(STRENGTHS.get(payload.get("strength", 0), "")) if ranks.get(str(pk)) == 1 else "",
            verdicts=[
                NormVerdict(norm_version=norms[int(version)], **said)
                for version, said in sorted(verdicts.get(str(pk), {}).items(), key=lambda entry: int(entry[0]))
            ],
        )
        for letter, (pk, text) in zip(LETTERS, slot.shown.items(), strict=False)
    ]
    return Shown(parts, bool(payload.get("both_bad")), payload.get("rationale", ""))


def comparison(check: Check, criteria: list[Criterion]) -> Comparison:
    """A judgement beside its key.

    :param check: against a key.
    """
    key = check.key
    assert key is not None  # checks against a rater's own earlier judgement are not shown beside it
    judgement = check.judgement
    mine = judgement.revisions.get(number=judgement.version)
    return Comparison(
        check=check,
        key=key,
        slot=judgement.slot,
        mine=of_revision(mine, judgement.slot, criteria),
        right=of_revision(key.revision, judgement.slot, criteria),
    )


def of_others(slot: Slot, criteria: list[Criterion]) -> list[Shown]:
    """What an adjudicator is shown: the judgements that count, without names, by the letters of their own slot."""
    revisions = adjudication.judged(slot.item).exclude(judgement__rater=slot.rater)
    revisions = revisions.prefetch_related("edits__edited", "flags", "norm_verdicts__norm_version__norm")
    return [of_revision(revision, slot, criteria) for revision in revisions]
