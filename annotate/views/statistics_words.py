"""Words for what statistics come to: why one is undefined, and what a gate's figures say."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.models import User
from annotate.services.gate import Verdict
from annotate.stats.estimate import Estimate, Reason, Undefined

REASONS: dict[Reason, Promise] = {
    Reason.NO_DATA: _("There is nothing to compute it from."),
    Reason.NO_OVERLAP: _("No two raters judged the same."),
    Reason.NO_THREE: _("No three raters judged the same: where two differ, nothing says who is right."),
    Reason.BY_CHANCE: _("The raters do not agree more than by chance, so that nothing says who is right."),
    Reason.ONE_RATER: _("There is only one rater."),
    Reason.ONE_MODEL: _("There is only one model."),
    Reason.TOO_FEW: _("There are too few judgements to tell."),
    Reason.NO_VARIATION: _("All answers are the same, so that chance alone explains the agreement."),
    Reason.NOT_CONNECTED: _("Some models are not compared with the others, or never lose to them or never beat them."),
    Reason.ONE_SIDED: _("The comparisons go one way: some strengths would be without bound."),
    Reason.CONFOUNDED: _("Style and models always go together, so that what each does cannot be told apart."),
    Reason.ALL_TIES: _("All comparisons are ties."),
    Reason.NO_REFERENCES: _("There are no reference answers."),
}
"""Why a statistic is undefined."""

MEASURES = {
    "reward": _("the reward is not shown to rise"),
    "kl": _("the KL is over its budget"),
    "length": _("the length is out of bounds"),
    "end_rate": _("fewer answers end"),
    "disagreement": _("the reward models drift apart"),
}
"""What is wrong with a measure that has not passed."""

STYLES = {"words": _("length in words"), "list_lines": _("list lines"), "headers": _("headers")}
"""What is held equal of two answers' style."""

VERDICTS: dict[Verdict, Promise] = {
    Verdict.NOT_PLANNED: _("No comparison by raters is planned yet: evaluate the generation to draw its test prompts."),
    Verdict.TOO_EARLY: _("It is too early to say: the planned number of prompts is not in."),
    Verdict.BETTER: _("The raters prefer it to its parent."),
    Verdict.WORSE: _("The raters prefer its parent."),
    Verdict.UNDECIDED: _("The raters cannot tell it from its parent on so many prompts."),
    Verdict.SHORT: _("It ended short: too few of the planned prompts could be judged for a verdict."),
    Verdict.DRIFTS: _(
        "The outcomes drift: no one win-rate fits them from first to last, as when raters or prompts change on the way."
    ),
}

KINDS: dict[str, Promise] = {
    User.Kind.HUMAN: _("People"),
    User.Kind.SIMULATED: _("Simulated rater"),
    User.Kind.AI: _("AI judge"),
}
"""Whose verdict it is."""

VERDICTS_OF_PROGRAMS: dict[Verdict, Promise] = {
    Verdict.BETTER: _("It is preferred to its parent; no person's judgement is in this."),
    Verdict.WORSE: _("Its parent is preferred; no person's judgement is in this."),
    Verdict.UNDECIDED: _("It cannot be told from its parent on so many prompts; no person's judgement is in this."),
}
"""What a program says where people would say it in other words."""

IN_SHORT: dict[str, Promise] = {
    Verdict.NOT_PLANNED: _("no comparison was planned"),
    Verdict.TOO_EARLY: _("too early to say"),
    Verdict.BETTER: _("better than its parent"),
    Verdict.WORSE: _("worse than its parent"),
    Verdict.UNDECIDED: _("undecided"),
    Verdict.SHORT: _("ended short"),
    Verdict.DRIFTS: _("outcomes drift"),
}
"""Verdicts as they stand in a list."""

METRICS = {
    "exact match": (
        _("Exact match"),
        _("Share of answers with the same words as the reference; accuracy for classes."),
    ),
    "token F1": (_("Token F1"), _("Overlap of words with the reference, from 0 to 1.")),
    "ROUGE-L": ("ROUGE-L", _("Longest common run of words in order with the reference, from 0 to 1.")),
    "chrF": ("chrF", _("Overlap of runs of characters with the reference, from 0 to 100.")),
    "BLEU": ("BLEU", _("Overlap of runs of words with the references, from 0 to 100.")),
}
"""Metrics against reference answers: name and meaning."""


def verdict_words(verdict: Verdict, kind: str) -> str:
    """A verdict in a sentence that begins with whose it is.

    :param kind: of the raters who judged.
    """
    by_program = VERDICTS_OF_PROGRAMS.get(verdict) if kind != User.Kind.HUMAN else None
    return f"{KINDS[kind]}: {by_program or VERDICTS[verdict]}"


def why(found: Estimate | Undefined) -> str:
    """Why a statistic is undefined; empty where it is not."""
    return str(REASONS[found.reason]) if isinstance(found, Undefined) else ""
