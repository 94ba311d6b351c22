from __future__ import annotations

import csv
import json
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation, copied, pipeline_of
from curation_assets_tests.conftest import jpeg

ODD = "new\nline <b>.jpg"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """A lake of two folders, one with an odd name in it."""
    home = tmp_path_factory.mktemp("searched")
    for seed, name in enumerate(("a/photo_0000.jpg", "a/photo_0001.jpg", "a/photo_0002.jpg", f"b/{ODD}")):
        (home / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "images" / name).write_bytes(jpeg(seed))
    run(pipeline_of(home, registered_model), LogProgress())
    return home


@pytest.fixture(autouse=True)
def embedded(ready: Pipeline, made: Path) -> None:
    """That lake, of the test's own."""
    copied(ready, made)


def found(text: str) -> list[str]:
    return [image["relative_path"] for image in json.loads(text)["images"]]


def test_a_search_prints_cosines_and_paths_best_first(curation: Curation, ready: Pipeline) -> None:
    code, text, note = curation("search", "an orange", "-k", "3")
    rows = ready.searcher.search("an orange", 3).rows
    expected = [f"{score:.3f}  {path}" for path, score in rows.select("relative_path", "score").iter_rows()]
    assert code == 0
    assert text.replace("new\\nline", "new\nline").splitlines() == "\n".join(expected).splitlines()
    assert "3 of 4 images" in note


def test_json_has_every_column_and_where_the_answer_comes_from(curation: Curation, ready: Pipeline) -> None:
    code, text, _ = curation("search", "an orange", "--folder", "b", "--json")
    said = json.loads(text)
    assert (code, said["total"], found(text)) == (0, 1, [f"b/{ODD}"])
    assert said["images"][0]["width"] == 64
    assert said["embeddings_table_version"] == ready.tables.embeddings.newest_version()
    assert (said["model_version"], said["filter"], said["behind"]) == ("1", {"folder": ["b"]}, None)


def test_examples_weights_and_unwanted_texts_change_what_is_found(curation: Curation, ready: Pipeline) -> None:
    image = ready.settings.images_root / "a" / "photo_0001.jpg"
    assert found(curation("search", "--image", str(image), "-k", "1", "--json")[1]) == ["a/photo_0001.jpg"]
    like = curation("search", "--like", "a/photo_0001.jpg", "-k", "9", "--json")[1]
    assert "a/photo_0001.jpg" not in found(like)
    assert found(curation("search", "--like", str(image), "-k", "9", "--json")[1]) == found(like)
    _, text, _ = curation("search", "leaf", "soil", "--weight", "2", "--weight", "0.5", "--not", "sky", "--json")
    assert json.loads(text)["query"] == [
        {"text": "leaf", "weight": 2.0},
        {"text": "soil", "weight": 0.5},
        {"text": "sky", "weight": -1.0},
    ]


def test_labels_stand_behind_the_images_found_and_count_whole_folders(curation: Curation) -> None:
    _, text, _ = curation("search", "leaf", "-k", "1", "--label", "an orange", "--label", "a field")
    assert text.rstrip().endswith(")")
    assert "an orange (+" in text or "a field (+" in text
    _, text, _ = curation("label", "an orange", "a field")
    lines = [line.split() for line in text.splitlines()[1:]]
    assert [(line[0], int(line[1]) + int(line[2])) for line in lines] == [("a", 3), ("b", 1)]
    every = json.loads(curation("label", "an orange", "a field", "--folder", "a", "--json")[1])
    assert [image["relative_path"] for image in every["images"]] == [f"a/photo_000{n}.jpg" for n in range(3)]
    assert {image["label"] for image in every["images"]} <= {"an orange", "a field"}


def test_the_page_is_written_and_opened(curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)) or True)
    page = tmp_path / "out dir" / "page.html"
    code, text, _ = curation("search", "an <orange>", "--html", str(page), "--open")
    assert code == 0
    assert str(page) in text
    assert opened == [page.as_uri()]
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 4
    assert "“an &lt;orange&gt;”" in html
    assert "<b>.jpg" not in html
    assert curation("search", "an orange", "--open")[0] == 0
    assert opened[1].endswith("search.html")


