"""The web application, for uvicorn: ``uvicorn annotate.asgi:application``.

Views are synchronous. Django's own ASGI handler would start a thread for each request; here a few threads
answer them all, which takes a quarter less processor time. Fewer still compute at once: those that others keep
from the interpreter's lock only make each other slower. A thread that is sending a long answer keeps nobody.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from annotate import environment
from annotate.bodies import limited
from annotate.uploads import most_bytes

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")

missing = [name for name in ("SECRET_KEY", "ALLOWED_HOSTS") if not environment.text(name)]
if missing and not settings.DEBUG:
    raise ImproperlyConfigured(f"Set {' and '.join(missing)} in the environment: DEBUG is off.")

AT_ONCE = 6
"""Views at work."""


def in_turns(application: WSGIApplication, at_once: int) -> WSGIApplication:
    """Let only so many requests be answered at once; what an answer then sends bit by bit is sent beside others."""
    turns = threading.Semaphore(at_once)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with turns:
            return application(environ, start_response)

    return answer


# No request waits for a connection to the database.
threads = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
views = WSGIMiddleware(in_turns(get_wsgi_application(), AT_ONCE), workers=threads)  # type: ignore[arg-type]
application = limited(views, most_bytes)  # type: ignore[arg-type]

# Every page is loaded before the server says that it runs; else the first visitors after a restart wait for it.
get_resolver().url_patterns  # noqa: B018
