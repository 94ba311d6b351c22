"""What speaks for a problem that no score of the picture tells: looked at, decided and measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from curation_assets.annotations.sources import make_source
from curation_assets.decisions.record import read_rows
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import HOSTILE_LABEL, NEAR, THIS_MACHINE, client_of, copy_of, decide

BOXED = "rice/photo_003.jpg"


@pytest.fixture
def at_fault(published: Pipeline, tmp_path: Path) -> Pipeline:
    """A lake with a leak, and a box that is two pixels wide."""
    own = copy_of(published, tmp_path / "own")
    boxes = {
        "images": [{"id": 1, "file_name": BOXED, "width": 96, "height": 72}],
        "categories": [{"id": 1, "name": HOSTILE_LABEL}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [60, 40, 2, 20]}],
    }
    coco = tmp_path / "faults.json"
    coco.write_text(json.dumps(boxes))
    own.annotate(make_source(source="faults", format="coco", path=coco), LogProgress())
    own.find_label_issues(LogProgress())
    return own


def test_what_speaks_for_a_problem_is_told_of_each_image(at_fault: Pipeline) -> None:
    with client_of(at_fault) as client:

        def evidence(kind: str, key: str) -> dict[str, Any]:
            found: dict[str, Any] = client.get(f"/api/problems/{kind}/evidence", params={"key": key}).json()
            return found

        box = evidence("bad_box", BOXED)
        assert box["boxes"] == [{"label": HOSTILE_LABEL, "x": 60, "y": 40, "width": 2, "height": 20}]
        assert "is tiny" in box["said"]
        leak = evidence("leak", NEAR[1])
        (other,) = leak["beside"]
        assert (other["relative_path"], other["image"]["relative_path"]) == (NEAR[0], NEAR[0])
        assert other["told"].startswith("near, in test, 0.")
        assert leak["boxes"] == []
        nothing = {"said": "", "boxes": [], "beside": []}
        assert evidence("blurry", BOXED) == evidence("leak", BOXED) == evidence("bad_box", NEAR[0]) == nothing
        missing = client.get("/api/problems/leak/evidence", params={"key": "no/such.jpg"})
        assert missing.status_code == 404
        assert client.get("/api/problems/leek/evidence", params={"key": BOXED}).status_code == 400


def test_an_outlier_has_its_neighbours_beside_it(client: TestClient) -> None:
    asked = {"key": "rice/photo_010.jpg"}
    first, second = client.get("/api/problems/outlier/evidence", params=asked).json()["beside"][:2]
    assert (first["told"][:23], second["told"][:23]) == ("its neighbour 1, cosine", "its neighbour 2, cosine")
    assert len({asked["key"], first["image"]["relative_path"], second["image"]["relative_path"]}) == 3


def test_of_a_leak_only_what_was_said_of_the_sample_measures_it(at_fault: Pipeline) -> None:
    with client_of(at_fault, client=THIS_MACHINE) as client:

        def said(number: int, kind: str, by: str, **shown: str) -> list[int]:
            answer = {"token": f"{number:016x}", "kind": kind, "field": "quality", "key": NEAR[1]}
            assert decide(client, answer | {"shown": {"problem": "leak"} | shown}, by=by).status_code == 200
            (sample,) = client.get("/api/samples", params={"kind": "leak"}).json()["samples"]
            (band,) = sample["bands"]
            return [band[name] for name in ("right", "wrong", "unsure")] + [sample["judged_by_several"]]

        made = client.post("/api/samples", json={"kind": "leak", "by": "Ann"}).json()
        assert [(band["images"], band["drawn"]) for band in made["bands"]] == [(1, 1)]
        assert said(1, "keep", "ann") == [0, 0, 0, 0]
        asked = {"kind": "leak", "sample": made["sample"]}
        (left,) = client.get("/api/samples", params=asked).json()["images"]
        assert left["image"]["relative_path"] == NEAR[1]
        assert said(2, "remove", "ann", sample=made["sample"]) == [1, 0, 0, 0]
        assert said(3, "keep", "ben", sample=made["sample"]) == [0, 1, 0, 1]
        assert client.get("/api/samples", params=asked).json()["images"] == []


def test_evidence_lies_beside_what_is_decided_one_by_one(
    visit: Open, at_fault: Pipeline, serve: Callable[..., str]
) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    at = serve(at_fault)
    page = visit(at=at).go("/problems?kind=bad_box")
    page.evaluate("localStorage.setItem('curation name', '\"Ann\"')")
    page.locator("#begin").click()
    expect(page.locator("#review")).to_contain_text("is tiny")
    picture, box = page.locator("#review .large img"), page.locator("#review svg rect")
    frame, drawn = picture.bounding_box(), box.bounding_box()
    assert frame is not None
    assert drawn is not None
    assert drawn["x"] - frame["x"] == pytest.approx(frame["width"] * 60 / 96, abs=3)
    assert drawn["y"] - frame["y"] == pytest.approx(frame["height"] * 40 / 72, abs=3)
    expect(page.locator("#review svg text")).to_have_text(HOSTILE_LABEL)
    page.goto(f"{at}/problems?kind=leak")
    page.get_by_text("Measure how far the rest can be trusted").click()
    page.get_by_role("button", name="Draw a sample").click()
    page.get_by_role("button", name="Look at 1 of the sample").click()
    expect(page.locator("#review .strip .tile")).to_have_count(1)
    expect(page.locator("#review figcaption")).to_contain_text(NEAR[1])
    expect(page.locator("#review figcaption")).not_to_contain_text("pairs")  # who measures isn't told the score
    expect(page.locator("#review .strip a")).to_have_attribute("title", NEAR[0])
    page.set_viewport_size({"width": 380, "height": 800})
    assert fits(page)
    page.keyboard.press("r")
    expect(page.locator("#review")).to_contain_text("Nothing is left to decide here.")
    expect(page.locator("#saved")).to_have_text("All saved")
    (shown,) = read_rows(at_fault.tables.decisions).filter(decided_by="Ann")["shown"].tail(1)
    assert json.loads(shown)["problem"] == "leak"
    assert len(json.loads(shown)["sample"]) == 32
    page.keyboard.press("Escape")
    expect(page.locator("#samples")).to_contain_text("of 1 images at", ignore_case=True)
    page.evaluate("localStorage.setItem('curation name', '\"Ben\"')")
    page.reload()
    page.get_by_text("Measure how far the rest can be trusted").click()
    page.get_by_role("button", name="Judge all of it as another person").click()
    expect(page.locator("#review .strip .tile")).to_have_count(1)
    page.keyboard.press("k")
    expect(page.locator("#review")).to_contain_text("Nothing is left to decide here.")
    page.keyboard.press("Escape")
    expect(page.locator("#samples")).to_contain_text("1 image was judged by several people, who said the same in 0 %")
