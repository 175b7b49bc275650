"""Numbers that a form asks for, each with its range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _

from annotate.services import Refused

Text = str | Promise

MOST_DIGITS = 20


@dataclass(frozen=True)
class NumberField:
    """A number that may be left empty."""

    name: str
    label: Text
    help: Text
    lowest: float
    highest: float
    whole: bool

    @property
    def step(self) -> str:
        """Of the form's field."""
        return "1" if self.whole else "any"

    def _written(self, number: float) -> str:
        return f"{number:,.0f}" if number == round(number) else f"{number:g}"

    def read(self, form: Mapping[str, Any]) -> float | int | None:
        """The number that a form sends, or None where the field is empty.

        :raises Refused: when it is no number or out of its range.
        """
        text = str(form.get(self.name, "")).strip()
        if not text:
            return None
        try:
            value = int(text) if self.whole and len(text) < MOST_DIGITS else float(text)
        except ValueError:
            value = math.nan
        if not self.lowest <= value <= self.highest or (self.whole and not isinstance(value, int)):
            raise Refused(
                _("%(field)s must be a number from %(lowest)s to %(highest)s.")
                % {"field": self.label, "lowest": self._written(self.lowest), "highest": self._written(self.highest)},
                place=self.name,
            )
        return value
