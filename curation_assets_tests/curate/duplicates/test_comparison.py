"""Pairs and groups follow the images by state: each content is compared once, whatever happens to its files."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema
from PIL import ImageEnhance

from curation_assets.curate.duplicates import verification
from curation_assets.curate.duplicates.copies import MOST_PAIRS, NearSoFar
from curation_assets.curate.duplicates.overview import Duplicates
from curation_assets.errors import CurationError
from curation_assets.lake.broken import BrokenFiles
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.repair import repair
from curation_assets.settings import load_settings
from curation_assets_tests.curate.duplicates.drawn import EDITS, jpeg, photograph, resized
from curation_assets_tests.curate.killed import AFTER_THE_COMMIT, BEFORE_THE_COMMIT, kill

TREE = {
    "maize/1.jpg": (0, None),
    "maize/2.jpg": (1, None),
    "maize/3.jpg": (2, None),
    "oats/copy.jpg": (0, None),
    "oats/mirrored.jpg": (0, "mirrored"),
    "oats/part.jpg": (1, "cropped to 80 %"),
    "oats/grey.jpg": (3, "greyed"),
    "rye/plain.jpg": (3, None),
    "rye/small.jpg": (3, "a quarter of the size"),
    "rye/alone.jpg": (4, None),
}
NEAR = [
    ["maize/1.jpg", "oats/copy.jpg", "oats/mirrored.jpg"],
    ["maize/2.jpg", "oats/part.jpg"],
    ["oats/grey.jpg", "rye/plain.jpg", "rye/small.jpg"],
]


def put(images: Path, *paths: str) -> None:
    for path in paths or TREE:
        number, edit = TREE[path]
        image = photograph(number) if edit is None else EDITS[edit](photograph(number))
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).write_bytes(jpeg(image))


def compare(pipeline: Pipeline) -> Duplicates:
    tree = pipeline.source.list_folders()
    tables = pipeline.tables
    gone = set(tables.directory.latest().folders) if tables.directory.exists() else set()
    pipeline.scan(sorted({*tree.folders, *gone}), LogProgress())
    return pipeline.compare_all(LogProgress())


def grouped(pipeline: Pipeline, kind: str = "near") -> list[list[str]]:
    rows = pipeline.tables.groups.snapshot().read(["relative_path", "kind", "group_id"])
    of_kind = rows.filter(pl.col("kind") == kind).sort("relative_path")
    return sorted(of_kind.group_by("group_id").agg("relative_path")["relative_path"].to_list())


def ids(pipeline: Pipeline) -> dict[str, str]:
    rows = pipeline.tables.groups.snapshot().read(["relative_path", "kind", "group_id"])
    return dict(rows.filter(pl.col("kind") == "near").select("relative_path", "group_id").iter_rows())


def state(pipeline: Pipeline) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What must not depend on the way there: pairs, members and keepers."""
    pairs = pipeline.tables.pairs.snapshot().read(["first", "second", "kind", "similarity", "transform"])
    groups = pipeline.tables.groups.snapshot().read(
        ["relative_path", "kind", "keeper", "is_keeper", "similarity", "rule"]
    )
    return pairs.drop("_file").sort("first", "second"), groups.drop("_file").sort("kind", "relative_path")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of the images, and a lake in which they were compared."""
    home = tmp_path_factory.mktemp("compared")
    put(home / "images")
    compare(Pipeline(load_settings(images_root=home / "images", lake_root=home / "lake", model_source="demo")))
    return home


@pytest.fixture
def lake(pipeline: Pipeline, made: Path, tmp_path: Path) -> Pipeline:
    """That lake, of the test's own."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return pipeline


def test_groups_are_found_and_nothing_is_compared_again(pipeline: Pipeline, images: Path) -> None:
    put(images)
    done = compare(pipeline)
    assert grouped(pipeline) == NEAR
    assert grouped(pipeline, "exact") == [["maize/1.jpg", "oats/copy.jpg"]]
    assert (done.comparison.contents, done.comparison.compared) == (9, 9)
    assert 0 < done.comparison.verified <= 30 * 9
    versions = [table.newest_version() for table in pipeline.tables.there]
    again = compare(pipeline)
    assert (again.comparison.verified, again.comparison.commits, again.grouping.changed) == (0, 0, 0)
    assert [table.newest_version() for table in pipeline.tables.there] == versions


