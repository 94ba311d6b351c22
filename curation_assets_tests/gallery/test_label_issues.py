"""Labels that something speaks against: over HTTP, and decided in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from curation_assets.decisions.record import read_decisions, read_rows
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import ALERTING, NEAR, THIS_MACHINE, client_of, decide


@pytest.fixture
def client(doubted: Pipeline) -> Iterator[TestClient]:
    with client_of(doubted, client=THIS_MACHINE) as made:
        yield made


def test_labels_are_told_with_what_lies_beside_them_and_not_asked_again(client: TestClient, doubted: Pipeline) -> None:
    answer = client.get("/api/label-issues").json()
    (field,) = answer["fields"]
    assert field["field"] == "class"
    assert answer["total"] == answer["undecided"] == field["total"] > 0
    by_path = {one["image"]["relative_path"]: one for one in answer["issues"]}
    assert set(NEAR) <= set(by_path)
    issue = by_path[NEAR[0]]
    assert "conflicting" in issue["issues"]
    (known,) = client.get("/api/label-fields").json()["fields"]
    assert (known["field"], known["classes"]) == ("class", field["classes"])
    found = client.get("/api/label-issues/beside", params={"key": NEAR[0], "field": "class"}).json()
    assert NEAR[1] in {one["image"]["relative_path"] for one in found["evidence"]}
    assert len(found["given"]) == 4
    assert NEAR[0] not in {one["relative_path"] for one in found["given"]}
    said = {"token": "1" * 16, "kind": "relabel", "field": "class", "value": "healthy", "key": NEAR[0]}
    assert decide(client, said).status_code == 200
    left = client.get("/api/label-issues", params={"undecided": True}).json()
    assert left["total"] == answer["total"] - 1
    assert NEAR[0] not in {one["image"]["relative_path"] for one in left["issues"]}
    nothing = client.get("/api/label-issues", params={"folder": "rice"}).json()
    assert (nothing["total"], nothing["issues"]) == (0, [])
    missing = client.get("/api/label-issues/beside", params={"key": "rice/photo_000.jpg", "field": "class"})
    assert missing.status_code == 404
    assert client.get("/api/label-issues", params={"issue": "wrong"}).status_code == 400
    told = client.get("/api/label-issues/confusion", params={"field": "class"}).json()
    assert len(told["matrix"]) == len(told["classes"])
    assert sum(map(sum, told["matrix"])) <= told["labelled"]
    assert client.get("/api/label-issues/confusion", params={"field": "no"}).json()["classes"] == []
    assert len(read_decisions(doubted.tables.decisions).relabelled()) == 1


def test_where_labels_were_not_looked_at_nothing_is_said_of_them(own: Pipeline) -> None:
    def refused(pipeline: Pipeline) -> str:
        answers = [client_of(pipeline).get(path) for path in ("/api/label-issues", "/api/label-issues?undecided=true")]
        assert {answer.status_code for answer in answers} == {400}
        assert client_of(pipeline).get("/labels").status_code == 200
        return str(answers[0].json()["error"])

    assert refused(Pipeline(own.settings)) == "labels were not looked at yet; `curation curate` does that"
    shutil.rmtree(own.tables.annotations.path)
    assert refused(Pipeline(own.settings)) == "there are no labels yet; `curation annotate` brings them in"


@pytest.mark.parametrize("kind", ["mislabelled", "conflicting"])
def test_labels_are_measured_by_what_people_say_they_are(client: TestClient, doubted: Pipeline, kind: str) -> None:
    made = client.post("/api/samples", json={"kind": kind, "by": "Ann", "size": 59}).json()
    assert made["drawn"] == sum(band["images"] for band in made["bands"]) > 0
    about = {"kind": kind, "sample": made["sample"], "k": 500}
    answer = client.get("/api/samples", params=about).json()
    assert (len(answer["issues"]), answer["images"]) == (made["drawn"], [])
    assert all(one["issues"] == [kind] and one["reason"] for one in answer["issues"])
    contents = {one["image"]["content_sha256"]: one for one in answer["issues"]}
    for issue in answer["issues"][-1:]:
        key = issue["image"]["relative_path"]
        nearest = client.get("/api/label-issues/beside", params={"key": key, "field": "class"}).json()
        for side in ("given", "suggested") if issue["suggested"] else ("given",):
            with_it = {"where": f"label_class = '{issue[side]}'", "like": key, "k": 6}
            found = [one["relative_path"] for one in client.get("/api/search", params=with_it).json()["images"]]
            assert [one["relative_path"] for one in nearest[side]] == [path for path in found if path != key][:4]
        assert issue["suggested"] or kind == "conflicting"
    told = []
    for at, (content, one) in enumerate(contents.items()):
        value = one["given"] if at % 2 else "something else"
        told.append(
            {"token": f"{at:016x}", "kind": "relabel", "field": "class", "value": value, "content": content}
            | {"key": one["image"]["relative_path"], "shown": {"sample": made["sample"]}}
        )
    told[-1] = {name: value for name, value in told[-1].items() if name != "value"} | {"kind": "unsure"}
    free = [one | {"token": f"f{one['token'][1:]}", "shown": {"given": None}} for one in told]
    assert decide(client, *free).status_code == 200
    (unchanged,) = client.get("/api/samples", params=about).json()["samples"]
    assert unchanged == made, "what was not said of the sample tells nothing of it"
    assert decide(client, *told).status_code == 200
    done = client.get("/api/samples", params=about).json()
    (sample,) = done["samples"]
    assert (done["issues"], sample["looked_at"]) == ([], sample["drawn"])
    found = {name: sum(band[name] for band in sample["bands"]) for name in ("right", "wrong", "unsure")}
    rows = {content: sum(one["image"]["content_sha256"] == content for one in answer["issues"]) for content in contents}
    said = [(rows[one["content"]], "unsure" if one["kind"] == "unsure" else one["value"]) for one in told]
    wrong = 0 if kind == "conflicting" else sum(n for n, word in said if word not in ("unsure", "something else"))
    assert (found["wrong"], found["unsure"]) == (wrong, said[-1][0])
    assert found["right"] == sample["drawn"] - wrong - said[-1][0]
    edges = [edge["recipe"] for edge in sample["edges"]]
    assert all(f'+{kind} = "suspected"' in recipe and "CURATION_PROBLEM_THRESHOLDS" in recipe for recipe in edges)
    assert edges


def test_only_what_a_label_conflicts_with_says_that_it_does_not(client: TestClient, doubted: Pipeline) -> None:
    made = client.post("/api/samples", json={"kind": "conflicting", "by": "Ann", "size": 59}).json()

    def wrong() -> int:
        (sample,) = client.get("/api/samples", params={"kind": "conflicting"}).json()["samples"]
        assert sample["looked_at"] == sum(band["wrong"] for band in sample["bands"])
        return int(sample["looked_at"])

    apart = {"kind": "different", "key": NEAR[0], "shown": {"sample": made["sample"]}}
    assert decide(client, apart | {"token": "1" * 16, "other": "rice/photo_001.jpg"}).status_code == 200
    assert wrong() == 0
    assert decide(client, apart | {"token": "2" * 16, "other": NEAR[1]}).status_code == 200
    assert wrong() == 1, "the other one has two labels of its own"
    doubted.find_label_issues(LogProgress())
    assert wrong() == 1, "also when the conflict is gone"


def test_labels_are_decided_by_keyboard(visit: Open, doubted: Pipeline, serve: Callable[..., str]) -> None:
    from playwright.sync_api import expect

    at = serve(doubted)
    ben = visit(at=at, color_scheme="dark").go("/folders")
    ben.evaluate("localStorage.setItem('curation name', '\"Ben\"')")
    # What Ann says doesn't reach Ben before he answers.
    ben.route("**/api/decisions?after=*", lambda route: route.fulfill(json={"decisions": [], "latest": ""}))
    ben.goto(f"{at}/labels?view=one")
    page = visit(390, at=at).go("/labels")
    page.evaluate("localStorage.setItem('curation name', '\"Ann\"')")
    expect(page.locator("#count")).to_contain_text("labels that something speaks against")
    expect(page.locator("#issues")).to_contain_text(ALERTING)
    assert fits(page)
    expect(page.locator("#issue")).to_contain_text("another image or source (")
    page.locator("#begin").click()
    assert "view=one" in page.url
    path = page.locator("#review figcaption a")
    expect(page.locator("#review .strip").first).to_be_visible()
    first = path.inner_text()
    page.keyboard.press("k")
    expect(path).not_to_have_text(first)
    expect(page.locator("#saved")).to_have_text("All saved")
    expect(ben.locator("#review figcaption a")).to_have_text(first)
    ben.keyboard.press("s")
    expect(ben.get_by_role("alert")).to_contain_text(f"Ann said “it is {ALERTING}” of {first} meanwhile; yours was not")
    second = path.inner_text()
    page.keyboard.press("o")
    page.get_by_label("Label", exact=True).fill("a new one")
    page.once("dialog", lambda dialog: dialog.accept())
    page.keyboard.press("Enter")
    expect(path).not_to_have_text(second)
    expect(page.locator("#saved")).to_have_text("All saved")
    rows = read_rows(doubted.tables.decisions)
    assert rows["kind"].to_list() == ["relabel", "relabel"]
    assert rows["relative_path"].to_list() == [first, second]
    assert rows["value"][1] == "a new one"
    page.keyboard.press("z")
    expect(path).to_have_text(second)
    page.keyboard.press("o")
    page.locator("dialog .choices button").first.click()
    expect(path).not_to_have_text(second)
    expect(page.locator("#saved")).to_have_text("All saved")
    assert read_rows(doubted.tables.decisions)["value"][-1] in ("healthy", "rust")
    assert fits(page)
    page.keyboard.press("Escape")
    expect(page.locator("#issues")).to_be_visible()
    assert "view=one" not in page.url


def test_labels_are_filtered_accepted_and_left_and_confusion_leads_to_its_images(
    visit: Open, doubted: Pipeline, serve: Callable[..., str]
) -> None:
    from playwright.sync_api import expect

    settings = doubted.settings.model_copy(update={"problem_thresholds": {"mislabelled": 0.9}})
    window = visit(at=serve(Pipeline(settings)), color_scheme="dark")
    page = window.go("/labels")
    page.evaluate("localStorage.setItem('curation name', '\"Ann\"')")
    cell = page.locator("#matrix td a").first
    number = cell.inner_text()
    cell.click()
    expect(page.locator("#count")).to_contain_text(f"{number} image")
    assert window.asked["where"][0].startswith('"label_class" = \'')
    page.go_back()
    page.get_by_label("What speaks against it").select_option("mislabelled")
    expect(page.locator("#issues .tile").first).to_contain_text("quality of the label")
    assert window.asked == {"issue": ["mislabelled"]}
    page.locator("#begin").click()
    path, verdict = page.locator("#review figcaption a"), page.locator("#review .verdict b")
    expect(page.locator("#review .facts")).to_contain_text(re.compile(r"\d"))  # how sure the classifier is
    said = []
    for name in ("Accept", "Can't tell"):
        before = path.inner_text()
        said.append((before, verdict.last.inner_text()))
        page.get_by_role("button", name=name).click()
        expect(path).not_to_have_text(before)
    expect(page.locator("#saved")).to_have_text("All saved")
    rows = read_rows(doubted.tables.decisions)
    assert rows.select("kind", "relative_path", "value").rows() == [("relabel", *said[0]), ("unsure", said[1][0], None)]
