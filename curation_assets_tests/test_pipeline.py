from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from curation_assets import pipeline as pipeline_module
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.commands.ingest import exit_code
from curation_assets.errors import CurationError
from curation_assets.ingest import RunSummary
from curation_assets.ingest import run as run_pipeline
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.images.test_listing import refuse

Fill = Callable[..., list[Path]]


def run(pipeline: Pipeline, *, curate: bool = False, **how: Any) -> RunSummary:
    return run_pipeline(pipeline, LogProgress(), curate=curate, **how)


def with_settings(pipeline: Pipeline, **changes: Any) -> Pipeline:
    return Pipeline(pipeline.settings.model_copy(update=changes))


def paths(pipeline: Pipeline) -> tuple[list[str], list[str]]:
    """Keys of the directory and of the embeddings table."""
    tables = (pipeline.tables.directory, pipeline.tables.embeddings)
    found = [sorted(t.snapshot().read(["relative_path"])["relative_path"]) for t in tables]
    return found[0], found[1]


def vector_of(pipeline: Pipeline, path: str) -> list[float]:
    rows = pipeline.tables.embeddings.snapshot().read(["embeddings"], where=pl.col("relative_path") == path)
    return rows["embeddings"].to_list()[0]  # type: ignore[no-any-return]


def versions(pipeline: Pipeline) -> tuple[int, int]:
    return pipeline.tables.directory.snapshot().version, pipeline.tables.embeddings.snapshot().version


_opened: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_note)  # can't be taken away again


@contextmanager
def opened_below(root: Path) -> Iterator[list[str]]:
    """Files below ``root`` that the interpreter opens, filled in when the block ends."""
    global _opened
    below: list[str] = []
    _opened = []
    try:
        yield below
    finally:
        below += [path for path in _opened if path.startswith(f"{root}/")]
        _opened = None


def test_a_run_scans_registers_and_embeds_every_folder(ready: Pipeline, fill: Fill, images: Path) -> None:
    fill("maize/rust", 3)
    fill(".", 1)
    fill("b", 2)
    (images / "b" / "broken.jpg").write_text("no image")
    (images / "b" / "notes.csv").touch()
    summary = run(ready, curate=True)
    assert summary.folders == [".", "b", "maize/rust"]
    assert summary.status.rows() == [(".", 1, 1, 0, 1, 0), ("b", 3, 2, 1, 2, 0), ("maize/rust", 3, 3, 0, 3, 0)]
    assert summary.bad["relative_path"].to_list() == ["b/broken.jpg"]
    assert summary.tree.passed_over == {"not an image name": 1}
    assert (summary.chosen.model.version, summary.chosen.is_new) == ("1", False)
    assert summary.failed == []
    directory, embeddings = paths(ready)
    assert len(directory) == 7
    assert embeddings == sorted(set(directory) - {"b/broken.jpg"})


def test_a_second_run_opens_no_image_and_commits_nothing(ready: Pipeline, fill: Fill, images: Path) -> None:
    for folder in ("a", "b"):
        fill(folder, 3)
    with opened_below(images) as opened:
        run(ready, curate=True)
    assert len(opened) == 6
    before = versions(ready)
    with opened_below(images) as opened:
        summary = run(Pipeline(ready.settings), curate=True)
    assert opened == []
    assert versions(ready) == before
    assert (summary.scans, summary.embeds) == ([], [])
    assert summary.status["embedded"].to_list() == [3, 3]


def test_only_the_folder_that_changed_is_worked_on(ready: Pipeline, fill: Fill, images: Path) -> None:
    written = {folder: fill(folder, 3) for folder in ("a", "b", "c")}
    run(ready)
    written["b"][0].write_bytes(jpeg(995))
    with opened_below(images) as opened:
        summary = run(ready)
    assert opened == [str(written["b"][0])]
    assert [(scan.folder, scan.read) for scan in summary.scans] == [("b", 1)]
    assert [(embed.folder, embed.encoded) for embed in summary.embeds] == [("b", 1)]


