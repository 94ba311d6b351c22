"""Stores that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from curation_assets_tests.stores import azure_server


@pytest.fixture(scope="session")
def azure() -> Iterator[azure_server.Azure]:
    if not azure_server.PROGRAM.exists():
        pytest.skip("azurite is not here: `make .venv/azurite` installs it where there is npm")
    with azure_server.azure_server() as server:
        yield server
