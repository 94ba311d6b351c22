from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed import local
from curation_assets.embed.job import embed_folder
from curation_assets.embed.local import LocalEngine
from curation_assets.embed.plan import folders_behind
from curation_assets.embed.reader import StoredImage, in_batches
from curation_assets.embed.result import DeviceUse, EmbedResult
from curation_assets.errors import CurationError
from curation_assets.images.guard import DecodeOptions
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import GivenEncoders, jpeg

MODEL = RegisteredModel("autobricks.agriculture.clip_embedding", "1", "f", 128, 128, 1, "demo", True, "run")
SECOND = dataclasses.replace(MODEL, version="2")
Fill = Callable[..., list[Path]]


class Watched(Encoder):
    """A real encoder that counts its images and lets a test do something with each batch."""

    seen = 0
    batches = 0
    after_batch: Callable[[int, np.ndarray], Any] | None = None
    _counting = threading.Lock()

    def embed_images(self, pixels: np.ndarray) -> np.ndarray:
        vectors = super().embed_images(pixels)
        with self._counting:
            self.seen += len(pixels)
            self.batches += 1
            number = self.batches
        if self.after_batch is not None:
            self.after_batch(number, vectors)
        return vectors


@pytest.fixture
def encoder() -> Watched:
    return Watched(DEMO_FOLDER, "cpu", "float32")


def scan(pipeline: Pipeline, *folders: str) -> None:
    pipeline.scan(folders, LogProgress())


def embed(pipeline: Pipeline, folder: str, encoder: Encoder, model: RegisteredModel = MODEL, **how: Any) -> EmbedResult:
    return embed_with(pipeline, folder, lambda: encoder, model, **how)


def embed_with(
    pipeline: Pipeline, folder: str, load: Callable[[], Encoder], model: RegisteredModel = MODEL, **how: Any
) -> EmbedResult:
    pipeline.tables.embeddings.create()
    progress, earlier = how.pop("progress", LogProgress()), how.pop("earlier", None)
    threads = how.pop("threads", 2)
    engine = LocalEngine(GivenEncoders(given=lambda: [load()], **how), pipeline.source, threads=threads)
    return embed_folder(pipeline.tables.directory, pipeline.tables.embeddings, folder, model, engine, progress, earlier)


def no_encoder() -> Encoder:
    raise AssertionError("an encoder was loaded though nothing had to be encoded")


def rows(pipeline: Pipeline, folder: str | None = None, version: str | None = None) -> pl.DataFrame:
    names = [column.name for column in pipeline.tables.embeddings.spec.columns]
    found = pipeline.tables.embeddings.snapshot().read(names, folder).sort("relative_path", "model_version")
    return found if version is None else found.filter(pl.col("model_version") == version)


def paths(pipeline: Pipeline, folder: str | None = None, version: str | None = None) -> list[str]:
    return rows(pipeline, folder, version)["relative_path"].to_list()  # type: ignore[no-any-return]


def vector_of(pipeline: Pipeline, relative_path: str, version: str = "1") -> np.ndarray:
    (vector,) = rows(pipeline, version=version).filter(pl.col("relative_path") == relative_path)["embeddings"]
    return np.array(vector)


