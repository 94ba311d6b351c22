"""The index against the tables: whatever happened to them, it finds what comparing every row by hand finds."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation_assets.errors import CurationError
from curation_assets.search import refresh as refreshing
from curation_assets.search import segments
from curation_assets.search.index import CURRENT, SearchIndex
from curation_assets.search.refresh import as_of
from curation_assets_tests.processes import run_script
from curation_assets_tests.search.conftest import DIMENSION, MODEL, Lake, vector_of

FOLDERS = ("a", "b/c", "d")
Tree = dict[str, dict[str, str]]
trees = st.dictionaries(
    st.sampled_from(FOLDERS),
    st.dictionaries(st.sampled_from(["1.jpg", "2.jpg", "3.jpg", "4.jpg"]), st.sampled_from(["x", "y", "z"])),
)


def by_hand(tree: Tree, query: str) -> list[tuple[str, float]]:
    paths = {f"{folder}/{name}": content for folder, images in tree.items() for name, content in images.items()}
    scores = {path: float(vector_of(content) @ vector_of(query)) for path, content in paths.items()}
    return sorted(scores.items(), key=lambda pair: (-round(pair[1], 5), pair[0]))


def found(index: SearchIndex, query: str) -> list[tuple[str, float]]:
    rows, cosines = index.nearest(vector_of(query)[None], 10**6)
    pairs = zip(index.rows["relative_path"].gather(rows[0]), cosines[0].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-round(pair[1], 5), pair[0]))


def assert_same(index: SearchIndex, tree: Tree) -> None:
    for query in ("x", "q"):
        one, other = found(index, query), by_hand(tree, query)
        assert [path for path, _ in one] == [path for path, _ in other]
        assert [score for _, score in one] == pytest.approx([score for _, score in other], abs=1e-5)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(trees, min_size=2, max_size=4))
def test_after_any_changes_the_index_is_what_a_new_one_would_be(
    tmp_path_factory: pytest.TempPathFactory, states: list[Tree]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for tree in states:
        for folder in FOLDERS:
            lake.put(folder, tree.get(folder, {}))
        done = lake.refresh()
        assert_same(done.index, tree)
        assert done.index.info.vectors == sum(map(len, tree.values()))
        opened = SearchIndex.open(lake.index)
        assert opened is not None
        assert opened.info == done.index.info
        assert_same(opened, tree)


def test_only_what_is_new_is_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.put("a", {f"{number}.jpg": f"a{number}" for number in range(20)})
    lake.refresh()
    lake.put("b", {"new.jpg": "new"})
    read: list[int] = []
    real = segments.read_vectors

    def counted(*args: Any) -> Any:
        for positions, vectors in real(*args):
            read.append(len(positions))
            yield positions, vectors

    monkeypatch.setattr(segments, "read_vectors", counted)
    done = lake.refresh()
    assert sum(read) == 1
    assert done.added["relative_path"].to_list() == ["b/new.jpg"]
    assert not done.rebuilt
    assert len(done.index.segments) == 2


def test_a_file_that_was_written_anew_keeps_the_vectors_of_the_rows_it_still_has(lake: Lake) -> None:
    images = {f"{number}.jpg": f"a{number}" for number in range(20)}
    lake.put("a", images)
    lake.refresh()
    del images["7.jpg"]
    images["20.jpg"] = "a20"
    lake.put("a", images)
    done = lake.refresh()
    assert (done.added["relative_path"].to_list(), done.removed, done.rebuilt) == (["a/20.jpg"], 1, False)
    assert_same(done.index, {"a": images})


def test_nothing_is_written_where_nothing_changed(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    first = lake.refresh()
    before = {file.name: file.stat().st_mtime_ns for file in lake.index.iterdir()}
    again = lake.refresh()
    assert first.changed
    assert not again.changed
    assert {file.name: file.stat().st_mtime_ns for file in lake.index.iterdir()} == before


def test_after_many_small_changes_it_is_laid_out_anew_and_old_files_go(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshing, "MAX_SEGMENTS", 3)
    tree: Tree = {"base": {f"{number}.jpg": f"b{number}" for number in range(9)}}
    lake.put("base", tree["base"])
    rebuilt = [lake.refresh().rebuilt]
    for number in range(4):
        tree[f"f{number}"] = {"1.jpg": f"f{number}"}
        lake.put(f"f{number}", tree[f"f{number}"])
        done = lake.refresh()
        rebuilt.append(done.rebuilt)
        assert_same(done.index, tree)
    assert rebuilt == [True, False, False, True, False]
    named = done.index.info.files | {CURRENT, "_writer.lock"}
    assert {file.name for file in lake.index.iterdir()} == named


def test_an_image_whose_content_changed_is_not_found_until_it_is_embedded_again(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y"})
    lake.refresh()
    lake.scan("a", {"1.jpg": "other", "2.jpg": "y"})
    index = lake.refresh().index
    assert [path for path, _ in found(index, "x")] == ["a/2.jpg"]
    assert index.rows["relative_path"].to_list() == ["a/1.jpg", "a/2.jpg"]
    lake.scan("a", {"1.jpg": "x", "2.jpg": "y"})  # it came back: its vector has been in the table all the while
    assert_same(lake.refresh().index, {"a": {"1.jpg": "x", "2.jpg": "y"}})


def test_vectors_of_another_version_are_left_out(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    other = replace(MODEL, version="2", fingerprint="e" * 32)
    lake.embed("a", {"1.jpg": "x"}, other, {"1.jpg": vector_of("other")})
    assert found(lake.refresh().index, "x") == [("a/1.jpg", pytest.approx(1.0, abs=1e-5))]
    assert lake.refresh(model=other).index.info.model_version == "2"


def test_a_path_in_two_folders_is_one_image_and_comes_apart_again(lake: Lake) -> None:
    both = {"relative_path": "a/b/1.jpg"}
    lake.put("a", {"0.jpg": "w"})
    lake.scan("a/b", {"1.jpg": "x"})
    lake.embed("a/b", {"1.jpg": "x"})
    lake.refresh()
    lake.scan("a", {"1.jpg": "x"}, **both)  # as after a change of FOLDER_DEPTH, folder by folder
    lake.embed("a", {"1.jpg": "x"}, **both)
    index = lake.refresh().index
    assert [path for path, _ in found(index, "x")] == ["a/b/1.jpg"]
    lake.scan("a", {"1.jpg": "x"}, **both, camera="again")  # both written anew
    lake.embed("a", {"1.jpg": "x"}, **both)
    lake.put("a/b", {"1.jpg": "x"})
    index = lake.refresh().index
    assert (index.info.vectors, index.rows["relative_path"].to_list()) == (1, ["a/b/1.jpg"])
    lake.put("a/b", {})
    index = lake.refresh().index
    assert [path for path, _ in found(index, "x")] == ["a/b/1.jpg"]
    assert index.rows["camera"].to_list() == ["again"]
    lake.put("a", {})
    assert found(lake.refresh().index, "x") == []


def test_a_table_that_was_made_anew_gives_a_new_index(lake: Lake, tmp_path: Path) -> None:
    lake.put("a", {"1.jpg": "x"})
    lake.refresh()
    fresh = Lake(tmp_path / "fresh")
    fresh.index = lake.index
    fresh.put("a", {"2.jpg": "y"})
    done = fresh.refresh()
    assert done.rebuilt
    assert_same(done.index, {"a": {"2.jpg": "y"}})


def test_a_damaged_index_is_one_error_and_made_anew(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    info = lake.refresh().index.info
    (lake.index / info.segments[0].file).write_bytes(b"no numpy")
    with pytest.raises(CurationError, match="curation index"):
        SearchIndex.open(lake.index)
    assert_same(lake.refresh().index, {"a": {"1.jpg": "x"}})
    (lake.index / CURRENT).write_text("{")
    with pytest.raises(CurationError, match="damaged"):
        SearchIndex.open(lake.index)
    assert_same(lake.refresh().index, {"a": {"1.jpg": "x"}})


def test_an_earlier_version_is_searched_as_it_was(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y"})
    then = lake.directory.snapshot(), lake.embeddings.snapshot()
    lake.put("a", {"2.jpg": "z"})
    lake.put("b", {"1.jpg": "x"})
    index = lake.refresh().index
    assert_same(as_of(index, *then, MODEL), {"a": {"1.jpg": "x", "2.jpg": "y"}})
    assert_same(as_of(None, *then, MODEL), {"a": {"1.jpg": "x", "2.jpg": "y"}})
    assert_same(index, {"a": {"2.jpg": "z"}, "b": {"1.jpg": "x"}})


def test_an_index_that_is_open_goes_on_while_newer_ones_replace_it(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y"})
    opened = SearchIndex.open(lake.index) or lake.refresh().index
    for number in range(3):
        lake.put("a", {f"{number}.jpg": "z"})
        lake.refresh()
    assert_same(opened, {"a": {"1.jpg": "x", "2.jpg": "y"}})


def clustered(number: int) -> dict[str, Any]:
    """Vectors with cluster structure, by file name."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((number // 50, DIMENSION))
    vectors = centres[rng.integers(0, len(centres), number)] + 0.6 * rng.standard_normal((number, DIMENSION))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return {f"{place:05}.jpg": vector for place, vector in enumerate(vectors)}