def test_a_deleted_folder_loses_its_rows_in_both_tables(ready: Pipeline, fill: Fill, images: Path) -> None:
    fill("a", 3)
    fill("b/c", 2)
    run(ready)
    shutil.rmtree(images / "b")
    summary = run(ready)
    assert summary.folders == ["a", "b/c"]
    directory, embeddings = paths(ready)
    assert directory == embeddings == [f"a/photo_{index:04}.jpg" for index in range(3)]
    assert summary.status["folder"].to_list() == ["a"]


def test_a_run_of_named_folders_leaves_the_others_alone(ready: Pipeline, fill: Fill, images: Path) -> None:
    for folder in ("a", "b", "c"):
        fill(folder, 2)
    (images / "c" / "bad.jpg").touch()
    summary = run(ready, folders=["b"])
    assert paths(ready) == (["b/photo_0000.jpg", "b/photo_0001.jpg"],) * 2
    assert summary.status["folder"].to_list() == ["b"]
    assert len(summary.bad) == 0
    shutil.rmtree(images / "b")
    summary = run(ready, folders=["b", "c"])
    assert sorted(path.split("/")[0] for path in paths(ready)[0]) == ["c", "c", "c"]
    assert summary.bad["relative_path"].to_list() == ["c/bad.jpg"]


def test_an_unknown_folder_is_refused_before_anything_is_done(ready: Pipeline, fill: Fill) -> None:
    fill("a", 1)
    with pytest.raises(CurationError, match=r"no image folder 'b', 'c/d' under"):
        run(ready, folders=["a", "b", "c/d"])
    assert not ready.tables.directory.exists()


def test_a_rescan_reads_everything_again_but_embeds_nothing_again(ready: Pipeline, fill: Fill, images: Path) -> None:
    for folder in ("a", "b"):
        fill(folder, 2)
    run(ready)
    summary = run(ready, rescan=True)
    assert sum(scan.read for scan in summary.scans) == 4
    assert sum(embed.encoded for embed in summary.embeds) == 0


@pytest.mark.parametrize("clutter", [False, True])
def test_a_tree_without_images_is_refused_and_nothing_is_lost(
    clutter: bool, ready: Pipeline, fill: Fill, images: Path
) -> None:
    fill("a", 2)
    run(ready)
    before = versions(ready)
    shutil.rmtree(images / "a")
    if clutter:
        (images / "readme.txt").touch()
    with pytest.raises(CurationError, match=r"no images under .*nothing was changed") as caught:
        run(ready)
    assert ("1 other files passed over" in str(caught.value)) == clutter
    assert versions(ready) == before


def test_another_tree_is_refused_unless_told_to_prune(ready: Pipeline, fill: Fill, tmp_path: Path) -> None:
    fill("a", 2)
    run(ready)
    before = versions(ready)
    other_root = tmp_path / "other tree"
    (other_root / "z").mkdir(parents=True)
    (other_root / "z" / "photo.jpg").write_bytes(jpeg(5))
    other = with_settings(ready, images_root=other_root)
    with pytest.raises(CurationError, match="--prune"):
        run(other)
    assert versions(ready) == before
    run(other, prune=True)
    assert paths(ready) == (["z/photo.jpg"], ["z/photo.jpg"])


def test_a_moved_tree_is_followed_without_reading_or_encoding(ready: Pipeline, fill: Fill, images: Path) -> None:
    fill("a", 2)
    fill("b", 2)
    run(ready)
    moved = with_settings(ready, images_root=images.rename(images.with_name("moved")))
    with opened_below(moved.settings.images_root) as opened:
        summary = run(moved)
    assert opened == []
    assert sum(embed.encoded for embed in summary.embeds) == 0
    for table in (ready.tables.directory, ready.tables.embeddings):
        frame = table.snapshot().read(["file_path", "relative_path"])
        assert frame["file_path"].to_list() == [f"{moved.settings.images_root}/{p}" for p in frame["relative_path"]]


