"""Slowing down whoever guesses passwords, without locking anybody out for long.

Failed tries of the last 15 minutes are counted in PostgreSQL, so all web processes count together:

* of one account from one address: 5;
* of one account from everywhere, and of one address for all accounts: 50 each.

At a limit the next try waits until the oldest counted failure is 15 minutes old; a try that has to
wait is not counted and costs no password hash. A browser in which the account signed in during the
last 90 days holds a signed cookie and is counted by itself alone (10 failures), so nobody can lock
a person out of the browser that they use: neither an attacker, nor a colleague at the same address.
The scheme is OWASP's "device cookies". Names and addresses are stored only as keyed hashes.
"""

from __future__ import annotations

import ipaddress
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core import signing
from django.db import connection, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from annotate.models import SignInTry
from annotate.services import Refused

WINDOW = timedelta(minutes=15)
PAIR_LIMIT, ACCOUNT_LIMIT, ADDRESS_LIMIT, BROWSER_LIMIT = 5, 50, 50, 10
BROWSER_DAYS = 90
ACCOUNTS_KEPT = 5
"""Accounts that one browser's cookie remembers."""
SALT = "annotate.sign-in"


class TooManyTries(Refused):
    """The try must wait.

    :param wait: how long.
    """

    def __init__(self, wait: timedelta) -> None:
        super().__init__("too many tries to sign in")
        self.wait = wait


@dataclass(frozen=True)
class Limit:
    """How many failures may be counted under a key."""

    key: str
    most: int
    cleared: bool
    """Whether a success forgives the earlier failures, too."""


@dataclass(frozen=True)
class Try:
    """A try that was admitted."""

    limits: Sequence[Limit]
    rows: Sequence[int]


def admit(*, name: str, address: str, browser: str = "") -> Try:
    """Count a try as failed before its password is looked at, so that tries at the same time count, too.

    :param name: the account as typed; whether it exists makes no difference.
    :param address: the client's IP address; an IPv6 address counts with its /64 network.
    :param browser: the value of the browser's cookie, see :func:`remember`.
    :raises TooManyTries: when a limit is reached.
    """
    limits = _limits(name, address, browser)
    now = timezone.now()
    with transaction.atomic():
        _lock(limits)
        _forget_old(now)
        wait = max(_wait(limit, now) for limit in limits)
        if wait > timedelta():
            raise TooManyTries(wait)
        rows = SignInTry.objects.bulk_create(SignInTry(key=limit.key, at=now) for limit in limits)
    return Try(limits, [row.pk for row in rows])


def succeeded(attempt: Try) -> None:
    """Take back that a try was counted, and forgive the failures of the same person before it."""
    SignInTry.objects.filter(pk__in=attempt.rows).delete()
    SignInTry.objects.filter(key__in=[limit.key for limit in attempt.limits if limit.cleared]).delete()


def remember(*, name: str, browser: str) -> str:
    """A new value of the browser's cookie: the account signed in here.

    :param browser: the cookie's value until now, or an empty text.
    """
    known = _read(browser)
    accounts = [_hash("account", name), *(a for a in known.get("accounts", []) if a != _hash("account", name))]
    content = {"browser": known.get("browser") or secrets.token_urlsafe(16), "accounts": accounts[:ACCOUNTS_KEPT]}
    return signing.dumps(content, salt=SALT)


def _limits(name: str, address: str, browser: str) -> list[Limit]:
    account, place = _hash("account", name), _network(address)
    known = _read(browser)
    if account in known.get("accounts", []):
        return [Limit(_hash("browser", known["browser"], account), BROWSER_LIMIT, cleared=True)]
    return [
        Limit(_hash("pair", account, place), PAIR_LIMIT, cleared=True),
        Limit(account, ACCOUNT_LIMIT, cleared=False),
        Limit(_hash("address", place), ADDRESS_LIMIT, cleared=False),
    ]


def _wait(limit: Limit, now: datetime) -> timedelta:
    times = SignInTry.objects.filter(key=limit.key, at__gt=now - WINDOW).order_by("-at").values_list("at", flat=True)
    counted = list(times[: limit.most])
    return counted[-1] + WINDOW - now if len(counted) == limit.most else timedelta()


def _lock(limits: Sequence[Limit]) -> None:
    """Let tries under the same key pass one after another; always in one order, so that none waits in a circle."""
    with connection.cursor() as cursor:
        for number in sorted(int(limit.key[:15], 16) for limit in limits):
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [number])


def _forget_old(now: datetime) -> None:
    old = SignInTry.objects.filter(at__lte=now - WINDOW).select_for_update(skip_locked=True)
    SignInTry.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:1000])).delete()


def _hash(kind: str, *parts: str) -> str:
    if kind == "account":
        parts = tuple(unicodedata.normalize("NFKC", part).strip().casefold() for part in parts)
    return salted_hmac(f"{SALT}.{kind}", "\n".join(parts), algorithm="sha256").hexdigest()


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def _read(browser: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = signing.loads(browser, salt=SALT, max_age=timedelta(days=BROWSER_DAYS))
    except signing.BadSignature:
        return {}
    return content
