"""What one judgement says of its answers, as rankings: its order, edits, verdicts on norms, and that all are bad.

The order is the judgement's ranks, or where it has none the order of its mean scores. An edit stands above its
original. For each version of a norm, answers that comply stand above those that violate it; where only one of the two
occurs, nothing is preferred and there is no row. A judgement that calls all answers bad ties them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from annotate.formats.writing.ranking import Kind, Ranking
from annotate.models import Completion, JudgementRevision, NormVerdict, Prompt
from annotate.services.places import places
from annotate.services.recipe import Recipe

COMPLIES, VIOLATES = 1, 2


@dataclass(frozen=True)
class Said:
    """One judgement, with what the recipe leaves out of it taken out."""

    revision: JudgementRevision
    answers: dict[int, Completion]
    """Answers that are left, by number."""
    order: dict[int, int]
    """Places of those that have one, 1 the best."""

    @property
    def rater(self) -> int:
        """Number of the rater."""
        return self.revision.judgement.rater_id

    def verdicts(self) -> dict[int, dict[int, int]]:
        """For each norm version, places of the answers that it applies to: compliance first."""
        found: dict[int, dict[int, int]] = {}
        for verdict in self.revision.norm_verdicts.all():
            if verdict.completion_id in self.answers and verdict.verdict != NormVerdict.Verdict.NOT_APPLICABLE:
                place = COMPLIES if verdict.verdict == NormVerdict.Verdict.COMPLY else VIOLATES
                found.setdefault(verdict.norm_version_id, {})[verdict.completion_id] = place
        return dict(sorted(found.items()))


def said_by(revision: JudgementRevision, recipe: Recipe, left_out: Counter[str]) -> Said:
    """What a judgement says, without the answers that the recipe leaves out.

    :param left_out: counts answers by the reason why they are left out.
    """
    flagged = {flag.completion_id for flag in revision.flags.all()} if recipe.leave_out_flagged else set()
    answers = {}
    for completion in sorted(revision.judgement.item.completions.all(), key=lambda c: c.pk):
        if completion.pk in flagged:
            left_out["flagged"] += 1
        elif fits(completion.text, recipe, left_out):
            answers[completion.pk] = completion
    order = {pk: place for pk, place in places(revision).items() if pk in answers}
    return Said(revision, answers, order)


def fits(text: str, recipe: Recipe, left_out: Counter[str]) -> bool:
    """Whether an answer is as long as the recipe asks for; counts it where it is not."""
    if len(text) < recipe.shortest:
        left_out["shortest"] += 1
    elif recipe.longest is not None and len(text) > recipe.longest:
        left_out["longest"] += 1
    else:
        return True
    return False


def rankings_of(said: Said, recipe: Recipe, left_out: Counter[str]) -> Iterator[Ranking]:
    """The rankings of a judgement that stands for itself."""
    revision = said.revision
    row_id = f"revision-{revision.pk}"
    if "order" in recipe.parts and len(said.order) > 1:
        yield ranking_of(said, row_id, said.order, strength=revision.strength)
    elif "both bad" in recipe.parts and revision.both_bad and len(said.answers) > 1:
        yield ranking_of(said, row_id, dict.fromkeys(said.answers, 1), kind="both bad")
    if "edits" in recipe.parts:
        yield from edits_of(said, recipe, left_out)
    if "norms" in recipe.parts:
        for norm, order in said.verdicts().items():
            if len(set(order.values())) > 1:
                yield ranking_of(
                    said, f"{row_id}-norm-{norm}", order, kind="norm", weight=recipe.norm_weight, norm=norm
                )


def edits_of(said: Said, recipe: Recipe, left_out: Counter[str]) -> Iterator[Ranking]:
    """A ranking for each edit, the edited text first; an edit is always its own rater's."""
    revision = said.revision
    for edit in sorted(revision.edits.all(), key=lambda e: e.completion_id):
        original = said.answers.get(edit.completion_id)
        if original is None or not fits(edit.edited.text, recipe, left_out):
            continue
        yield Ranking(
            row_id=f"revision-{revision.pk}-edit-{edit.completion_id}",
            responses=[edit.edited.text, original.text],
            ranks=[1, 2],
            kind="edit",
            models=[model_of(edit.edited), model_of(original)],
            provenance=provenance_of([said], [edit.edited_id, edit.completion_id]),
            **shared(said),
        )


def ranking_of(
    said: Said,
    row_id: str,
    order: Mapping[int, int | None],
    *,
    kind: Kind = "order",
    weight: float = 1.0,
    strength: float | None = None,
    norm: int | None = None,
) -> Ranking:
    """A ranking of a judgement's answers, in the order of their numbers."""
    return Ranking(
        row_id=row_id,
        responses=[answer.text for answer in said.answers.values()],
        ranks=[order.get(pk) for pk in said.answers],
        weight=weight,
        kind=kind,
        strength=None if strength is None else float(strength),
        models=[model_of(answer) for answer in said.answers.values()],
        provenance=provenance_of([said], list(said.answers), norm=norm),
        **shared(said),
    )


def shared(said: Said) -> dict[str, Any]:
    """What all rankings of a judgement have in common."""
    prompt: Prompt = said.revision.judgement.item.prompt
    kind = said.revision.judgement.rater.kind
    return {
        "prompt_id": str(prompt.pk),
        "split": prompt.split,
        "messages": prompt.messages,
        "origin": kind,
        "source": kind,
    }


def provenance_of(all_said: list[Said], completions: list[int], *, norm: int | None = None) -> dict[str, Any]:
    """The numbers of the records that a row was made from."""
    revisions = [said.revision for said in all_said]
    known: dict[str, Any] = {
        "revisions": [revision.pk for revision in revisions],
        "raters": [said.rater for said in all_said],
        "guidelines": sorted({revision.guideline.number for revision in revisions if revision.guideline}),
        "completions": completions,
    }
    if len(revisions) == 1:
        shown = {pk: place for place, pk in enumerate(revisions[0].order_shown)}
        known["shown"] = [shown.get(pk) for pk in completions]
    if norm is not None:
        known["norm"] = str(norm)
    return known


def model_of(completion: Completion) -> str:
    """What wrote an answer."""
    if completion.edit_of_id is not None:
        return "edit"
    return f"generation {completion.generation.number}" if completion.generation else "imported"
