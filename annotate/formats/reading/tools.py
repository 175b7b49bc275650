"""Exports of annotation tools: Argilla and Label Studio.

Sources: Argilla 2's ``records.to_list`` and its data sets on the Hub; Label Studio's "JSON format of annotated
tasks" with the controls Pairwise and Ranker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.reading.problems import LeftOut, Wrong
from annotate.formats.reading.rows import Row, answer_of, pair, prompt_of, ranking

PROMPTS = ("prompt", "instruction", "question", "input", "text")
LEFT = ("left", "answer1", "answer_1", "response1", "response_1", "text1", "a")
RIGHT = ("right", "answer2", "answer_2", "response2", "response_2", "text2", "b")


def argilla(value: Mapping[str, Any]) -> list[Row]:
    """A record with ranking questions: one ranking for each submitted answer to one.

    The options of a question are names of fields (``response-1`` for the field ``response_1``).
    """
    fields = value.get("fields", value)
    if not isinstance(fields, dict):
        raise Wrong(_("the record has no fields"))
    prompt = next((fields[name] for name in PROMPTS if name in fields), None)
    by_name = {_plain(name): text for name, text in fields.items()}
    rows = []
    for places in _rankings(value):
        names = [name for name in places if _plain(name) in by_name]
        if len(names) < len(places):
            raise Wrong(_("the ranking names what is no field"))
        answers = [answer_of(by_name[_plain(name)], name) for name in names]
        try:
            rows.append(ranking(fields, prompt_of(prompt), answers, [places[name] for name in names]))
        except LeftOut:
            continue
    if not rows:
        raise LeftOut(_("nobody ranked an answer before another"))
    return rows


def _rankings(value: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """The places that each submitted answer to a ranking question gives."""
    responses = value.get("responses")
    if isinstance(responses, dict):  # as records.to_list() writes them
        questions = list(responses.values())
    else:  # flattened, or a data set on the Hub
        questions = [v for name, v in value.items() if name.endswith((".responses", "-ranking", "_ranking", "ranking"))]
    for answers in questions:
        for answer in answers if isinstance(answers, list) else []:
            if isinstance(answer, dict) and answer.get("status") not in (None, "submitted"):
                continue
            given = answer.get("value") if isinstance(answer, dict) else answer
            if places := _places(given):
                yield places


def _places(given: Any) -> dict[str, float]:
    if isinstance(given, dict) and isinstance(given.get("rank"), list) and isinstance(given.get("value"), list):
        given = [{"rank": r, "value": v} for r, v in zip(given["rank"], given["value"], strict=False)]
    if not isinstance(given, list):
        return {}
    places: dict[str, float] = {}
    for place, entry in enumerate(given, start=1):
        name, rank = (entry.get("value"), entry.get("rank")) if isinstance(entry, dict) else (entry, place)
        if not isinstance(name, str) or not isinstance(rank, (int, float)) or rank != rank:
            raise Wrong(_("the ranking is not a list of names, best first, or of values with ranks"))
        places[name] = float(rank)
    return places


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def label_studio(value: Mapping[str, Any]) -> list[Row]:
    """A task with its annotations: of each, the side that Pairwise selected, or the order that Ranker gave."""
    data, annotations = value.get("data"), value.get("annotations", value.get("completions"))
    if not isinstance(data, dict) or not isinstance(annotations, list):
        raise Wrong(_("the task has no data or no annotations"))
    rows = []
    for annotation in annotations:
        if not isinstance(annotation, dict):
            raise Wrong(_("an annotation is not an object"))
        results = annotation.get("result")
        if annotation.get("was_cancelled") or not isinstance(results, list):
            continue
        for result in results:
            chosen = result.get("value") if isinstance(result, dict) else None
            if isinstance(chosen, dict) and result.get("type") == "pairwise":
                rows += _selected(data, chosen.get("selected"))
            elif isinstance(chosen, dict) and result.get("type") == "ranker":
                rows.append(_ordered(data, chosen.get("ranker")))
    if not rows:
        raise LeftOut(_("nobody preferred an answer to another"))
    return rows


def _selected(data: dict[str, Any], side: Any) -> list[Row]:
    if side not in ("left", "right"):
        raise Wrong(_("neither left nor right is selected"))
    left, right = (answer_of(_first(data, names), names[0]) for names in (LEFT, RIGHT))
    return pair(data, prompt_of(_first(data, PROMPTS)), *((left, right) if side == "left" else (right, left)))


def _ordered(data: dict[str, Any], order: Any) -> Row:
    if isinstance(order, dict):
        order = order.get("_", next(iter(order.values()), None)) if len(order) == 1 else order.get("_")
    items = next((v for v in data.values() if isinstance(v, list)), None)
    if not isinstance(order, list) or not isinstance(items, list):
        raise Wrong(_("the ranking is not a list of the items of the task"))
    texts = {str(i.get("id")): i.get("body", i.get("text", i.get("html"))) for i in items if isinstance(i, dict)}
    if not all(isinstance(name, str) and name in texts for name in order):
        raise Wrong(_("the ranking names what is no item of the task"))
    answers = [answer_of(texts[name], name) for name in order]
    return ranking(data, prompt_of(_first(data, PROMPTS)), answers, [float(n) for n in range(len(order))])


def _first(data: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((data[name] for name in names if name in data), None)