def test_the_way_there_does_not_matter(pipeline: Pipeline, images: Path, tmp_path: Path) -> None:
    put(images)
    compare(pipeline)
    pairs, groups = state(pipeline)
    for seed in range(2):
        other = tmp_path / f"other{seed}"
        changed = Pipeline(pipeline.settings.model_copy(update={"lake_root": other / "lake"}))
        shutil.rmtree(images)
        images.mkdir()
        order = list(TREE)
        random.Random(seed).shuffle(order)
        for path in order[:5]:
            put(images, path)
        put(images, order[7])
        compare(changed)
        (images / order[1]).unlink()
        compare(changed)
        put(images)
        compare(changed)
        assert state(changed)[0].equals(pairs)
        assert state(changed)[1].equals(groups)


def test_many_copies_of_one_photograph_are_one_group(pipeline: Pipeline, images: Path) -> None:
    """More than any of them may name: the rest is brought together by what it is near to."""
    (images / "oats").mkdir()
    number = 33
    small = resized(photograph(0), 0.5)
    for copy in range(number):
        edited = ImageEnhance.Brightness(small).enhance(0.7 + copy / 100)
        edited = EDITS[("mirrored", "turned by 90°", "cropped to 90 %", "greyed")[copy % 4]](edited)
        (images / f"oats/{copy:02}.jpg").write_bytes(jpeg(edited, 60 + copy % 30))
    done = compare(pipeline)
    assert [len(group) for group in grouped(pipeline)] == [number]
    pairs = pipeline.tables.pairs.snapshot().read(["kind", "method"])
    assert len(pairs) == number * (number - 1) // 2
    assert set(pairs["method"]) > {"copies"}
    assert done.comparison.verified <= 30 * number


def test_what_two_steps_bring_together_is_told_once_and_leaves_room() -> None:
    near = pl.DataFrame({"first": [0, 0, 1], "second": [1, 2, 3], "similarity": [0.95, 0.91, 0.99]})
    compared = pl.DataFrame({"first": [0, 0, 1, 0], "second": [1, 2, 3, 3]})
    known = NearSoFar(5, near, compared)
    assert known.two_steps_apart(pl.Series([3])).rows() == []  # 0 and 3 were compared already
    assert known.two_steps_apart(pl.Series([0])).rows() == [(1, 2)]
    assert known.two_steps_apart(pl.Series([0])).rows() == []
    star = pl.DataFrame({"first": [0] * 20, "second": range(1, 21), "similarity": [0.9] * 20})
    others = pl.DataFrame({"first": [1] * (MOST_PAIRS - 3), "second": range(21, 18 + MOST_PAIRS)})
    busy = NearSoFar(100, star, pl.concat([star.select("first", "second"), others]))
    found = busy.two_steps_apart(star["second"])
    of_each = dict(pl.concat([found["first"], found["second"]]).value_counts().iter_rows())
    assert of_each.pop(1) == 2  # all that it has room for
    assert set(of_each.values()) == {18, 19}


def test_copies_renames_and_moves_cost_no_comparison_and_keep_the_ids(lake: Pipeline, images: Path) -> None:
    before = ids(lake)
    (images / "maize").rename(images / "corn")
    shutil.copy(images / "rye/alone.jpg", images / "corn/again.jpg")
    done = compare(lake)
    assert done.comparison.verified == 0
    assert ids(lake) == {path.replace("maize/", "corn/"): group for path, group in before.items()}
    assert ["corn/again.jpg", "rye/alone.jpg"] in grouped(lake, "exact")


def test_what_is_gone_leaves_its_groups_and_what_changed_is_compared_anew(lake: Pipeline, images: Path) -> None:
    before = ids(lake)
    (images / "oats/part.jpg").unlink()
    (images / "rye/alone.jpg").write_bytes(jpeg(EDITS["re-encoded"](photograph(2))))
    compare(lake)
    assert grouped(lake) == sorted([NEAR[0], NEAR[2], ["maize/3.jpg", "rye/alone.jpg"]])
    after = ids(lake)
    assert {path: after[path] for path in (*NEAR[0], *NEAR[2])} == {path: before[path] for path in (*NEAR[0], *NEAR[2])}
    put(images, "oats/part.jpg")
    compare(lake)
    assert NEAR[1] in grouped(lake), "it came back, and is found again"


