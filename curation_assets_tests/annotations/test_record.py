"""A source's rows: imported whole or not at all, replaced by what it says now, following their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.annotations.configured import places_note
from curation_assets.annotations.following import movable
from curation_assets.annotations.record import Import, read_rows, remove
from curation_assets.annotations.record import put as record_put
from curation_assets.annotations.said import FaultyAnnotationsError
from curation_assets.annotations.sources import make_source
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.annotations.conftest import Put


def annotate(pipeline: Pipeline, add: bool = False, dry_run: bool = False, **given: Any) -> Import:
    return pipeline.annotate(make_source(**given), LogProgress(), add=add, dry_run=dry_run)


def folders(pipeline: Pipeline, pattern: str = "{class}/*", **given: Any) -> Import:
    return annotate(pipeline, format="folders", pattern=pattern, **given)


def csv(pipeline: Pipeline, path: Path, text: str, **given: Any) -> Import:
    path.write_text(text)
    return annotate(pipeline, format="csv", path=path, **given)


def rows(pipeline: Pipeline, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of the table, sorted by key."""
    found = read_rows(pipeline.tables.annotations).sort("relative_path", "field", "source")
    return found.select(columns or ("relative_path", "field", "values", "split")).rows()


# ---------------------------------------------------------------- folders


def test_named_parts_of_a_pattern_are_fields_and_the_split(pipeline: Pipeline, put: Put) -> None:
    put({"train/rust/a.jpg": 1, "test/miner-2 b/b.jpg": 2, "odd.jpg": 3})
    done = folders(pipeline, "{split}/{class}/*")
    assert rows(pipeline) == [
        ("test/miner-2 b/b.jpg", "class", ["miner-2 b"], "test"),
        ("train/rust/a.jpg", "class", ["rust"], "train"),
    ]
    assert (done.rows, done.images, done.labels) == (2, 2, {"class": {"miner-2 b": 1, "rust": 1}})
    assert done.splits == {"test": 1, "train": 1}
    assert "1 of 3 images don't match the pattern" in done.notes
    assert any("'rust' of class is on one image alone: train/rust/a.jpg" in note for note in done.notes)
    ((folder, content, at),) = (
        read_rows(pipeline.tables.annotations, pl.col("split") == "train")
        .select("folder", "content_sha256", "annotated_at")
        .rows()
    )
    assert folder == "train/rust"
    assert content == pipeline.tables.contents(["train/rust/a.jpg"])["train/rust/a.jpg"]
    assert at.tzinfo is not None


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/{class}/*", ["rust", "rust"]),
        ("f/{class}_*.jpg", ["apple"]),
        ("f/{class}_{number}.jpg", ["apple", "1"]),
        ("**/*.{ending}", ["jpg"] * 4),
        ("f*/(a+b) [c]#&~-{class}.jpg", ["x"]),
    ],
)
def test_stars_and_odd_characters_of_a_pattern(pipeline: Pipeline, put: Put, pattern: str, found: list[str]) -> None:
    put({"a/b/rust/1.jpg": 1, "rust/2.jpg": 2, "f/apple_1.jpg": 3, "f/(a+b) [c]#&~-x.jpg": 4})
    if pattern == "**/{class}/*":
        put({"f/apple_1.jpg": None, "f/(a+b) [c]#&~-x.jpg": None})
    folders(pipeline, pattern)
    assert [value for (values,) in rows(pipeline, "values") for value in values] == found


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{klasse}/{x}/*", "it matches none of the 1 images, for example rust/a.jpg"),
        ("*/*", "names nothing"),
        ("{class}/{class}/*", "{class} stands twice"),
        ("{class/*", "{ without its other half"),
        ("{a b}/*", "a field can't be called 'a b'"),
    ],
)
def test_a_pattern_that_is_none_or_matches_nothing_is_one_line(
    pipeline: Pipeline, put: Put, pattern: str, said: str
) -> None:
    put({"rust/a.jpg": 1})
    with pytest.raises(CurationError) as error:
        folders(pipeline, pattern)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not pipeline.tables.annotations.exists()