def test_above_the_limit_an_approximate_index_follows_changes_and_keeps_its_recall(lake: Lake) -> None:
    vectors = clustered(6000)
    names = list(vectors)
    first = {name: name for name in names[:5000]}
    lake.scan("a", first)
    lake.embed("a", first, vectors=vectors)
    index = lake.refresh(exact_vectors=1000).index
    assert index.info.kind == "approximate"
    assert index.info.recall >= 0.98
    more = {name: name for name in names[500:]}
    lake.scan("a", more)
    lake.embed("a", more, vectors=vectors)
    done = lake.refresh(exact_vectors=1000)
    assert (len(done.added), done.removed, done.rebuilt) == (1000, 500, False)
    assert done.index.info.recall >= 0.98
    queries = np.stack([vectors[name] for name in names[-200:]])
    truth, _ = done.index.nearest(queries, 10, approximate=False)
    rows, cosines = done.index.nearest(queries, 10)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(rows, truth, strict=True)]) >= 9.6
    assert (rows >= 0).all()
    exact = done.index.take(done.index.rows["position"].gather(rows[0]).to_numpy()) @ queries[0]
    assert cosines[0] == pytest.approx(exact, abs=1e-5)
    assert lake.refresh(exact_vectors=10**6).index.info.kind == "exact"


KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from curation_assets_tests.search.conftest import Lake

module, _, name = sys.argv[2].partition('.')
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(importlib.import_module(f'curation_assets.search.{module}'), name, die)
Lake(Path(sys.argv[1])).refresh()
"""


@pytest.mark.parametrize("place", ["segments.fill", "refresh.write_frames", "refresh.publish", "measuring.latency_ms"])
def test_a_killed_refresh_leaves_the_index_as_it_was_and_the_next_one_leaves_nothing_behind(
    lake: Lake, place: str, tmp_path: Path
) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y", "3.jpg": "z"})
    lake.refresh()
    before = (lake.index / CURRENT).read_bytes()
    lake.put("b", {"1.jpg": "q"})
    killed = run_script(KILLED, str(tmp_path), place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (lake.index / CURRENT).read_bytes() == before
    opened = SearchIndex.open(lake.index)
    assert opened is not None
    assert_same(opened, {"a": {"1.jpg": "x", "2.jpg": "y", "3.jpg": "z"}})
    index = lake.refresh().index
    assert_same(index, {"a": {"1.jpg": "x", "2.jpg": "y", "3.jpg": "z"}, "b": {"1.jpg": "q"}})
    assert {file.name for file in lake.index.iterdir()} == index.info.files | {CURRENT, "_writer.lock"}


@pytest.mark.parametrize("number", [1, 5, 40])
def test_a_handful_of_vectors_is_searched_exactly_whatever_the_limit(lake: Lake, number: int) -> None:
    images = {f"{place}.jpg": f"c{place}" for place in range(number)}
    lake.put("a", images)
    done = lake.refresh(exact_vectors=0)
    assert done.index.info.kind == "exact"
    assert_same(done.index, {"a": images})
    assert not lake.refresh(exact_vectors=0).changed


def test_an_approximate_index_of_which_little_is_left_gives_what_there_is(lake: Lake) -> None:
    vectors = clustered(3000)
    names = {name: name for name in vectors}
    lake.scan("a", names)
    lake.embed("a", names, vectors=vectors)
    lake.refresh(exact_vectors=1000)
    few = dict(list(names.items())[:1500])
    lake.scan("a", dict(list(few.items())[:7]))
    index = lake.refresh(exact_vectors=1000).index
    rows, _ = index.nearest(np.stack(list(vectors.values())[:3]), 30)
    assert rows.shape == (3, 7)
    assert (np.sort(rows, axis=1) == np.arange(7)).all()


def test_a_place_that_cannot_be_written_is_one_clear_error(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    lake.index.write_text("a file")
    with pytest.raises(CurationError, match="CURATION_INDEX_ROOT"):
        lake.refresh()


def test_a_disk_without_room_is_an_error_and_not_the_end_of_the_process(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    lake.put("a", {"1.jpg": "x"})
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CurationError, match="No space left"):
        lake.refresh()
    monkeypatch.undo()
    index = lake.refresh().index
    assert {file.name for file in lake.index.iterdir()} == index.info.files | {CURRENT, "_writer.lock"}


def test_an_index_of_another_version_of_the_package_is_named_as_that(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    lake.refresh()
    said = json.loads((lake.index / CURRENT).read_text())
    (lake.index / CURRENT).write_text(json.dumps({"format": said["format"] + 1, "unheard": "of"}))
    with pytest.raises(CurationError, match="another version of this package"):
        SearchIndex.open(lake.index)
    assert_same(lake.refresh().index, {"a": {"1.jpg": "x"}})


def test_an_empty_file_of_vectors_is_mended(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    info = lake.refresh().index.info
    (lake.index / info.segments[0].file).write_bytes(b"")
    with pytest.raises(CurationError, match="curation index"):
        SearchIndex.open(lake.index)
    assert_same(lake.refresh().index, {"a": {"1.jpg": "x"}})


def test_the_file_that_names_a_build_says_what_it_covers(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    lake.refresh()
    said = json.loads((lake.index / CURRENT).read_text())
    assert said["table_version"] == lake.embeddings.newest_version() == lake.embeddings.snapshot().version
    assert (said["vectors"], said["images"], said["model_version"]) == (1, 1, "1")
