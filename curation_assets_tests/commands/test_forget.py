"""``curation forget``: nothing is left of an image anywhere, and of all others everything."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from curation_assets.curate.problems import KINDS
from curation_assets.datasets.forgetting import without_names
from curation_assets.forgetting.forget import forget
from curation_assets.lake.storage import LocalStorage
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.review.problem_queue import ProblemQueue
from curation_assets.review.samples import draw_sample
from curation_assets.scan.comparison import Compared, ComparedNotes
from curation_assets_tests.commands.conftest import Curation

RECIPE = """
[labels]
path = "{class}/*"

[leave_out]
exact = false
"""
GOES = {"miner/a.jpg", "miner/copy.jpg", "rust/b.jpg"}


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "leaves.toml").write_text(RECIPE)
    monkeypatch.setenv("CURATION_RECIPES", str(tmp_path / "recipes"))
    return tmp_path / "recipes"


@pytest.fixture
def lived_in(curation: Curation, lake: Pipeline, recipes: Path) -> Pipeline:
    """A lake with a version of a dataset, decisions, a sample, and a history in which two of the images lie that go."""
    images = lake.settings.images_root
    assert curation("dataset", "build", "leaves")[0] == 0
    for path in ("rust/b.jpg", "rust/d.jpg"):
        assert curation("decisions", "add", "keep", path)[0] == 0
    assert curation("decisions", "add", "different", "rust/d.jpg", "miner/a.jpg")[0] == 0
    assert curation("decisions", "add", "tag", "miner/a.jpg", "--value", "hard")[0] == 0
    measured = lake.tables.directory.latest().read(["relative_path", "content_sha256"]).drop("_file")
    queue = ProblemQueue(KINDS["blurry"], measured.with_columns(score=pl.lit(0.1), at=pl.lit(0.1)), len(measured))
    draw_sample(lake.tables.samples, queue, 0.2, 59, "ann")
    for path in ("rust/b.jpg", "rust/d.jpg"):
        (images / path).unlink()
    assert curation("run")[0] == 0
    place = lake.settings.lake_root.parent
    assert curation("dataset", "export", "leaves", "--to", "csv", "--out", str(place / "leaves.csv"))[0] == 0
    for folder, name in (("with", "a.jpg"), ("without", "c.jpg")):
        assert curation("search", "--name", name, "--export-images", str(place / folder))[0] == 0
    shutil.rmtree(place / "with")
    # As a scan notes them that compared files by their hash: which is the last of a folder is up to the disk.
    notes = ComparedNotes(lake.tables.directory.storage)
    for path in ("miner/copy.jpg", "rust/d.jpg"):
        notes.write(path.partition("/")[0], Compared(5, path))
    return lake


def traces(pipeline: Pipeline, contents: set[str], paths: set[str]) -> list[str]:
    """Files below the lake that name one of the images, or hold its bytes."""
    told = contents | paths
    found = []
    roots = (pipeline.settings.lake_root, pipeline.settings.index_dir.parents[2], pipeline.settings.mlflow_dir)
    for file in sorted(file for root in roots for file in root.rglob("*")):
        if file.suffix == ".parquet":
            rows = pq.read_table(file, partitioning=None).to_pylist()
            held = any(any(word in repr(row) for word in told) for row in rows)
        else:
            held = file.is_file() and any(word.encode() in file.read_bytes() for word in told)
        if held:
            found.append(str(file))
    return found


def contents_of(pipeline: Pipeline, images: Path) -> set[str]:
    return {hashlib.sha256((images / path).read_bytes()).hexdigest() for path in GOES}


def test_nothing_is_left_of_images_and_of_others_all(
    curation: Curation, lived_in: Pipeline, filled: Path, tmp_path: Path
) -> None:
    tables, contents = lived_in.tables, contents_of(lived_in, filled / "images")
    assert any("card.md" in trace for trace in traces(lived_in, contents, GOES))
    (by_hash,) = contents - {hashlib.sha256((filled / "images/miner/a.jpg").read_bytes()).hexdigest()}
    chosen = ("miner/a.jpg", "--content", by_hash.upper())
    before = {table.path.name: table.newest_version() for table in tables.there}
    code, text, _ = curation("forget", *chosen)
    assert code == 0
    assert "nothing is done yet; --yes forgets them" in text
    assert "leaves@1  3 images, 2 of them kept" in text
    assert "the same photograph, and stays  rust/mirrored.jpg" in text
    code, _, error = curation("forget", *chosen, "--yes")
    assert code == 2
    assert "miner/a.jpg and 1 more would be scanned again" in error
    assert {table.path.name: table.newest_version() for table in tables.there} == before
    code, text, error = curation("forget", *chosen, "--yes", "--delete-files", "--json")
    assert code == 0, error
    told: dict[str, Any] = json.loads(text)
    assert (set(told["contents"]), set(told["paths"])) == (contents, GOES)
    assert told["files"] == ["miner/a.jpg", "miner/copy.jpg"]
    exports = {Path(each["place"]).name: (each["dataset"], each["is_there"]) for each in told["exports"]}
    assert exports == {"leaves.csv": ("leaves", True), "with": (None, False)}
    rows = {one["table"].removeprefix("crop_images_directory"): one["rows"] for one in told["tables"]}
    assert (rows[""], rows["_decisions"], rows["_datasets"], rows["_samples"]) == (2, 3, 3, 3)
    assert traces(lived_in, contents, GOES) == []
    notes = ComparedNotes(tables.directory.storage)
    assert [notes.read(folder) for folder in ("miner", "rust")] == [Compared(4), Compared(5, "rust/d.jpg")]
    assert [path for path in GOES if (lived_in.settings.images_root / path).exists()] == []
    # The others are all there: in the tables, and in the version, also one that is gone from the tables.
    paths = tables.directory.latest().read(["relative_path"])["relative_path"]
    assert len(paths) == 8
    code, text, _ = curation("dataset", "verify", "leaves", "--json")
    assert (json.loads(text)["forgotten"], json.loads(text)["images"]) == (2, 9)
    code, text, error = curation("dataset", "restore", "leaves@1", "--out", str(tmp_path / "back"))
    assert (code, text) == (0, f"1 of 1 images written to {tmp_path / 'back'}\n"), error
    assert (tmp_path / "back/rust/d.jpg").read_bytes() == (filled / "images/rust/d.jpg").read_bytes()
    assert "2 of them kept, on request" in curation("dataset", "show", "leaves")[1]
    assert curation("maintain", "--retention-hours", "0")[0] == 0  # which takes nothing that the version needs
    assert curation("dataset", "restore", "leaves@1", "--out", str(tmp_path / "again"))[0] == 0
    assert curation("run")[0] == 0
    assert curation("repair")[0] == 0
    assert set(tables.groups.latest().read(["relative_path"])["relative_path"]).isdisjoint(GOES)
    assert curation("forget", *chosen)[0] == 2


def test_what_a_manifest_tells_of_an_image_goes_without_its_name() -> None:
    told = {"drift": {"told": "0.6", "paths": ["a/1.jpg", "a/1.jpg.jpg"]}, "other": 3}
    told["notes"] = ["2 images, for example a/1.jpg; nothing", "b/a/1.jpg stays", "new\\nline.jpg: gone"]
    assert without_names(told, ["a/1.jpg", "new\nline.jpg"]) == {
        "drift": {"told": "0.6", "paths": ["an image that was forgotten", "a/1.jpg.jpg"]},
        "other": 3,
        "notes": [
            "2 images, for example an image that was forgotten; nothing",
            "b/a/1.jpg stays",
            "an image that was forgotten: gone",
        ],
    }


class KilledError(Exception):
    pass


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts commits and deletions; where the count is the second number, the process ends there."""
    counted = [0, -1]

    def counting(of: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            counted[0] += 1
            if counted[0] == counted[1]:
                raise KilledError
            return of(*arguments, **named)

        return call

    for owner, name in ((LakeTable, "replace"), (LocalStorage, "delete"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    return counted


def test_killed_at_any_moment_it_is_run_again_and_nothing_is_left(
    lived_in: Pipeline, filled: Path, tmp_path: Path, steps: list[int]
) -> None:
    images, contents = lived_in.settings.images_root, contents_of(lived_in, filled / "images")
    for path in GOES:
        (images / path).unlink(missing_ok=True)
    shutil.copytree(lived_in.settings.lake_root, tmp_path / "kept")
    paths = [["miner/a.jpg"], ["rust/b.jpg"]]
    index = lived_in.settings.index_dir.parents[2]
    shutil.copytree(index, tmp_path / "kept index")
    steps[:] = [0, -1]
    forget(lived_in, paths, [], LogProgress(), dry_run=False)
    number = steps[0]
    assert number > 60
    for at in (2, number // 3, number // 2, number - 8, number):
        for folder, of in ((lived_in.settings.lake_root, "kept"), (index, "kept index")):
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / of, folder)
        again = Pipeline(lived_in.settings)
        steps[:] = [0, at]
        with pytest.raises(KilledError):
            forget(again, paths, [], LogProgress(), dry_run=False)
        steps[:] = [0, -1]
        forget(Pipeline(lived_in.settings), [], [], LogProgress(), dry_run=False)
        assert traces(lived_in, contents, GOES) == [], at


def test_wrong_input_is_one_line(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        code, text, error = curation("forget", *arguments)
        assert (code, text) == (2, "")
        (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in error
        return line

    assert "name the images to forget" in refused()
    assert "there is no row for 'rust'" in refused("rust")
    assert "64 hexadecimal digits" in refused("--content", "abc")
    assert "nothing is known of" in refused("--content", "0" * 64)
    shutil.move(lake.settings.images_root, tmp_path / "away")
    assert "is not there, so it can't be told" in refused("rust/b.jpg", "--yes")