def test_a_split_alone_is_noted_without_labels(pipeline: Pipeline, put: Put) -> None:
    put({"train/a.jpg": 1})
    folders(pipeline, "{split}/*")
    assert rows(pipeline) == [("train/a.jpg", "class", None, "train")]


# -------------------------------------------------------------------- csv


def test_columns_of_a_csv_are_fields_and_rows_of_an_image_add_up(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"x/a.jpg": 1, "x/b.jpg": 2, "y/a.jpg": 3})
    text = "file;class;severity;split\nx/a.jpg;rust;3;train\n\nb.jpg;miner;;\nx/a.jpg;miner;3;\ny/a.jpg;;;test\n"
    done = csv(pipeline, tmp_path / "said.csv", text)
    assert done.source == "said.csv"
    assert rows(pipeline) == [
        ("x/a.jpg", "class", ["rust", "miner"], "train"),
        ("x/a.jpg", "severity", ["3"], "train"),
        ("x/b.jpg", "class", ["miner"], None),
        ("y/a.jpg", "class", None, "test"),
        ("y/a.jpg", "severity", None, "test"),
    ]


def test_names_may_be_paths_their_ends_or_on_disk(pipeline: Pipeline, put: Put, tmp_path: Path, images: Path) -> None:
    put({"a.jpg": 1, "x/a.jpg": 2, "x/y/b.jpg": 3, "z/b.jpg": 4, "w/c.jpg": 5})
    names = ["a.jpg", f"{images}/x/a.jpg", "x\\y\\b.jpg", "./z/b.jpg", "c.jpg"]
    csv(pipeline, tmp_path / "a.csv", "path,label\n" + "".join(f"{name},{at}\n" for at, name in enumerate(names)))
    assert [(path, values) for path, _, values, _ in rows(pipeline)] == [
        ("a.jpg", ["0"]),
        ("w/c.jpg", ["4"]),
        ("x/a.jpg", ["1"]),
        ("x/y/b.jpg", ["2"]),
        ("z/b.jpg", ["3"]),
    ]


def test_every_wrong_name_is_told_with_its_line_and_nothing_is_imported(
    pipeline: Pipeline, put: Put, tmp_path: Path
) -> None:
    put({f"{folder}/a.jpg": at for at, folder in enumerate("pqrst")})
    text = 'path,class\np/a.jpg,x\n"gone\n.jpg",x\na.jpg,x\n' + "".join(f"no{at}.jpg,x\n" for at in range(30))
    with pytest.raises(FaultyAnnotationsError) as error:
        csv(pipeline, tmp_path / "a.csv", text)
    first = error.value.faults
    assert first[:3] == [
        "line 3: there is no image 'gone\\n.jpg'",
        "line 5: 'a.jpg' may be p/a.jpg, q/a.jpg, r/a.jpg and 2 more; write more of its path",
        "line 6: there is no image 'no0.jpg'",
    ]
    assert len(first) == 10
    assert str(error.value) == f"{tmp_path}/a.csv: 32 faults, nothing was imported: {first[0]}"
    assert not pipeline.tables.annotations.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the first line has to name the columns"),
        ("path,path\n", "the first line has to name the columns"),
        ("class,split\nrust,train\n", "no column names the image"),
        ("path\na.jpg\n", "beside path there is no column"),
        ("path,class\n", "it says nothing of any image"),
        ("path,class\n,x\n", "line 2: no name of an image"),
        ("path,class\n/,x\n", "line 2: there is no image '/'"),
        ("path,class\na.jpg,x\na.jpg,y,z\n", "line 3: 3 cells below 2 columns"),
        ("path,my class\na.jpg,x\n", "a field can't be called 'my class'"),
        ("path,issues\na.jpg,x\n", "a field can't be called 'issues': label_issues is another column"),
        ("path,field,value\na.jpg,Issues,x\n", "a field can't be called 'Issues': label_issues is another column"),
        ("path,class,split\na.jpg,x,train\na.jpg,x,test\n", "line 3: a.jpg is in the splits train, test"),
        ("path,class,x,y,width,height\na.jpg,x,1,2,3,\n", "line 2: the box x='1', y='2', width='3', height=None"),
        ("path,class,x,y,width,height\na.jpg,x,1,2,3,47.1\n", "line 2: box 'x' at 1, 2 of 3 × 47.1 lies outside"),
        ("path,class,x,y,width,height\na.jpg,x,1,2,0,4\n", "line 2: box 'x' at 1, 2 of 0 × 4 has no size"),
        ("path,class,x,y,width,height\na.jpg,x,1,nan,3,4\n", "lacks a number"),
        ("path,class,grade,x,y,width,height\na.jpg,x,1,1,2,3,4\n", "boxes are of one field"),
    ],
)
def test_a_wrong_csv_is_one_line(pipeline: Pipeline, put: Put, tmp_path: Path, text: str, said: str) -> None:
    put({"a.jpg": 1})
    with pytest.raises(CurationError) as error:
        csv(pipeline, tmp_path / "a.csv", text)
    assert said in str(error.value)
    assert str(tmp_path / "a.csv") in str(error.value)
    assert not pipeline.tables.annotations.exists()


