from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from curation_assets.curate.duplicates.overview import group_table, groups_of
from curation_assets.demo import sample
from curation_assets.demo.sample import write_sample
from curation_assets.images.exif import read_exif
from curation_assets.images.listing import ListedFile, list_folders
from curation_assets.images.record import ReadLimits, read_record
from curation_assets.images.source import LocalTree
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings

PHOTOGRAPHS = 32


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "images"
    assert write_sample(root, PHOTOGRAPHS) == PHOTOGRAPHS + 21
    return root


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_dozen_nested_folders_hold_the_photographs(tree: Path) -> None:
    listed = list_folders(tree)
    assert len(listed.folders) >= 12
    assert "coffee/plot_03/rust" in listed.folders
    assert sum(len(folder.files) for folder in listed.folders.values()) == PHOTOGRAPHS + 16
    assert listed.passed_over == Counter({"not an image name": 3, "hidden": 2})


def test_the_same_seed_writes_the_same_files_and_another_seed_others(tree: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "again", PHOTOGRAPHS)
    write_sample(tmp_path / "other", 12, seed=8)
    assert contents(tmp_path / "again") == contents(tree)
    assert len(set(contents(tmp_path / "other").values()) & set(contents(tree).values())) < 15


def test_a_tree_that_is_there_is_left_alone(tree: Path) -> None:
    before = contents(tree)
    assert write_sample(tree) == 0
    assert contents(tree) == before


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(sample, "_add_dirt", fail)
    with pytest.raises(OSError, match="disk full"):
        write_sample(tmp_path / "images", 16)
    assert list(tmp_path.iterdir()) == []


def test_the_dirt_of_real_folders_is_found_by_the_scan(tree: Path) -> None:
    status: Counter[str] = Counter()
    for folder in list_folders(tree).folders.values():
        for listed in map(ListedFile._make, folder.files.iter_rows()):
            status[read_record(LocalTree(tree), listed, ReadLimits()).status] += 1
    assert status == {"ok": PHOTOGRAPHS + 13, "corrupt": 2, "unsupported": 1}


def test_a_photograph_lies_twice_and_once_more_in_small(tree: Path) -> None:
    times = Counter(contents(tree).values())
    assert sorted(times.values())[-2:] == [1, 2]
    small = next((tree / "coffee/plot_03/rust").glob("*_small.jpg"))
    original = next(path for path in small.parent.iterdir() if path.stem == small.stem.removesuffix("_small"))
    assert max(Image.open(small).size) < max(Image.open(original).size)


def test_the_doubles_are_found_for_what_they_are(tree: Path, tmp_path: Path) -> None:
    pipeline = Pipeline(load_settings(images_root=tree, lake_root=tmp_path / "lake", model_source="demo"))
    pipeline.scan(["maize/rows_june", "orchard/harvest", "rice/paddy_1"], LogProgress())
    pipeline.compare_all(LogProgress())
    found = {kind: list(groups_of(group_table(pipeline.tables.groups), kind)) for kind in ("near", "burst")}
    near = {path for group in found["near"] for path in group.images["relative_path"]}
    originals = {
        min((tree / folder).glob("*.[jJ][pP]*")).name: folder for folder in ("orchard/harvest", "rice/paddy_1")
    }
    edited = {"orchard/harvest/mirrored.jpg", "rice/paddy_1/cropped.jpg"}
    assert near == edited | {f"{folder}/{name}" for name, folder in originals.items()}
    assert len(found["near"]) == 2
    (burst,) = found["burst"]
    assert set(burst.images["relative_path"]) == {f"maize/rows_june/IMG_0{number}.JPG" for number in (901, 902, 903)}


def test_the_photograph_held_sideways_is_upright_again_by_its_exif(tree: Path) -> None:
    with Image.open(tree / "coffee/plot_03/healthy/rotated in camera.jpg") as photo:
        assert photo.size == (640, 480)
        assert photo.getexif()[0x0112] == 6
        assert ImageOps.exif_transpose(photo).size == (480, 640)


def test_most_photographs_say_when_by_what_and_some_where_they_were_taken(tree: Path) -> None:
    said = []
    for path in (path for path in tree.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")):
        try:
            with Image.open(path) as photo:
                said.append(read_exif(photo.getexif()))
        except OSError:
            continue
    taken = [exif for exif in said if exif.captured_at is not None]
    placed = [exif for exif in taken if exif.latitude is not None]
    assert len(said) > len(taken) > len(said) / 2
    assert len(taken) > len(placed) > len(taken) / 3
    assert {exif.camera for exif in taken} >= {"Canon EOS 250D", "Google Pixel 7"}
    assert all(-21 < exif.latitude < -20 and -43 < (exif.longitude or 0) < -42 for exif in placed if exif.latitude)


def test_formats_extensions_and_sizes_vary(tree: Path) -> None:
    suffixes = {path.suffix for path in tree.rglob("*")}
    assert {".jpg", ".JPG", ".jpeg", ".png"} <= suffixes
    sizes = {Image.open(path).size for path in (tree / "wheat/block_b/flag_leaves").iterdir()}
    assert len(sizes) > 1
