"""``problems`` of labels and leaks, and where else label issues show: ``show``, conditions, pages, ``status``."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation, copied, pipeline_of
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.curate.labels.test_issues import COPY, ONE, THREE, TWO, predict


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """Three photographs and a copy of the first; and a lake of them."""
    home = tmp_path_factory.mktemp("doubted")
    for seed, path in enumerate((ONE, TWO, THREE)):
        (home / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (home / "images" / path).write_bytes(jpeg(seed))
    (home / "images" / COPY).parent.mkdir()
    (home / "images" / COPY).write_bytes(jpeg(0))
    run(pipeline_of(home, registered_model), LogProgress())
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return copied(ready, made)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions stay as the test wrote them: three photographs are too few to fit a classifier to."""
    monkeypatch.setattr(Pipeline, "has_labels", False)


def told(curation: Curation, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What a command prints as JSON."""
    found, text, error = curation(*arguments, "--json")
    assert found == code, error
    said: dict[str, Any] = json.loads(text)
    return said


def annotate(curation: Curation, tmp_path: Path, text: str, source: str = "anna") -> None:
    (tmp_path / "labels.csv").write_text(text)
    assert curation("annotate", str(tmp_path / "labels.csv"), "--from", "csv", "--source", source)[0] == 0


LABELS = f"path,class,split\n{ONE},rust,train\n{TWO},rust,train\n{THREE},miner,test\n{COPY},miner,test\n"


def test_a_run_says_nothing_of_labels_where_there_are_none(curation: Curation, lake: Pipeline) -> None:
    assert "label_issues" not in told(curation, "run")
    assert "label_issues_behind" not in told(curation, "status")
    facts = told(curation, "problems")
    assert facts["not_told"]["leak"].startswith("no split is known: `curation annotate` reads splits")
    assert "of leaks nothing is told: no split is known" in curation("problems", "leak")[1]
    assert told(curation, "problems", "leak")["not_told"].startswith("no split is known")


def test_splits_of_images_that_are_not_compared_yet_tell_no_leak(
    curation: Curation, lake: Pipeline, tmp_path: Path
) -> None:
    annotate(curation, tmp_path, LABELS)
    shutil.rmtree(lake.tables.groups.path)
    assert "of leaks nothing is told: no image is compared yet" in curation("problems")[1]


@pytest.mark.usefixtures("given")
def test_label_issues_are_problems(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    annotate(curation, tmp_path, LABELS)
    predict(lake, (TWO, "rust", "miner", 0.02), (THREE, "miner", "rust", 0.7))
    assert told(curation, "status")["label_issues_behind"] == 2
    for command in (("status",), ("problems",), ("problems", "mislabelled")):
        code, text, error = curation(*command)
        assert "2 label issues are not as they would be now; `curation curate`" in text + error
        assert told(curation, *command)["label_issues_behind"] == 2
    done = told(curation, "curate")["label_issues"]
    assert (done["rows"], done["kinds"]["conflicting"], done["kinds"]["mislabelled"]) == (4, 2, 2)
    code, text, _ = curation("curate")
    assert (code, "label issues 2 labels doubted, 1 below the threshold, 2 conflicting; 0 " in text) == (0, True)
    assert "label_issues_behind" not in told(curation, "status")

    facts = told(curation, "problems")
    kinds = {kind["kind"]: kind for kind in facts["kinds"]}
    assert "not_told" not in facts
    assert (kinds["conflicting"]["images"], kinds["conflicting"]["examples"]) == (2, [ONE, COPY])
    assert (kinds["mislabelled"]["images"], kinds["mislabelled"]["examples"]) == (1, [TWO])
    assert (kinds["leak"]["images"], kinds["leak"]["examples"]) == (1, [ONE])

    (wrong,) = told(curation, "problems", "mislabelled")["found"]
    assert (wrong["relative_path"], wrong["problems"]) == (TWO, "mislabelled")
    (issue,) = wrong["issues"]
    assert (issue["given"], issue["suggested"], issue["field"]) == ("rust", "miner", "class")
    assert issue["label_quality"] == pytest.approx(0.02)
    labels = {each["relative_path"]: each["label"] for each in wrong["beside"]}
    assert labels.items() <= {(ONE, "rust"), (THREE, "miner"), (COPY, "miner")}
    assert len(labels) == 2, "its neighbours, of copies one"
    assert len(told(curation, "problems", "mislabelled", "--threshold", "mislabelled=0.9")["found"]) == 2
    code, text, _ = curation("problems", "mislabelled")
    assert text.splitlines() == [
        f"0.020  {TWO}",
        "  class: rust → miner, quality 0.02",
    ]
    rows = list(csv.DictReader(io.StringIO(curation("problems", "conflicting", "--csv")[1].removeprefix("\ufeff"))))
    assert [(row["relative_path"], row["given"], row["problems"]) for row in rows] == [
        (ONE, "rust", "conflicting, leak"),
        (COPY, "miner", "conflicting"),
    ]
    (leak,) = told(curation, "problems", "leak")["found"]
    assert (leak["relative_path"], leak["split"], leak["score"]) == (ONE, "train", 1)
    assert [(each["relative_path"], each["split"], each["kind"]) for each in leak["nearest"]] == [
        (COPY, "test", "exact")
    ]
    assert f"  in train; exact {COPY} in test" in curation("problems", "leak")[1]
    assert told(curation, "problems", "conflicting", "--threshold", "conflicting=2")["total"] == 0

    found = told(curation, "search", "--problem", "conflicting", "--where", "label_issues LIKE '%miner%'")
    assert [image["relative_path"] for image in found["images"]] == [ONE]
    (shown,) = told(curation, "show", ONE)["label_issues"]
    assert (shown["kind"], shown["evidence"]) == ("conflicting", [COPY])
    assert f"label issue     conflicting (class): {COPY} is the same file, labelled miner" in curation("show", ONE)[1]
    assert told(curation, "show", ONE)["quality"]["problems"] == ["conflicting", "leak"]

    recipe = tmp_path / "leaves.toml"
    recipe.write_text(
        '[labels]\nfield = "class"\n[leave_out]\nexact = false\nmislabelled = "never"\nconflicting = "never"\n'
        "[gate]\nundecided_label_issues = 2\n"
    )
    gate = told(curation, "dataset", "build", str(recipe), "--dry-run", "--no-curate", code=1)["gate"]
    (verdict,) = [each for each in gate if each["name"] == "undecided_label_issues"]
    assert verdict["paths"] == sorted((ONE, COPY, TWO)), "what `problems` tells, and no more"


@pytest.mark.usefixtures("given")
def test_a_page_shows_labels_and_what_speaks_against_them(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    annotate(curation, tmp_path, LABELS)
    predict(lake, (TWO, "rust", "miner", 0.02))
    curation("curate")
    page = tmp_path / "page.html"
    assert curation("problems", "conflicting", "--html", str(page))[0] == 0
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 4
    assert f"class: rust: {COPY} is the same file, labelled miner" in text
    assert "↑ labelled miner" in text
    assert curation("problems", "mislabelled", "--html", str(page))[0] == 0
    assert "class: rust → miner" in page.read_text()
    assert "↑ labelled miner" in page.read_text(), "of its neighbours"
    assert curation("problems", "leak", "--html", str(page))[0] == 0
    assert "↑ exact, in test, 1.000" in page.read_text()


def test_boxes_at_fault_are_a_problem_with_its_reasons(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    boxes = f"path,class,x,y,width,height\n{TWO},rust,1,1,20,20\n{TWO},rust,1,1,20,20\n{TWO},,1,1,9,1\n"
    annotate(curation, tmp_path, boxes)
    curation("curate")
    (found,) = told(curation, "problems", "bad_box")["found"]
    assert (found["score"], [issue["kind"] for issue in found["issues"]]) == (
        3,
        ["box_doubled", "box_tiny", "box_unlabelled"],
    )
    assert "box 'rust' at 1, 1 of 20 × 20 is there twice" in curation("problems", "bad_box")[1]


@pytest.mark.usefixtures("given")
def test_what_a_person_said_is_not_asked_again(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    annotate(curation, tmp_path, LABELS)
    predict(lake, (TWO, "rust", "miner", 0.07), (THREE, "miner", "rust", 0.01))
    curation("curate")
    assert curation("decisions", "add", "relabel", ONE, "--field", "class", "--value", "rust")[0] == 0
    assert curation("decisions", "add", "unsure", TWO, "--field", "class")[0] == 0
    assert curation("decisions", "add", "keep", THREE)[0] == 0
    assert "label_issues_behind" not in told(curation, "status")
    counts = {kind["kind"]: (kind["images"], kind["kept"]) for kind in told(curation, "problems")["kinds"]}
    assert (counts["conflicting"], counts["mislabelled"]) == ((0, 0), (0, 1))
    assert [each["relative_path"] for each in told(curation, "problems", "mislabelled", "--decided")["found"]] == [
        THREE
    ]


@pytest.mark.usefixtures("given")
def test_label_issues_follow_a_source_that_is_taken_out_and_decisions(
    curation: Curation, lake: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(curation, "problems", "conflicting")["not_told"].startswith("nothing is annotated")
    assert "of labels and boxes nothing is told: nothing is annotated" in curation("problems", "bad_box")[1]
    annotate(curation, tmp_path, LABELS)
    assert told(curation, "problems", "conflicting")["total"] == 2
    assert "not_told" not in told(curation, "problems", "conflicting")
    assert curation("decisions", "add", "different", ONE, COPY)[0] == 2, "equal bytes"
    assert curation("decisions", "add", "unsure", COPY, "--field", "class")[0] == 0
    assert told(curation, "problems", "conflicting")["total"] == 0
    assert curation("decisions", "undo", "--last")[0] == 0
    assert told(curation, "problems", "conflicting")["total"] == 2
    monkeypatch.setattr("curation_assets.review.following._AT_ONCE", 3)
    assert curation("decisions", "add", "unsure", COPY, "--field", "class")[0] == 0
    assert told(curation, "problems", "conflicting")["label_issues_behind"] == 2
    _, text, error = curation("problems", "conflicting", "--csv")
    assert ("conflicting" in text, "2 label issues are not as they would be now" in error) == (True, True)
    assert told(curation, "annotate", "--remove", "anna", "--dry-run")["removed"] == 4
    assert "label_issues" not in told(curation, "annotate", "--remove", "anna", "--dry-run")
    assert told(curation, "problems", "conflicting")["total"] == 2
    assert told(curation, "annotate", "--remove", "anna")["label_issues"]["rows"] == 0
    facts = told(curation, "problems", "conflicting")
    assert (facts["total"], facts["not_told"].startswith("nothing is annotated")) == (0, True)
    assert "label_issues" not in told(curation, "show", ONE)


def test_label_issues_that_can_not_be_found_are_told_and_the_import_stays(
    curation: Curation, lake: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CurationError("the disk is full")

    monkeypatch.setattr(Pipeline, "find_label_issues", fail)
    (tmp_path / "labels.csv").write_text(LABELS)
    code, _, error = curation("annotate", str(tmp_path / "labels.csv"), "--from", "csv")
    assert (code, "label issues not brought in line: the disk is full" in error) == (0, True)
    assert lake.tables.annotations.latest().rows() == 4
    assert told(curation, "problems", "conflicting")["not_told"].startswith("label issues are not found yet")


def test_splits_that_tell_nothing_are_said_in_a_line(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    annotate(curation, tmp_path, f"path,class,split\n{ONE},rust,train\n{COPY},rust,train\n")
    assert "of leaks nothing is told: all 2 images with a split are in 'train'" in curation("problems")[1]
    annotate(curation, tmp_path, f"path,pest,split\n{ONE},yes,test\n", source="berta")
    code, text, _ = curation("problems")
    assert (code, f"of leaks nothing is told: the table of annotations: {ONE} is in the splits" in text) == (0, True)


@pytest.mark.usefixtures("given")
def test_labels_of_problems_are_one_line_and_reach_no_terminal_as_they_are(
    curation: Curation, lake: Pipeline, tmp_path: Path
) -> None:
    annotate(curation, tmp_path, f'path,class\n{ONE},"ru\nst"\n{TWO},"\x1b[31mred"\n{COPY},miner\n')
    predict(lake, (TWO, "\x1b[31mred", "mi\nner", 0.02))
    assert curation("curate")[0] == 0
    wrong = curation("problems", "mislabelled")[1].splitlines()
    assert wrong == [f"0.020  {TWO}", r"  class: \x1b[31mred → mi\nner, quality 0.02"]
    text = curation("problems", "conflicting")[1]
    assert r"class: ru\nst" in text
    assert "\x1b" not in curation("problems", "--help")[1] + text + curation("problems")[1]
    assert len(text.splitlines()) == 4
