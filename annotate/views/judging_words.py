"""Words about answers and their judgements."""

from __future__ import annotations

from django.utils.translation import gettext_lazy

STRENGTHS = {
    1: gettext_lazy("slightly better"),
    2: gettext_lazy("clearly better"),
    3: gettext_lazy("much better"),
}

JUDGING_WORDS = {
    "missingScores": gettext_lazy("scores {count}"),
    "missingPlaces": gettext_lazy("places {count}"),
    "missingChoice": gettext_lazy("the comparison"),
    "missingNorms": gettext_lazy("norms {count}"),
    "open": gettext_lazy("Open: {what}"),
    "complete": gettext_lazy("Complete"),
    "sendAnyway": gettext_lazy("Still open: {what}. Press Submit once more to send it as it is."),
    "nothing": gettext_lazy("Nothing is judged yet: judge at least one answer, or skip the item."),
    "gap": gettext_lazy("No answer has place {place}: give places 1, 2, 3 … without a gap; equals share one."),
    "emptyEdit": gettext_lazy(
        "The edit of answer {letter} is empty: write a better wording, or go back to the original."
    ),
    "tooLong": gettext_lazy("This is {length} characters long; at most {longest} can be stored. Shorten it."),
    "notQuoted": gettext_lazy("This passage is not in answer {letter}: mark it there, or copy it letter by letter."),
    "contradiction": gettext_lazy(
        "{better} stands above {worse}, yet no score of {better} is higher and {worse} scores higher on {criteria}."
    ),
    "contradictionAnyway": gettext_lazy("{what} Change one of them, or press Submit once more if you mean it."),
    "rankMode": gettext_lazy("Place of answer {letter}: {first}–{last} or ← →, 0 for none, Esc to stop."),
    "normMode": gettext_lazy(
        "Answer {letter}, {norm}: c complies, v violates, x not applicable; p marks selected text, q types it; Esc."
    ),
    "edited": gettext_lazy("edited"),
    "flagged": gettext_lazy("flagged"),
    "changed": gettext_lazy("{count} words changed, {percent} %"),
    "changedOne": gettext_lazy("1 word changed, {percent} %"),
    "changedSigns": gettext_lazy("Only signs and spaces changed"),
    "unchanged": gettext_lazy("No change yet"),
    "tooLongToCompare": gettext_lazy("Too long for a live comparison; your wording is kept as you type."),
    "selectFirst": gettext_lazy("First select the passage in answer {letter}, then mark it."),
    "marked": gettext_lazy("Marked: {quote}"),
}
"""What the scripts of the rating page say about an answer that is being judged, with {places} to fill."""
