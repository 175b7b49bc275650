"""The list of forms: what each is called, what it is for, and how its rows look in Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from annotate.formats.writing import others, trl
from annotate.formats.writing.ranking import Ranking

TEXT, NUMBER, WHOLE = pa.string(), pa.float64(), pa.int64()
CHAT = pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))
ORIGIN = {"split": TEXT, "source": TEXT, "strength": NUMBER, "weight": NUMBER}
PROVENANCE = pa.struct(
    [
        *((name, pa.list_(WHOLE)) for name in ("revisions", "raters", "guidelines", "completions", "shown")),
        ("norm", TEXT),
        *((name, WHOLE) for name in ("comparison", "ranking", "demonstration")),
        ("batch", TEXT),
    ]
)


@dataclass(frozen=True)
class Form:
    """One form of export."""

    name: str
    rows: Callable[[Ranking], Iterator[dict[str, Any]]]
    columns: dict[str, pa.DataType]
    lossless: bool = False
    """Whether importing the rows into an empty database and exporting them again gives the same bytes."""
    once: bool = False
    """Whether equal rows are written once, which asks that each fits a prompt."""

    @property
    def schema(self) -> pa.Schema:
        """The columns as Parquet has them."""
        return pa.schema(list(self.columns.items()))


_ALL = (
    Form(
        "trl-preference",
        trl.preference,
        {"prompt": CHAT, "chosen": CHAT, "rejected": CHAT, **ORIGIN},
        lossless=True,
    ),
    Form("trl-preference-plain", trl.preference_plain, {"prompt": TEXT, "chosen": TEXT, "rejected": TEXT, **ORIGIN}),
    Form("trl-implicit", trl.implicit, {"chosen": CHAT, "rejected": CHAT, **ORIGIN}, lossless=True),
    Form("trl-implicit-plain", trl.implicit_plain, {"chosen": TEXT, "rejected": TEXT, **ORIGIN}),
    Form("trl-unpaired", trl.unpaired, {"prompt": CHAT, "completion": CHAT, "label": pa.bool_(), **ORIGIN}),
    Form("trl-unpaired-plain", trl.unpaired_plain, {"prompt": TEXT, "completion": TEXT, "label": pa.bool_(), **ORIGIN}),
    Form("prompt-completion", trl.prompt_completion, {"prompt": CHAT, "completion": CHAT, **ORIGIN}),
    Form("prompt-completion-plain", trl.prompt_completion_plain, {"prompt": TEXT, "completion": TEXT, **ORIGIN}),
    Form("prompt-only", trl.prompt_only, {"prompt": CHAT, "split": TEXT}, once=True),
    Form("prompt-only-plain", trl.prompt_only_plain, {"prompt": TEXT, "split": TEXT}, once=True),
    Form(
        "rankings",
        others.ranked,
        {"messages": CHAT, "responses": pa.list_(TEXT), "ranks": pa.list_(WHOLE), **ORIGIN},
        lossless=True,
    ),
    Form("hh", others.hh, {"chosen": TEXT, "rejected": TEXT, "split": TEXT, "source": TEXT}),
    Form(
        "ultrafeedback",
        others.ultrafeedback,
        {
            "source": TEXT,
            "instruction": TEXT,
            "models": pa.list_(TEXT),
            "completions": pa.list_(pa.struct([("model", TEXT), ("response", TEXT), ("overall_score", NUMBER)])),
            "split": TEXT,
        },
    ),
    Form(
        "arena",
        others.arena,
        {
            **dict.fromkeys(("question_id", "model_a", "model_b", "winner", "judge"), TEXT),
            **{"conversation_a": CHAT, "conversation_b": CHAT, "turn": WHOLE, "split": TEXT},
        },
    ),
    Form(
        "provenance",
        others.provenance,
        {
            **{"row_id": TEXT, "prompt_id": TEXT, "split": TEXT, "messages": CHAT},
            **{"responses": pa.list_(TEXT), "ranks": pa.list_(WHOLE), "weight": NUMBER},
            **{"kind": TEXT, "origin": TEXT, "source": TEXT, "strength": NUMBER},
            **{"models": pa.list_(TEXT), "provenance": PROVENANCE, "scores": pa.list_(NUMBER)},
        },
    ),
)
FORMS = {form.name: form for form in _ALL}
