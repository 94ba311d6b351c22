"""``curation clusters``, ``problems outlier``, and what ``show`` and conditions say of scores."""

from __future__ import annotations

import json
import random
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from curation_assets.curate.neighbours.stored import location_of
from curation_assets.datasets.versions import read_manifest, read_version
from curation_assets.demo.render import render
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation, copied, pipeline_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """24 drawings of one field, and three blank cards; and a lake of them."""
    home = tmp_path_factory.mktemp("clustered")
    for number in range(24):
        drawn = render("maize_rust", random.Random(number), (128, 96))
        write(home / "images" / "maize rust" / f"{number:02}.jpg", drawn)
    for name, blue in (("card", 230), ("card2", 225), ("card3", 235)):
        write(home / "images" / "odd" / f"{name}.jpg", Image.new("RGB", (128, 96), (20, 40, blue)))
    run(in_two(pipeline_of(home, registered_model)), LogProgress())
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return in_two(copied(ready, made))


def in_two(pipeline: Pipeline) -> Pipeline:
    return Pipeline(pipeline.settings.model_copy(update={"clusters": 2}))


def write(path: Path, image: Image.Image) -> None:
    out = BytesIO()
    image.save(out, "JPEG", quality=90)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(out.getvalue())


def test_clusters_and_outliers_are_told(
    lake: Pipeline, curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATION_CLUSTERS", "2")
    code, text, said = curation("clusters", "--json")
    told = json.loads(text)
    assert (code, said, told["images"]) == (0, "", 27)
    large, small = told["clusters"]
    assert set(large) == {"cluster", "name", "images", "share", "spread", "medoid", "examples"}
    assert (large["name"], large["images"], small["name"]) == ("maize rust", 24, "odd")
    assert (small["images"], small["share"]) == (3, 3 / 27)
    assert small["medoid"].startswith("odd/card")
    assert large["medoid"] == large["examples"][0]
    code, text, _ = curation("clusters")
    assert "maize rust" in text
    code, text, _ = curation("clusters", str(small["cluster"]), "--json")
    (only,) = json.loads(text)["clusters"]
    assert {image["relative_path"].split("/")[0] for image in only["found"]} == {"odd"}
    code, text, said = curation("clusters", str(large["cluster"]), "-k", "3")
    assert len(text.splitlines()) == 3
    assert "3 of 24 images" in said
    code, text, _ = curation("clusters", "--where", "width > 1000", "--json")
    assert json.loads(text) == {"images": 0, "clusters": []}

    code, text, _ = curation("problems", "--kind", "outlier", "--json", "--html", str(tmp_path / "outliers.html"))
    found = json.loads(text)["found"]
    assert {one["relative_path"] for one in found} == {"odd/card.jpg", "odd/card2.jpg", "odd/card3.jpg"}
    of = [one["relative_path"].split("/")[0] for one in found[0]["neighbours"]]
    assert of == ["odd", "odd", "maize rust", "maize rust"]
    assert found[0]["score"] > 3
    assert 0 < found[0]["outlier_score"] < 2
    page = (tmp_path / "outliers.html").read_text()
    assert page.count("its neighbour") == 4 * 3
    code, text, _ = curation("clusters", "--html", str(tmp_path / "clusters.html"))
    assert (tmp_path / "clusters.html").read_text().count("distance ") >= 13

    code, text, _ = curation("show", "odd/card.jpg", "--json")
    scores = json.loads(text)["scores"]
    assert scores["cluster_name"] == "odd"
    assert len(scores["neighbours"]) == 4
    code, text, _ = curation("show", "odd/card.jpg")
    assert f"cluster         {small['cluster']}: odd" in text
    code, text, _ = curation("problems", "--json", "--where", f"cluster = {small['cluster']} AND outlier_score > 0")
    assert json.loads(text)["images"] == 3
    code, text, _ = curation("problems", "--json", "--where", "cluster_name = 'maize rust' and uniqueness < 2")
    assert json.loads(text)["images"] == 24
    assert "not_scored" not in json.loads(curation("status", "--json")[1])
    (lake.settings.images_root / "odd" / "card.jpg").unlink()
    write(lake.settings.images_root / "odd" / "new.jpg", Image.new("RGB", (128, 96), (9, 40, 30)))
    run(lake, LogProgress(), curate=False)
    code, _, said = curation("clusters", "--json")
    assert code == 0
    assert "`curation curate` brings the clusters in line" in said
    assert json.loads(curation("status", "--json")[1])["not_scored"] == 1
    assert "1 images have no outlier score and cluster" in curation("status")[1]


@pytest.mark.usefixtures("pipeline")
def test_wrong_input_is_one_line(curation: Curation, tmp_path: Path) -> None:
    for arguments, told in (
        (("clusters",), "no image is scored yet"),
        (("clusters", "--html", str(tmp_path)), "is a folder; name the file to write"),
        (("problems", "blurry", "--kind", "dark"), "are two kinds"),
        (("problems", "--kind", "outliers"), "did you mean outlier?"),
    ):
        code, text, said = curation(*arguments)
        assert (code, text, len(said.strip().splitlines())) == (2, "", 1)
        assert told in said


def test_a_damaged_graph_hides_the_neighbours_and_is_made_anew(lake: Pipeline, curation: Curation) -> None:
    found = lake.champion_index()
    assert found is not None
    assert found[1].path is not None
    (location_of(found[1].path) / "current.json").write_text("{")
    assert json.loads(curation("show", "odd/card.jpg", "--json")[1])["scores"]["neighbours"] == []
    assert curation("clusters")[0] == 0
    (lake.settings.images_root / "odd" / "card2.jpg").unlink()
    run(lake, LogProgress())
    assert len(json.loads(curation("show", "odd/card.jpg", "--json")[1])["scores"]["neighbours"]) == 4


def test_a_number_that_is_none_of_a_cluster_is_named(lake: Pipeline, curation: Curation) -> None:
    code, _, said = curation("clusters", "9")
    assert (code, said) == (2, "error: there is no cluster 9; there are 0, 1\n")
    (lake.settings.images_root / "odd" / "card.jpg").rename(lake.settings.images_root / "odd" / "later.jpg")
    done = run(lake, LogProgress()).scores
    assert done is not None
    assert (done.scored, done.laid_out, done.changed) == (0, False, 2), "a renamed image keeps its scores"


def test_a_name_that_a_person_gives_wins_everywhere(
    lake: Pipeline, curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATION_CLUSTERS", "2")
    large, small = (one["cluster"] for one in json.loads(curation("clusters", "--json")[1])["clusters"])
    scores = lake.tables.scores.newest_version()
    code, text, said = curation("clusters", str(small), "--rename", "  <b>blank</b> cards ", "--by", "ann")
    assert (code, said) == (0, "")
    assert text == f"cluster {small} is called <b>blank</b> cards; the program calls it odd\n"
    told = json.loads(curation("clusters", str(small), "--rename", "<b>blank</b> cards", "--json")[1])
    assert told == {"cluster": small, "name": "<b>blank</b> cards", "own_name": "odd", "is_new": False}
    assert lake.tables.cluster_names.latest().read(["named_by"])["named_by"].to_list() == ["ann"]
    names = [one["name"] for one in json.loads(curation("clusters", "--json")[1])["clusters"]]
    assert names == ["maize rust", "<b>blank</b> cards"]
    assert f"cluster         {small}: <b>blank</b> cards" in curation("show", "odd/card.jpg")[1]
    for name, images in (("<b>blank</b> cards", 3), ("odd", 0)):
        found = json.loads(curation("problems", "--json", "--where", f"cluster_name = '{name}'")[1])
        assert found["images"] == images
    curation("clusters", "--html", str(tmp_path / "clusters.html"))
    assert f"{small}: &lt;b&gt;blank&lt;/b&gt; cards" in (tmp_path / "clusters.html").read_text()
    run(lake, LogProgress())
    assert lake.tables.scores.newest_version() == scores, "scoring has nothing to do with it"
    for arguments, told in (
        ((str(small), "--rename", " "), "is empty"),
        ((str(small), "--rename", "x" * 101), "at most 100 characters, this one 101"),
        ((str(small), "--rename", "a\nb"), "can't be shown"),
        ((str(large), "--rename", "<B>Blank</B> cards"), f"cluster {small} is called '<b>blank</b> cards'"),
        ((str(small), "--rename", "maize rust"), f"cluster {large} is called 'maize rust'"),
        (("9", "--rename", "nine"), f"there is no cluster 9; there are {min(large, small)}, {max(large, small)}"),
        (("--rename", "nine"), "say which cluster"),
        ((str(small), "--rename", "nine", "--unname"), "use one of them"),
        ((str(small), "--rename", "nine", "--by", " "), "say who"),
        ((str(small), "--by", "ann"), "goes with --rename"),
    ):
        code, text, said = curation("clusters", *arguments)
        assert (code, text, len(said.strip().splitlines())) == (2, "", 1)
        assert told in said
    (tmp_path / "cards.toml").write_text("name = 'cards'\n[images]\nwhere = \"cluster_name = '<b>blank</b> cards'\"\n")
    build = ("dataset", "build", "cards", "--no-curate", "--recipes", str(tmp_path))
    assert curation(*build)[0] == 0
    then = lake.tables.cluster_names.newest_version()
    manifest = read_manifest(lake.tables.datasets, "cards", 1)
    assert manifest["tables"]["cluster_names"]["version"] == then
    assert curation("clusters", str(small), "--rename", "cards")[0] == 0
    assert "none is chosen by [images]" in curation(*build)[2]
    assert curation("clusters", str(small), "--rename", "<b>blank</b> cards")[0] == 0
    assert curation(*build, "--what-if", f"cluster_names@{then}")[0] == 0
    assert "none is chosen by [images]" in curation(*build, "--what-if", f"cluster_names@{then + 1}")[2]
    assert read_version(lake.tables.datasets, "cards")["kept"].sum() == 3
    assert curation("clusters", str(large), "--rename", "odd")[0] == 0
    assert "is called 'odd'" in curation("clusters", str(small), "--unname")[2], "then two would have one name"
    assert curation("clusters", str(large), "--unname")[1] == f"cluster {large} is called maize rust\n"
    assert curation("clusters", str(small), "--unname")[1] == f"cluster {small} is called odd\n"
    assert len(lake.tables.cluster_names.latest().read(["name_id"])) == 6
    curation("forget", "odd/card2.jpg", "--yes")
    assert len(lake.tables.cluster_names.latest().read(["name_id"])) == 6
