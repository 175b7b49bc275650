"""How the site's processes write their logs: a line an event, for people or as JSON.

What people wrote never gets in. Lines name methods, paths without their query, statuses and numbers of
records; of an exception only its first line is kept, because PostgreSQL and pydantic quote the
offending values below theirs; a path's secret part is masked.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, resolve

from annotate.observe import context

LONGEST_MESSAGE = 300
"""Characters kept of an exception's own words."""
SECRET_ARGUMENTS = ("token", "secret")
"""Names of the arguments in a route whose values open something."""


def route_of(request: HttpRequest) -> ResolverMatch | None:
    """The route that a request's path leads to, whether or not the request got that far."""
    if request.resolver_match is not None:
        return request.resolver_match
    try:
        return resolve(request.path_info)
    except Resolver404:
        return None


def safe_path(request: HttpRequest) -> str:
    """A request's path without its query, and without such parts as an invitation's token."""
    path, route = request.path, route_of(request)
    arguments = route.kwargs if route else {}
    for name in SECRET_ARGUMENTS:
        if value := arguments.get(name):
            path = path.replace(str(value), "***")
    return path


class SafePaths(logging.Filter):
    """Masks the path in what Django logs of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, its arguments made safe."""
        request = getattr(record, "request", None)
        if isinstance(request, HttpRequest) and isinstance(record.args, tuple):
            record.args = tuple(safe_path(request) if word == request.path else word for word in record.args)
        return True


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        """A traceback with one line, cut short, of what each exception says."""
        lines = []
        for part in traceback.TracebackException(*ei, compact=True).format():
            of_exception = not part.startswith((" ", "\n", "Traceback"))
            lines.append(part.split("\n", 1)[0][:LONGEST_MESSAGE] if of_exception else part.rstrip("\n"))
        return "\n".join(lines)


class TextFormatter(_Formatter):
    """``2026-11-22 09:30:00,123 INFO annotate.access: GET / 200 12 ms [request_id=…]``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, with what it belongs to in brackets."""
        belongs = " ".join(f"{name}={value}" for name, value in context.fields().items())
        line = super().formatMessage(record)
        return f"{line} [{belongs}]" if belongs else line


class JsonFormatter(_Formatter):
    """One JSON object a line: time, level, logger, message, what it belongs to, ``data`` of the line, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. Only fields named here get in, so that no library's ``extra`` can bring a request along."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **context.fields(),
            **getattr(record, "data", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
