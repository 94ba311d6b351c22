"""Search over real tables, with the demo model."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.errors import CurationError
from curation_assets.images.guard import DecodeOptions
from curation_assets.ingest import run as run_pipeline
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search.filters import make_filter
from curation_assets.search.query import Like, Picture, Query, Text
from curation_assets_tests.commands.conftest import pipeline_of
from curation_assets_tests.conftest import jpeg

Fill = Callable[..., list[Path]]


def embedded(ready: Pipeline) -> Pipeline:
    run_pipeline(ready, LogProgress(), curate=False)
    return ready


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Pipeline:
    """Two folders of photographs, everything embedded; tests only look at it."""
    home = tmp_path_factory.mktemp("searcher")
    for folder, seeds in (("a", range(12)), ("b/c", range(100, 103))):
        (home / "images" / folder).mkdir(parents=True)
        for number, seed in enumerate(seeds):
            (home / "images" / folder / f"photo_{number:04}.jpg").write_bytes(jpeg(seed))
    return embedded(pipeline_of(home, registered_model))


IN_A = [f"a/photo_{index:04}.jpg" for index in range(12)]


def cosines(pipeline: Pipeline, query: np.ndarray) -> dict[str, float]:  # type: ignore[type-arg]
    rows = pipeline.tables.embeddings.snapshot().read(["relative_path", "embeddings"])
    vectors = np.array(rows["embeddings"].to_list(), np.float32)
    return dict(zip(rows["relative_path"], vectors @ query, strict=True))


def best(scores: dict[str, float], k: int) -> list[str]:
    return sorted(scores, key=lambda path: (-round(scores[path], 5), path))[:k]


def test_a_text_finds_the_images_whose_vectors_lie_nearest(made: Pipeline) -> None:
    (query,) = made.encoders.load(made.registry.champion()).embed_texts(["rust on a leaf"])
    scores = cosines(made, query)
    found = made.searcher.search("rust on a leaf", 5)
    assert found.rows["relative_path"].to_list() == best(scores, 5)
    assert found.rows["score"].to_list() == pytest.approx([scores[p] for p in best(scores, 5)], abs=1e-5)
    assert (found.total, found.behind) == (15, None)


def test_pages_follow_each_other_without_gap_or_repeat(made: Pipeline) -> None:
    searcher = made.searcher
    whole = searcher.search("an orange", 12, folder="a").rows["relative_path"].to_list()
    pages = [searcher.search("an orange", 5, offset=offset, folder="a").rows for offset in (0, 5, 10, 15)]
    assert [path for page in pages for path in page["relative_path"]] == whole
    assert sorted(whole) == IN_A


def test_pages_of_many_copies_follow_the_order_of_their_paths(ready: Pipeline, fill: Fill, images: Path) -> None:
    (first,) = fill("z", 1)
    for folder in ("y", "a"):
        embedded(ready)
        (images / folder).mkdir()
        for number in range(5):
            shutil.copy(first, images / folder / f"copy_{number}.jpg")
    searcher = embedded(ready).searcher
    everything = searcher.search("leaf", 11).rows["relative_path"].to_list()
    assert everything == sorted(everything)
    pages = [searcher.search("leaf", 3, offset=offset).rows["relative_path"].to_list() for offset in (0, 3, 6, 9)]
    assert [path for page in pages for path in page] == everything


@pytest.mark.parametrize("where", ["true", "1 = 1", "MAX(size_bytes) > 0", "COUNT(*) > 0", "size_bytes > 0"])
def test_a_condition_that_all_images_meet_lets_all_through(made: Pipeline, where: str) -> None:
    searcher = made.searcher
    assert searcher.search("leaf", 9, where=where).total == 15
    assert searcher.search(k=9, where=where).total == 15
    assert searcher.search(k=9, where=f"NOT ({where})").total == 0


def test_a_filter_comes_before_the_ranking_so_that_k_images_come_back(made: Pipeline) -> None:
    assert made.searcher.search("an orange", 3).rows["folder"].to_list() != ["b/c"] * 3
    found = made.searcher.search("an orange", 3, folder="b/c")
    assert (found.rows["folder"].to_list(), found.total) == (["b/c"] * 3, 3)


def test_without_a_query_images_come_by_path_bad_ones_too(ready: Pipeline, fill: Fill, images: Path) -> None:
    fill("a", 2)
    (images / "a" / "broken.jpg").write_bytes(b"no image")
    searcher = embedded(ready).searcher
    rows = searcher.search(k=10).rows
    assert rows["relative_path"].to_list() == ["a/broken.jpg", "a/photo_0000.jpg", "a/photo_0001.jpg"]
    assert rows["score"].to_list() == [None] * 3
    assert searcher.search("anything", 10).total == 2
    bad = searcher.search(k=10, status="unsupported").rows.row(0, named=True)
    assert (bad["relative_path"], bad["error"][:12]) == ("a/broken.jpg", "not an image")
    with pytest.raises(CurationError, match=r"'a/broken.jpg' has no vector: it is unsupported"):
        searcher.search(Query((Like("a/broken.jpg"),)))


def test_more_like_this_leaves_out_the_image_itself_and_finds_its_copy_first(
    ready: Pipeline, fill: Fill, images: Path
) -> None:
    first = fill("a", 4)[0]
    shutil.copy(first, images / "a" / "copy.jpg")
    searcher = embedded(ready).searcher
    found = searcher.search(Query((Like("a/photo_0000.jpg"),)), 10)
    assert found.rows["relative_path"][0] == "a/copy.jpg"
    assert found.rows["score"][0] == pytest.approx(1, abs=1e-5)
    assert (len(found.rows), found.total) == (4, 4)
    assert searcher.exact_duplicates(found.index, "a/photo_0000.jpg")["relative_path"].to_list() == ["a/copy.jpg"]


def test_an_image_file_finds_the_stored_image_of_the_same_pixels(made: Pipeline) -> None:
    searcher = made.searcher
    photo = (made.settings.images_root / IN_A[3]).read_bytes()
    picture = searcher.embed_image(photo, DecodeOptions(10**6), "photo")
    found = searcher.search(Query((picture,)), 1)
    assert found.rows["relative_path"].to_list() == ["a/photo_0003.jpg"]
    assert found.provenance()["query"] == [{"image": "photo", "weight": 1.0}]
    with pytest.raises(CurationError, match="photo: not an image"):
        searcher.embed_image(b"text", DecodeOptions(10**6), "photo")
    with pytest.raises(CurationError, match="photo: 64 x 48 pixels are more than the 100 that are allowed"):
        searcher.embed_image(photo, DecodeOptions(100), "photo")


def test_an_index_behind_its_tables_answers_and_says_so(ready: Pipeline, fill: Fill) -> None:
    fill("a", 3)
    pipeline = embedded(ready)
    fill("b", 2)
    pipeline.scan(["b"], LogProgress())
    pipeline.embed("b", pipeline.registry.champion(), LogProgress())
    found = pipeline.searcher.search("anything", 10)
    assert found.total == 3
    assert found.behind is not None
    assert "crop_images_directory_embeddings, which is at" in found.behind
    assert "curation index" in found.behind
    pipeline.searcher.refresh()
    again = pipeline.searcher.search("anything", 10)
    assert (again.total, again.behind) == (5, None)


def test_an_index_that_is_not_there_is_built_by_the_first_search(ready: Pipeline, fill: Fill) -> None:
    fill("a", 3)
    pipeline = embedded(ready)
    shutil.rmtree(pipeline.settings.index_dir)
    assert Pipeline(pipeline.settings).searcher.search("anything", 10).total == 3


def test_a_lake_that_was_made_anew_is_not_searched_by_the_old_index(ready: Pipeline, fill: Fill) -> None:
    fill("a", 3)
    pipeline = embedded(ready)
    shutil.rmtree(pipeline.settings.lake_root)
    with pytest.raises(CurationError, match="curation run"):
        Pipeline(pipeline.settings).searcher.search("anything")
    fill("b", 1)
    other = Pipeline(pipeline.settings)
    other.scan(["b"], LogProgress())
    other.embed("b", other.registry.champion(), LogProgress())
    assert Pipeline(pipeline.settings).searcher.search("anything", 9).rows["folder"].to_list() == ["b"]


def test_an_earlier_version_of_the_table_is_searched_as_it_was_until_its_files_are_vacuumed(
    ready: Pipeline, fill: Fill
) -> None:
    gone = fill("a", 3)[1]
    pipeline = embedded(ready)
    then = pipeline.tables.embeddings.newest_version()
    gone.unlink()
    fill("b", 1)
    embedded(pipeline)
    searcher = pipeline.searcher
    before = searcher.search("anything", 10, table_version=then)
    assert sorted(before.rows["relative_path"]) == [f"a/photo_{index:04}.jpg" for index in range(3)]
    assert before.provenance()["embeddings_table_version"] == then
    assert searcher.search(k=10, table_version=then).total == 3
    assert sorted(searcher.search("anything", 10).rows["relative_path"]) == [
        "a/photo_0000.jpg",
        "a/photo_0002.jpg",
        "b/photo_0000.jpg",
    ]
    with pytest.raises(CurationError, match="no 999"):
        searcher.search("anything", table_version=999)
    for file in (pipeline.tables.directory.path / "_delta_log").iterdir():
        os.utime(file)  # a lake that was copied: it goes by the commits and not by the times of files
    assert Pipeline(pipeline.settings).searcher.search("anything", 10, table_version=then).total == 3
    for table in (pipeline.tables.embeddings, pipeline.tables.directory):
        DeltaTable(str(table.path)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(CurationError, match="can't be read"):
        Pipeline(pipeline.settings).searcher.search("anything", table_version=then)


def test_the_index_follows_when_every_image_is_gone_and_when_they_come_back(
    ready: Pipeline, fill: Fill, images: Path
) -> None:
    paths = fill("a", 2)
    embedded(ready)
    contents = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    (images / "a" / "bad.jpg").write_bytes(b"bad")
    run_pipeline(ready, LogProgress(), prune=True)
    with pytest.raises(CurationError, match="no image has a vector"):
        ready.searcher.search("anything")
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    ready.scan(["a"], LogProgress())
    ready.embed("a", ready.registry.champion(), LogProgress())
    assert ready.searcher.search("anything", 9).total == 2  # an empty index is brought in line by whoever asks


def test_a_picture_of_another_model_is_refused(made: Pipeline) -> None:
    picture = Picture(np.eye(1, 128, dtype=np.float32)[0], "another", "photo.jpg")
    with pytest.raises(CurationError, match=r"photo\.jpg was embedded with another model"):
        made.searcher.search(Query((picture,)))


def test_an_image_named_twice_counts_once(made: Pipeline) -> None:
    found = made.searcher.search(Query((Like("a/photo_0000.jpg"), Like("a/photo_0000.jpg"))), 20)
    assert (len(found.rows), found.total) == (14, 14)


def test_a_filter_and_conditions_at_once_are_refused(made: Pipeline) -> None:
    with pytest.raises(CurationError, match="not both"):
        made.searcher.search(filter=make_filter(folder="a"), name="x")


def other_model(pipeline: Pipeline) -> Path:
    weights = pipeline.settings.images_root.parent / "other_model"
    shutil.copytree(DEMO_FOLDER, weights)
    whole = bytearray((weights / "model.safetensors").read_bytes())
    whole[-4] ^= 1
    (weights / "model.safetensors").write_bytes(whole)
    return weights


def test_an_earlier_model_version_is_searched_with_its_own_vectors(ready: Pipeline, fill: Fill) -> None:
    fill("a", 2)
    embedded(ready)
    other = Pipeline(ready.settings.model_copy(update={"model_source": str(other_model(ready))}))
    other.selection.choose()
    with pytest.raises(CurationError, match=r"no image has a vector of .* version 2; run `curation run`"):
        other.searcher.search("anything")
    found = other.searcher.search("anything", model_version="1")
    assert (found.total, found.provenance()["model_version"]) == (2, "1")
    embedded(other)
    assert other.searcher.search("anything").provenance()["model_version"] == "2"


def test_searching_before_anything_is_embedded_says_what_to_do(ready: Pipeline) -> None:
    with pytest.raises(CurationError, match="curation run"):
        ready.searcher.search("anything")


def test_searching_without_a_model_is_one_error(pipeline: Pipeline) -> None:
    with pytest.raises(CurationError):
        pipeline.searcher.search("anything")


def test_each_image_gets_the_nearest_label_and_its_margin(made: Pipeline) -> None:
    pipeline = made
    texts = ["a healthy leaf", "an orange", "a field"]
    found = pipeline.searcher.labels(texts, folder="a")
    vectors = pipeline.encoders.load(pipeline.registry.champion()).embed_texts(texts)
    scores = [cosines(pipeline, vector) for vector in vectors]
    assert found["relative_path"].to_list() == IN_A
    for path, _, label, score, margin in found.iter_rows():
        first, second = sorted((of_text[path] for of_text in scores), reverse=True)[:2]
        assert score == pytest.approx(first, abs=1e-5)
        assert margin == pytest.approx(first - second, abs=1e-5)
        assert scores[texts.index(label)][path] == pytest.approx(first, abs=1e-5)
    ranked = pipeline.searcher.labels(texts, "an orange", 2)["relative_path"].to_list()
    assert ranked == pipeline.searcher.search("an orange", 2).rows["relative_path"].to_list()
    for wrong in (["one"], ["one", "one"], ["one", " "]):
        with pytest.raises(CurationError, match="at least two different"):
            pipeline.searcher.labels(wrong)


def test_previews_are_those_of_the_table(made: Pipeline) -> None:
    pipeline = made
    index = pipeline.searcher.open()
    expected = dict(pipeline.tables.directory.snapshot().read(["relative_path", "preview"]).drop("_file").iter_rows())
    assert pipeline.searcher.previews(index, [*expected, "nowhere.jpg"]) == expected
    assert pipeline.searcher.image_bytes(index, "a/photo_0000.jpg", "preview") == expected["a/photo_0000.jpg"]
    with pytest.raises(CurationError, match="no image"):
        pipeline.searcher.image_bytes(index, "../../etc/passwd", "preview")


def test_many_threads_search_while_the_index_is_refreshed(ready: Pipeline, fill: Fill) -> None:
    fill("a", 5)
    pipeline = embedded(ready)
    failures: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        try:
            while not stop.is_set():
                rows = pipeline.searcher.search("anything", 50).rows
                assert len(rows) >= 5
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(4):
        fill("b", 1, first=number)
        pipeline.scan(["b"], LogProgress())
        pipeline.embed("b", pipeline.registry.champion(), LogProgress())
        pipeline.searcher.refresh()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_was_searched_can_be_searched_again(made: Pipeline) -> None:
    found = made.searcher.search(Query((Text("rust", 2.0), Text("soil", -1.0))), folder="a", where="width > 1")
    said = found.provenance()
    assert said["query"] == [{"text": "rust", "weight": 2.0}, {"text": "soil", "weight": -1.0}]
    assert said["filter"] == {"folder": ["a"], "where": "width > 1"}
    assert {"model", "model_version", "embeddings_table_version", "directory_table_version"} <= set(said)
    assert isinstance(found.rows, pl.DataFrame)