def test_images_found_are_written_with_their_list(curation: Curation, ready: Pipeline, tmp_path: Path) -> None:
    root, target = ready.settings.images_root, tmp_path / "found"
    rows = ready.searcher.search("an orange", 2).rows
    code, _, note = curation("search", "an orange", "-k", "2", "--export-images", str(target))
    assert code == 0
    assert f"wrote 2 images (0.0 MB) and images.csv to {target}" in note
    with (target / "images.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["relative_path"] for row in listed] == rows["relative_path"].to_list()
    assert [float(row["score"]) for row in listed] == pytest.approx(rows["score"].to_list(), abs=1e-6)
    for row in listed:
        assert (target / row["file"]).read_bytes() == (root / row["relative_path"]).read_bytes()
    about = json.loads((target / "search.json").read_text())
    assert (about["query"], about["total"]) == ([{"text": "an orange", "weight": 1.0}], 4)
    for place, said in ((target, "is not empty"), (root / "found", "would take its images for new ones")):
        code, _, error = curation("search", "an orange", "--export-images", str(place))
        assert (code, said in error) == (2, True)
    assert not (root / "found").exists()
    code, _, error = curation("search", "--name", "nothing", "--export-images", str(tmp_path / "none"))
    assert (code, "no image was found" in error) == (2, True)


def test_a_search_in_an_index_behind_its_table_says_so_and_index_mends_it(
    curation: Curation, ready: Pipeline, fill: Any
) -> None:
    fill("c", 1)
    ready.scan(["c"], LogProgress())
    ready.embed("c", ready.registry.champion(), LogProgress())
    assert "`curation index` brings it up to date" in curation("search", "leaf")[2]
    code, text, _ = curation("index", "--json")
    assert (code, json.loads(text)["added"], json.loads(text)["vectors"]) == (0, 1, 5)
    assert "note" not in curation("search", "leaf")[2]
    assert "up to date" in curation("index")[1]


def test_the_map_is_made_once_and_then_only_what_is_new(curation: Curation, fill: Any, ready: Pipeline) -> None:
    first = json.loads(curation("map", "--json")[1])
    assert (first["images"], first["new"], first["fresh_layout"]) == (4, 4, True)
    assert "0 new" in curation("map")[1]
    fill("c", 1)
    run(ready, LogProgress(), curate=False)
    again = json.loads(curation("map", "--json")[1])
    assert (again["images"], again["new"], again["fresh_layout"]) == (5, 1, False)


def test_run_brings_the_index_in_line(curation: Curation, fill: Any) -> None:
    fill("c", 2)
    code, text, _ = curation("run", "--json")
    index = json.loads(text)["index"]
    assert (code, index["vectors"], index["added"], index["kind"]) == (0, 6, 2, "exact")
    assert "index  6 vectors (exact), up to date" in curation("run")[1]


def test_a_run_whose_index_cannot_be_written_is_finished_all_the_same(
    curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("CURATION_INDEX_ROOT", str(tmp_path / "a_file"))
    code, text, _ = curation("run")
    assert code == 0
    assert "index  not brought in line: search index" in text
    assert "CURATION_INDEX_ROOT" in json.loads(curation("run", "--json")[1])["index_error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "--sort", "colour"], "no column 'colour'"),
        (["search", "leaf", "--sort", "width"], "only a list can be sorted"),
        (["search", "--all", "--html", "x.html"], "--all makes no page"),
        (["search", "--where", "count() over () > 1"], "window function"),
        (["search", " "], "empty"),
        (["search", "--not", "sky"], "only what not"),
        (["search", "leaf", "--not", "leaf"], "cancel"),
        (["search", "leaf", "--weight", "1", "--weight", "2"], "--weight is given 2 times, for 1 texts"),
        (["search", "leaf", "--image", "/nowhere.jpg"], "/nowhere.jpg: No such file"),
        (["search", "--like", "nowhere.jpg"], "no image 'nowhere.jpg'"),
        (["search", "leaf", "--where", "colour = 1"], "no column colour"),
        (["search", "leaf", "--as-of", "999"], "no 999"),
        (["search", "leaf", "--model-version", "9"], "no version '9'"),
        (["search", "leaf", "--label", "one"], "at least two"),
        (["search", "leaf", "--folder", "nowhere"], "no folder 'nowhere'"),
        (["search", "leaf\udcff"], "not valid UTF-8"),
        (["search", "leaf", "--html", "/tmp"], "--html /tmp is a folder"),
        (["label", "one"], "at least two"),
        (["index", "--model-version", "9"], "no version '9'"),
        (["index", "--lake", "/nowhere"], "curation run"),
    ],
)
def test_wrong_input_is_one_clear_line(curation: Curation, arguments: list[str], said: str) -> None:
    code, text, error = curation(*arguments)
    assert (code, text) == (2, "")
    assert said in error
    assert "Traceback" not in error
    assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1


def test_images_are_found_by_their_zero_shot_label(curation: Curation, ready: Pipeline) -> None:
    where = "zero_shot_label = 'an orange'"
    assert curation("search", "leaf", "--where", where)[:2] == (0, "no image meets the conditions\n")
    labelled = Pipeline(ready.settings.model_copy(update={"labels": ["an orange", "a field"]}))
    for folder in ("a", "b"):
        labelled.label_zero_shot(folder, ready.registry.champion())
    labels = json.loads(curation("label", "an orange", "a field", "--json")[1])["images"]
    expected = sorted(image["relative_path"] for image in labels if image["label"] == "an orange")
    assert expected
    code, text, _ = curation("search", "leaf", "--where", where, "--json")
    assert (code, sorted(found(text))) == (0, expected)
    code, text, _ = curation("label", "an orange", "a field", "--where", where, "--json")
    assert {image["label"] for image in json.loads(text)["images"]} == {"an orange"}
    code, _, error = curation("search", "leaf", "--where", "quality > 1")
    assert code != 0
    assert "there is no column quality; there are relative_path" in error
    assert "zero_shot_label, zero_shot_score, zero_shot_margin" in error