def test_a_picture_that_cannot_be_drawn_is_told_and_the_others_are_compared(
    pipeline: Pipeline, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake import DeltaTable

    put(images)
    pipeline.scan(["maize", "oats", "rye"], LogProgress())
    table = DeltaTable(pipeline.tables.directory.path)
    table.update(updates={"preview": "NULL"}, predicate="relative_path = 'rye/small.jpg'")
    done = pipeline.compare_all(LogProgress())
    assert list(done.comparison.failed.values()) == ["it has no preview"]
    assert grouped(pipeline) == [NEAR[0], NEAR[1], ["oats/grey.jpg", "rye/plain.jpg"]]
    rows = pipeline.tables.compared.snapshot().read(["error"])
    assert rows["error"].drop_nulls().to_list() == ["it has no preview"]


@pytest.mark.parametrize("lost", ["all", "current.json", "a file", "damage"])
def test_pictures_are_made_anew_when_they_are_lost(lost: str, lake: Pipeline, images: Path) -> None:
    place = lake.settings.pictures_dir
    if lost == "all":
        shutil.rmtree(place)
    elif lost == "current.json":
        (place / "current.json").unlink()
    elif lost == "a file":
        next(place.glob("*.squares.npy")).unlink()
    else:
        next(place.glob("*.hashes.npy")).write_bytes(b"\x93NUMPY")
    put(images, "maize/1.jpg")
    (images / "rye/alone.jpg").write_bytes(jpeg(EDITS["re-encoded"](photograph(2))))
    compare(lake)
    assert ["maize/3.jpg", "rye/alone.jpg"] in grouped(lake)


def test_of_the_groups_only_files_that_hold_what_changed_are_written_anew(lake: Pipeline, images: Path) -> None:
    groups = lake.tables.groups
    DeltaTable(str(groups.path)).alter.add_columns(Schema.from_arrow(pa.schema([pa.field("note", pa.string())])).fields)
    DeltaTable(str(groups.path)).update(updates={"note": "'of ' || relative_path"})
    (file,) = groups.snapshot().files()
    (images / "rye/new.jpg").write_bytes(jpeg(photograph(9)))
    (images / "rye/new mirrored.jpg").write_bytes(jpeg(EDITS["mirrored"](photograph(9)), 80))
    done = compare(Pipeline(lake.settings)).grouping
    assert (done.changed, done.commits) == (2, 1)
    assert file in groups.snapshot().files(), "what others are in is not touched"
    assert grouped(lake) == sorted([*NEAR, ["rye/new mirrored.jpg", "rye/new.jpg"]])
    (images / "oats/grey.jpg").unlink()
    done = compare(Pipeline(lake.settings)).grouping
    rows = groups.snapshot().read(["relative_path", "note"])
    assert len(rows) == 2 + sum(map(len, NEAR)) + 2 - 1, "two copies, the near groups, one that came, one that went"
    stayed = rows.filter(pl.col("relative_path").str.starts_with("maize/"))
    assert (stayed["note"] == "of " + stayed["relative_path"]).all(), "users' own columns stay with rows that do"
    assert compare(Pipeline(lake.settings)).grouping.changed == 0


def test_few_or_no_images_are_no_groups(pipeline: Pipeline, images: Path) -> None:
    put(images, "rye/alone.jpg")
    done = compare(pipeline)
    assert (done.comparison.contents, done.comparison.verified, done.grouping.groups) == (
        1,
        0,
        {"exact": 0, "near": 0, "burst": 0},
    )
    (images / "rye/alone.jpg").write_bytes(b"not an image")
    assert compare(pipeline).comparison.contents == 0


PLACES = {
    "drawing pictures": (("curation_assets.curate.duplicates.pictures", "", "_publish"), 0),
    "comparing": (("curation_assets.curate.duplicates.judging", "", "verify"), 0),
    "before the pairs are committed": (BEFORE_THE_COMMIT, 0),
    "after the pairs are committed": (AFTER_THE_COMMIT, 0),
    "before it is said that they were compared": (BEFORE_THE_COMMIT, 1),
    "before the groups are committed": (BEFORE_THE_COMMIT, 2),
}


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, pl.DataFrame, pl.DataFrame]:
    """Images, a lake that was scanned, and what its pairs and groups have to be in the end."""
    images, folder = made / "images", tmp_path_factory.mktemp("scanned") / "lake"
    whole = Pipeline(load_settings(images_root=images, lake_root=made / "lake", model_source="demo"))
    scanned = Pipeline(load_settings(images_root=images, lake_root=folder, model_source="demo"))
    scanned.scan(["maize", "oats", "rye"], LogProgress())
    return images, folder, *state(whole)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_killed_process_leaves_the_tables_whole_and_the_next_one_finishes(
    place: str, finished: tuple[Path, Path, pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    images, scanned, pairs, groups = finished
    shutil.copytree(scanned, tmp_path / "lake")
    pipeline = Pipeline(load_settings(images_root=images, lake_root=tmp_path / "lake", model_source="demo"))
    kill(pipeline.settings, "compare_all", *PLACES[place])
    pipeline.compare_all(LogProgress())
    assert state(pipeline)[0].equals(pairs)
    assert state(pipeline)[1].equals(groups)
    assert pipeline.compare_all(LogProgress()).comparison.commits == 0


def test_a_version_of_the_comparison_compares_all_again(
    pipeline: Pipeline, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curation_assets.curate.duplicates import comparison, judging

    put(images)
    first = compare(pipeline)
    pairs, groups = state(pipeline)
    for module in (comparison, judging):
        monkeypatch.setattr(module, "VERIFICATION_VERSION", verification.VERIFICATION_VERSION + 1)
    again = compare(pipeline)
    assert again.comparison.verified == first.comparison.verified
    assert state(pipeline)[0].equals(pairs)
    assert state(pipeline)[1].equals(groups)


def test_other_thresholds_compare_all_again(lake: Pipeline, images: Path) -> None:
    stricter = Pipeline(lake.settings.model_copy(update={"near_agreement": 1.0}))
    done = compare(stricter)
    assert done.comparison.verified > 0
    assert len(grouped(stricter)) < len(NEAR)
    assert compare(stricter).comparison.verified == 0
    compare(Pipeline(lake.settings))
    assert grouped(lake) == NEAR


@pytest.mark.parametrize("which", ["pairs", "compared", "groups"])
def test_a_damaged_file_is_told_and_a_repair_finds_everything_again(which: str, lake: Pipeline, images: Path) -> None:
    before = state(lake)
    table = getattr(lake.tables, which)
    (file, *_) = table.snapshot().files()
    (table.path / file.path).write_bytes(b"")
    (images / "rye/new.jpg").write_bytes(jpeg(photograph(9)))
    if which == "pairs":  # of the others nothing is lost that isn't made again at once
        with suppress(CurationError):
            compare(Pipeline(lake.settings))
        with pytest.raises(CurationError, match="`curation repair` makes its rows anew"):
            compare(Pipeline(lake.settings))
    BrokenFiles.of(str(table.path))._found.clear()
    report = repair(Pipeline(lake.settings), LogProgress())
    assert [damage.table for damage in report.found] == [table.path.name]
    (images / "rye/new.jpg").unlink()
    compare(Pipeline(lake.settings))
    assert state(lake)[0].equals(before[0])
    assert state(lake)[1].equals(before[1])
    assert repair(Pipeline(lake.settings), LogProgress()).found == []


def test_another_model_looks_its_neighbours_up(lake: Pipeline, images: Path, tmp_path: Path) -> None:
    from curation_assets.curate.duplicates.candidates import NeighbourLists
    from curation_assets.curate.duplicates.comparison import compare_contents

    tables = lake.tables
    contents = tables.compared.snapshot().read(["content_sha256"])["content_sha256"].sort()
    lists = np.array([[(place + 1) % len(contents)] for place in range(len(contents))], np.int32)

    def with_model(version: str) -> int:
        neighbours = NeighbourLists(contents, lists, np.ones_like(lists, np.float32), version, f"of {version}")
        return compare_contents(
            tables.directory,
            tables.pairs,
            tables.compared,
            lake.settings.pictures_dir,
            lake.agreements,
            LogProgress(),
            threads=1,
            neighbours=neighbours,
        ).verified

    pairs, _ = state(lake)
    assert 0 < with_model("1") <= len(contents)
    assert with_model("1") == 0
    assert 0 < with_model("2") <= len(contents)
    versions = tables.compared.snapshot().read(["model_version"])["model_version"]
    assert versions.unique().to_list() == ["2"]
    assert state(lake)[0].equals(pairs)
    del tmp_path
