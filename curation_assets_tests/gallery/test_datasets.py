"""Datasets and what leaks between their sides: over HTTP, and looked at in a browser."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import polars as pl
import pytest
from starlette.testclient import TestClient

from curation_assets.annotations.sources import make_source
from curation_assets.datasets import comparing
from curation_assets.datasets.versions import read_version, withdraw
from curation_assets.export.protocol import Options
from curation_assets.gallery import leakage as gallery_leakage
from curation_assets.gallery.datasets import options_of
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import BURST, HOSTILE, NEAR, client_of, copy_of, serving
from curation_assets_tests.gallery.published import CHANGED, COPIES, GONE, MERGED, SIDES

ODD = "/api/datasets/odd/versions/1"
LEAVES = "/api/datasets/leaves/versions"


@pytest.fixture(scope="module")
def client(published: Pipeline) -> Iterator[TestClient]:
    with client_of(published) as made:
        yield made


def got(client: TestClient, path: str, **asked: Any) -> Any:
    answer = client.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient, path: str, **asked: Any) -> tuple[int, str]:
    answer = client.get(path, params=asked)
    assert list(answer.json()) == ["error"]
    return answer.status_code, answer.json()["error"]


def test_every_recipe_and_dataset_is_listed_broken_and_gone_ones_too(client: TestClient, published: Pipeline) -> None:
    answer = got(client, "/api/datasets")
    by_name = {one["name"]: one for one in answer["datasets"]}
    assert list(by_name) == ["broken", "fresh", "leaves", "odd"]
    assert by_name["broken"]["fault"] == "broken.toml:2: leave_out.blury: there is no such key; did you mean blurry?"
    assert (by_name["fresh"]["latest"], by_name["fresh"]["fault"]) == (None, None)
    leaves, odd = by_name["leaves"], by_name["odd"]
    assert (leaves["versions"], leaves["latest"]["version"], leaves["latest"]["gate"]) == (2, 2, "holds")
    kept = read_version(published.tables.datasets, "leaves", 2)["kept"]
    assert (leaves["latest"]["images"], leaves["latest"]["left_out"]) == (kept.sum(), (~kept).sum())
    assert leaves["description"] == "Leaves <b>of coffee</b>"
    assert (odd["has_recipe"], odd["description"], odd["latest"]["gate"]) == (False, "odd <i>ones</i>", "let pass")


def test_a_recipe_is_told_with_its_versions_and_what_changed_since(client: TestClient) -> None:
    leaves = got(client, "/api/datasets/leaves")
    assert [(one["version"], one["withdrawn"]) for one in leaves["versions"]] == [
        (3, f"{MERGED} is no class"), (2, None), (1, None),
    ]  # fmt: skip
    assert leaves["changed"] == ["labels.drop", "labels.merge"]
    assert leaves["recipe"].startswith('name = "leaves"')
    assert leaves["file"].endswith("/leaves.toml")
    odd = got(client, "/api/datasets/odd")
    assert (odd["recipe"], odd["file"], odd["changed"]) == (None, None, [])
    assert got(client, "/api/datasets/broken")["dataset"]["fault"]
    for name in ("nothing", "..", "%2e%2e%2fleaves", "<b>x</b>"):
        status, error = refused(client, f"/api/datasets/{quote(name)}")
        assert status == 404, error


def test_a_version_tells_classes_by_side_reasons_gate_and_origin(client: TestClient, published: Pipeline) -> None:
    found = got(client, f"{LEAVES}/2")
    rows = read_version(published.tables.datasets, "leaves", 2)
    kept = rows.filter("kept")
    assert found["sides"] == ["train", "val", "test"]
    assert [one["label"] for one in found["classes"]] == [MERGED, "healthy"]
    for one in found["classes"]:
        mine = kept.filter(pl.col("label") == one["label"])
        assert one["images"] == [len(mine.filter(pl.col("split") == side)) for side in found["sides"]]
        assert one["total"] == len(mine)
    assert found["totals"] == [len(kept.filter(pl.col("split") == side)) for side in found["sides"]]
    assert found["left_out"] == [{"reason": reason, "images": 1, "witnesses": 1} for reason in ("burst", "near")]
    assert {one["name"]: one["passed"] for one in found["gate"]} == {
        "images": True, "leaks": True, "copies": True, "images_per_class": True,
    }  # fmt: skip
    assert found["leaks"] == 0
    facts = {one["name"]: one["text"] for one in found["facts"]}
    assert facts["Goes on from"] == "version 1"
    assert "annotations at version" in facts["Tables"]
    odd = got(client, ODD)
    assert odd["gate"] == [
        {"name": "leaks", "passed": False, "told": "2 pairs across sides, at most 0", "let_pass": "a <b>try</b>"}
    ]
    assert refused(client, f"{LEAVES}/3") == (404, f"leaves@3 was withdrawn: {MERGED} is no class")
    assert refused(client, f"{LEAVES}/9") == (404, "leaves has no version 9; it has 1, 2")
    assert refused(client, f"{LEAVES}/0")[0] == refused(client, f"{LEAVES}/latest")[0] == 400
    assert refused(client, f"{LEAVES}/99999999999999999999")[0] == 400
    assert refused(client, "/api/datasets/fresh/versions/1")[0] == 404


def test_images_of_a_version_are_told_by_side_and_class_and_left_out_ones_beside_their_witness(
    client: TestClient, published: Pipeline
) -> None:
    kept = read_version(published.tables.datasets, "leaves", 2).filter("kept")
    wanted = kept.filter((pl.col("split") == "val") & (pl.col("label") == MERGED))["relative_path"].to_list()
    found = got(client, f"{LEAVES}/2/images", side="val", **{"class": MERGED}, k=3)
    assert (found["total"], [one["relative_path"] for one in found["images"]]) == (len(wanted), wanted[:3])
    assert found["images"][0]["image"]["thumbnail"]
    rest = got(client, f"{LEAVES}/2/images", side="val", **{"class": MERGED}, offset=3)
    assert [one["relative_path"] for one in rest["images"]] == wanted[3:]
    (near,) = got(client, f"{LEAVES}/2/images", reason="near")["images"]
    assert {near["relative_path"], near["witness"]["relative_path"]} == set(NEAR)
    assert near["witness"]["image"]["page"]
    assert (near["how"], near["method"]) == ("mirrored", "hash")
    assert 0.8 < near["similarity"] <= 1
    (burst,) = got(client, f"{LEAVES}/2/images", reason="burst")["images"]
    assert {burst["relative_path"], burst["witness"]["relative_path"]} == set(BURST)
    assert got(client, f"{LEAVES}/2/images", unlabelled=True)["total"] == 0
    assert got(client, f"{LEAVES}/2/images", reason="<b>none</b>")["images"] == []
    assert refused(client, f"{LEAVES}/2/images", sides="val")[0] == 400


def test_an_image_that_is_gone_or_another_by_now_has_a_name_and_no_picture(client: TestClient) -> None:
    found = got(client, f"{ODD}/images")
    by_path = {one["relative_path"]: one for one in found["images"]}
    assert set(HOSTILE) < set(by_path)
    assert all(by_path[path]["image"]["relative_path"] == path for path in (*HOSTILE, *NEAR, *COPIES))
    assert (by_path[GONE]["image"], by_path[GONE]["why"], by_path[GONE]["name"]) == (
        None, "not in the lake any more", "<b>gone<b>.jpg",
    )  # fmt: skip
    assert (by_path[CHANGED]["image"], by_path[CHANGED]["why"]) == (None, "another picture by now")
    (left,) = got(client, f"{ODD}/images", reason="near")["images"]
    assert left["image"] is not None
    assert (left["witness"]["relative_path"], left["witness"]["image"]) == (CHANGED, None)


def test_two_versions_differ_as_the_command_tells_it(client: TestClient, published: Pipeline) -> None:
    expected = published.dataset_changes(("leaves", 1), ("leaves", 2))
    found = got(client, f"{LEAVES}/2/diff", other=1, k=500)
    assert [
        (one["relative_path"], one["change"], one["before"], one["after"], one["reason"]) for one in found["images"]
    ] == (expected.select("relative_path", "change", "before", "after", "why").rows())
    counts = {(one["change"], one["by"]): one["images"] for one in found["counts"]}
    assert counts[comparing.WENT, "recipe leave_out.burst"] == 1
    assert sum(counts.values()) == found["total"] == len(expected)
    went = got(client, f"{LEAVES}/2/diff", other=1, change="went", by="recipe leave_out.burst")
    assert [one["relative_path"] in BURST for one in went["images"]] == [True]
    back = got(client, f"{LEAVES}/1/diff", other=2, change="came")
    assert [one["relative_path"] for one in back["images"]] == [one["relative_path"] for one in went["images"]]
    page = got(client, f"{LEAVES}/2/diff", other=1, change="relabelled", k=2, offset=1)
    assert (len(page["images"]), {one["after"] for one in page["images"]}) == (2, {MERGED})
    assert got(client, f"{LEAVES}/2/diff", other=2)["total"] == 0
    assert refused(client, f"{LEAVES}/2/diff", other=3)[0] == 404
    assert refused(client, f"{LEAVES}/2/diff")[0] == 400
    assert refused(client, f"{LEAVES}/2/diff", other=1, change="lost")[0] == 400


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("csv", lambda data: pl.read_csv(StringIO(data.decode()))),
        ("jsonl", lambda data: pl.read_ndjson(BytesIO(data))),
        ("parquet", lambda data: pl.read_parquet(BytesIO(data))),
    ],
)
def test_a_version_is_taken_along_as_the_command_writes_it(
    client: TestClient, published: Pipeline, tmp_path: Path, form: str, read: Callable[[bytes], pl.DataFrame]
) -> None:
    answer = client.get(f"{LEAVES}/2/list", params={"format": form})
    assert (answer.status_code, answer.headers["content-disposition"].split(";")[1]) == (
        200, f' filename="leaves-2.{form}"',
    )  # fmt: skip
    kept = read_version(published.tables.datasets, "leaves", 2).filter("kept")
    assert read(answer.content)["relative_path"].to_list() == kept["relative_path"].to_list()
    published.export_dataset("leaves", 2, form, tmp_path / f"out.{form}", Options(), LogProgress())
    assert answer.content == (tmp_path / f"out.{form}").read_bytes()


def test_a_list_is_called_as_asked_and_never_otherwise_than_a_file(client: TestClient) -> None:
    for called, name in (
        ("mine", "mine.csv"), ("mine.csv", "mine.csv"), ("../a/b\\c\"\r\nX: y", ".._a_b_c___X: y.csv"), ("ä", "_.csv"),
    ):  # fmt: skip
        answer = client.get(f"{ODD}/list", params={"called": called})
        assert answer.headers["content-disposition"].startswith(f'attachment; filename="{name}"; filename*=')
    assert refused(client, f"{ODD}/list", format="folders")[0] == 400
    assert refused(client, f"{LEAVES}/3/list")[0] == 404
    elsewhere = client.get(f"{ODD}/list", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})
    assert elsewhere.status_code == 403


def test_commands_are_told_what_the_environment_does_not_say(
    published: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = published.settings.model_copy(update={"recipes": Path("/a b/it's")})
    lake, images = settings.lake_root, settings.images_root
    assert options_of(settings) == f"--lake {lake} --images {images} --recipes '/a b/it'\"'\"'s'"
    monkeypatch.setenv("CURATION_LAKE_ROOT", str(lake))
    monkeypatch.setenv("CURATION_IMAGES_ROOT", str(images))
    assert options_of(settings.model_copy(update={"recipes": load_settings().recipes})) == ""


def test_leaks_of_a_version_are_counted_and_shown_in_pairs(client: TestClient, published: Pipeline) -> None:
    found = got(client, "/api/leakage", dataset="odd")
    assert (found["dataset"], found["version"], found["why_not"], found["pairs"]) == ("odd", 1, None, 2)
    kept, test = SIDES
    assert found["counts"] == [
        {"kind": "exact", "one": test, "other": kept, "pairs": 1},
        {"kind": "near", "one": test, "other": kept, "pairs": 1},
    ]
    assert {one["name"]: one["give_way"] for one in found["splits"]} == {test: 0, kept: 2}
    pairs = {one["relative_path"]: one["beside"][0] for one in found["images"]}
    assert set(pairs) == {NEAR[0], COPIES[0]}
    near, exact = pairs[NEAR[0]], pairs[COPIES[0]]
    assert (near["relative_path"], near["split"], near["kind"], near["how"], near["method"]) == (
        NEAR[1], test, "near", "mirrored", "hash",
    )  # fmt: skip
    assert (exact["relative_path"], exact["how"], exact["method"]) == (COPIES[1], "the same bytes", "bytes")
    only = got(client, "/api/leakage", dataset="odd", version=1, kind="near", one=test, other=kept)
    assert (only["total"], [one["relative_path"] for one in only["images"]]) == (1, [NEAR[0]])
    assert got(client, "/api/leakage", dataset="odd", kind="burst")["total"] == 0
    assert got(client, "/api/leakage", dataset="odd", one="no", other=kept)["total"] == 0
    second = got(client, "/api/leakage", dataset="odd", k=1, offset=1)
    assert (second["total"], len(second["images"])) == (2, 1)
    clean = got(client, "/api/leakage", dataset="leaves")
    assert (clean["pairs"], clean["built"], clean["version"], clean["images"]) == (0, 0, 2, [])
    assert {(one["dataset"], one["version"]) for one in clean["versions"]} == {("odd", 1), ("leaves", 1), ("leaves", 2)}
    for asked, status in (({"dataset": "no"}, 404), ({"dataset": "leaves", "version": 3}, 404), ({"version": 1}, 400)):
        assert refused(client, "/api/leakage", **asked)[0] == status
    assert refused(client, "/api/leakage", kind="nearly")[0] == 400


def test_leaks_of_annotations_are_told_or_why_not(
    client: TestClient, lake: Pipeline, ready: Pipeline, published: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = got(client, "/api/leakage")
    assert found["counts"] == [{"kind": "near", "one": "test", "other": "train", "pairs": 1}]
    assert [(one["relative_path"], one["beside"][0]["relative_path"]) for one in found["images"]] == [NEAR[::-1]]
    assert found["images"][0]["label"] == "healthy"
    assert found["without_split"] > 100
    assert got(client, "/api/leakage", one="test", other="train")["total"] == 1
    assert got(client, "/api/leakage", one="train", other="train")["total"] == 0
    with client_of(lake) as other:
        one_split = got(other, "/api/leakage")
    assert "with a split are in 'test'" in one_split["why_not"]
    assert (one_split["pairs"], one_split["counts"], one_split["images"]) == (0, [], [])
    with client_of(ready) as empty:
        assert "no split is known" in got(empty, "/api/leakage")["why_not"]
        none = got(empty, "/api/datasets")
        assert none["datasets"] == []
        assert none["recipes"]
    monkeypatch.setattr(gallery_leakage, "waiting", lambda *_: 3)
    with client_of(published) as behind:
        assert got(behind, "/api/leakage")["waiting"] == 3
    assert got(client, "/api/leakage", dataset="odd")["pairs"] == 2
    # What was found is held: nothing is looked for again.
    monkeypatch.setattr(gallery_leakage, "leakage_so_far", lambda *_: 1 / 0)
    monkeypatch.setattr(gallery_leakage, "split_images", lambda *_: 1 / 0)
    assert got(client, "/api/leakage") == found
    assert got(client, "/api/leakage", dataset="odd")["pairs"] == 2


def test_an_open_page_of_leaks_says_anew_why_nothing_is_told(ready: Pipeline, fill: Callable[..., list[Path]]) -> None:
    fill("maize", 1)
    ready.scan(["maize"], LogProgress())
    with client_of(ready) as client:
        assert got(client, "/api/leakage")["why_not"].startswith("no split is known")
        ready.annotate(make_source(format="folders", pattern="{class}/*", split="test"), LogProgress())
        assert got(client, "/api/leakage")["why_not"].startswith("no image is compared yet")


def test_a_version_that_is_taken_back_meanwhile_is_told_of_no_more(published: Pipeline, tmp_path: Path) -> None:
    own = copy_of(published, tmp_path / "own")
    with client_of(own) as client:
        assert got(client, f"{ODD}/images")["total"] > 0
        withdraw(own.tables.datasets, "odd", 1, "gone", LogProgress())
        assert refused(client, f"{ODD}/images") == (404, "odd@1 was withdrawn: gone")
        listed = {one["name"]: one for one in got(client, "/api/datasets")["datasets"]}
        assert (listed["odd"]["versions"], listed["odd"]["latest"]) == (0, None)
        assert refused(client, "/api/leakage", dataset="odd")[0] == 404


def test_pages_hold_what_was_asked_as_text(client: TestClient) -> None:
    page = client.get("/datasets", params={"name": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in page
    assert client.get("/leakage").status_code == client.get("/datasets").status_code == 200


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def place(published: Pipeline) -> Iterator[str]:
    with serving(published) as found:
        yield found


def test_a_dataset_is_looked_through_by_keyboard_alone(visit: Open, place: str) -> None:
    from playwright.sync_api import expect

    window = visit(at=place)
    page = window.go("/datasets")
    expect(page.locator(".kind")).to_have_count(4)
    expect(page.locator("#datasets")).to_contain_text("did you mean blurry?")
    page.locator(".kind a", has_text="leaves").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#classes")).to_contain_text(MERGED)
    expect(page.locator("#fault")).to_contain_text("labels.drop, labels.merge")
    expect(page.locator("#recipe")).to_contain_text('name = "leaves"')
    page.locator("#left-out a", has_text="near").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#list .group .tile")).to_have_count(2)
    expect(page.locator("#list")).to_contain_text("mirrored")
    expect(page.locator("#shown-title")).to_be_focused()
    assert window.asked == {"name": ["leaves"], "reason": ["near"]}
    page.reload()
    expect(page.locator("#list .group .tile")).to_have_count(2)
    page.go_back()
    expect(page.locator("#count")).to_contain_text("images kept")
    assert page.locator("#list > .tile").count() > 20
    page.get_by_label("Compared with").select_option("1")
    expect(page.locator("#changes")).to_contain_text("recipe leave_out.burst")
    page.locator("#changes a", has_text="burst").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#list .tile")).to_have_count(1)
    assert window.asked == {
        "name": ["leaves"], "compare": ["1"], "change": ["went"], "by": ["recipe leave_out.burst"],
    }  # fmt: skip
    page.go_back()
    expect(page.locator("#count")).to_contain_text("with another label")
    page.locator("#version").select_option("3")
    expect(page.locator("#notices")).to_contain_text(f"leaves@3 was withdrawn: {MERGED}")
    expect(page.locator("#classes")).to_be_hidden()
    page.go_back()
    expect(page.locator("#classes")).to_be_visible()
    window.problems[:] = [one for one in window.problems if "404" not in one]  # the browser's own word on it


def test_a_version_is_taken_along_as_a_list_as_an_archive_or_by_a_command(visit: Open, place: str) -> None:
    from playwright.sync_api import expect

    window = visit(at=place)
    page = window.go("/datasets?name=leaves&version=1")
    page.context.grant_permissions(["clipboard-write"])
    page.get_by_label("Called").fill("it's mine: ä")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith("ä.csv")
    expect(page.locator("#export-state")).to_contain_text("downloads")
    page.locator("#format").select_option("folders")
    expect(page.locator("#export-state")).to_contain_text(" images, ")
    page.get_by_label("Without metadata").check()
    expect(page.locator("#command code")).to_contain_text(
        "curation dataset export leaves@1 --to folders --out 'it'\\''s mine: ä' --strip-metadata --lake "
    )
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith("ä.zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        images = [name for name in archive.namelist() if name.endswith(".jpg")]
        options = json.loads(archive.read("it's mine%3A ä/export.json"))["options"]
    assert (len(images) > 20, options["strip_metadata"]) == (True, True)
    expect(page.locator("#export-state")).to_contain_text(f"{len(images)} images, ")
    page.locator("#format").select_option("coco")
    expect(page.locator("#export-state")).to_contain_text("coco is for boxes, and no image of leaves@1 has one")
    expect(page.locator("#download")).to_be_disabled()
    window.problems[:] = [one for one in window.problems if "400" not in one]  # the browser's own word on it
    page.locator("#command").get_by_role("button", name="Copy").click()
    expect(page.locator("#command")).to_contain_text("opied")
    page.locator("#format").select_option("csv")
    expect(page.locator("#download")).to_be_enabled()


def test_phones_show_all_and_markup_is_text(visit: Open, place: str) -> None:
    from playwright.sync_api import expect

    for width, scheme in ((390, "dark"), (1280, "light")):
        window = visit(width, at=place, color_scheme=scheme)
        page = window.go("/datasets")
        expect(page.locator(".kind")).to_have_count(4)
        assert fits(page)
        assert page.locator(".top nav a").evaluate_all(
            "links => links.every(link => link.getBoundingClientRect().right <= innerWidth)"
        )
        window.go("/datasets?name=odd")
        expect(page.locator("#list")).to_contain_text(GONE.rpartition("/")[2])
        expect(page.locator("#list .absent")).to_have_count(2)
        expect(page.locator("#gate")).to_contain_text("let pass: a <b>try</b>")
        expect(page.locator("#classes")).to_contain_text(SIDES[0])
        assert fits(page)
        window.go("/datasets?name=leaves&compare=1")
        expect(page.locator("#list .tile").first).to_be_visible()
        assert fits(page)
        window.go("/leakage?dataset=odd&version=1")
        expect(page.locator("#list .group")).to_have_count(2)
        assert fits(page)


def test_what_a_page_asks_for_is_asked_once_and_with_the_page(visit: Open, place: str) -> None:
    from playwright.sync_api import expect

    window = visit(at=place)
    asked: list[str] = []
    window.page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)
    odd = {"name": "odd", "side": SIDES[0], "class": MERGED}
    for path, number in (
        ("/datasets", 1),
        (f"/datasets?{urlencode(odd)}", 3),
        ("/datasets?name=leaves&compare=1&change=went", 3),
        (f"/leakage?{urlencode({'dataset': 'odd', 'version': 1, 'one': SIDES[1], 'other': SIDES[0]})}", 1),
        (f"/duplicates?{urlencode({'kind': 'near', 'folder': 'coffee/é ~', 'offset': 20, 'undecided': 'true'})}", 1),
        (f"/clusters?{urlencode({'name': 'é ~*', 'folder': 'a b'})}", 1),
        (f"/labels?{urlencode({'given': MERGED, 'folder': 'coffee/é ~', 'undecided': 'true'})}", 1),
        ("/problems?kind=blurry&folder=coffee&view=worst", 1),
    ):
        asked.clear()
        page = window.go(path)
        expect(page.locator(":is(.tile, .kind, .nothing, [role=alert]):visible").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert len(asked) == number, asked


def test_leaks_are_filtered_and_the_address_holds_it(visit: Open, place: str) -> None:
    from playwright.sync_api import expect

    window = visit(at=place)
    page = window.go("/leakage")
    expect(page.locator("#count")).to_contain_text("1 pair across sides")
    page.get_by_label("Sides of").select_option("odd@1")
    expect(page.locator("#list .group")).to_have_count(2)
    page.locator("#counts a").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#list .group")).to_have_count(1)
    expect(page.locator("#list")).to_contain_text(NEAR[1].rpartition("/")[2])
    kept, test = SIDES
    assert window.asked == {"dataset": ["odd"], "version": ["1"], "kind": ["near"], "one": [test], "other": [kept]}
    page.reload()
    expect(page.get_by_label("Between")).to_have_value("0")
    expect(page.locator("#list .group")).to_have_count(1)
    page.go_back()
    expect(page.locator("#list .group")).to_have_count(2)
    page.get_by_label("Sides of").select_option("leaves@2")
    expect(page.locator("#count")).to_have_text("No image is on two sides.")