def test_a_csv_as_windows_writes_it_is_read(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"x/ä b.jpg": 1, "x/b.jpg": 2})
    (tmp_path / "a.csv").write_bytes("\ufeffpath;class\r\nx\\ä b.jpg;grün\r\n\r\nb.jpg;rot".encode())
    annotate(pipeline, format="csv", path=tmp_path / "a.csv")
    assert rows(pipeline, "relative_path", "values") == [("x/b.jpg", ["rot"]), ("x/ä b.jpg", ["grün"])]


def test_a_csv_of_other_bytes_is_one_line(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1})
    (tmp_path / "a.csv").write_bytes(b"path,class\na.jpg,\xff\xfe\n")
    with pytest.raises(CurationError, match=r"a\.csv can't be read as csv"):
        annotate(pipeline, format="csv", path=tmp_path / "a.csv")


def test_values_may_share_a_cell_and_a_field_be_chosen(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1})
    text = 'path,notes,tags\na.jpg,"blah, blah",rust; miner;;rust\n'
    csv(pipeline, tmp_path / "a.csv", text, field="tags", separator=";")
    assert rows(pipeline) == [("a.jpg", "tags", ["rust", "miner"], None)]
    with pytest.raises(CurationError, match="no column 'class'; there are path, notes, tags"):
        csv(pipeline, tmp_path / "a.csv", text, field="class")
    csv(pipeline, tmp_path / "b.csv", "path,label\na.jpg,rust\n", field="disease", source="b")
    assert rows(pipeline)[0] == ("a.jpg", "disease", ["rust"], None)