def test_a_changed_model_embeds_every_image_anew_beside_the_old_vectors(
    ready: Pipeline, fill: Fill, tmp_path: Path
) -> None:
    fill("a", 2)
    fill("b", 1)
    run(ready)
    other = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "other_model"))
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-4] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    changed = with_settings(ready, model_source=str(other))
    summary = run(changed)
    assert (summary.chosen.model.version, summary.chosen.is_new) == ("2", True)
    assert sum(embed.encoded for embed in summary.embeds) == 3
    assert ready.tables.vectors_of("a/photo_0000.jpg")["model_version"].sort().to_list() == ["1", "2"]
    assert run(changed).embeds == []
    assert run(ready).embeds == []  # back to the first model: its vectors are still there


def test_the_embeddings_catch_up_after_a_run_that_got_no_further_than_the_scan(ready: Pipeline, fill: Fill) -> None:
    fill("a", 2)
    ready.scan(["a"], LogProgress())
    assert ready.tables.status(ready.selection.current()).row(0, named=True)["stale"] == 2
    summary = run(ready)
    assert (len(summary.scans), summary.embeds[0].encoded) == (0, 2)


def test_a_model_that_cannot_be_had_ends_a_run_before_the_scan(pipeline: Pipeline, fill: Fill) -> None:
    fill("a", 2)
    with pytest.raises(CurationError, match="CURATION_MODEL_SOURCE"):
        run(with_settings(pipeline, model_source="nobody-at-all/clip-that-is-not-there"))
    assert pipeline.tables.directory.snapshot().rows() == 0


def test_status_counts_ok_bad_embedded_and_stale(ready: Pipeline, fill: Fill, images: Path) -> None:
    first, *_ = fill("a", 3)
    (images / "a" / "bad.jpg").touch()
    run(ready)
    assert ready.tables.status(ready.selection.current()).rows() == [("a", 4, 3, 1, 3, 0)]
    first.write_bytes(jpeg(996))
    fill("a", 1, first=3)
    ready.scan(["a"], LogProgress())
    assert ready.tables.status(ready.selection.current()).rows() == [("a", 5, 4, 1, 2, 2)]


def test_status_without_a_model_or_vectors_calls_every_usable_image_stale(pipeline: Pipeline, fill: Fill) -> None:
    fill("a", 2)
    pipeline.scan(["a"], LogProgress())
    assert pipeline.tables.status(pipeline.selection.current()).rows() == [("a", 2, 2, 0, 0, 2)]
    pipeline.tables.embeddings.create()
    assert pipeline.tables.status(pipeline.selection.current()).rows() == [("a", 2, 2, 0, 0, 2)]


def test_status_does_not_take_a_broken_registry_for_an_empty_one(ready: Pipeline, fill: Fill) -> None:
    fill("a", 1)
    run(ready)
    (ready.settings.mlflow_dir / "mlflow.db").write_bytes(b"garbage" * 999)
    with pytest.raises(CurationError, match=r"mlflow\.db can't be used"):
        Pipeline(ready.settings).tables.status(Pipeline(ready.settings).selection.current())


def test_a_row_is_found_by_its_key_without_the_image_itself(ready: Pipeline, fill: Fill, images: Path) -> None:
    fill("a", 1)
    run(ready)
    row = ready.tables.row("a/photo_0000.jpg")
    assert row is not None
    assert (row["format"], row["width"], row["height"], row["status"]) == ("JPEG", 64, 48, "ok")
    assert row["file_path"] == str(images / "a/photo_0000.jpg")
    assert "image_base64" not in row
    assert ready.tables.row("a/photo_0009.jpg") is None
    assert ready.tables.vectors_of("a/photo_0000.jpg")["dimension"].to_list() == [128]
    assert len(ready.tables.vectors_of("a/photo_0009.jpg")) == 0


