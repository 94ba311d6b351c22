"""``curation classify``, and what ``run``, ``curate``, ``show`` and conditions say of predictions."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from curation_assets.demo.render import render
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation, copied, pipeline_of
from curation_assets_tests.commands.test_clusters import write

KINDS = {"rust": "maize_rust", "tomato": "tomato", "apple": "apple"}
WRONG = "apple/00.jpg"  # said to be a tomato


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """Twelve drawings each of three kinds, in a folder each, and four in one of no kind; and a lake of them."""
    home = tmp_path_factory.mktemp("drawings")
    root = home / "images"
    root.mkdir()
    for kind, what in KINDS.items():
        for number in range(12):
            write(root / kind / f"{number:02}.jpg", render(what, random.Random(f"{kind}{number}"), (128, 96)))
    for number in range(4):
        write(root / "unsorted" / f"{number}.jpg", render("maize_rust", random.Random(f"u{number}"), (128, 96)))
    run(pipeline_of(home, registered_model), LogProgress(), curate=False)
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return copied(ready, made)


def annotate(curation: Curation, tmp_path: Path, wrong: str | None = WRONG, kinds: tuple[str, ...] = (*KINDS,)) -> None:
    lines = [f"{kind}/{at:02}.jpg,{kind}" for kind in kinds for at in range(12) if f"{kind}/{at:02}.jpg" != wrong]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["path,class", *lines, *([f"{wrong},tomato"] if wrong else [])]))
    code, text, error = curation("annotate", str(file), "--from", "csv")
    assert code == 0, text + error


def test_predictions_are_made_and_reported(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    annotate(curation, tmp_path)
    page = tmp_path / "page.html"
    code, text, said = curation("classify", "--json", "--html", str(page))
    assert code == 0, said
    told = json.loads(text)
    assert set(told) == {"fields", "changed", "seconds", "label_issues"}
    (field,) = told["fields"]
    assert set(field) == {
        "field", "images", "labelled", "accuracy", "balanced_accuracy", "calibration_error", "classes", "confusions",
        "predicted", "not_judged", "likely_wrong", "done",
    }  # fmt: skip
    assert (field["field"], field["images"], field["labelled"], told["changed"]) == ("class", 40, 36, 40)
    assert field["predicted"] == {"rust": 4}
    assert field["not_judged"] == {"without_label": 4, "nothing": 0, "several_labels": 0, "class_left_out": 0}
    assert field["accuracy"] > 0.9
    assert (field["done"]["fitted"], field["done"]["predicted"]) == (36, 4)
    assert [each["name"] for each in field["classes"]] == ["apple", "rust", "tomato"]
    assert {"label": "tomato", "predicted": "apple", "images": 1} in field["confusions"]
    html = page.read_text()
    assert "tomato taken for apple" in html
    assert 'href="#section-2"' in html
    assert "data:image/jpeg;base64," in html
    code, text, _ = curation("classify")
    assert "0 contents predicted" in text
    assert "1  tomato taken for apple" in text
    assert f"{WRONG}  tomato, rather apple" in text


def test_a_report_computes_nothing(
    lake: Pipeline, curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert curation("classify", "--report")[0::2] == (2, curation("classify", "--report")[2])
    assert "nothing is predicted yet" in curation("classify", "--report")[2]
    annotate(curation, tmp_path)
    curation("classify")
    monkeypatch.setattr(Pipeline, "classify", None)
    code, text, said = curation("classify", "--report")
    assert (code, said) == (0, "")
    assert "class: 36 images with a label, 3 classes; 4 without a label are predicted" in text
    annotate(curation, tmp_path, wrong=None)
    assert "changed since" in curation("classify", "--report")[2]


def test_what_can_not_be_fitted_is_one_line(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    assert "no image has a label" in curation("classify")[2]
    annotate(curation, tmp_path, wrong=None, kinds=("rust",))
    code, text, said = curation("classify")
    assert (code, text) == (2, "")
    assert said.count("\n") == 1
    assert "class: only one class has 5 labelled images" in said
    assert "no image has an annotation of 'pest'; there are class" in curation("classify", "--field", "pest")[2]
    assert "is a folder" in curation("classify", "--html", str(tmp_path))[2]
    code, text, _ = curation("curate")
    assert code == 0
    assert "labels not classified: class: only one class" in text
    assert not lake.tables.predictions.exists()


def test_labels_that_are_likely_wrong_are_problems_at_once(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    lake.measure_all(LogProgress())
    annotate(curation, tmp_path)
    told = json.loads(curation("problems", "mislabelled", "--json")[1])
    assert (told["total"], told["not_told"].startswith("no classifier has judged a label; `curation cl")) == (0, True)
    assert "of mislabelled images nothing is told: no classifier" in curation("problems", "mislabelled")[1]
    assert "of mislabelled images nothing is told: no classifier" in curation("problems")[1]
    assert "label issues 2 labels doubted, 1 below the threshold; 2 rows changed" in curation("classify")[1]
    _, text, said = curation("problems", "mislabelled")
    assert len(text.splitlines()) == 2
    assert (text.splitlines()[0].split()[1], said) == (WRONG, "")
    told = json.loads(curation("problems", "--json")[1])
    assert "mislabelled" not in told["not_told"]
    assert not {"label_issues_behind", "predictions_behind"} & set(told)
    annotate(curation, tmp_path, wrong=None)
    told = json.loads(curation("problems", "mislabelled", "--json")[1])
    assert (told["total"], told["predictions_behind"]) == (0, True)
    assert "changed since labels were judged; `curation classify`" in curation("problems", "mislabelled")[2]
    assert "changed since labels were judged" not in curation("problems", "conflicting")[2]
    assert "changed since labels were judged; `curation classify`" in curation("problems")[2]


def test_a_label_that_a_person_answered_for_is_not_likely_wrong(
    lake: Pipeline, curation: Curation, tmp_path: Path
) -> None:
    annotate(curation, tmp_path)
    curation("classify")
    page = tmp_path / "page.html"
    field = ("--field", "class")
    for word, *more in (("keep",), ("unsure", *field), ("relabel", *field, "--value", "tomato")):
        assert curation("decisions", "add", word, WRONG, *more)[0] == 0
        for arguments in (("--report",), ()):
            (told,) = json.loads(curation("classify", "--json", *arguments)[1])["fields"]
            assert (told["likely_wrong"], told["labelled"]) == (0, 36), word
        assert curation("decisions", "undo", "--last")[0] == 0
        assert json.loads(curation("classify", "--json")[1])["fields"][0]["likely_wrong"] == 1
    assert curation("decisions", "add", "keep", WRONG)[0] == 0
    assert "likely wrong" not in curation("classify", "--html", str(page))[1]
    assert "likely wrong" not in page.read_text()
    assert json.loads(curation("curate", "--json")[1])["label_issues"]["likely_wrong"] == 0


def test_images_that_are_predicted_only_are_counted_by_why(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    lines = [f"{kind}/{at:02}.jpg,{kind}" for kind in ("rust", "tomato") for at in range(12)]
    lines += [f"apple/{at:02}.jpg,apple{';rust' if at < 7 else ''}" for at in range(11)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,class", *lines]))
    assert curation("annotate", str(tmp_path / "labels.csv"), "--from", "csv", "--separator", ";")[0] == 0
    (field,) = json.loads(curation("classify", "--json")[1])["fields"]
    assert field["not_judged"] == {"without_label": 5, "nothing": 0, "several_labels": 7, "class_left_out": 4}
    assert sum(field["predicted"].values()) == 16
    said = "; 16 others are predicted: 5 without a label, 7 with several labels, 4 of a class that is left out"
    assert said in curation("classify", "--report")[1]


def test_a_report_of_no_field_any_more_says_why(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    annotate(curation, tmp_path)
    curation("classify")
    lines = [f"{kind}/{at:02}.jpg,{kind}{';apple' * (kind == 'tomato')}" for kind in KINDS for at in range(12)]
    lines = [line for line in lines if not line.startswith("apple")]
    (tmp_path / "labels.csv").write_text("\n".join(["path,class", *lines]))
    curation("annotate", str(tmp_path / "labels.csv"), "--from", "csv", "--separator", ";")
    why = (
        "class: only one class has 5 labelled images of more than one scene, and two are needed; 12 images are left out"
    )
    assert why in curation("classify")[2]
    for field in ((), ("--field", "class")):
        code, text, said = curation("classify", "--report", *field)
        assert (code, text, said.count("\n")) == (2, "", 1)
        assert f"no field is classified any more: {why} for having several labels" in said


def test_an_index_that_is_gone_is_made_anew(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    annotate(curation, tmp_path)
    curation("curate")
    shutil.rmtree(lake.settings.index_dir)
    told = json.loads(curation("curate", "--json")[1])
    assert (told["index"]["rebuilt"], told["index"]["vectors"]) == (True, lake.tables.embeddings.latest().rows())
    assert (told["scores"]["images"], told["label_issues"]["likely_wrong"]) == (40, 1)
    shutil.rmtree(lake.settings.index_dir)
    assert "vectors (exact), 4" in curation("curate")[1]
    shutil.rmtree(lake.settings.index_dir)
    assert "40 predictions of 1 field" in curation("classify")[1]


def test_without_vectors_the_rest_is_done(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    annotate(curation, tmp_path)
    shutil.rmtree(lake.tables.embeddings.path)
    shutil.rmtree(lake.settings.index_dir)
    told = json.loads(curation("curate", "--json")[1])
    assert (told["scores"], "index" in told, "index_error" in told) == (None, False, False)
    assert "nothing is embedded and indexed yet" in curation("classify")[2]


def test_run_and_curate_follow_the_annotations(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    assert "predictions" not in json.loads(curation("curate", "--json")[1])
    annotate(curation, tmp_path)
    told = json.loads(curation("curate", "--json")[1])["predictions"]
    assert [(one["field"], one["fitted"]) for one in told["fields"]] == [("class", 36)]
    told = json.loads(curation("run", "--json")[1])["predictions"]
    assert (told["changed"], told["fields"][0]["fitted"]) == (0, 0)
    assert "40 predictions of 1 field" in curation("curate")[1]


def test_conditions_and_show_know_the_prediction(lake: Pipeline, curation: Curation, tmp_path: Path) -> None:
    where = "predicted_class = 'rust' AND label_class IS NULL AND confidence_class > 0.5"
    assert json.loads(curation("search", "--where", where, "--json")[1])["images"] == []
    annotate(curation, tmp_path)
    curation("classify")
    hits = json.loads(curation("search", "--where", where, "--json")[1])["images"]
    assert [hit["relative_path"] for hit in hits] == [f"unsorted/{number}.jpg" for number in range(4)]
    (told,) = json.loads(curation("show", WRONG, "--json")[1])["predictions"]
    assert set(told) == {"field", "predicted", "confidence", "label", "label_quality", "suggested"}
    assert (told["predicted"], told["label"], told["suggested"]) == ("apple", "tomato", "apple")
    assert "class: apple, confidence" in curation("show", WRONG)[1]
    assert "label tomato, quality 0.0" in curation("show", WRONG)[1]
    assert "class: rust, confidence" in curation("show", "unsorted/0.jpg")[1]