def test_rows_with_boxes_add_up(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1, "b.jpg": 2})
    text = "path,class,x,y,width,height\na.jpg,weed,1,2,3,4\na.jpg,crop,5,6,7,8.5\nb.jpg,weed,,,,\n"
    done = csv(pipeline, tmp_path / "a.csv", text)
    assert done.boxes == 2
    assert rows(pipeline, "values", "boxes") == [
        (
            ["weed", "crop"],
            [
                {"label": "weed", "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0},
                {"label": "crop", "x": 5.0, "y": 6.0, "width": 7.0, "height": 8.5},
            ],
        ),
        (["weed"], None),
    ]


# ------------------------------------------------------ again, and removed


def test_a_source_says_what_it_says_now(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a/1.jpg": 1, "a/2.jpg": 2, "b/3.jpg": 3})
    first = csv(pipeline, tmp_path / "a.csv", "path,class\n1.jpg,rust\n2.jpg,rust\n3.jpg,miner\n")
    assert (first.added, first.changed, first.removed) == (3, 0, 0)
    times = dict(rows(pipeline, "relative_path", "annotated_at"))
    assert csv(pipeline, tmp_path / "a.csv", (tmp_path / "a.csv").read_text()).version == first.version
    again = csv(pipeline, tmp_path / "a.csv", "path,class\n1.jpg,rust\n2.jpg,miner\n")
    assert (again.added, again.changed, again.removed) == (0, 1, 1)
    assert again.version == first.version + 1, "one commit, of two folders"
    assert [(path, values) for path, _, values, _ in rows(pipeline)] == [("a/1.jpg", ["rust"]), ("a/2.jpg", ["miner"])]
    now = dict(rows(pipeline, "relative_path", "annotated_at"))
    assert now["a/1.jpg"] == times["a/1.jpg"]
    assert now["a/2.jpg"] > times["a/2.jpg"]
    added = csv(pipeline, tmp_path / "b.csv", "path,class\n3.jpg,rust\n", source="a.csv", add=True)
    assert (added.added, added.changed, added.removed) == (1, 0, 0)
    other = csv(pipeline, tmp_path / "c.csv", "path,grade\n3.jpg,5\n", source="a.csv")
    assert (other.added, other.removed) == (1, 0), "another field of the same source"
    assert len(rows(pipeline)) == 4


def test_a_dry_run_says_the_same_and_writes_nothing(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a/1.jpg": 1, "a/2.jpg": 2})
    done = folders(pipeline, dry_run=True)
    assert (done.added, done.rows) == (2, 2)
    assert not pipeline.tables.annotations.exists()
    folders(pipeline)
    put({"a/2.jpg": None, "b/2.jpg": 2})
    before = rows(pipeline)
    dry = folders(pipeline, dry_run=True)
    assert (dry.added, dry.changed, dry.removed) == (1, 0, 1)
    assert rows(pipeline) == before
    wet = folders(pipeline)
    assert (wet.added, wet.changed, wet.removed) == (1, 0, 1)


def test_two_sources_both_stand_and_one_can_be_taken_out(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a/1.jpg": 1, "b/2.jpg": 2})
    folders(pipeline)
    csv(pipeline, tmp_path / "a.csv", "path,class\n1.jpg,rust\n", source="anna")
    assert rows(pipeline, "source", "values") == [("anna", ["rust"]), ("folders", ["a"]), ("folders", ["b"])]
    with pytest.raises(CurationError, match="no source of annotations 'berta'; there are: anna, folders"):
        remove(pipeline.tables.annotations, "berta")
    assert remove(pipeline.tables.annotations, "folders", dry_run=True) == 2
    version = pipeline.tables.annotations.latest().version
    assert remove(pipeline.tables.annotations, "folders") == 2
    assert rows(pipeline, "source", "values") == [("anna", ["rust"])]
    assert pipeline.tables.annotations.latest().version == version + 1


# ------------------------------------------------------------- following


def follow(pipeline: Pipeline) -> tuple[int, int]:
    done = pipeline.follow_annotations(LogProgress()).places
    return done.moved, done.waiting


def test_annotations_follow_a_moved_image_and_a_renamed_folder(pipeline: Pipeline, put: Put) -> None:
    put({"a/1.jpg": 1, "a/2.jpg": 2, "b/3.jpg": 3})
    folders(pipeline)
    assert follow(pipeline) == (0, 0)
    times = sorted(rows(pipeline, "annotated_at"))
    put({"a/1.jpg": None, "a/2.jpg": None, "new/1.jpg": 1, "new/2.jpg": 2, "b/3.jpg": None, "b/renamed.jpg": 3})
    assert follow(pipeline) == (3, 0)
    assert rows(pipeline, "relative_path", "folder", "values") == [
        ("b/renamed.jpg", "b", ["b"]),
        ("new/1.jpg", "new", ["a"]),
        ("new/2.jpg", "new", ["a"]),
    ]
    assert sorted(rows(pipeline, "annotated_at")) == times
    version = pipeline.tables.annotations.latest().version
    assert follow(pipeline) == (0, 0)
    assert pipeline.tables.annotations.latest().version == version


def test_a_copy_that_was_there_never_gets_what_its_original_loses(pipeline: Pipeline, put: Put) -> None:
    put({"a/1.jpg": 1})
    folders(pipeline)
    put({"b/1.jpg": 1, "c/other.jpg": 1})
    assert follow(pipeline) == (0, 0)
    put({"a/1.jpg": None})
    assert follow(pipeline) == (0, 1), "they lay beside it"
    assert follow(pipeline) == (0, 1)
    put({"d/2.jpg": 1})
    assert follow(pipeline) == (1, 0)
    assert rows(pipeline, "relative_path", "values") == [("d/2.jpg", ["a"])]


@pytest.mark.parametrize("is_annotated", [True, False])
def test_a_training_copy_that_goes_leaves_no_label_on_the_test_image(
    pipeline: Pipeline, put: Put, tmp_path: Path, is_annotated: bool
) -> None:
    put({"val/x.jpg": 1, "train/copy.jpg": 1, "train/other.jpg": 2})
    csv(pipeline, tmp_path / "a_train.csv", "path,class,split\ncopy.jpg,pear,train\nother.jpg,pear,train\n")
    if is_annotated:
        csv(pipeline, tmp_path / "b_val.csv", "path,class,split\nx.jpg,apple,val\n")
    put({"train/copy.jpg": None})  # with no following since
    assert follow(pipeline) == (0, 1)
    mine = [("val/x.jpg", ["apple"], "val")] if is_annotated else []
    kept = [("train/copy.jpg", ["pear"], "train"), ("train/other.jpg", ["pear"], "train")]
    assert rows(pipeline, "relative_path", "values", "split") == kept + mine
    put({"train/back.jpg": 1})
    assert follow(pipeline) == (1, 0), "to a new file, and not to the copy"
    assert rows(pipeline, "relative_path") == [
        ("train/back.jpg",),
        ("train/other.jpg",),
        *[("val/x.jpg",)][: len(mine)],
    ]


def test_a_new_file_that_somebody_annotated_gets_no_other_annotation(
    pipeline: Pipeline, put: Put, tmp_path: Path
) -> None:
    put({"a/1.jpg": 1})
    csv(pipeline, tmp_path / "a.csv", "path,class\n1.jpg,rust\n")
    csv(pipeline, tmp_path / "g.csv", "path,grade\n1.jpg,5\n")
    put({"a/1.jpg": None, "b/2.jpg": 1})
    csv(pipeline, tmp_path / "b.csv", "path,class\n2.jpg,miner\n")
    assert follow(pipeline) == (1, 1)
    assert rows(pipeline, "relative_path", "field", "source") == [
        ("a/1.jpg", "class", "a.csv"),
        ("b/2.jpg", "class", "b.csv"),
        ("b/2.jpg", "grade", "g.csv"),
    ]


def test_an_image_that_the_table_has_at_both_places_for_a_while_is_moved(
    pipeline: Pipeline, put: Put, images: Path
) -> None:
    put({"a/1.jpg": 1, "a/2.jpg": 2})
    folders(pipeline)
    (images / "b").mkdir()
    (images / "a/1.jpg").rename(images / "b/1.jpg")
    pipeline.scan(["b"], LogProgress())
    assert follow(pipeline) == (0, 0), "nothing is taken for a copy while the table is not as the disk is"
    assert follow(Pipeline(pipeline.settings)) == (0, 0)
    pipeline.scan(["a"], LogProgress())
    assert follow(pipeline) == (1, 0)
    assert rows(pipeline, "relative_path") == [("a/2.jpg",), ("b/1.jpg",)]


def test_what_lay_beside_is_told_of_the_import_where_the_note_is_gone(pipeline: Pipeline, put: Put) -> None:
    put({"a/1.jpg": 1, "b/2.jpg": 1})
    folders(pipeline, "a/{class}.*")
    assert follow(pipeline) == (0, 0)
    note = places_note(pipeline.settings.annotations_note)
    note.unlink()
    put({"a/1.jpg": None})
    assert movable(pipeline.tables.directory, pipeline.tables.annotations, note) == 0
    assert follow(pipeline) == (0, 1)


def test_of_a_version_that_cannot_be_read_nothing_is_taken_for_new(pipeline: Pipeline, put: Put) -> None:
    put({"a/1.jpg": 1})
    folders(pipeline)
    put({"a/1.jpg": None, "b/1.jpg": 1})
    directory = pipeline.tables.directory
    directory.vacuum(0)
    assert follow(pipeline) == (0, 1)


def test_two_copies_that_move_keep_a_row_each(pipeline: Pipeline, put: Put) -> None:
    put({"a/1.jpg": 1, "b/2.jpg": 1})
    folders(pipeline)
    put({"a/1.jpg": None, "b/2.jpg": None, "x/2.jpg": 1, "y/9.jpg": 1})
    assert follow(pipeline) == (2, 0)
    assert rows(pipeline, "relative_path", "values") == [("x/2.jpg", ["b"]), ("y/9.jpg", ["a"])]


def test_images_that_change_places_keep_their_own(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1, "b.jpg": 2})
    csv(pipeline, tmp_path / "a.csv", "path,class\na.jpg,one\nb.jpg,two\n")
    put({"a.jpg": 2, "b.jpg": 1})
    assert follow(pipeline) == (2, 0)
    assert rows(pipeline, "relative_path", "values") == [("a.jpg", ["two"]), ("b.jpg", ["one"])]


def test_an_image_that_is_gone_is_waited_for(pipeline: Pipeline, put: Put) -> None:
    put({"a/1.jpg": 1, "a/2.jpg": 2})
    folders(pipeline)
    put({"a/1.jpg": None, "a/2.jpg": 7})
    assert follow(pipeline) == (0, 2)
    put({"z/1.jpg": 1})
    assert follow(pipeline) == (1, 1)
    assert rows(pipeline, "relative_path", "values") == [("a/2.jpg", ["a"]), ("z/1.jpg", ["a"])]


def test_of_rows_that_a_disk_lost_nothing_is_taken_for_moved(pipeline: Pipeline, put: Put) -> None:
    put({"a/1.jpg": 1, "b/1.jpg": 1})
    folders(pipeline, "{class}/*")
    remove_rows_of(pipeline, "b")
    directory = pipeline.tables.directory
    (file,) = directory.latest().files("a")
    (directory.path / file.path).write_bytes(b"")
    assert follow(Pipeline(pipeline.settings)) == (0, 0)
    assert rows(pipeline, "relative_path") == [("a/1.jpg",)]


def remove_rows_of(pipeline: Pipeline, folder: str) -> None:
    """As if nobody had annotated a folder."""
    kept = read_rows(pipeline.tables.annotations, pl.col("folder") != folder)
    record_put(pipeline.tables.annotations, "folders", kept)


def test_rows_go_to_the_partition_of_their_image(pipeline: Pipeline, put: Put) -> None:
    put({"a/b/1.jpg": 1, "a/c/2.jpg": 2})
    folders(pipeline, "*/{class}/*")
    other = Pipeline(pipeline.settings.model_copy(update={"folder_depth": 1}))
    other.scan(["a/b", "a/c", "a"], LogProgress())
    assert follow(other) == (2, 0)
    assert rows(other, "relative_path", "folder", "values") == [("a/b/1.jpg", "a", ["b"]), ("a/c/2.jpg", "a", ["c"])]
    assert other.tables.annotations.latest().folders == ["a"]


def test_an_image_that_could_not_be_read_gets_its_content_later(pipeline: Pipeline, put: Put, images: Path) -> None:
    put({"a/1.jpg": 1})
    table = pipeline.tables.annotations
    folders(pipeline)
    frame = read_rows(table).with_columns(content_sha256=pl.lit(None, pl.String))
    record_put(table, "folders", frame)
    assert rows(pipeline, "content_sha256") == [(None,)]
    assert follow(pipeline) == (0, 0)
    assert rows(pipeline, "content_sha256") == [(pipeline.tables.contents(["a/1.jpg"])["a/1.jpg"],)]


def test_what_users_added_stays_with_rows_that_stay_change_or_move(pipeline: Pipeline, put: Put) -> None:
    from deltalake import DeltaTable, Field, write_deltalake

    put({"a/1.jpg": 1, "a/2.jpg": 2})
    folders(pipeline)
    path = str(pipeline.tables.annotations.path)
    DeltaTable(path).alter.add_columns([Field("mine", "string")])
    frame = pl.read_delta(path).with_columns(mine=pl.col("relative_path"))
    write_deltalake(path, frame.to_arrow(), mode="overwrite")
    put({"a/1.jpg": None, "b/1.jpg": 1})
    assert follow(pipeline) == (1, 0)
    assert dict(pl.read_delta(path).select("relative_path", "mine").rows()) == {
        "a/2.jpg": "a/2.jpg",
        "b/1.jpg": "a/1.jpg",
    }
