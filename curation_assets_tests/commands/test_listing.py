"""``curation search`` without words: lists, their order, copies and pages; ``show`` and copies."""

from __future__ import annotations

import csv
import io
import json
import shutil
from typing import Any

import pytest

from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation

EVERY = [f"a/photo_000{n}.jpg" for n in range(4)] + ["b/again.jpg", "b/twin.jpg"]


@pytest.fixture(autouse=True)
def embedded(ready: Pipeline, fill: Any) -> None:
    """Four images, and two copies of the third in another folder."""
    first, *_ = fill("a", 4)
    (first.parent.parent / "b").mkdir()
    for name in ("again.jpg", "twin.jpg"):
        shutil.copy(first.parent / "photo_0002.jpg", first.parent.parent / "b" / name)
    run(ready, LogProgress(), curate=False)


def listed(curation: Curation, *arguments: str) -> list[str]:
    code, text, _ = curation("search", *arguments, "--json")
    assert code == 0
    return [image["relative_path"] for image in json.loads(text)["images"]]


def test_without_words_what_meets_the_filters_is_listed_by_path_and_copies_are_told(curation: Curation) -> None:
    code, text, note = curation("search")
    assert (code, note) == (0, "")
    marked = {"a/photo_0002.jpg", "b/again.jpg", "b/twin.jpg"}
    assert text.splitlines() == [f"{path}  (2 copies)" if path in marked else path for path in EVERY]
    assert listed(curation, "--folder", "b") == EVERY[4:]
    assert listed(curation, "--where", "width > 100000") == []
    said = json.loads(curation("search", "--folder", "b", "--json")[1])
    assert [image["copies"] for image in said["images"]] == [2, 2]
    assert (said["sort"], said["distinct"], said["total"]) == ("relative_path", False, 2)


def test_a_list_is_in_the_order_of_any_column_and_folds_copies(curation: Curation, ready: Pipeline) -> None:
    assert listed(curation, "--sort", "path:desc") == EVERY[::-1]
    rows = ready.searcher.open().rows
    for column in ("size_bytes", "content_sha256", "embedded_at"):
        expected = rows.sort(column, maintain_order=True)["relative_path"].to_list()
        assert listed(curation, "--sort", column) == expected
    shown = curation("search", "--sort", "size:desc")[1].splitlines()
    assert [int(line.split()[0]) for line in shown] == sorted(rows["size_bytes"], reverse=True)
    assert listed(curation, "--sort", "zero_shot_score") == EVERY  # a column that joins; nobody has one
    assert listed(curation, "--distinct") == EVERY[:4]
    assert listed(curation, "--distinct", "--sort", "path:desc") == ["b/twin.jpg", EVERY[3], EVERY[1], EVERY[0]]


def test_pages_join_to_the_whole_with_words_and_without(curation: Curation) -> None:
    for words in ([], ["leaf"]):
        for fold in ([], ["--distinct"]):
            whole = listed(curation, *words, *fold, "--all")
            assert len(whole) == (4 if fold else 6)
            pages = [listed(curation, *words, *fold, "-k", "2", "--offset", str(start)) for start in (0, 2, 4)]
            assert [path for page in pages for path in page] == whole
    assert "2 of 6 images, by relative_path" in curation("search", "-k", "2")[2]
    assert len({"a/photo_0002.jpg", *EVERY[4:]} & set(listed(curation, "leaf", "--distinct"))) == 1
    assert not {"a/photo_0002.jpg", *EVERY[4:]} & set(listed(curation, "--like", "b/twin.jpg", "--distinct"))


def test_a_table_begins_with_its_header(curation: Curation) -> None:
    rows = list(csv.DictReader(io.StringIO(curation("search", "--all", "--csv")[1])))
    told = [(row["relative_path"], row["copies"]) for row in rows[3:]]
    assert told == [(EVERY[3], "0"), (EVERY[4], "2"), (EVERY[5], "2")]


def test_show_names_the_copies(curation: Curation) -> None:
    assert json.loads(curation("show", "b/twin.jpg", "--json")[1])["copies"] == ["a/photo_0002.jpg", "b/again.jpg"]
    lines = curation("show", EVERY[2])[1].splitlines()
    assert [line.split()[1] for line in lines if line.startswith("copy")] == EVERY[4:]
    assert json.loads(curation("show", EVERY[0], "--json")[1])["copies"] == []
