"""Raters without browsers: clients that speak to the site as the rating page's scripts do.

Django must be set up before a function that makes people or sessions is called.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

import httpx

DESK_DATA = re.compile(r'id="desk-data"[^>]*>(.*?)</script>', re.DOTALL)
LETTER = re.compile(r'data-answer="([A-I])"')
CSRF = "a" * 32
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Piece:
    """What the site laid on the desk: an item, or no slot and the page that says why."""

    slot: int | None
    letters: list[str]
    html: str


def sessions(users: list[Any]) -> list[dict[str, str]]:
    """Cookies of people who are signed in, without the seconds that hashing their passwords takes."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    cookies = []
    for user in users:
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        cookies.append({settings.SESSION_COOKIE_NAME: str(session.session_key), settings.CSRF_COOKIE_NAME: CSRF})
    return cookies


def members(project: Any, count: int) -> list[Any]:
    """New raters of a project."""
    from annotate.models import Membership, User

    users = User.objects.bulk_create(User(username=f"rater{n:02}", password="!") for n in range(count))
    Membership.objects.bulk_create(Membership(user=user, project=project, role=Membership.Role.RATER) for user in users)
    return users


class Rater:
    """One signed-in rater of the project ``garden``.

    What gets no answer is sent again until it gets one, as the page does: with the same uuid.

    :param addresses: of the site's web servers; requests go to them in turn.
    """

    def __init__(self, addresses: list[str], cookies: dict[str, str]) -> None:
        self.addresses = addresses
        self.requests = 0
        self.retries = 0
        self.faults = 0
        self.client = httpx.AsyncClient(cookies=cookies, headers={"X-CSRFToken": CSRF}, timeout=60)

    async def piece(self, name: str) -> Piece:
        """Fetch ``next`` or ``ahead``."""
        html = (await self._request("GET", f"rate/{name}")).text
        found = DESK_DATA.search(html)
        slot = json.loads(found.group(1)).get("slot") if found else None
        return Piece(slot, LETTER.findall(html), html)

    async def submit(
        self, slot: int, key: uuid.UUID, answer: dict[str, Any], ahead: int | None = None
    ) -> dict[str, Any]:
        """Send an answer; gives what the site says of it, with its ``status``."""
        body = {"uuid": str(key), "version": None, "answer": answer, "ahead": ahead}
        return await self._post(f"slots/{slot}/submit", body)

    async def skip(self, slot: int, ahead: int | None = None) -> dict[str, Any]:
        """Give an item back."""
        return await self._post(f"slots/{slot}/skip", {"reason": "unsure", "note": "", "ahead": ahead})

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = await self._request("POST", path, json=body)
        return {"status": response.status_code, **response.json()}

    async def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        while True:
            address = self.addresses[self.requests % len(self.addresses)]
            self.requests += 1
            try:
                response = await self.client.request(method, f"{address}/p/garden/{path}", **more)
                if response.status_code < 500:
                    return response
                self.faults += 1
            except httpx.TransportError:
                pass
            self.retries += 1
            await asyncio.sleep(PAUSE_SECONDS)


def ranking(letters: list[str], number: int) -> dict[str, Any]:
    """An answer that ranks everything, and is unlike that of another number."""
    turned = letters[number % len(letters) :] + letters[: number % len(letters)]
    return {"ranks": {letter: place for place, letter in enumerate(turned, 1)}, "rationale": f"answer {number}"}
