"""The site's settings for tests: a data folder of their own, and static files as they lie in the tree."""

from __future__ import annotations

import os
import tempfile

# Before the site's settings are read, so that no test reaches a real site, nor one that another process of pytest runs.
# Processes that tests start inherit it all, with such addresses as the test gave them.
if os.environ.get("HONE_TEST_WORKER") != os.environ.get("PYTEST_XDIST_WORKER", ""):
    os.environ["HONE_TEST_WORKER"] = os.environ.get("PYTEST_XDIST_WORKER", "")
    os.environ["HONE_TEST_DATA_DIR"] = os.environ["HONE_DATA_DIR"] = tempfile.mkdtemp(prefix="hone-test-")
    for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
        os.environ.pop(name, None)
os.environ |= {
    "DEBUG": "0",
    "SECRET_KEY": "tests",
    "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
    "HONE_HTTPS": "0",
}

from annotate.settings import *  # noqa: F403
from annotate.settings import INSTALLED_APPS, STATIC_ROOT, STORAGES

STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # the middleware that serves it warns of one that is not there

STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# The live server looks for this very name before it serves static files.
INSTALLED_APPS = ["django.contrib.staticfiles" if "staticfiles" in app else app for app in INSTALLED_APPS]
