"""Reading the JSON that the rating page sends: every form of nonsense is refused in a sentence."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from django.utils.translation import gettext as _

from annotate.services import Refused

DEEPEST = 8
"""Objects within objects; an answer has five."""
LARGEST = 2**53 - 1
"""The largest whole number that JavaScript counts exactly."""


def read(request: HttpRequest) -> dict[str, Any]:
    """The object that a request carries.

    :raises Refused: when it is too long or is no JSON object.
    """
    try:
        body = json.loads(request.body, parse_constant=_no_number)
    except RequestDataTooBig:
        raise Refused(_("This answer is too long to be stored.")) from None
    except (ValueError, RecursionError):
        raise Refused(_("The answer is not a JSON object.")) from None
    if not isinstance(body, dict) or _deeper_than(body, DEEPEST):
        raise Refused(_("The answer is not a JSON object."))
    return body


def unique_id(body: dict[str, Any], name: str) -> uuid.UUID:
    """A UUID of the body.

    :raises Refused: when there is none.
    """
    try:
        return uuid.UUID(body.get(name))
    except (ValueError, TypeError, AttributeError):
        raise Refused(_("The submission has no valid uuid."), place=name) from None


def number(body: dict[str, Any], name: str) -> int | None:
    """A whole number of the body that is not negative, or None where it is left out.

    :raises Refused: when it is something else.
    """
    value = body.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST):
        return value
    raise Refused(_("%(name)s must be a whole number.") % {"name": name}, place=name)


def _no_number(name: str) -> None:
    raise ValueError(name)


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _step in range(depth):
        containers = (entry for entry in level if isinstance(entry, (dict, list)))
        level = [inner for entry in containers for inner in (entry.values() if isinstance(entry, dict) else entry)]
    return any(isinstance(entry, (dict, list)) for entry in level)
