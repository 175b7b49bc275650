"""Words for what snapshots count and what forms of export are for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext_lazy as _

WHAT = {
    "judgements": _("judgements"),
    "comparisons": _("imported pairs"),
    "rankings": _("imported rankings"),
    "demonstrations": _("demonstrations"),
    "answers": _("answers"),
}
REASONS = {
    "split": _("in a part of the prompts that was not asked for"),
    "tags": _("without the tags that were asked for"),
    "raters": _("by other raters"),
    "guideline_from": _("under earlier instructions"),
    "since": _("before the first day"),
    "until": _("after the last day"),
    "min_strength": _("too weak a preference, or none stated"),
    "min_raters": _("too few raters for the item"),
    "sources": _("from other sources"),
    "shortest": _("too short"),
    "longest": _("too long"),
    "flagged": _("flagged by the rater"),
    "mix": _("not drawn for the mix"),
}
KINDS = {
    "order": _("rankings and scores"),
    "edit": _("edits"),
    "norm": _("verdicts on norms"),
    "both bad": _("“all are bad”"),
    "comparison": _("imported pairs"),
    "ranked": _("imported rankings"),
    "demonstration": _("demonstrations"),
}
RULES = {
    "every rater": _("Every rater"),
    "majority": _("Majority"),
    "reliability": _("Reliability"),
}
FORMS = {
    "trl-preference": _("Pairs with the prompt apart, as chats: RewardTrainer and DPOTrainer of TRL"),
    "trl-preference-plain": _("The same as plain text"),
    "trl-implicit": _("Pairs of whole chats, the prompt being their common beginning"),
    "trl-implicit-plain": _("The same as plain text"),
    "trl-unpaired": _("Answers called good or bad: KTOTrainer of TRL"),
    "trl-unpaired-plain": _("The same as plain text"),
    "prompt-completion": _("The best answers, edits and demonstrations, to imitate: SFTTrainer of TRL"),
    "prompt-completion-plain": _("The same as plain text"),
    "prompt-only": _("Prompts alone, to be answered in training"),
    "prompt-only-plain": _("The same as plain text"),
    "rankings": _("Whole rankings with ties"),
    "hh": _("Pairs of transcripts, as in Anthropic's HH data"),
    "ultrafeedback": _("Prompts with scored answers, like UltraFeedback"),
    "arena": _("Battles of two answers, ties included, like Chatbot Arena"),
    "provenance": _("Whole rankings with all that is known of where they come from"),
}


def described(left_out: Iterable[dict[str, Any]]) -> list[tuple[Any, Any, int]]:
    """What was left out, in words."""
    return [
        (WHAT.get(entry["what"], entry["what"]), REASONS.get(entry["reason"], entry["reason"]), entry["count"])
        for entry in left_out
    ]
