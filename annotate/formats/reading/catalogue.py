"""The formats: what each is called, which columns it wants, and how it is recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.formats.reading import research, tools, trl
from annotate.formats.reading.opening import Progress, Record, records
from annotate.formats.reading.problems import LeftOut, Unreadable, Wrong, storable
from annotate.formats.reading.rows import TURN, Row

LOOKED_AT = 20
"""Records by which a format is recognised."""
MOST_COLUMNS = 200
"""That can be mapped."""
AUTO = "auto"
Text = str | Promise


@dataclass(frozen=True)
class Format:
    """A format that can be read."""

    name: str
    label: Text
    parse: Callable[[Mapping[str, Any]], list[Row]]
    needs: Sequence[Sequence[str]]
    """Columns without which it is not this; of each group one."""
    takes: Sequence[str] = ()
    """Other columns that it reads."""
    fits: Callable[[Mapping[str, Any]], bool] = field(default=lambda value: True)
    """What tells it from formats with the same columns."""

    @property
    def columns(self) -> list[str]:
        """The columns to which others can be mapped."""
        return [*(group[0] for group in self.needs), *self.takes, "split", "source", "weight"]


def _is_transcript(value: Mapping[str, Any]) -> bool:
    return all(isinstance(v := value.get(n), str) and TURN.match(v) for n in ("chosen", "rejected"))


def _ends_with_answer(value: Mapping[str, Any]) -> bool:
    turns = value.get("messages", value.get("conversations"))
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, dict) and last.get("role", last.get("from")) in ("assistant", "gpt", "model")


def _has_scores(value: Mapping[str, Any]) -> bool:
    completions = value.get("completions")
    return isinstance(completions, list) and all(isinstance(c, dict) and "response" in c for c in completions)


def _has_ranking(value: Mapping[str, Any]) -> bool:
    flat = any(name.endswith((".responses", "ranking")) and isinstance(v, list) for name, v in value.items())
    return (isinstance(value.get("fields"), dict) and isinstance(value.get("responses"), dict)) or flat


def _is_tree(value: Mapping[str, Any]) -> bool:
    root = value.get("prompt", value)
    return isinstance(root, dict) and isinstance(root.get("replies"), list) and "text" in root


CATALOGUE = (
    Format(
        "label-studio",
        gettext_lazy("Label Studio tasks"),
        tools.label_studio,
        [["data"], ["annotations", "completions"]],
    ),
    Format("oasst", gettext_lazy("OpenAssistant message trees"), research.tree, [["prompt", "replies"]], fits=_is_tree),
    Format(
        "arena",
        gettext_lazy("Chatbot Arena battles"),
        research.battle,
        [["conversation_a"], ["conversation_b"], ["winner"]],
    ),
    Format(
        "arena-columns",
        gettext_lazy("Chatbot Arena battles, outcomes in columns"),
        research.battle_in_columns,
        [["prompt"], ["response_a"], ["response_b"], ["winner_model_a"], ["winner_model_b"], ["winner_tie"]],
    ),
    Format(
        "helpsteer",
        gettext_lazy("HelpSteer preferences (−3 to 3)"),
        research.helpsteer,
        [
            ["prompt", "context"],
            ["response_1", "response1"],
            ["response_2", "response2"],
            ["preference_strength", "overall_preference"],
        ],
    ),
    Format(
        "ultrafeedback",
        gettext_lazy("UltraFeedback: completions with scores"),
        research.ultrafeedback,
        [["instruction", "prompt"], ["completions"]],
        fits=_has_scores,
    ),
    Format(
        "ranked",
        gettext_lazy("Ranked lists"),
        trl.ranked,
        [["prompt", "messages"], ["responses"], ["ranks"]],
        ["strength"],
    ),
    Format(
        "trl-preference",
        gettext_lazy("Preference with a prompt (TRL)"),
        trl.preference,
        [["prompt"], ["chosen"], ["rejected"]],
        ["strength"],
    ),
    Format(
        "hh",
        gettext_lazy("Transcripts (HH-RLHF)"),
        trl.transcripts,
        [["chosen"], ["rejected"]],
        ["strength"],
        _is_transcript,
    ),
    Format(
        "trl-implicit",
        gettext_lazy("Preference, prompt inside (TRL)"),
        trl.implicit,
        [["chosen"], ["rejected"]],
        ["strength"],
    ),
    Format(
        "trl-unpaired", gettext_lazy("Answers with labels (TRL)"), trl.unpaired, [["prompt"], ["completion"], ["label"]]
    ),
    Format("argilla", gettext_lazy("Argilla records with rankings"), tools.argilla, [], fits=_has_ranking),
    Format(
        "prompt-completion",
        gettext_lazy("Demonstrations: prompt and completion"),
        trl.demonstration,
        [["prompt"], ["completion"]],
    ),
    Format(
        "chat",
        gettext_lazy("Demonstrations: whole chats"),
        trl.chat,
        [["messages", "conversations"]],
        fits=_ends_with_answer,
    ),
    Format("completions", gettext_lazy("Answers of models, not judged"), trl.completion, [["prompt"], ["completion"]]),
    Format("prompts", gettext_lazy("Prompts"), trl.prompt, [["prompt", "messages"]], ["reference", "tags"]),
)
"""Those that are told by more come first."""
BY_NAME = {each.name: each for each in CATALOGUE}


@dataclass(frozen=True)
class Recognised:
    """The format that a file seems to have."""

    format: Format | None
    reason: str
    sure: float
    """Share of the records looked at that are rows of the format."""
    columns: list[str]
    """Of the records looked at."""


@dataclass(frozen=True)
class Parsed:
    """What one record became: rows, or why it did not."""

    line: int
    rows: list[Row]
    bad: str = ""
    left_out: str = ""


def recognise(source: Path | BinaryIO, mapping: Mapping[str, str] | None = None) -> Recognised:
    """Look at the first records of a file and tell its format.

    :param mapping: columns renamed before, as for :func:`parsed`.
    :raises Unreadable: when the file cannot be read at all.
    """
    values: list[Mapping[str, Any]] = []
    columns: dict[str, None] = {}
    try:
        for record in records(source):
            if isinstance(record.value, dict):
                columns |= dict.fromkeys(name for name in record.value if isinstance(name, str))
                values.append(_mapped(record.value, mapping or {}))
            if len(values) == LOOKED_AT or record.line > 50 * LOOKED_AT:
                break
    except Unreadable:
        if not values:
            raise
    found = _recognise(values, [name for name in columns if name == storable(name)][:MOST_COLUMNS])
    return replace(found, reason=storable(found.reason))


def _recognise(values: Sequence[Mapping[str, Any]], columns: list[str]) -> Recognised:
    if not values:
        return Recognised(None, _("No record of it can be read."), 0.0, columns)
    for candidate in CATALOGUE:
        fitting = [v for v in values if _has_columns(candidate, v) and candidate.fits(v)]
        if fitting and len(fitting) * 2 >= len(values):
            good = sum(not outcome.bad for outcome in (parse(candidate, Record(0, v), {}) for v in fitting))
            names = [next(n for n in group if n in fitting[0]) for group in candidate.needs] or sorted(fitting[0])[:6]
            reason = _("It has %(columns)s; %(good)d of the first %(all)d records can be read so.") % {
                "columns": ", ".join(names),
                "good": good,
                "all": len(values),
            }
            return Recognised(candidate, reason, good / len(values), columns)
    found = Counter(name for value in values for name in value if isinstance(name, str))
    shown = ", ".join(name[:40] for name, _count in found.most_common(8))
    reason = _("No known format has these columns: %(columns)s. Choose one and say which column is which.")
    return Recognised(None, reason % {"columns": shown}, 0.0, columns)


def _has_columns(candidate: Format, value: Mapping[str, Any]) -> bool:
    return all(any(name in value for name in group) for group in candidate.needs)


def parsed(
    source: Path | BinaryIO,
    chosen: Format,
    mapping: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Iterator[Parsed]:
    """What each record of a file says.

    :param mapping: columns by the names that the format has for them; dots lead into objects, and an empty
        column makes the format's own be passed over.
    :raises Unreadable: when the file cannot be read on.
    """
    for record in records(source, progress):
        yield parse(chosen, record, mapping or {})


def parse(chosen: Format, record: Record, mapping: Mapping[str, str]) -> Parsed:
    """What one record says in a format."""
    if record.problem:
        return Parsed(record.line, [], bad=record.problem)
    if not isinstance(record.value, dict):
        return Parsed(record.line, [], bad=_("not an object"))
    value = _mapped(record.value, mapping)
    try:
        return Parsed(record.line, chosen.parse(value))
    except LeftOut as reason:
        return Parsed(record.line, [], left_out=str(reason))
    except Wrong as reason:
        missing = [" / ".join(group) for group in chosen.needs if not any(name in value for name in group)]
        if missing:
            return Parsed(record.line, [], bad=_("lacks %(columns)s") % {"columns": ", ".join(missing)})
        return Parsed(record.line, [], bad=str(reason))
    except RecursionError:
        return Parsed(record.line, [], bad=_("too deeply nested"))


def _mapped(value: dict[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    if not mapping:
        return value
    renamed = {name: entry for name, entry in value.items() if name not in mapping}
    for name, column in mapping.items():
        entry: Any = value
        for part in column.split(".") if column not in value else [column]:
            entry = entry.get(part) if isinstance(entry, dict) else None
        if column and entry is not None:
            renamed[name] = entry
    return renamed
