"""The Chromium of the system, for everything that drives the site's pages."""

from __future__ import annotations

import shutil

from tools import debian

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")


def chromium(why: str) -> str:
    """Path of Chromium, which is installed where there is none.

    :param why: completes "chromium is missing, which …".
    :raises MissingPackage: where it cannot be installed.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        debian.install("chromium", why)
        found = shutil.which("chromium") or "chromium"
    return found
