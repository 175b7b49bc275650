"""The Chromium of the system, for everything that drives the site's pages."""

from __future__ import annotations

import shutil
import subprocess

from tools import debian

CHINESE_FONT = "fonts-noto-cjk"
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


def have_chinese_font(why: str) -> None:
    """Install a font with Chinese characters where there is none: Chromium would draw boxes.

    :param why: completes "fonts-noto-cjk is missing, which …".
    :raises MissingPackage: where it cannot be installed.
    """
    known = subprocess.run(["fc-list", ":lang=zh-cn", "family"], capture_output=True, text=True, check=False)
    if not known.stdout.strip():
        debian.install(CHINESE_FONT, why)
