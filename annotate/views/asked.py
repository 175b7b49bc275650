"""What the address of a list asks for."""

from __future__ import annotations

from annotate.access import SignedInRequest

LONGEST = 500
"""Characters; more is nothing that anybody searches for."""


def asked(request: SignedInRequest, *names: str) -> dict[str, str]:
    """Values of the address's query, trimmed; empty where they are left out.

    NUL is dropped, because PostgreSQL takes it for no character.
    """
    return {name: request.GET.get(name, "").replace("\x00", "").strip()[:LONGEST] for name in names}
