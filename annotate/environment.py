"""Typed readers of environment variables. A value that cannot be read stops the start with a sentence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from policy.contract import check_address
from rewardmodel.contract import JobError


def text(name: str, default: str = "", *, one_of: Sequence[str] = (), required: bool = False) -> str:
    """A string, one of a few where they are given; an empty variable counts as unset."""
    value = os.environ.get(name, "").strip() or default
    if required and not value:
        raise ImproperlyConfigured(f"{name} is not set.")
    if one_of and value not in one_of:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of {', '.join(one_of)}.")
    return value


def address(name: str, *, required: bool) -> str:
    """The address of a server without a slash at its end, or an empty string where it may be unset."""
    url = text(name, required=required).rstrip("/")
    try:
        if url:
            check_address(url)
    except JobError as problem:
        raise ImproperlyConfigured(f"{name}: {problem}") from None
    return url


def boolean(name: str, default: bool) -> bool:
    """A truth value: 1, true, yes, on or 0, false, no, off, in any case."""
    value = text(name).lower()
    if not value:
        return default
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}; it must be 1 or 0.")


def integer(name: str, default: int, *, lowest: int, highest: int) -> int:
    """A whole number within bounds, both included."""
    value = text(name, str(default))
    if not value.isascii() or not value.isdigit() or not lowest <= int(value) <= highest:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a whole number from {lowest} to {highest}.")
    return int(value)


def words(name: str) -> list[str]:
    """A list separated by commas; spaces around the parts do not count."""
    return [word for part in text(name).split(",") if (word := part.strip())]


def folder(name: str, default: Path) -> Path:
    """An absolute path; a relative one is taken from the working folder."""
    return Path(text(name, str(default))).expanduser().absolute()


def folders(name: str) -> list[Path]:
    """Absolute paths separated by colons, as in PATH."""
    return [Path(part).expanduser().absolute() for part in text(name).split(":") if part]


def database(name: str, default: str) -> dict[str, Any]:
    """Django's settings of one PostgreSQL database, out of its address.

    :param default: the address where the variable is unset.
    :returns: an entry of ``DATABASES``; parts of the address's query become the driver's options.
    :raises ImproperlyConfigured: when it is not the address of a PostgreSQL database.
    """
    url = text(name, default)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured(f"{name} is not an address such as postgresql://user:password@host/name.") from None
    if parts.scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(f"{name} must begin with postgresql://; PostgreSQL is the only database.")
    if not parts.path.strip("/"):
        raise ImproperlyConfigured(f"{name} does not name a database after the host.")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port or ""),
        "OPTIONS": options,
    }
