"""Filling in a project's form as a browser does: everything that the page shows, with changes."""

from __future__ import annotations

from typing import Any

from django.test import Client
from django.urls import reverse

from tests.annotate.factory import model_folder

WORDS = {f"criteria-n7-anchors-{value}": f"word {value}" for value in range(1, 6)}
"""Words for each value of a criterion that was added under the key n7."""


def typed(client: Client, address: str, **changes: Any) -> dict[str, Any]:
    """What a browser would send from a page with a project's form; nothing for other pages.

    A new project is put on a folder that looks like a model. A change to None takes the input away,
    as a switch that is turned off is not sent.
    """
    page = client.get(address)
    form = page.context["form"] if page.context and "form" in page.context else None
    if form is None or not hasattr(form, "keys"):
        return {}
    values = {name: value for name, value in form.values.items() if value or not name.endswith("_on")}
    own = {} if address != reverse("new_project") else {"model": "folder", "base_model": str(model_folder())}
    sent = {**values, **form.keys, "seen": page.context["seen"], **own, **changes}
    return {name: value for name, value in sent.items() if value is not None}
