"""What a lead is shown whose settings were changed by another lead meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext as _

from annotate.views.setup_fields import FIELDS, PLACES
from annotate.views.setup_form import SetupForm


@dataclass(frozen=True)
class Beside:
    """A part as it is in the form and as it is stored."""

    part: str
    label: str
    mine: str
    stored: str


def beside(form: SetupForm, stored: SetupForm, parts: Iterable[str]) -> list[Beside]:
    """Parts of two forms side by side."""
    return [
        Beside(
            part,
            str(FIELDS[part].label if part in FIELDS else PLACES[part]),
            *(_words(f, part) for f in (form, stored)),
        )
        for part in parts
        if part in FIELDS or part in PLACES
    ]


def take(form: SetupForm, part: str, stored: SetupForm) -> None:
    """Put the stored values of a part into the form."""
    if part in FIELDS:
        names = (part, "model") if part == "base_model" else (part,)
        form.values |= {name: stored.values.get(name, "") for name in names}
        return
    inputs = f"{part}-"
    kept = {name: value for name, value in form.values.items() if not name.startswith(inputs)}
    form.values = kept | {name: value for name, value in stored.values.items() if name.startswith(inputs)}
    if part in form.keys:
        form.keys[part] = list(stored.keys[part])


def _words(form: SetupForm, part: str) -> str:
    if part in FIELDS:
        text, kind = form.values.get(part, ""), FIELDS[part].kind
        if kind == "switch":
            return _("on") if text == "on" else _("off")
        return f"{text} %" if text and kind == "percent" else text
    rows = [f"{part}-{key}-" for key in form.keys.get(part, [])]
    beginnings = rows or ([] if part in form.keys else [f"{part}-"])
    found = [(name, text) for start in beginnings for name, text in form.values.items() if name.startswith(start)]
    return "\n".join(text for _name, text in found if text)
