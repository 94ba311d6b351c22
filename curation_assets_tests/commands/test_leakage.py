"""``curation leakage``: every way to name the splits, what is told, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation
from curation_assets_tests.curate.duplicates.drawn import EDITS, jpeg, photograph

PATH = ("leakage", "--split-from", "path", "--pattern", "{split}/{class}/*")


@pytest.fixture
def lake(pipeline: Pipeline, images: Path) -> Pipeline:
    """One photograph mirrored on another side, one copied to a third, and what is on one side alone."""
    for path, number, edit in (
        ("train/rust/a.jpg", 0, None),
        ("test/rust/m.jpg", 0, "mirrored"),
        ("train/miner/b.jpg", 1, None),
        ("train/miner/small.jpg", 2, "a quarter of the size"),
        ("train/miner/c.jpg", 2, None),
        ("test/rust/alone.jpg", 5, None),
        ("loose.jpg", 6, None),
    ):
        image = photograph(number) if edit is None else EDITS[edit](photograph(number))
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).write_bytes(jpeg(image))
    (images / "val/rust").mkdir(parents=True)
    shutil.copy(images / "train/miner/b.jpg", images / "val/rust/copy.jpg")
    pipeline.scan(sorted(pipeline.source.list_folders().folders), LogProgress())
    return pipeline


@pytest.fixture
def compared(lake: Pipeline) -> Pipeline:
    lake.compare_all(LogProgress())
    return lake


@pytest.mark.usefixtures("compared")
def test_pairs_across_are_told_with_who_gives_way_and_listed(curation: Curation, tmp_path: Path) -> None:
    code, text, _ = curation(*PATH, "--json", "--html", str(tmp_path / "leaks.html"))
    assert code == 1
    told = json.loads(text)
    assert told["splits"] == {"test": 2, "val": 1, "train": 4}
    assert (told["without_split"], told["pairs"], told["not_examined"]) == (1, 2, [])
    assert told["counts"] == [
        {"kind": "exact", "split": "val", "other_split": "train", "pairs": 1},
        {"kind": "near", "split": "test", "other_split": "train", "pairs": 1},
    ]
    assert told["give_way"] == {"train": 2}
    assert told["labels"] == {"rust": 3, "miner": 1}
    images = {image["relative_path"]: image for image in told["images"]}
    assert set(images) == {"train/rust/a.jpg", "test/rust/m.jpg", "train/miner/b.jpg", "val/rust/copy.jpg"}
    assert images["train/rust/a.jpg"]["gives_way"]
    assert not images["test/rust/m.jpg"]["gives_way"]
    assert images["train/rust/a.jpg"]["others"] == 1
    (near,) = images["train/rust/a.jpg"]["nearest"]
    assert (near["relative_path"], near["split"], near["kind"]) == ("test/rust/m.jpg", "test", "near")
    assert near["similarity"] > 0.9
    page = (tmp_path / "leaks.html").read_text()
    assert page.count("data:image/jpeg;base64") == 4  # each of two that give way beside its other
    assert "gives way" in page
    code, text, _ = curation(*PATH)
    assert code == 1
    assert "1 pair of test and train" in text
    assert "train/rust/a.jpg (train)  near" in text
    assert "2 of train should give way" in text
    assert curation(*PATH, "--give-way")[1].split() == ["train/miner/b.jpg", "train/rust/a.jpg"]
    assert curation(*PATH, "--give-way", "--kind", "exact", "-0")[1] == "train/miner/b.jpg\0"


@pytest.mark.usefixtures("compared")
def test_a_file_or_the_annotations_name_the_splits(curation: Curation, tmp_path: Path) -> None:
    table = tmp_path / "splits.csv"
    table.write_text("path,split\ntrain/miner/c.jpg,train\ntrain/miner/small.jpg,val\ntest/rust/alone.jpg,test\n")
    code, text, _ = curation("leakage", "--split-from", "csv", str(table), "--json")
    assert code == 1
    assert {image["relative_path"] for image in json.loads(text)["images"]} == {
        "train/miner/c.jpg",
        "train/miner/small.jpg",
    }
    assert curation("annotate", "--from", "csv", str(table))[0] == 0
    again = json.loads(curation("leakage", "--json")[1])
    assert (again["pairs"], again["without_split"]) == (1, 5)
    table.write_text("path,split\ntrain/miner/c.jpg,train\ntest/rust/alone.jpg,test\n")
    code, text, _ = curation("leakage", "--split-from", "csv", str(table))
    assert code == 0
    assert "no image is on two sides" in text


WRONG = [
    ((), "the table of annotations says of no image in which split it is"),
    (("--split-from", "path"), "--split-from path takes --pattern, for example '{split}/*', and no file"),
    (("--split-from", "path", "--pattern", "{class}/*/*"), "says of no image in which split it is; name it as in"),
    (("--split-from", "path", "--pattern", "x/{split}/*"), "it matches none of the 8 images"),
    (("--split-from", "path", "--pattern", "*/{split}/m.jpg"), "all 1 images are in the split 'rust'"),
    (("--split-from", "csv"), "--split-from csv takes a file, and no pattern"),
    (("--split-from", "csv", "none.csv"), "none.csv: No such file"),
    (("--split-from", "walls"), "--split-from 'walls': choose among path, annotations, csv"),
    (("--pattern", "{split}/*"), "--split-from annotations takes no pattern"),
    (("--kind", "blurry"), "no kind 'blurry' of duplicates"),
    (("--give-way", "--json"), "choose one"),
    (("-0",), "-0 is of --give-way"),
]


def test_wrong_input_is_one_line_and_what_is_not_compared_yet_no_answer(lake: Pipeline, curation: Curation) -> None:
    code, _, text = curation(*PATH)
    assert code == 2
    assert "7 images are not compared yet, so a leak might not be seen; `curation curate` does that" in text
    lake.compare_all(LogProgress())
    for given, says in WRONG:
        code, _, text = curation("leakage", *given)
        assert code == 2, given
        assert says in text
        assert len(text.strip().splitlines()) == 1
