"""Outlier scores and clusters: functions of the vectors, which follow what is new."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable, Field
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.curate.neighbours.refresh import refresh_neighbours
from curation_assets.curate.neighbours.vectors import NodeVectors
from curation_assets.curate.scores import clusters, outliers, scoring
from curation_assets.curate.scores.clusters import cluster, clusters_for
from curation_assets.curate.scores.names import by_folders, by_labels
from curation_assets.curate.scores.outliers import LEAST, outlier_scores, sample_size
from curation_assets.curate.scores.overview import nearest_of
from curation_assets.curate.scores.scoring import Scoring, Wanted, bring_scores_in_line, scores_are_behind
from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.lake.schemas import SCORES
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.repair import repair
from curation_assets_tests.curate.killed import AFTER_THE_COMMIT, BEFORE_THE_COMMIT, kill
from curation_assets_tests.curate.test_neighbours import Vectors, index_of, unit

Fill = Callable[..., list[Path]]
MODEL = RegisteredModel("m", "1", "f", 16, 32, 1, "demo", True, "run")


def content(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def bunch(rng: np.random.Generator, centre: NDArray[np.float64], number: int, wide: float = 0.3) -> NDArray[np.float32]:
    return unit(centre + wide * rng.normal(size=(number, len(centre))) / np.sqrt(len(centre)))


def three_bunches(each: int = 60, seed: int = 3) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = np.eye(16)[:3]
    found = np.concatenate([bunch(rng, centre, each) for centre in centres])
    return {content((seed, at)): vector for at, vector in enumerate(found)}


def score(
    table: LakeTable, path: Path, vectors: Vectors, wanted: Wanted | None = None, **layout: object
) -> tuple[Scoring, pl.DataFrame]:
    index = index_of(path, vectors, **layout)  # type: ignore[arg-type]
    graph = refresh_neighbours(index, LogProgress()).neighbours
    done = bring_scores_in_line(index, graph, MODEL, table, wanted or Wanted(), LogProgress())
    names = [column.name for column in SCORES.columns]
    assert not scores_are_behind(index, table.latest(), MODEL, wanted or Wanted())
    return done, table.latest().read(names).select(names).sort("relative_path")


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    made = LakeTable(tmp_path / "scores", SCORES)
    made.create()
    return made


def by_hand(vectors: list[NDArray[np.float32]], at: int) -> float:
    sample, near = sample_size(len(vectors))
    distances = sorted(1 - float(vectors[at] @ other) for place, other in enumerate(vectors[:sample]) if place != at)
    return distances[near - 1]


def test_the_score_is_the_distance_within_which_a_share_of_the_sample_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "SAMPLE", 100)
    monkeypatch.setattr(outliers, "SHARE", 0.1)
    vectors = list(unit(np.random.default_rng(1).normal(size=(250, 16))))
    nodes = NodeVectors([np.array(vectors)], np.arange(250))
    found = outlier_scores(nodes, np.arange(250, dtype=np.int64), LogProgress())
    assert sample_size(250) == (100, 10)
    assert np.allclose(found, [by_hand(vectors, at) for at in range(250)], atol=1e-6)
    some = np.array([7, 240, 3], np.int64)
    assert (outlier_scores(nodes, some, LogProgress()) == found[some]).all(), "whatever else is asked for"


def test_foreign_images_score_highest_though_they_are_each_others_neighbours(table: LakeTable, tmp_path: Path) -> None:
    vectors = three_bunches(100)
    rng = np.random.default_rng(8)
    foreign = {content(("foreign", at)): vector for at, vector in enumerate(bunch(rng, np.eye(16)[9], 4, 0.05))}
    _, rows = score(table, tmp_path / "index", vectors | foreign)
    highest = rows.sort("outlier_score", descending=True).head(4)
    assert set(highest["content_sha256"]) == set(foreign)
    assert highest["outlier_score"].min() > 0.8
    assert highest["uniqueness"].max() < 0.1, "each has another beside it"


def test_scores_do_not_depend_on_the_order_of_arrival(table: LakeTable, tmp_path: Path) -> None:
    vectors = three_bunches()
    names = list(vectors)
    _, whole = score(table, tmp_path / "index", vectors)
    other = LakeTable(tmp_path / "other", SCORES)
    other.create()
    place = tmp_path / "index_of_other"
    score(other, place, {name: vectors[name] for name in names[50:90]})
    score(other, place, {name: vectors[name] for name in names[20:]}, version=2, order=names[:19:-1])
    _, later = score(other, place, vectors, version=3, pieces=3, hole_every=7)
    columns = ["relative_path", "outlier_score", "uniqueness"]
    assert later.select(columns).equals(whole.select(columns))


def test_where_nothing_changed_nothing_is_computed(
    table: LakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(table, tmp_path / "index", three_bunches())
    version = table.newest_version()
    monkeypatch.setattr(scoring, "outlier_scores", None)
    monkeypatch.setattr(scoring, "cluster", None)
    done, _ = score(table, tmp_path / "index", three_bunches(), version=2)
    assert (done.changed, done.commits, done.scored, done.clusters) == (0, 0, 0, 7)
    assert table.newest_version() == version


def test_what_was_there_keeps_its_score_where_the_sample_stays(
    table: LakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outliers, "SAMPLE", 20)
    vectors = three_bunches()
    new = max(vectors)  # its hash is not among the lowest
    _, before = score(table, tmp_path / "index", {name: v for name, v in vectors.items() if name != new})
    done, rows = score(table, tmp_path / "index", vectors, version=2)
    assert done.scored == 1
    joined = rows.join(before, on="relative_path", suffix="_before")
    assert joined["outlier_score"].equals(joined["outlier_score_before"].rename("outlier_score"))
    first = min(vectors)
    done, rows = score(table, tmp_path / "index", {n: v for n, v in vectors.items() if n != first}, version=3)
    assert done.scored == 179, "one of the sample is gone"
    other = LakeTable(tmp_path / "other", SCORES)
    other.create()
    _, fresh = score(other, tmp_path / "fresh", {n: v for n, v in vectors.items() if n != first})
    assert rows["outlier_score"].equals(fresh["outlier_score"])


def test_clusters_are_found_and_stay_with_their_members(table: LakeTable, tmp_path: Path) -> None:
    vectors = three_bunches(60)
    done, first = score(table, tmp_path / "index", vectors, Wanted(3))
    assert (done.clusters, done.laid_out) == (3, True)
    assert first.group_by("cluster").len()["len"].to_list() == [60] * 3
    assert first["is_medoid"].sum() == 3
    more = vectors | {content(("more", at)): v for at, v in enumerate(three_bunches(10, seed=4).values())}
    done, second = score(table, tmp_path / "index", more, Wanted(3), version=2)
    assert not done.laid_out
    joined = first.join(second, on="relative_path", suffix="_now")
    assert joined["cluster"].equals(joined["cluster_now"].rename("cluster"))
    assert joined["cluster_distance"].equals(joined["cluster_distance_now"].rename("cluster_distance"))
    assert second["came_later"].sum() == 30
    much = more | {content(("much", at)): v for at, v in enumerate(three_bunches(60, seed=5).values())}
    done, third = score(table, tmp_path / "index", much, Wanted(3), version=3)
    assert done.laid_out, "more than a third is new"
    assert not third["came_later"].any()
    joined = first.join(third, on="relative_path", suffix="_now")
    assert joined["cluster"].equals(joined["cluster_now"].rename("cluster")), "and the ids stay"


def test_another_number_of_clusters_keeps_the_ids_of_those_that_are_left(table: LakeTable, tmp_path: Path) -> None:
    vectors = three_bunches(60)
    _, three = score(table, tmp_path / "index", vectors, Wanted(3))
    done, two = score(table, tmp_path / "index", vectors, Wanted(2))
    assert done.laid_out
    assert done.scored == 0, "the scores are what they were"
    assert set(two["cluster"]) < set(three["cluster"])
    _, five = score(table, tmp_path / "index", vectors, Wanted(5))
    assert five["cluster"].n_unique() == 5
    assert set(two["cluster"]) < set(five["cluster"])


def test_clusters_are_the_same_every_time(tmp_path: Path) -> None:
    vectors = three_bunches(200)
    found = []
    for attempt, order in enumerate((list(vectors), sorted(vectors))):
        table = LakeTable(tmp_path / f"scores{attempt}", SCORES)
        table.create()
        _, rows = score(table, tmp_path / f"index{attempt}", vectors, order=order, pieces=1 + attempt)
        found.append(rows)
    assert found[0].equals(found[1])


def test_the_number_of_clusters_grows_with_the_root_of_the_images() -> None:
    assert [clusters_for(number) for number in (1, 4, 100, 400, 10_000, 10**6)] == [1, 1, 5, 10, 50, 50]


def test_a_cluster_whose_first_members_are_gone_is_laid_out_anew() -> None:
    vectors = np.array(list(three_bunches(20).values()))
    nodes = NodeVectors([vectors], np.arange(60))
    before = np.repeat(np.array([0, 1, 2], np.int32), 20)
    later = before == 2
    made = cluster(nodes, before, later, None, LogProgress())
    assert made.laid_out
    stays = cluster(nodes, before, np.zeros(60, bool), None, LogProgress())
    assert not stays.laid_out
    assert (stays.cluster == before).all()


def test_a_new_cluster_gets_no_number_that_had_a_name() -> None:
    nodes = NodeVectors([np.array(list(three_bunches(20).values()))], np.arange(60))
    nobody = np.full(60, -1, np.int32)
    made = cluster(nodes, nobody, np.zeros(60, bool), 3, LogProgress(), highest=6)
    assert sorted(made.centres) == [7, 8, 9]
    split = cluster(nodes, np.where(made.cluster == 9, 8, made.cluster), np.zeros(60, bool), 3, LogProgress(), 9)
    assert sorted(split.centres) == [7, 8, 10]


@pytest.mark.parametrize(
    ("vectors", "scored"),
    [
        ({}, False),
        ({content(0): np.eye(16, dtype=np.float32)[0]}, False),
        ({content(at): np.eye(16, dtype=np.float32)[0] for at in range(2)}, True),
        ({content(at): np.eye(16, dtype=np.float32)[0] for at in range(40)}, True),
        ({content(at): np.eye(16, dtype=np.float32)[at] for at in range(3)}, True),
    ],
    ids=["none", "one", "two the same", "all the same", "three"],
)
def test_small_lakes_are_scored_as_far_as_that_goes(
    table: LakeTable, tmp_path: Path, vectors: Vectors, scored: bool
) -> None:
    done, rows = score(table, tmp_path / "index", vectors, Wanted(7))
    assert len(rows) == len(vectors)
    assert done.clusters == len({vector.tobytes() for vector in vectors.values()})
    assert rows["outlier_score"].is_null().all() != scored or not len(rows)
    assert rows["cluster"].null_count() == 0
    assert rows["cluster_name"].null_count() == 0


def test_copies_share_a_row_each_and_a_vector_that_is_no_number_has_none(table: LakeTable, tmp_path: Path) -> None:
    vectors = three_bunches(5)
    broken = content("broken")
    vectors[broken] = np.full(16, np.nan, np.float32)
    index = index_of(tmp_path / "index", vectors, copies=2)
    graph = refresh_neighbours(index, LogProgress()).neighbours
    bring_scores_in_line(index, graph, MODEL, table, Wanted(), LogProgress())
    rows = table.latest().read(["relative_path", "content_sha256", "outlier_score", "is_medoid", "cluster"])
    assert len(rows) == 30
    assert broken not in rows["content_sha256"].to_list()
    assert not scores_are_behind(index, table.latest(), MODEL, Wanted())
    assert scores_are_behind(index, table.latest(), MODEL, Wanted(2))
    assert rows.group_by("content_sha256").agg(pl.col("outlier_score").n_unique())["outlier_score"].max() == 1
    assert rows["is_medoid"].sum() == rows["cluster"].n_unique()


def test_the_nearest_of_an_image_are_told_by_path(table: LakeTable, tmp_path: Path) -> None:
    vectors = three_bunches(5)
    broken = content("broken")
    index = index_of(tmp_path / "index", vectors | {broken: np.full(16, np.nan, np.float32)}, copies=2)
    assert nearest_of(index, ["x"]) == {}, "there is no graph yet"
    refresh_neighbours(index, LogProgress())
    one, *others = vectors
    found = nearest_of(index, [f"1/{one}.jpg", "none.jpg", f"0/{broken}.jpg"], 3)
    cosines = {f"0/{other}.jpg": float(vectors[one] @ vectors[other]) for other in others}
    expected = sorted(cosines, key=lambda path: -cosines[path])[:3]
    assert list(found) == [f"1/{one}.jpg"]
    assert [path for path, _ in found[f"1/{one}.jpg"]] == expected, "of copies the first"
    assert np.allclose([cosine for _, cosine in found[f"1/{one}.jpg"]], [cosines[path] for path in expected], atol=1e-6)
    alone = index_of(tmp_path / "alone", {one: vectors[one]})
    refresh_neighbours(alone, LogProgress())
    assert nearest_of(alone, [f"0/{one}.jpg"]) == {f"0/{one}.jpg": []}


def test_another_model_takes_the_place_of_the_rows(table: LakeTable, tmp_path: Path) -> None:
    score(table, tmp_path / "index", three_bunches(5))
    index = index_of(tmp_path / "index", three_bunches(5))
    other = replace(MODEL, version="2")
    assert scores_are_behind(index, table.latest(), other, Wanted())
    graph = refresh_neighbours(index, LogProgress()).neighbours
    done = bring_scores_in_line(index, graph, other, table, Wanted(), LogProgress())
    assert (done.scored, done.images) == (15, 15)
    assert table.latest().read(["model_version"])["model_version"].unique().to_list() == ["2"]


def test_columns_of_users_stay_with_path_and_content(table: LakeTable, tmp_path: Path) -> None:
    vectors = three_bunches(10)
    score(table, tmp_path / "index", vectors)
    DeltaTable(table.path).alter.add_columns([Field("mine", "string")])
    DeltaTable(table.path).update(updates={"mine": "substr(content_sha256, 1, 4)"})
    done, _ = score(LakeTable(table.path, SCORES), tmp_path / "index", vectors | three_bunches(1, seed=9), version=2)
    assert done.changed > 3
    rows = LakeTable(table.path, SCORES).latest().read(["content_sha256", "mine"])
    known = rows.filter(pl.col("content_sha256").is_in(list(vectors)))
    assert (known["mine"] == known["content_sha256"].str.head(4)).all()
    assert rows["mine"].null_count() == 3


def test_clusters_are_named_by_what_is_more_frequent_in_their_folders() -> None:
    rows = [(0, "coffee/train/3_rust")] * 8 + [(0, "rice/Thrips")] + [(1, "rice/Thrips")] * 5 + [(2, "IMG/20240101")]
    images = pl.DataFrame(rows, {"cluster": pl.Int32, "folder": pl.String}, orient="row")
    assert by_folders(images) == {0: "coffee train", 1: "rice thrips", 2: "img"}
    assert by_folders(images.with_columns(folder=pl.lit("."))) == {0: "cluster 0", 1: "cluster 1", 2: "cluster 2"}
    assert by_folders(images.with_columns(folder=pl.lit("maize"))) == dict.fromkeys((0, 1, 2), "maize")


def test_clusters_are_named_by_the_nearest_label() -> None:
    vectors = np.eye(4, dtype=np.float32)
    centres = {3: vectors[1], 5: unit(np.array([0.1, 0.0, 0.9, 0.0]))}
    assert by_labels(centres, ["a", "b", "c", "d"], vectors) == {3: "b", 5: "c"}


def test_the_layout_is_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SAMPLE", 30)
    vectors = np.array(list(three_bunches(40).values()))
    order = np.random.default_rng(0).permutation(120)
    none = np.full(120, -1, np.int32)
    made = cluster(NodeVectors([vectors[order]], np.arange(120)), none, none > 0, 3, LogProgress())
    assert sorted(np.bincount(made.cluster)) == [40, 40, 40]


def test_a_run_ends_with_scores_and_follows_the_images(ready: Pipeline, fill: Fill, images: Path) -> None:
    first, *_ = fill("maize", 4)
    summary = run(ready, LogProgress())
    assert summary.scores is not None, summary.scores_error
    assert (summary.scores.images, summary.scores.clusters) == (4, 1)
    first.unlink()
    (images / "maize" / "copy.jpg").write_bytes((images / "maize" / "photo_0001.jpg").read_bytes())
    run(ready, LogProgress())
    rows = ready.tables.scores.latest().read(["relative_path", "cluster_name", "outlier_score"])
    assert sorted(path.rpartition("/")[2] for path in rows["relative_path"]) == [
        "copy.jpg",
        "photo_0001.jpg",
        "photo_0002.jpg",
        "photo_0003.jpg",
    ]
    assert sample_size(3) == (3, 2)
    assert LEAST > 2
    again = run(ready, LogProgress())
    assert again.scores is not None
    assert again.scores.commits == 0


def test_nothing_is_scored_where_nothing_is_embedded_and_one_label_is_refused(pipeline: Pipeline, fill: Fill) -> None:
    fill("maize", 2)
    pipeline.scan(["maize"], LogProgress())
    assert pipeline.score(LogProgress()) is None
    pipeline.settings.labels[:] = ["rust"]
    with pytest.raises(CurationError, match="at least two"):
        pipeline.wanted_clusters(MODEL)


PLACES = {
    "while clustering": ("curation_assets.curate.scores.scoring", "", "cluster"),
    "before the commit": BEFORE_THE_COMMIT,
    "after the commit": AFTER_THE_COMMIT,
}


def stored(pipeline: Pipeline) -> pl.DataFrame:
    columns = list(SCORES.arrow_schema.names)
    return pipeline.tables.scores.snapshot().read(columns).select(columns).sort("relative_path")


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_process_leaves_the_table_whole_and_the_next_one_finishes(
    place: str, ready: Pipeline, fill: Fill, images: Path
) -> None:
    fill("maize", 5)
    run(ready, LogProgress())
    before = stored(ready)
    (images / "maize" / "photo_0001.jpg").unlink()
    fill("maize", 2, first=7)
    run(ready, LogProgress(), curate=False)
    kill(ready.settings, "score", PLACES[place])
    again = Pipeline(ready.settings)
    if place != "after the commit":
        assert stored(again).equals(before)
    again.score(LogProgress())
    assert len(stored(again)) == 6
    there = {path.name for path in ready.tables.scores.path.glob("*.parquet")}
    assert there >= {file.path for file in again.tables.scores.snapshot().files()}
    done = again.score(LogProgress())
    assert done is not None
    assert done.commits == 0


def test_a_damaged_data_file_is_made_anew(ready: Pipeline, fill: Fill) -> None:
    fill("maize", 5)
    run(ready, LogProgress())
    before = stored(ready)
    (file,) = ready.tables.scores.snapshot().files()
    (ready.tables.scores.path / file.path).write_bytes(b"no Parquet")
    pipeline = Pipeline(ready.settings)
    repair(pipeline, LogProgress())
    assert stored(Pipeline(ready.settings)).equals(before)
