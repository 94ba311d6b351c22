"""Photographs in a Unity Catalog volume that isn't mounted: read through the Files API as a mount would give them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import polars as pl
import pytest

from curation_assets.errors import CurationError
from curation_assets.images.listing import FolderListing, ListedFile, TreeListing
from curation_assets.images.source import LocalTree
from curation_assets.images.store_tree import StoreTree
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.scan.volume_times import as_known
from curation_assets.settings import load_settings
from curation_assets.stores import volume_keys
from curation_assets.stores.volume_keys import VolumeKeys
from curation_assets.stores.volumes import VolumeAddress
from curation_assets_tests.commands.conftest import called
from curation_assets_tests.conftest import copy_registry, jpeg
from curation_assets_tests.fake_databricks import TOKEN, Fault, Volume

ODD = "rye/plot ü%20#1+2 ?&=/01.jpg"
NAMES = ("maize/00.jpg", "maize/01.jpg", "rye/plot 1/00.jpg", ODD)
SECOND = 10**9


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is so at once."""
    monkeypatch.setattr(volume_keys, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("databricks.sdk.retries.random", lambda: 0.0)


@pytest.fixture
def photographs(volume: Volume) -> dict[str, bytes]:
    """In the volume."""
    made = {name: jpeg(number) for number, name in enumerate(NAMES)}
    for name, data in made.items():
        volume.put(name, data)
    return made


@pytest.fixture
def tree(volume: Volume, photographs: dict[str, bytes]) -> StoreTree:
    return StoreTree(VolumeKeys(VolumeAddress.parse(volume.root)))


@pytest.fixture
def make(
    volume: Volume, photographs: dict[str, bytes], tmp_path: Path, registered_model: Path
) -> Callable[..., Pipeline]:
    def made(**settings: Any) -> Pipeline:
        given = {"images_root": volume.root, "lake_root": tmp_path / "lake"} | settings
        of = load_settings(model_source="demo", settle_seconds=0, **given)
        if not of.mlflow_dir.exists():
            copy_registry(registered_model, of.mlflow_dir)
        return Pipeline(of)

    return made


def scan(pipeline: Pipeline) -> list[Any]:
    return pipeline.scan(pipeline.source.list_folders().folders, LogProgress())


def differing(pipeline: Pipeline) -> list[str]:
    """Folders that a sensor would ask a run for."""
    return [change.folder for change in pipeline.folder_changes(pipeline.source.list_folders())]


def rows(pipeline: Pipeline) -> pl.DataFrame:
    table = pipeline.tables.directory.latest()
    return table.read([column.name for column in table.spec.columns]).drop("_file").sort("relative_path")


def vectors(pipeline: Pipeline) -> dict[str, list[float]]:
    return dict(pipeline.tables.embeddings.latest().read(["relative_path", "embeddings"]).drop("_file").iter_rows())


def listed(tree: StoreTree, folder: str) -> list[ListedFile]:
    return [ListedFile._make(row) for row in tree.list_folder(folder).files.iter_rows()]


@dataclass(frozen=True)
class Mounted(LocalTree):
    """The volume as a mount shows it, whose times are finer, and which knows no other of a file."""

    at: str = ""

    @property
    def location(self) -> str:
        return self.at

    def location_of(self, relative_path: str) -> str:
        return f"{self.at}/{relative_path}"

    def list_folders(self, only: Iterable[str] | None = None, *, within: Iterable[str] | None = None) -> TreeListing:
        found = super().list_folders(only, within=within)
        return replace(found, folders={name: self._shown(each) for name, each in found.folders.items()})

    def list_folder(self, folder: str) -> FolderListing:
        return self._shown(super().list_folder(folder))

    @staticmethod
    def _shown(listing: FolderListing) -> FolderListing:
        return replace(listing, files=listing.files.with_columns(ctime_ns="mtime_ns"))


@pytest.mark.parametrize("stored", [True, False])
def test_rows_and_vectors_are_those_of_a_disk_for_a_request_an_image(
    stored: bool, volume: Volume, photographs: dict[str, bytes], make: Callable[..., Pipeline], tmp_path: Path
) -> None:
    pipeline = make(store_images=stored)
    run(pipeline, LogProgress(), curate=False)
    assert volume.read() == dict.fromkeys(photographs, 1 if stored else 2)
    assert not volume.read("HEAD")
    disk = Pipeline(
        pipeline.settings.model_copy(update={"images_root": volume.folder, "lake_root": tmp_path / "other"})
    )
    run(disk, LogProgress(), curate=False)
    of_places = ["file_path", "created_at", "modified_at", "mtime_ns"]
    assert rows(pipeline).drop(of_places).equals(rows(disk).drop(of_places))
    assert rows(pipeline)["mtime_ns"].equals(rows(disk)["mtime_ns"] // 10**6 * 10**6)
    assert vectors(pipeline) == vectors(disk)
    assert rows(pipeline)["file_path"].to_list() == [f"{volume.root}/{name}" for name in sorted(photographs)]


def test_what_did_not_change_is_not_read_again_and_what_did_is(
    volume: Volume, photographs: dict[str, bytes], make: Callable[..., Pipeline]
) -> None:
    scan(make())
    volume.workspace.calls.clear()
    scan(make())
    assert not volume.read()
    assert differing(make()) == []
    volume.put("maize/00.jpg", jpeg(99, (80, 60)))
    (volume.folder / "maize/01.jpg").unlink()
    volume.put("rye/plot 1/new.jpg", jpeg(98))
    scan(make())
    assert volume.read() == {"maize/00.jpg": 1, "rye/plot 1/new.jpg": 1}
    assert rows(make())["relative_path"].to_list() == sorted({*photographs, "rye/plot 1/new.jpg"} - {"maize/01.jpg"})


@pytest.mark.parametrize("whole", [True, False])
def test_going_from_the_api_to_a_mount_and_back_reads_nothing(
    whole: bool, volume: Volume, make: Callable[..., Pipeline], opened: list[str]
) -> None:
    for name in NAMES:
        time_ns = 1_700_000_000 * SECOND + (0 if whole else 123_456_789)
        os.utime(volume.folder / name, ns=(time_ns, time_ns))
    by_api, mounted = make(), make()
    mounted.source = Mounted(volume.folder, at=volume.root)
    scan(by_api)
    before = rows(by_api)
    assert differing(mounted) == []
    scan(mounted)
    assert rows(mounted).equals(before)
    assert not opened
    volume.put("maize/00.jpg", jpeg(97, (80, 60)))
    scan(mounted)
    assert opened == ["maize/00.jpg"]
    volume.workspace.calls.clear()
    assert differing(by_api) == []
    scan(by_api)
    assert not volume.read()


def test_only_times_that_are_one_cut_to_seconds_or_thousandths_are_the_same() -> None:
    known_at = 1_700_000_000 * SECOND + 123 * 10**6
    told = {
        "same": known_at,
        "finer": known_at + 456_789,
        "of seconds": 1_700_000_000 * SECOND,
        "later": known_at + 10**6,
        "next": 1_700_000_001 * SECOND,
        "other size": known_at + 1,
        "new": known_at,
    }
    schema = {"relative_path": pl.String, "size_bytes": pl.Int64, "mtime_ns": pl.Int64}
    now = pl.DataFrame([(name, 1, at) for name, at in told.items()], schema, orient="row")
    now = now.with_columns(ctime_ns="mtime_ns", etag=pl.lit(None, pl.String))
    of = [(name, 2 if name == "other size" else 1, known_at) for name in told if name != "new"]
    known = pl.DataFrame(of, schema, orient="row").with_columns(
        created_at=pl.from_epoch(pl.lit(known_at // 1000 + 7), "us").dt.replace_time_zone("UTC")
    )
    found = as_known(now, known, "/Volumes/c/s/v")
    followed = {"same", "finer", "of seconds"}
    assert dict(found.select("relative_path", "mtime_ns").iter_rows()) == told | dict.fromkeys(followed, known_at)
    assert set(found.filter(pl.col("ctime_ns") == known_at + 7000)["relative_path"]) == followed
    assert as_known(now, known, "/mnt/c/s/v").equals(now)


def test_a_file_that_is_replaced_between_listing_and_reading_is_a_changed_one(
    volume: Volume, make: Callable[..., Pipeline]
) -> None:
    new = jpeg(96, (80, 60))
    volume.workspace.faults.append(Fault("photos/maize/00.jpg", content=new, times=1))
    scan(make())
    row = rows(make()).row(by_predicate=pl.col("relative_path") == "maize/00.jpg", named=True)
    assert (row["status"], row["content_sha256"]) == ("ok", hashlib.sha256(new).hexdigest())
    volume.workspace.calls.clear()
    scan(make())
    assert not volume.read()


def test_pages_of_a_listing_are_all_read_each_directory_once(volume: Volume, tree: StoreTree) -> None:
    volume.workspace.page_size = 1
    volume.put("rye/thumbnails/deep/1.jpg", b"x")
    found = tree.list_folders()
    assert {name: len(each.files) for name, each in found.folders.items()} == {
        "maize": 2,
        "rye/plot 1": 1,
        "rye/plot ü%20#1+2 ?&=": 1,
    }
    asked = volume.workspace.asked("GET", f"/api/2.0/fs/directories{volume.root}")
    assert asked == {"": 2, "/maize": 2, "/rye": 3, "/rye/plot 1": 1, "/rye/plot ü%20#1+2 ?&=": 1}
    volume.workspace.calls.clear()
    tree.list_folder("maize")
    assert volume.workspace.asked("GET", f"/api/2.0/fs/directories{volume.root}") == {"/maize": 2}


def test_directories_and_files_are_asked_for_many_at_once(
    volume: Volume, tree: StoreTree, photographs: dict[str, bytes]
) -> None:
    gates = {"fs/directories/Volumes/farm/crops/photos/rye/plot": 2, "fs/files/": len(photographs)}
    volume.workspace.gates = {part: Barrier(number, timeout=20) for part, number in gates.items()}
    files = [ListedFile._make(row) for each in tree.list_folders().folders.values() for row in each.files.iter_rows()]
    begun = tree.begun(files)
    assert {file.relative_path: begun.read_listed(file).data for file in files} == photographs


def test_an_empty_folder_is_an_empty_tree_and_one_that_is_not_there_an_error(volume: Volume) -> None:
    volume.folder.joinpath("empty").mkdir(parents=True)
    tree = StoreTree(VolumeKeys(VolumeAddress.parse(f"dbfs:{volume.root}/empty/")))
    assert tree.list_folders().folders == {}
    (volume.folder / "empty").rmdir()
    with pytest.raises(CurationError, match=f"^images root {volume.root}/empty cannot be listed: there is no such"):
        tree.list_folders()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refusal_of_the_moment_is_tried_again(
    status: int, volume: Volume, tree: StoreTree, photographs: dict[str, bytes]
) -> None:
    volume.workspace.faults = [Fault("GET", status=status, times=1)]
    assert len(listed(tree, "maize")) == 2
    volume.workspace.faults = [Fault("GET", status=status, times=1)]
    assert tree.read(ODD) == photographs[ODD]
    assert volume.read() == {ODD: 2}


def test_a_body_that_breaks_off_is_read_again_and_never_taken_for_the_file(
    volume: Volume, tree: StoreTree, photographs: dict[str, bytes]
) -> None:
    volume.workspace.faults = [Fault("GET", cut=100, times=2)]
    assert tree.read("maize/00.jpg") == photographs["maize/00.jpg"]
    volume.workspace.faults = [Fault("GET", cut=100)]
    with pytest.raises(CurationError, match=f"^{volume.root} can't be reached") as ended:
        tree.read("maize/00.jpg")
    assert "\n" not in str(ended.value)


def test_a_file_that_is_gone_is_its_own_fault(volume: Volume, tree: StoreTree) -> None:
    assert tree.is_there("maize/00.jpg")
    tree.delete("maize/00.jpg")
    tree.delete("maize/00.jpg")
    assert not tree.is_there("maize/00.jpg")
    with pytest.raises(FileNotFoundError, match=f"{volume.root}/maize/00.jpg"):
        tree.read("maize/00.jpg")
    assert not tree.stands("oats")
    assert tree.stands("maize")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "UNAUTHENTICATED: Credential was not sent .* renew DATABRICKS_TOKEN or the profile"),
        (403, "User does not have READ VOLUME .* USE SCHEMA and USE CATALOG are needed"),
        (500, "INTERNAL_ERROR: The service can't answer now"),
        (503, "TEMPORARILY_UNAVAILABLE: The service can't answer now"),
    ],
)
def test_what_holds_for_the_whole_volume_ends_a_run_in_a_line_and_the_next_one_goes_on(
    status: int,
    said: str,
    volume: Volume,
    photographs: dict[str, bytes],
    make: Callable[..., Pipeline],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(volume_keys, "_RETRY_SECONDS", 1)
    of_files = Fault("GET /api/2.0/fs/files", status=status, pause=1, skip=2)
    for fault in (Fault("GET /api/2.0/fs", status=status, pause=1), of_files):
        volume.workspace.faults = [fault]
        with pytest.raises(CurationError, match=said) as ended:
            scan(make())
        assert "\n" not in str(ended.value)
        assert TOKEN not in str(ended.value)
        assert "Config:" not in str(ended.value)
    assert "what was done stays" in str(ended.value)
    volume.workspace.faults = []
    scan(make())
    assert set(rows(make())["status"]) == {"ok"}
    assert len(rows(make())) == len(photographs)


def test_forgetting_deletes_the_file(volume: Volume, make: Callable[..., Pipeline]) -> None:
    from curation_assets.forgetting.forget import forget

    pipeline = make()
    scan(pipeline)
    volume.workspace.denied = "DELETE"
    with pytest.raises(CurationError, match="WRITE VOLUME on the volume"):
        forget(pipeline, [["maize/00.jpg"]], [], LogProgress(), dry_run=False, delete_files=True)
    volume.workspace.denied = None
    forget(pipeline, [["maize/00.jpg"]], [], LogProgress(), dry_run=False, delete_files=True)
    assert not (volume.folder / "maize/00.jpg").exists()
    assert "maize/00.jpg" not in rows(pipeline)["relative_path"].to_list()


def test_places_that_tables_tell_are_read_also_of_another_volume(
    volume: Volume, tree: StoreTree, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    other = volume.workspace.file("/Volumes/farm/crops/old/a b.jpg")
    other.parent.mkdir(parents=True)
    other.write_bytes(b"two")
    (tmp_path / "3.jpg").write_bytes(b"three")
    for location, data in (
        (f"{volume.root}/{ODD}", photographs[ODD]),
        ("/Volumes/farm/crops/old/a b.jpg", b"two"),
        (str(tmp_path / "3.jpg"), b"three"),
    ):
        assert tree.begun_at(location)() == data
        assert tree.size_at(location) == len(data)


def test_it_can_be_sent_to_another_process_and_many_reads_share_one_client(
    volume: Volume, tree: StoreTree, photographs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(tree)
    assert TOKEN.encode() not in sent
    assert TOKEN not in repr(tree)
    volume_keys._open.cache_clear()
    again = pickle.loads(sent)
    files = [file for folder in again.list_folders().folders for file in listed(again, folder)]
    begun = again.begun(files)
    assert {file.relative_path: begun.read_listed(file).data for file in files} == photographs
    assert volume_keys._open.cache_info().misses == 1
    assert volume.workspace.calls.count("GET /.well-known/databricks-config") == 1


@pytest.fixture
def curation(
    make: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command in this process, with the volume as images root."""
    settings = make().settings
    monkeypatch.setenv("CURATION_IMAGES_ROOT", str(settings.images_root))
    monkeypatch.setenv("CURATION_LAKE_ROOT", str(settings.lake_root))
    monkeypatch.setenv("CURATION_MODEL_SOURCE", "demo")
    return called(monkeypatch, capfd)


def test_the_command_takes_paths_in_volumes(
    volume: Volume, curation: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text, error = curation("run", "--no-curate", "--json")
    assert (code, json.loads(text)["images_root"]) == (0, volume.root), error
    assert TOKEN not in text + error
    marked = f"dbfs:{volume.root}"
    code, text, _ = curation("run", "--no-curate", "--images", marked, "--folders", f"{marked}/rye/plot 1")
    assert (code, "0 files read" in text, "rye/plot 1" in text) == (0, True, True)
    for file in (f"{volume.root}/{ODD}", f"{marked}/{ODD}"):
        code, text, _ = curation("show", file)
        assert (code, ODD in text) == (0, True)
    code, _, error = curation("run", "--lake", "dbfs:/Volumes/farm/crops/lake")
    assert (code, error.count("\n")) == (2, 1)
    assert "mount it and write /Volumes/…, or write the address of its external location" in error
    code, _, error = curation("run", "--images", "dbfs:/Volumes/farm/crops")
    assert (code, error.count("\n"), "dbfs:/Volumes/catalog/schema/volume" in error) == (2, 1, True)
    monkeypatch.delenv("DATABRICKS_HOST")
    code, _, error = curation("run")
    assert (code, error.count("\n")) == (2, 1)
    assert f"the volume {volume.root} isn't mounted here" in error
    assert "DATABRICKS_HOST and DATABRICKS_TOKEN" in error
    code, _, error = curation("run", "--images", marked)
    assert (code, error.count("\n"), TOKEN in error) == (2, 1, False)
    assert "the Databricks workspace can't be used: default auth: cannot configure default credentials" in error


def test_settings_say_it_so_that_they_can_be_read_again(
    volume: Volume, make: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make(images_root=f"dbfs:{volume.root}/maize/").settings
    assert load_settings(**settings.model_dump(mode="json")) == settings
    assert str(settings.images_root) == f"{volume.root}/maize"
    assert isinstance(make().source, StoreTree)
    monkeypatch.setattr("curation_assets.stores.volumes.os.path.isdir", lambda path: path == volume.root)
    assert isinstance(make().source, LocalTree)
    assert isinstance(Pipeline(settings).source, StoreTree)
    with pytest.raises(CurationError, match="lies in"):
        Pipeline(settings)._refuse_images_root("--out", Path(volume.root) / "maize" / "out")