def leftovers(table: LakeTable) -> list[str]:
    """Staged files' markers, and Parquet files that no version of the log names."""
    named = set()
    for log in (table.path / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        named |= {unquote(action["add"]["path"]) for action in actions if "add" in action}
    on_disk = {str(p.relative_to(table.path)) for p in table.path.glob("folder=*/*")}
    markers = {str(p.relative_to(table.path)) for p in table.path.glob("_writers/*/*.parquet")}
    return sorted(on_disk - named | markers)


def change_stored(table: LakeTable, folder: str, relative_path: str, **values: Any) -> None:
    """Change a row as it is stored, behind the scan's back."""
    with table.writer(folder) as writer:
        base = table.snapshot()
        files = base.files(folder)
        with writer.file() as stage:
            for file in files:
                stored = base.storage.parquet(file.path).read().to_pylist()
                changed = [row | values if row["relative_path"] == relative_path else row for row in stored]
                for batch in pa.Table.from_pylist(changed, table.spec.file_schema).to_batches():
                    stage.write(batch)
        assert stage.staged is not None
        table.replace(folder, base, add=[stage.staged], remove=files)


def test_every_usable_image_gets_one_vector_and_every_bad_file_none(
    pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched
) -> None:
    fill("a", 5)
    (images / "a" / "page.jpg").write_text("<html>")
    (images / "a" / "empty.jpg").touch()
    scan(pipeline, "a")
    result = embed(pipeline, "a", encoder)
    assert (result.encoded, result.copied, result.rows, result.failed) == (5, 0, 5, [])
    assert result.computed is not None
    assert (result.computed.device, result.computed.precision) == ("cpu", "float32")
    assert paths(pipeline) == [f"a/photo_{index:04}.jpg" for index in range(5)]
    directory = pipeline.tables.directory.snapshot().read(
        ["relative_path", "content_sha256", "file_path", "created_at"], "a"
    )
    carried = rows(pipeline).select("relative_path", "content_sha256", "file_path", "created_at")
    assert len(carried.join(directory.drop("_file"), on=carried.columns)) == 5


def test_a_row_holds_the_vector_of_its_own_image(
    pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched
) -> None:
    written = fill("a", 7)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder, batch_size=3)
    for path in written:
        pixels = encoder.preprocessing.load(path.read_bytes(), DecodeOptions(10**9))
        expected = encoder.embed_images(np.stack([pixels]))[0]
        assert np.allclose(vector_of(pipeline, str(path.relative_to(images))), expected, atol=1e-5)


def test_vectors_are_lists_of_float32_of_unit_length(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    fill("a", 6)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    assert rows(pipeline).schema["embeddings"] == pl.List(pl.Float32)
    matrix = np.array(rows(pipeline)["embeddings"].to_list())
    assert matrix.shape == (6, 128)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-6)
    field = DeltaTable(str(pipeline.tables.embeddings.path)).schema().to_arrow().field("embeddings")
    assert pa.field(field).type.value_type == pa.float32()


