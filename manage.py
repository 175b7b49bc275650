"""Runs the site's commands: ``python manage.py COMMAND``; ``python manage.py help`` lists them.

A command finds the embedded database and broker running, where the site uses those; what was started for it is
stopped after it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

WITHOUT_SERVERS = {"check", "clean_data", "collectstatic", "demo", "diffsettings", "findstatic", "help", "version"}


def main() -> None:
    """Run one command with the site's settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed for this Python: run `make setup`, then .venv/bin/python manage.py.")
    from annotate.embedded import EmbeddedError, services_running

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    without = command in WITHOUT_SERVERS or command.startswith("-") or {"-h", "--help"} & set(sys.argv)
    # Unwinds the stack, so that servers started here are stopped here.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with contextlib.nullcontext() if without else services_running():
            execute_from_command_line(sys.argv)
    except (EmbeddedError, ImproperlyConfigured) as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
