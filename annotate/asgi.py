"""The web application, for uvicorn: ``uvicorn annotate.asgi:application``."""

from __future__ import annotations

import os

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from annotate import environment
from annotate.bodies import limited
from annotate.bridge import Bridge
from annotate.uploads import most_bytes

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")

missing = [name for name in ("SECRET_KEY", "ALLOWED_HOSTS") if not environment.text(name)]
if missing and not settings.DEBUG:
    raise ImproperlyConfigured(f"Set {' and '.join(missing)} in the environment: DEBUG is off.")

AT_ONCE = 6
"""Views at work."""

# No request waits for a connection to the database.
threads = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
application = limited(Bridge(get_wsgi_application(), at_once=AT_ONCE, threads=threads), most_bytes)

# Every page is loaded before the server says that it runs; else the first visitors after a restart wait for it.
get_resolver().url_patterns  # noqa: B018