def test_the_same_content_twice_in_a_folder_is_encoded_once(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    first, *_ = fill("a", 3)
    shutil.copy(first, first.with_name("copy of it.jpg"))
    shutil.copy(first, first.with_name("zz.jpg"))
    scan(pipeline, "a")
    result = embed(pipeline, "a", encoder)
    assert (encoder.seen, result.encoded, result.copied, result.rows) == (3, 3, 2, 5)
    vectors = [vector_of(pipeline, f"a/{name}").tolist() for name in ("copy of it.jpg", "photo_0000.jpg", "zz.jpg")]
    assert vectors[0] == vectors[1] == vectors[2]


def test_the_same_content_in_another_folder_is_copied_without_an_encoder(
    pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched
) -> None:
    written = fill("a", 3)
    (images / "b/deep").mkdir(parents=True)
    shutil.copy(written[1], images / "b/deep/other name.jpg")
    scan(pipeline, "a", "b/deep")
    embed(pipeline, "a", encoder)
    result = embed_with(pipeline, "b/deep", no_encoder)
    assert (result.encoded, result.copied, result.rows, result.commits) == (0, 1, 1, 1)
    row = rows(pipeline, "b/deep").row(0, named=True)
    assert row["relative_path"] == "b/deep/other name.jpg"
    assert row["file_path"] == str(images / "b/deep/other name.jpg")
    assert row["file_name"] == "other name.jpg"
    assert row["embeddings"] == vector_of(pipeline, "a/photo_0001.jpg").tolist()


def test_a_second_run_commits_nothing_and_loads_no_encoder(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    fill("a", 4)
    scan(pipeline, "a")
    first = embed(pipeline, "a", encoder)
    second = embed_with(pipeline, "a", no_encoder)
    assert (second.commits, second.current, second.rows) == (0, 4, 4)
    assert second.version == first.version == pipeline.tables.embeddings.snapshot().version
    assert folders_behind(pipeline.tables.directory.snapshot(), pipeline.tables.embeddings.snapshot(), MODEL) == []


def test_a_changed_image_loses_its_row_and_gets_a_new_one(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    first, second, _ = fill("a", 3)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    before, kept = vector_of(pipeline, "a/photo_0000.jpg"), vector_of(pipeline, "a/photo_0001.jpg")
    first.write_bytes(jpeg(991))
    os.utime(second)  # touched, not changed
    scan(pipeline, "a")
    assert folders_behind(pipeline.tables.directory.snapshot(), pipeline.tables.embeddings.snapshot(), MODEL) == ["a"]
    encoder.seen = 0
    result = embed(pipeline, "a", encoder)
    assert (encoder.seen, result.encoded, result.removed, result.rows) == (1, 1, 1, 3)
    assert paths(pipeline) == [f"a/photo_{index:04}.jpg" for index in range(3)]
    assert not np.allclose(vector_of(pipeline, "a/photo_0000.jpg"), before, atol=1e-4)
    assert np.array_equal(vector_of(pipeline, "a/photo_0001.jpg"), kept)


def test_a_vanished_image_loses_its_row_without_an_encoder(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    first, *_ = fill("a", 3)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    first.unlink()
    scan(pipeline, "a")
    result = embed_with(pipeline, "a", no_encoder)
    assert (result.removed, result.commits, result.rows) == (1, 1, 2)
    assert paths(pipeline) == ["a/photo_0001.jpg", "a/photo_0002.jpg"]


def test_an_image_that_has_become_unusable_loses_its_row(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    first, *_ = fill("a", 2)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    first.write_text("no longer an image")
    scan(pipeline, "a")
    assert embed_with(pipeline, "a", no_encoder).removed == 1
    assert paths(pipeline) == ["a/photo_0001.jpg"]


def test_a_folder_that_is_gone_loses_all_its_rows(
    pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched
) -> None:
    for folder in ("a", "b"):
        fill(folder, 3)
        scan(pipeline, folder)
        embed(pipeline, folder, encoder)
    shutil.rmtree(images / "a")
    scan(pipeline, "a")
    result = embed_with(pipeline, "a", no_encoder)
    assert (result.removed, result.rows) == (3, 0)
    assert pipeline.tables.embeddings.snapshot().folders == ["b"]
    assert len(paths(pipeline, "b")) == 3


def test_a_renamed_image_takes_its_vector_along(pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched) -> None:
    first, *_ = fill("a", 3)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    before = vector_of(pipeline, "a/photo_0000.jpg")
    first.rename(images / "a" / "renamed.jpg")
    scan(pipeline, "a")
    result = embed_with(pipeline, "a", no_encoder)
    assert (result.encoded, result.copied, result.removed, result.commits) == (0, 1, 1, 1)
    assert paths(pipeline) == ["a/photo_0001.jpg", "a/photo_0002.jpg", "a/renamed.jpg"]
    assert np.array_equal(vector_of(pipeline, "a/renamed.jpg"), before)


def test_a_moved_root_renews_paths_and_encodes_nothing(
    pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched
) -> None:
    fill("a", 3)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    before = rows(pipeline)
    new_root = images.rename(images.with_name("moved images"))
    moved = Pipeline(pipeline.settings.model_copy(update={"images_root": new_root}))
    scan(moved, "a")
    result = embed_with(moved, "a", no_encoder)
    assert (result.encoded, result.removed, result.commits) == (0, 0, 1)
    after = rows(moved)
    assert after["file_path"].to_list() == [str(new_root / path) for path in before["relative_path"]]
    unchanged = ["relative_path", "embeddings", "model_version", "embedded_at", "content_sha256"]
    assert after.select(unchanged).equals(before.select(unchanged))
    assert embed_with(moved, "a", no_encoder).commits == 0


def test_a_long_folder_is_committed_chunk_by_chunk(
    pipeline: Pipeline, fill: Fill, encoder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_IMAGES", 4)
    fill("a", 10)
    scan(pipeline, "a")
    result = embed(pipeline, "a", encoder)
    assert (result.commits, result.rows) == (3, 10)
    table = DeltaTable(str(pipeline.tables.embeddings.path))
    seen = []
    for version in range(result.version - 2, result.version + 1):
        table.load_as_version(version)
        seen.append(sum(pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist()))
    assert seen == [4, 8, 10]


def test_a_slow_folder_is_committed_every_so_often(
    pipeline: Pipeline, fill: Fill, encoder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_SECONDS", 0.0)
    fill("a", 6)
    scan(pipeline, "a")
    assert embed(pipeline, "a", encoder).commits == 3


class Stopped(BaseException):
    """Like Dagster's cancellation and KeyboardInterrupt: not an Exception."""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, Stopped])
def test_a_run_that_breaks_off_keeps_its_chunks_and_the_next_encodes_only_the_rest(
    error: type[BaseException], pipeline: Pipeline, fill: Fill, encoder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_IMAGES", 4)
    fill("a", 14)
    scan(pipeline, "a")

    def break_off(batch: int, _: np.ndarray) -> None:
        if batch == 6:
            raise error("in the middle")

    encoder.after_batch = break_off
    with pytest.raises(error):
        embed(pipeline, "a", encoder, threads=1)
    assert paths(pipeline) == [f"a/photo_{index:04}.jpg" for index in range(8)]
    encoder.after_batch, encoder.seen = None, 0
    result = embed(pipeline, "a", encoder)
    assert (result.current, result.encoded, encoder.seen) == (8, 6, 6)
    assert paths(pipeline) == [f"a/photo_{index:04}.jpg" for index in range(14)]
    assert leftovers(pipeline.tables.embeddings) == []


def test_work_stopped_by_its_progress_keeps_its_chunks_and_stages_nothing(
    pipeline: Pipeline, fill: Fill, encoder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cancelled(LogProgress):
        done = 0

        def advance(self, images: int) -> None:
            self.done += images
            if self.done >= 6:
                raise Stopped

    monkeypatch.setattr(local, "CHUNK_IMAGES", 2)
    fill("a", 10)
    scan(pipeline, "a")
    with pytest.raises(Stopped):
        embed(pipeline, "a", encoder, progress=Cancelled())
    kept = len(paths(pipeline))
    assert 2 <= kept <= 4
    assert leftovers(pipeline.tables.embeddings) == []
    assert embed(pipeline, "a", encoder).encoded == 10 - kept


def test_what_a_dead_process_staged_is_swept_by_the_next_run(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    fill("a", 2)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    (committed,) = pipeline.tables.embeddings.snapshot().files("a")
    markers = next((pipeline.tables.embeddings.path / "_writers").iterdir())
    (pipeline.tables.embeddings.path / "folder=a" / "dead.parquet").write_bytes(b"PAR1 half")
    for name in ("dead.parquet", Path(committed.path).name):  # killed while writing, and just after a commit
        (markers / name).touch()
    assert len(leftovers(pipeline.tables.embeddings)) == 3
    embed_with(pipeline, "a", no_encoder)
    assert leftovers(pipeline.tables.embeddings) == []
    assert len(paths(pipeline)) == 2


def test_vectors_that_are_not_finite_are_reported_and_never_stored(
    pipeline: Pipeline, fill: Fill, encoder: Watched
) -> None:
    fill("a", 5)
    scan(pipeline, "a")

    def spoil(batch: int, vectors: np.ndarray) -> None:
        if batch == 2:
            vectors[1] = np.nan

    encoder.after_batch = spoil
    result = embed(pipeline, "a", encoder, threads=1)
    assert result.failed == [("a/photo_0003.jpg", "the model gave a zero or non-finite vector")]
    assert (result.encoded, result.rows) == (4, 4)
    assert paths(pipeline) == [f"a/photo_{index:04}.jpg" for index in (0, 1, 2, 4)]
    encoder.after_batch = None
    assert embed(pipeline, "a", encoder).encoded == 1


def test_a_model_that_gives_only_zeros_fills_no_table(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    fill("a", 3)
    scan(pipeline, "a")
    encoder._vision._weights["visual_projection.weight"].zero_()
    result = embed(pipeline, "a", encoder)
    assert (result.encoded, result.commits, len(result.failed)) == (0, 0, 3)
    assert paths(pipeline) == []


@pytest.mark.parametrize(
    "stored",
    [
        base64.b64encode(b"no image").decode(),
        base64.b64encode(jpeg(5)[:700]).decode(),
        "",
        "abc",  # base64 comes in fours
        "€€€€",
    ],
    ids=["other bytes", "cut", "empty", "three letters", "not base64"],
)
def test_a_row_whose_stored_bytes_are_poisoned_is_reported_and_the_others_go_on(
    stored: str, pipeline: Pipeline, fill: Fill, encoder: Watched
) -> None:
    fill("a", 5)
    scan(pipeline, "a")
    change_stored(pipeline.tables.directory, "a", "a/photo_0002.jpg", image_base64=stored)
    result = embed(pipeline, "a", encoder)
    assert [path for path, _ in result.failed] == ["a/photo_0002.jpg"]
    assert result.failed[0][1]
    assert paths(pipeline) == [f"a/photo_{index:04}.jpg" for index in (0, 1, 3, 4)]


def test_every_row_of_a_content_that_fails_is_reported(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    first, *_ = fill("a", 2)
    shutil.copy(first, first.with_name("copy.jpg"))
    scan(pipeline, "a")
    for path in ("a/copy.jpg", "a/photo_0000.jpg"):
        change_stored(pipeline.tables.directory, "a", path, image_base64="")
    result = embed(pipeline, "a", encoder)
    assert sorted(path for path, _ in result.failed) == ["a/copy.jpg", "a/photo_0000.jpg"]


@pytest.fixture
def without_images(pipeline: Pipeline) -> Pipeline:
    return Pipeline(pipeline.settings.model_copy(update={"store_images": False}))


def test_images_that_are_not_stored_are_embedded_from_their_files(
    without_images: Pipeline, pipeline: Pipeline, fill: Fill, encoder: Watched
) -> None:
    fill("a", 4)
    scan(without_images, "a")
    assert without_images.tables.directory.snapshot().read(["image_base64"])["image_base64"].null_count() == 4
    assert embed(without_images, "a", encoder).encoded == 4
    kept = rows(pipeline)["embeddings"].to_list()
    shutil.rmtree(pipeline.settings.lake_root)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    assert np.allclose(rows(pipeline)["embeddings"].to_list(), kept, atol=1e-6)


def test_a_file_that_changed_since_its_scan_is_refused_until_it_is_scanned_again(
    without_images: Pipeline, fill: Fill, encoder: Watched
) -> None:
    changed, vanished, *_ = fill("a", 4)
    scan(without_images, "a")
    changed.write_bytes(jpeg(77))
    vanished.unlink()
    result = embed(without_images, "a", encoder)
    reasons = dict(result.failed)
    assert "changed since it was scanned" in reasons["a/photo_0000.jpg"]
    assert "No such file" in reasons["a/photo_0001.jpg"]
    assert paths(without_images) == ["a/photo_0002.jpg", "a/photo_0003.jpg"]
    scan(without_images, "a")
    assert embed(without_images, "a", encoder).failed == []
    assert paths(without_images) == ["a/photo_0000.jpg", "a/photo_0002.jpg", "a/photo_0003.jpg"]


def test_a_name_that_is_no_utf8_is_embedded_from_its_file(
    without_images: Pipeline, images: Path, encoder: Watched
) -> None:
    (images / "a").mkdir()
    Path(os.fsdecode(os.fsencode(images / "a") + b"/caf\xe9 %20.jpg")).write_bytes(jpeg(3))
    scan(without_images, "a")
    result = embed(without_images, "a", encoder)
    assert (result.encoded, result.failed) == (1, [])


def test_rows_of_two_model_versions_stand_side_by_side(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    first, *_ = fill("a", 3)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    ones = rows(pipeline, version="1")
    encoder._vision._weights["visual_projection.weight"].neg_()
    assert folders_behind(pipeline.tables.directory.snapshot(), pipeline.tables.embeddings.snapshot(), SECOND) == ["a"]
    second = embed(pipeline, "a", encoder, SECOND)
    assert (second.encoded, second.current, second.rows) == (3, 0, 3)
    assert rows(pipeline, version="1").equals(ones.with_columns(_file=rows(pipeline, version="1")["_file"]))
    assert np.allclose(
        vector_of(pipeline, "a/photo_0000.jpg", "2"), -vector_of(pipeline, "a/photo_0000.jpg", "1"), atol=1e-5
    )
    for model in (MODEL, SECOND):
        assert embed_with(pipeline, "a", no_encoder, model).commits == 0
    first.write_bytes(jpeg(992))
    scan(pipeline, "a")
    result = embed(pipeline, "a", encoder, SECOND)
    assert (result.removed, result.encoded) == (2, 1)
    assert paths(pipeline, version="1") == ["a/photo_0001.jpg", "a/photo_0002.jpg"]
    assert len(paths(pipeline, version="2")) == 3


def test_a_vector_of_another_model_version_is_not_copied(
    pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched
) -> None:
    (first,) = fill("a", 1)
    (images / "b").mkdir()
    shutil.copy(first, images / "b")
    scan(pipeline, "a", "b")
    embed(pipeline, "a", encoder, MODEL)
    result = embed(pipeline, "b", encoder, SECOND)
    assert (result.encoded, result.copied) == (1, 0)


def test_the_files_of_many_small_chunks_are_merged_into_one(
    pipeline: Pipeline, fill: Fill, encoder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_IMAGES", 1)
    fill("a", 12)
    scan(pipeline, "a")
    result = embed(pipeline, "a", encoder, batch_size=1)
    snapshot = pipeline.tables.embeddings.snapshot()
    assert len(snapshot.files("a")) == 1
    assert result.commits == 13
    assert paths(pipeline) == [f"a/photo_{index:04}.jpg" for index in range(12)]
    assert embed_with(pipeline, "a", no_encoder).commits == 0
    assert leftovers(pipeline.tables.embeddings) == []


def test_small_runs_over_time_do_not_pile_up_files(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    for index in range(20):
        fill("a", 1, first=index)
        scan(pipeline, "a")
        embed(pipeline, "a", encoder)
    assert len(pipeline.tables.embeddings.snapshot().files("a")) <= 9
    assert len(paths(pipeline)) == 20


def follow(table: LakeTable) -> dict[tuple[str, str], tuple[float, ...]]:
    """What an index holds that takes every change of the feed and nothing else."""
    feed = pa.table(DeltaTable(str(table.path)).load_cdf(starting_version=0)).to_pylist()
    index: dict[tuple[str, str], tuple[float, ...]] = {}
    for version in sorted({change["_commit_version"] for change in feed}):
        changes = [change for change in feed if change["_commit_version"] == version]
        for change in sorted(changes, key=lambda c: c["_change_type"] != "delete"):
            key = (change["relative_path"], change["model_version"])
            if change["_change_type"] == "delete":
                del index[key]
            else:
                assert change["_change_type"] == "insert"
                assert key not in index, f"{key} is inserted twice"
                index[key] = tuple(change["embeddings"])
    return index


@pytest.mark.parametrize(
    "folder",
    [
        "maize",
        pytest.param(
            "maize/rust",
            marks=pytest.mark.xfail(strict=True, reason="delta-rs 1.6 encodes paths twice in load_cdf, its own too"),
        ),
    ],
)
def test_whoever_follows_the_change_feed_holds_what_the_table_holds(
    folder: str, pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_IMAGES", 1)
    first, second, *_ = fill(folder, 12)
    fill("b", 3)
    steps: list[Callable[[], Any]] = [
        lambda: None,
        lambda: first.write_bytes(jpeg(993)),
        lambda: second.unlink(),
        lambda: shutil.rmtree(images / "b"),
    ]
    for step in steps:
        step()
        for name in (folder, "b"):
            scan(pipeline, name)
            embed(pipeline, name, encoder, batch_size=1)
        table = {(r["relative_path"], r["model_version"]): tuple(r["embeddings"]) for r in rows(pipeline).to_dicts()}
        assert follow(pipeline.tables.embeddings) == table
    embed(pipeline, folder, encoder, SECOND)
    assert len(follow(pipeline.tables.embeddings)) == len(rows(pipeline)) == 11 + 11


def test_merging_files_is_no_change_in_the_feed(
    pipeline: Pipeline, fill: Fill, encoder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK_IMAGES", 1)
    fill("a", 10)
    scan(pipeline, "a")
    result = embed(pipeline, "a", encoder, batch_size=1)
    feed = pa.table(DeltaTable(str(pipeline.tables.embeddings.path)).load_cdf(starting_version=0)).to_pylist()
    assert result.version not in {change["_commit_version"] for change in feed}
    assert len(feed) == 10


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
def test_damage_to_the_directory_table_found_by_the_reader_reaches_the_caller_by_its_name(
    damage: str, pipeline: Pipeline, fill: Fill, encoder: Watched
) -> None:
    fill("a", 4)
    scan(pipeline, "a")
    (stored,) = (pipeline.tables.directory.path / "folder=a").glob("*.parquet")

    def load() -> Encoder:  # after the plan is made, before images are read
        if damage == "missing":
            stored.unlink()
        else:
            stored.write_bytes(b"PAR1" * 50 if damage == "garbage" else stored.read_bytes()[:-100])
        return encoder

    with pytest.raises(CurationError) as caught:
        embed_with(pipeline, "a", load)
    assert str(pipeline.tables.directory.path) in str(caught.value)
    assert str(pipeline.tables.embeddings.path) not in str(caught.value).replace(
        str(pipeline.tables.directory.path) + "/", ""
    )
    assert paths(pipeline) == []


def test_an_encoder_that_cannot_be_loaded_leaves_the_table_as_it_was(
    pipeline: Pipeline, fill: Fill, encoder: Watched
) -> None:
    first, *_ = fill("a", 3)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    first.write_bytes(jpeg(994))
    scan(pipeline, "a")

    def load() -> Encoder:
        raise CurationError("no device")

    with pytest.raises(CurationError, match="no device"):
        embed_with(pipeline, "a", load)
    assert set(paths(pipeline)) <= {"a/photo_0001.jpg", "a/photo_0002.jpg"}
    assert embed(pipeline, "a", encoder).rows == 3
    assert leftovers(pipeline.tables.embeddings) == []


def test_a_change_by_another_process_in_the_middle_is_planned_anew(
    pipeline: Pipeline, fill: Fill, encoder: Watched
) -> None:
    """Somebody who doesn't know of the folder's lock, for example a Spark job, deletes a row meanwhile."""
    fill("a", 6)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder)
    fill("a", 2, first=6)
    scan(pipeline, "a")
    table = pipeline.tables.embeddings

    def interfere(batch: int, _: np.ndarray) -> None:
        encoder.after_batch = None
        DeltaTable(str(table.path)).delete("relative_path = 'a/photo_0003.jpg'")

    encoder.after_batch = interfere
    result = embed(pipeline, "a", encoder)
    assert result.rows == 8
    assert paths(pipeline) == [f"a/photo_{index:04}.jpg" for index in range(8)]


def test_batch_size_is_the_encoders_unless_it_is_given(pipeline: Pipeline, fill: Fill, encoder: Watched) -> None:
    fill("a", 5)
    scan(pipeline, "a")
    embed(pipeline, "a", encoder, batch_size=None)
    assert encoder.batches == 1
    encoder.batches = 0
    embed(pipeline, "a", encoder, SECOND, batch_size=3)
    assert encoder.batches == 2


@pytest.mark.parametrize("change", [{"fingerprint": "other weights"}, {"name": "autobricks.agriculture.other"}])
def test_vectors_of_another_model_under_the_same_version_number_are_replaced(
    change: dict[str, str], pipeline: Pipeline, fill: Fill, encoder: Watched
) -> None:
    fill("a", 2)
    fill("b", 1)
    scan(pipeline, "a", "b")
    embed(pipeline, "a", encoder)
    embed(pipeline, "b", encoder)
    other = dataclasses.replace(MODEL, **change)  # type: ignore[arg-type]
    assert folders_behind(pipeline.tables.directory.snapshot(), pipeline.tables.embeddings.snapshot(), other) == [
        "a",
        "b",
    ]
    encoder.seen = 0
    result = embed(pipeline, "a", encoder, other)
    assert (result.encoded, result.removed, result.rows, encoder.seen) == (2, 2, 2, 2)
    found = rows(pipeline, "a").select("model_name", "model_fingerprint").unique().rows()
    assert found == [(other.name, other.fingerprint)]
    assert embed_with(pipeline, "a", no_encoder, other).commits == 0


def test_a_vector_that_has_left_its_folder_is_copied_from_an_earlier_snapshot(
    pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched
) -> None:
    photo, _ = fill("b", 2)
    (images / "c").mkdir()
    scan(pipeline, "b")
    embed(pipeline, "b", encoder)
    before = pipeline.tables.embeddings.snapshot()
    vector = vector_of(pipeline, "b/photo_0000.jpg")
    photo.rename(images / "c" / "moved.jpg")
    scan(pipeline, "b", "c")
    embed(pipeline, "b", encoder)
    result = embed_with(pipeline, "c", no_encoder, earlier=before)
    assert (result.copied, result.encoded) == (1, 0)
    assert np.array_equal(vector_of(pipeline, "c/moved.jpg"), vector)


def test_where_a_gpu_computes_cores_decode_for_all_of_them_and_nothing_changes(
    pipeline: Pipeline, fill: Fill, images: Path, encoder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline of a GPU machine, its kernels computed here: two devices, batches across what threads decoded."""
    second = Watched(DEMO_FOLDER, "cpu", "float32")
    devices = (encoder, second)
    monkeypatch.setattr(local, "_is_gpu", lambda _: True)
    monkeypatch.setattr(local, "_on_own_stream", lambda of: lambda batch: local.encoded(of, batch))
    monkeypatch.setattr(local, "computed_on", lambda *_: DeviceUse("cuda:0", 2, "float32", 1.0, None))
    monkeypatch.setattr(local, "_DECODE_BATCH", 3)
    fill("a", 20)
    scan(pipeline, "a")
    change_stored(pipeline.tables.directory, "a", "a/photo_0004.jpg", image_base64="")
    pipeline.tables.embeddings.create()
    engine = LocalEngine(GivenEncoders(given=lambda: devices, batch_size=4), pipeline.source, threads=2)
    result = embed_folder(pipeline.tables.directory, pipeline.tables.embeddings, "a", MODEL, engine, LogProgress())
    assert (result.encoded, [path for path, _ in result.failed]) == (19, ["a/photo_0004.jpg"])
    assert encoder.seen + second.seen == 19
    assert encoder.batches + second.batches == 5
    plain = Encoder(DEMO_FOLDER, "cpu", "float32")
    for name in ("a/photo_0000.jpg", "a/photo_0005.jpg", "a/photo_0019.jpg"):
        expected = plain.embed_images(
            np.stack([plain.preprocessing.load((images / name).read_bytes(), DecodeOptions(10**9))])
        )
        assert np.allclose(vector_of(pipeline, name), expected[0], atol=1e-5)


def test_a_folder_of_large_images_is_decoded_in_small_batches() -> None:
    stored = [StoredImage(str(n), pa.py_buffer(b"x" * 12 * 2**20), 0.0) for n in range(7)]
    assert [len(batch) for batch in in_batches(iter(stored), 100)] == [3, 3, 1]
    assert [len(batch) for batch in in_batches(iter(stored), 2)] == [2, 2, 2, 1]