def test_the_content_version_changes_exactly_with_what_embeddings_depend_on(
    pipeline: Pipeline, fill: Fill, images: Path
) -> None:
    first, second = fill("a", 2)
    fill("b", 1)

    def version(*folders: str) -> str:
        pipeline.scan(["a", "b"], LogProgress())
        return pipeline.tables.content_version(folders)

    before = version("a", "b")
    os.utime(first)
    assert version("b", "a") == before
    assert version("a") != before
    first.write_bytes(jpeg(997))
    changed = version("a", "b")
    assert changed != before
    second.rename(images / "a" / "renamed.jpg")
    assert version("a", "b") not in (before, changed)


def test_bad_files_are_listed_with_their_reasons_for_all_or_some_folders(
    pipeline: Pipeline, fill: Fill, images: Path
) -> None:
    for folder in ("a", "b"):
        fill(folder, 1)
        (images / folder / "bad.jpg").touch()
    pipeline.scan(["a", "b"], LogProgress())
    assert pipeline.tables.bad_files().select("relative_path", "status").rows() == [
        ("a/bad.jpg", "corrupt"),
        ("b/bad.jpg", "corrupt"),
    ]
    assert pipeline.tables.bad_files(["b"]).filter(pl.col("error").is_not_null())["relative_path"].to_list() == [
        "b/bad.jpg"
    ]
    assert len(pipeline.tables.bad_files([])) == 0


def test_a_folder_depth_gathers_deep_folders_under_their_first_levels(ready: Pipeline, fill: Fill) -> None:
    fill("coffee/train/rust", 2)
    fill("coffee/test/rust", 2)
    fill("rice", 1)
    summary = run(with_settings(ready, folder_depth=1))
    assert summary.status.select("folder", "files", "embedded").rows() == [("coffee", 4, 4), ("rice", 1, 1)]


def test_a_changed_folder_depth_moves_every_row_and_encodes_nothing(ready: Pipeline, fill: Fill) -> None:
    fill("coffee/train", 2)
    fill("coffee/test", 2)
    fill("rice", 1)
    run(ready)
    summary = run(with_settings(ready, folder_depth=1))
    directory, embeddings = paths(ready)
    assert len(directory) == len(set(directory)) == 5
    assert embeddings == directory
    assert summary.status.select("folder", "embedded", "stale").rows() == [("coffee", 4, 0), ("rice", 1, 0)]
    assert ready.tables.embeddings.snapshot().folders == ["coffee", "rice"]
    assert sum(embed.encoded for embed in summary.embeds) == 0


@pytest.mark.parametrize("target", ["a", "c"])
def test_an_image_moved_to_another_folder_keeps_one_row_and_one_vector(
    target: str, ready: Pipeline, fill: Fill, images: Path
) -> None:
    moved, _ = fill("b", 2)
    fill("a", 1)
    fill("c", 1)
    run(ready)
    before = vector_of(ready, "b/photo_0000.jpg")
    moved.rename(images / target / "moved.jpg")
    summary = run(ready)
    directory, embeddings = paths(ready)
    assert directory == embeddings
    assert len(directory) == len(set(directory)) == 4
    assert np.allclose(vector_of(ready, f"{target}/moved.jpg"), before, atol=0.01)
    assert sum(embed.encoded for embed in summary.embeds) == 0


@pytest.mark.parametrize(("first", "then"), [("deepest", 1), (1, "deepest"), (2, 1)])
def test_another_folder_depth_lays_the_same_images_out_anew_without_encoding(
    first: Any, then: Any, ready: Pipeline, fill: Fill
) -> None:
    for folder in ("a", "a/x/deep", "a/y", "b"):
        fill(folder, 2)
    run(with_settings(ready, folder_depth=first))
    again = with_settings(ready, folder_depth=then)
    summary = run(again)
    assert sum(embed.encoded for embed in summary.embeds) == 0
    directory, embeddings = paths(again)
    assert directory == embeddings
    assert len(directory) == len(set(directory)) == 8
    assert again.tables.status(again.selection.current())["folder"].to_list() == sorted(
        again.source.list_folders().folders
    )


