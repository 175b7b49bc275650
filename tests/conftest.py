"""What every test may use: the real PostgreSQL and Valkey, started for the first test that wants them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from django.utils import translation

from annotate.embedded import services_running


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the browser's tests last: Playwright leaves an event loop running, beside which no other can be run.

    Each process of `make test` takes file after file in this order.
    """
    items.sort(key=lambda item: "e2e" in item.path.parts)


@pytest.fixture(autouse=True)
def own_language() -> Iterator[None]:
    """Forget the language of a test's last request, which Django's test client leaves behind in its thread."""
    yield
    translation.deactivate()


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """The embedded servers in the tests' data folder."""
    with services_running():
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: None) -> None:
    """Have the servers running before the test database is made."""


def pytest_unconfigure() -> None:
    """Delete the tests' data folder, which :mod:`tests.settings` made."""
    shutil.rmtree(os.environ["HONE_TEST_DATA_DIR"], ignore_errors=True)
