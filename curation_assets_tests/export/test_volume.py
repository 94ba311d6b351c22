"""Exports into a Unity Catalog volume that isn't mounted: as into a bucket, through the Files API."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation_assets.errors import CurationError
from curation_assets.export.exporting import Exported
from curation_assets.export.protocol import Options
from curation_assets.export.record import exports_of
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.stores import volume_keys
from curation_assets_tests.export.conftest import Command, Export, pipeline_at
from curation_assets_tests.fake_databricks import TOKEN, Fault, Volume

PLACE = "/Volumes/farm/crops/photos/exports/"
Store = Callable[..., Exported]


@pytest.fixture
def there(home: Path, volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The lake; what is tried again is so at once, and the volume is there."""
    monkeypatch.setattr(volume_keys, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("databricks.sdk.retries.random", lambda: 0.0)
    volume.folder.mkdir(parents=True)
    return Pipeline(pipeline_at(home).settings.model_copy(update={"cache_root": tmp_path / "cache"}))


@pytest.fixture
def store(there: Pipeline) -> Store:
    """Export ``leaves`` into the volume, named as a mount would show it."""

    def call(to: str, out: str = "out") -> Exported:
        return there.export_dataset("leaves", None, to, Path(PLACE + out), Options(), LogProgress())

    return call


def files(folder: Path) -> dict[str, bytes]:
    """Content of all below a folder, by path there."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("to", ["folders", "csv"])
def test_files_are_those_that_a_disk_gets(to: str, home: Path, export: Export, store: Store, volume: Volume) -> None:
    (home / "disk").mkdir()
    on_disk, in_volume = export(to, f"disk/{to}"), store(to, to)
    assert (on_disk.images, on_disk.files, on_disk.bytes) == (in_volume.images, in_volume.files, in_volume.bytes)
    assert in_volume.out == PLACE + to
    found, wanted = files(volume.folder / "exports"), files(home / "disk")
    assert found.keys() == wanted.keys()
    naming_the_place = ("croissant.json", "export.json")
    assert [name for name in found if found[name] != wanted[name] and not name.endswith(naming_the_place)] == []
    assert not any((home.parent / "cache/exports").rglob("*"))


def test_an_export_that_broke_off_is_known_as_unfinished_and_gone_on_with(store: Store, volume: Volume) -> None:
    volume.workspace.faults = [Fault("PUT /api/2.0/fs/files", status=403, skip=3)]
    with pytest.raises(CurationError, match=r"WRITE VOLUME on the volume.*what was done stays") as ended:
        store("folders")
    assert TOKEN not in str(ended.value)
    volume.workspace.faults = []
    there = files(volume.folder / "exports/out")
    assert "_unfinished.json" in there
    done = store("folders")
    assert done.resumed == len(there) - 1 > 0
    now = files(volume.folder / "exports/out")
    assert "_unfinished.json" not in now
    assert len([name for name in now if name.endswith((".jpg", ".JPG", ".png"))]) == 6


def test_a_lost_answer_is_known_as_ones_own_and_what_is_there_left_alone(store: Store, volume: Volume) -> None:
    volume.workspace.faults = [Fault("PUT /api/2.0/fs/files", status=503, is_late=True, times=1)]
    store("csv", "list.csv")
    before = files(volume.folder)
    with pytest.raises(CurationError, match="is there already"):
        store("csv", "list.csv")
    volume.put("exports/mine/of somebody.txt", b"mine")
    with pytest.raises(CurationError, match="is not empty"):
        store("folders", "mine")
    assert files(volume.folder) == before | {"exports/mine/of somebody.txt": b"mine"}


def test_who_forgets_is_told_of_exports_in_a_volume(
    there: Pipeline, store: Store, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("list.csv", "second.csv"):
        store("csv", name)
    shutil.rmtree(volume.folder / "exports")
    store("csv", "list.csv")

    def told() -> dict[str, bool]:
        contents = there.tables.directory.latest().read(["content_sha256"])["content_sha256"]
        return {noted.place: noted.is_there for noted in exports_of(there.tables.exports, [("leaves", 1)], contents)}

    assert told() == {f"{PLACE}list.csv": True, f"{PLACE}second.csv": False}
    monkeypatch.delenv("DATABRICKS_HOST")  # who can't ask can't rule it out
    assert told() == {f"{PLACE}list.csv": True, f"{PLACE}second.csv": True}


def test_the_command_takes_it_and_makes_no_folder_of_that_name_where_nothing_is_configured(
    there: Pipeline, command: Command, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATION_CACHE_ROOT", os.fspath(there.settings.cache_root))

    def refused(*options: Any) -> str:
        code, _, said = command("leaves", "--to", "folders", *options)
        assert (code, len(said.splitlines()), TOKEN in said) == (2, 1, False)
        return said

    code, said, _ = command("leaves", "--to", "folders", "--out", f"dbfs:{PLACE}out")
    assert (code, f"{PLACE}out" in said) == (0, True)
    assert len(files(volume.folder / "exports/out")) == 12
    assert "--out" in refused("--out", "dbfs:/Volumes/farm/crops")
    monkeypatch.setenv("CURATION_IMAGES_ROOT", str(volume.root))
    assert "lies in" in refused("--out", f"dbfs:{PLACE}in the tree")
    monkeypatch.delenv("DATABRICKS_HOST")
    monkeypatch.setenv("CURATION_IMAGES_ROOT", str(there.settings.images_root))
    assert "the volume /Volumes/farm/crops/photos isn't mounted here" in refused("--out", f"{PLACE}other")
    assert "cannot configure default credentials" in refused("--out", f"dbfs:{PLACE}other")
    assert not Path("/Volumes").exists()