def test_one_folder_alone_is_refused_after_the_depth_changed(ready: Pipeline, fill: Fill) -> None:
    fill("a/x", 1)
    fill("b", 1)
    run(ready)
    with pytest.raises(CurationError, match="CURATION_FOLDER_DEPTH; run once without --folders"):
        run(with_settings(ready, folder_depth=1), folders=["a"])


def test_another_tree_with_a_folder_of_the_same_name_does_not_empty_the_table(
    ready: Pipeline, images: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for index in range(3):
        (images / f"first_{index}.jpg").write_bytes(jpeg(index))
        (other / f"second_{index}.jpg").write_bytes(jpeg(10 + index))
    run(ready)
    elsewhere = with_settings(ready, images_root=other)
    with pytest.raises(CurationError, match=r"only 0 of the table's 3 images are under .* --prune"):
        run(elsewhere)
    assert ready.tables.status(ready.selection.current()).row(0)[:2] == (".", 3)
    run(elsewhere, prune=True)
    assert paths(elsewhere)[0] == ["second_0.jpg", "second_1.jpg", "second_2.jpg"]


def test_a_file_that_another_process_added_after_the_listing_keeps_its_row(
    ready: Pipeline, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("a", 2)
    fill("b", 2)
    scan = pipeline_module.scan_folders

    def interrupted(table: Any, source: Any, folders: list[str], *args: Any, **kwargs: Any) -> Any:
        fill("b", 1, first=2)  # before a is scanned, somebody else brings b further than our listing
        scan(table, source, ["b"], *args, **kwargs)
        return scan(table, source, folders, *args, **kwargs)

    monkeypatch.setattr(pipeline_module, "scan_folders", interrupted)
    run(ready)
    directory, embeddings = paths(ready)
    assert directory == embeddings
    assert len(directory) == 5


def places(pipeline: Pipeline) -> list[str]:
    """Folders of both tables, which have to be the same."""
    found = pipeline.tables.directory.snapshot().folders
    assert pipeline.tables.embeddings.snapshot().folders == found
    return found


def encoded(summary: RunSummary) -> int:
    return sum(embed.encoded for embed in summary.embeds)


@pytest.mark.parametrize("whole", [False, True])
def test_a_folder_that_cannot_be_listed_keeps_its_rows_and_the_rest_is_done(
    whole: bool, ready: Pipeline, fill: Fill, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b", "b/below", "c"):
        fill(folder, 2)
    run(ready)
    fill("new", 1)
    shutil.rmtree(images / "c")
    refuse(monkeypatch, images / "b", errno.EIO)
    summary = run(ready, rescan=whole)
    assert places(ready) == ["a", "b", "b/below", "new"]
    assert summary.unlisted == {"b": "Input/output error"}
    assert exit_code(summary) == 1
    assert run(ready, folders=["b"]).unlisted == summary.unlisted
    assert places(ready) == ["a", "b", "b/below", "new"]
    monkeypatch.undo()
    shutil.rmtree(images / "b" / "below")
    assert exit_code(run(ready)) == 0
    assert places(ready) == ["a", "b", "new"]


def test_rows_below_a_part_of_a_folder_that_cannot_be_listed_stay(
    ready: Pipeline, fill: Fill, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = with_settings(ready, folder_depth=1)
    for folder in ("a", "a/x", "a/y"):
        fill(folder, 2)
    run(shallow)
    (images / "a" / "photo_0000.jpg").unlink()
    fill("a/y", 1, first=5)
    refuse(monkeypatch, images / "a" / "x", errno.EACCES)
    for again in (False, True):
        summary = run(shallow)
        assert summary.unlisted == {"a/x": "Permission denied"}
        kept = ["a/photo_0001.jpg", *(f"a/{name}.jpg" for name in ("x/photo_0000", "x/photo_0001"))]
        kept += [f"a/y/photo_{number:04}.jpg" for number in (0, 1, 5)]
        assert paths(shallow) == (kept, kept)
        assert (encoded(summary), sum(scan.commits for scan in summary.scans)) == ((0, 0) if again else (1, 1))


def test_a_tree_of_which_nothing_can_be_listed_keeps_its_rows(
    ready: Pipeline, fill: Fill, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("a", 2)
    run(ready)
    refuse(monkeypatch, images / "a", errno.ESTALE)
    assert exit_code(run(ready)) == 1
    assert places(ready) == ["a"]


def test_two_of_three_disks_unmounted_wait_for_prune_and_all_else_is_done(
    ready: Pipeline, fill: Fill, images: Path, tmp_path: Path
) -> None:
    for disk in ("disk1", "disk2/north", "disk3"):
        fill(disk, 4)
    run(ready)
    for disk in ("disk2", "disk3"):
        shutil.move(images / disk, tmp_path / disk)
        (images / disk).mkdir()
    fill("new", 1)
    (images / "disk1" / "photo_0000.jpg").write_bytes(jpeg(3, (80, 80)))
    with pytest.raises(
        CurationError, match=r"8 of the table's 12 images, more than half.*'disk2/north', 'disk3'.*--prune"
    ):
        run(ready)
    assert places(ready) == ["disk1", "disk2/north", "disk3", "new"]
    assert ready.tables.status(ready.selection.current())["stale"].sum() == 0
    assert ready.tables.row("disk1/photo_0000.jpg")["width"] == 80  # type: ignore[index]
    for disk in ("disk2", "disk3"):
        (images / disk).rmdir()
        shutil.move(tmp_path / disk, images / disk)
    assert encoded(run(ready)) == 0


def test_a_top_level_folder_that_stands_empty_waits_for_prune_also_when_it_is_named(
    ready: Pipeline, fill: Fill, images: Path
) -> None:
    fill("a", 6)
    fill("b/deep", 2)
    run(ready)
    shutil.rmtree(images / "b" / "deep")
    for how in ({}, {"folders": ["b/deep"]}, {"folders": ["b"]}, {"rescan": True}):
        with pytest.raises(CurationError, match=r"2 of the table's 8 images are gone from 'b'.*--prune"):
            run(ready, **how)
    assert places(ready) == ["a", "b/deep"]
    run(ready, prune=True)
    assert places(ready) == ["a"]


def test_a_folder_that_is_gone_with_its_place_goes_without_a_question(
    ready: Pipeline, fill: Fill, images: Path
) -> None:
    fill("a", 6)
    fill("b/deep", 2)
    run(ready)
    shutil.rmtree(images / "b")
    run(ready)
    assert places(ready) == ["a"]


def test_most_rows_of_a_folder_that_was_renamed_do_not_count_as_gone(ready: Pipeline, fill: Fill, images: Path) -> None:
    fill("a", 1)
    fill("b", 5)
    run(ready)
    (images / "b").rename(images / "c")
    assert encoded(run(ready)) == 0
    assert places(ready) == ["a", "c"]


def test_vectors_of_what_was_removed_by_mistake_are_not_encoded_again(
    ready: Pipeline, fill: Fill, images: Path, tmp_path: Path
) -> None:
    fill("a", 3)
    fill("b/c", 4)
    run(ready)
    before = vector_of(ready, "b/c/photo_0002.jpg")
    shutil.move(images / "b", tmp_path / "b")
    (images / "b").mkdir()
    run(ready, prune=True)
    assert places(ready) == ["a"]
    (images / "b").rmdir()
    shutil.move(tmp_path / "b", images / "b")
    again = Pipeline(ready.settings)  # another process
    summary = run(again)
    assert (encoded(summary), sum(embed.copied for embed in summary.embeds)) == (0, 4)
    assert vector_of(again, "b/c/photo_0002.jpg") == before
    assert places(again) == ["a", "b/c"]


def test_removed_vectors_that_were_vacuumed_are_encoded_again(
    ready: Pipeline, fill: Fill, images: Path, tmp_path: Path
) -> None:
    fill("a", 3)
    fill("b", 2)
    run(ready)
    shutil.move(images / "b", tmp_path / "b")
    run(ready)
    table = DeltaTable(str(ready.tables.embeddings.path))
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    shutil.move(tmp_path / "b", images / "b")
    assert encoded(run(Pipeline(ready.settings))) == 2


def test_a_parent_stands_for_all_folders_below_it_on_disk_and_in_the_table(
    ready: Pipeline, fill: Fill, images: Path
) -> None:
    for folder in ("a", "a/x", "a/y/z", "ab", "b"):
        fill(folder, 1)
    summary = run(ready, folders=["a"])
    assert summary.folders == summary.status["folder"].to_list() == places(ready) == ["a", "a/x", "a/y/z"]
    shutil.rmtree(images / "a" / "y")
    assert run(ready, folders=["a/y"]).folders == ["a/y/z"]
    assert places(ready) == ["a", "a/x"]
    with pytest.raises(CurationError, match="no image folder 'a/y', 'c' under"):
        run(ready, folders=["a", "c", "a/y"])
    with pytest.raises(CurationError, match="no image folder 'a/x' under"):
        run(with_settings(ready, folder_depth=1, lake_root=images.with_name("other")), folders=["a/x"])


def test_a_link_that_is_named_as_a_folder_is_called_a_link(
    ready: Pipeline, fill: Fill, images: Path, tmp_path: Path
) -> None:
    fill("a", 1)
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (images / "disk").symlink_to(tmp_path / "disk")
    (images / "nowhere").symlink_to(tmp_path / "nowhere")
    for name in ("disk", "disk/deep"):
        with pytest.raises(CurationError, match=r"no image folder .*'disk' is a link to .*CURATION_FOLLOW_LINKS"):
            run(ready, folders=[name])
    with pytest.raises(CurationError, match=r"'nowhere' is a link to .*, which isn't there"):
        run(ready, folders=["nowhere"])


def test_linked_folders_are_taken_by_a_setting_and_ask_when_their_disk_went(
    ready: Pipeline, fill: Fill, images: Path, tmp_path: Path
) -> None:
    fill("a", 5)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "1.jpg").write_bytes(jpeg(1))
    (images / "a" / "disk").symlink_to(tmp_path / "disk")
    run(ready)
    assert places(ready) == ["a"]
    following = with_settings(ready, follow_links=True)
    run(following)
    assert places(ready) == ["a", "a/disk"]
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    with pytest.raises(CurationError, match=r"gone from 'a/disk'.*--prune"):
        run(following)
    assert places(ready) == ["a", "a/disk"]


def test_a_lake_in_the_tree_of_images_is_not_photographed(ready: Pipeline, fill: Fill, images: Path) -> None:
    fill("a", 2)
    for place in ("lake/golden", "lake_index/map", "mlflow/artifacts"):
        fill(place, 1)
    inside = with_settings(ready, lake_root=images / "lake")
    summary = run(inside)
    assert summary.status["folder"].to_list() == ["a"]
    assert summary.tree.passed_over["folder of this program"] == 3


def test_golden_pictures_that_an_earlier_version_took_for_photographs_go_without_a_question(
    ready: Pipeline, fill: Fill, images: Path
) -> None:
    fill("a", 4)
    fill("lake/golden", 3)
    run(ready)
    moved = with_settings(ready, index_root=images / "lake")  # any folder of this program
    run(moved)
    assert places(ready) == ["a"]
