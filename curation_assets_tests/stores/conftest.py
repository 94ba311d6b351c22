"""Stores that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation_assets_tests.fake_databricks import TOKEN, Fake, serving
from curation_assets_tests.stores import azure_server


@dataclass(frozen=True)
class Volume:
    """A volume whose files lie in a folder of the server, as a mount would show them."""

    workspace: Fake
    root: str = "/Volumes/farm/crops/photos"

    @property
    def folder(self) -> Path:
        return self.workspace.file(self.root)

    def put(self, name: str, data: bytes) -> None:
        """Write a file, not counted."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, method: str = "GET") -> dict[str, int]:
        """How often each file was asked for with a method."""
        start = f"{self.root}/".lstrip("/")
        return {path.removeprefix(start): count for path, count in self.workspace.asked(method).items()}


@pytest.fixture
def volume(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volume]:
    home = tmp_path_factory.mktemp("workspace")
    with serving(home) as workspace:
        monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(home / "no such file"))
        yield Volume(workspace)


@pytest.fixture(scope="session")
def azure() -> Iterator[azure_server.Azure]:
    if not azure_server.PROGRAM.exists():
        pytest.skip("azurite is not here: `make .venv/azurite` installs it where there is npm")
    with azure_server.azure_server() as server:
        yield server
