"""The web application, for uvicorn: ``uvicorn annotate.asgi:application``."""

from __future__ import annotations

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_resolver

from annotate import environment
from annotate.bodies import limited
from annotate.uploads import most_bytes

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")

missing = [name for name in ("SECRET_KEY", "ALLOWED_HOSTS") if not environment.text(name)]
if missing and not settings.DEBUG:
    raise ImproperlyConfigured(f"Set {' and '.join(missing)} in the environment: DEBUG is off.")

application = limited(get_asgi_application(), most_bytes)  # type: ignore[arg-type]

# Every page is loaded before the server says that it runs; else the first visitors after a restart wait for it.
get_resolver().url_patterns  # noqa: B018
