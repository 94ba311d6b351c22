"""Clusters over HTTP and in a browser: shown, filtered, and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from curation_assets.datasets.reading import parse_recipe
from curation_assets.errors import CurationError
from curation_assets.lake.rewrite import Rewrite
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search import image_map
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import THIS_MACHINE, client_of, decide

SLOW_MS = 20_000  # WebGL is drawn by the CPU
HOSTILE = "<img src=x onerror=alert(1)> & 'co'"


@pytest.fixture
def own(own: Pipeline) -> Pipeline:
    """With a map of its own."""
    image_map.refresh(own.searcher.refresh().index, LogProgress())
    return own


@pytest.fixture
def deciding(own: Pipeline) -> Iterator[TestClient]:
    with client_of(own, client=THIS_MACHINE) as made:
        yield made


def asked(client: TestClient, **asked: Any) -> Any:
    answer = client.get("/api/clusters", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def name(client: TestClient, cluster: int, called: str | None, by: str = "ann", **more: Any) -> Any:
    return client.post("/api/clusters/names", json={"cluster": cluster, "name": called, "by": by, **more})


def test_clusters_are_told_with_images_from_near_and_far(client: TestClient, lake: Pipeline) -> None:
    answer = asked(client)
    rows = lake.tables.scores.latest().read(["relative_path", "cluster", "cluster_distance", "is_medoid"])
    assert (answer["images"], answer["without"], answer["total"]) == (len(rows), 0, rows["cluster"].n_unique())
    assert not answer["may_decide"], "the one who asks is on no machine that is known"
    sizes = [one["images"] for one in answer["clusters"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == answer["images"]
    assert abs(sum(one["share"] for one in answer["clusters"]) - 1) < 1e-9
    medoid_of = {row["cluster"]: row["relative_path"] for row in rows.filter("is_medoid").iter_rows(named=True)}
    distance_of = dict(rows.select("relative_path", "cluster_distance").iter_rows())
    for one in answer["clusters"]:
        near, far = ([image["relative_path"] for image in one[side]] for side in ("near", "far"))
        assert near[0] == medoid_of[one["cluster"]]
        shown = [distance_of[path] for path in [*near, *reversed(far)]]
        assert shown == sorted(shown)
        assert len({image["content_sha256"] for image in one["near"] + one["far"]}) == len(near) + len(far)
        found = client.get("/api/search", params={"where": f"cluster = {one['cluster']}", "sort": "cluster_distance"})
        members = [image["relative_path"] for image in found.json()["images"]]
        assert (found.json()["total"], members[0]) == (one["images"], near[0])


def test_clusters_are_filtered_and_paged(client: TestClient, lake: Pipeline) -> None:
    every = asked(client)["clusters"]
    first, second = asked(client, k=1), asked(client, k=1, offset=1)
    assert (first["total"], [one["cluster"] for one in first["clusters"] + second["clusters"]]) == (
        len(every), [one["cluster"] for one in every[:2]],
    )  # fmt: skip
    rice = asked(client, folder="rice/")
    assert rice["images"] == sum(one["images"] for one in rice["clusters"]) == 30
    shown = [image for one in rice["clusters"] for image in one["near"] + one["far"]]
    assert {image["folder"] for image in shown} == {"rice"}
    part = every[0]["name"][1:].upper()
    assert every[0]["cluster"] in [one["cluster"] for one in asked(client, name=part)["clusters"]]
    nothing = asked(client, folder="no/<b>such</b>")
    assert (nothing["images"], nothing["clusters"]) == (0, [])
    assert asked(client, name="<b>")["total"] == 0
    assert client.get("/api/clusters", params={"k": -1}).status_code == 400
    assert client.get("/clusters?name=x").status_code == 200


def test_a_name_is_kept_and_wins_wherever_a_cluster_is_asked_for(deciding: TestClient, own: Pipeline) -> None:
    one, other = asked(deciding)["clusters"][:2]
    number, map_id = one["cluster"], deciding.get("/api/map").json()["id"]
    answer = name(deciding, number, f" {HOSTILE} ", seen=one["name"])
    assert answer.status_code == 200
    told = answer.json()
    assert (told["name"], told["own_name"], told["named_by"], told["is_new"]) == (HOSTILE, one["name"], "ann", True)
    assert Pipeline(own.settings).tables.cluster_names.latest().read(["name"])["name"].to_list() == [HOSTILE]
    assert not name(deciding, number, HOSTILE, seen=one["name"]).json()["is_new"], "sent again, it is written once"
    again = asked(deciding, name="ONERROR")["clusters"]
    assert [(one["cluster"], one["name"], one["named_by"]) for one in again] == [(number, HOSTILE, "ann")]
    where = "cluster_name = '{}'".format(HOSTILE.replace("'", "''"))
    assert deciding.get("/api/search", params={"where": where}).json()["total"] == one["images"]
    legend = deciding.get("/api/map/scores", params={"id": map_id, "by": "cluster"}).json()
    assert f"{number}: {HOSTILE}" in legend["labels"]
    page = deciding.get("/image", params={"key": one["near"][0]["relative_path"]}).text
    assert "Its cluster: &lt;img src=x" in page
    late = name(deciding, number, "late", by="bob", seen=one["name"])
    assert (late.status_code, f"ann named cluster {number}" in late.json()["error"]) == (409, True)
    with client_of(own, client=THIS_MACHINE) as elsewhere:
        assert name(elsewhere, number, "from elsewhere", by="bob", seen=HOSTILE).status_code == 200
    assert asked(deciding)["clusters"][0]["name"] == "from elsewhere"
    for wrong, why in (
        ({"name": "From Elsewhere", "cluster": other["cluster"]}, f"{number} is called 'from elsewhere' already"),
        ({"name": " "}, "is empty"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "a\u202eb"}, "can't be shown"),
        ({"name": "x", "cluster": 999}, "there is no cluster 999"),
        ({"name": "x", "by": " "}, "by"),
        ({"name": "x", "kind": "y"}, "kind"),
    ):
        refused = deciding.post("/api/clusters/names", json={"cluster": number, "by": "ann"} | wrong)
        assert (refused.status_code, why in refused.json()["error"]) == (400, True), refused.text
    back = name(deciding, number, None, seen="from elsewhere").json()
    assert (back["name"], back["named_by"]) == (one["name"], None)
    assert len(own.tables.cluster_names.latest().read(["name_id"])) == 3


def test_only_who_may_decide_names_clusters(
    client: TestClient, deciding: TestClient, own: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = asked(client)["clusters"][0]["cluster"]
    refused = name(client, number, "mine")
    assert (refused.status_code, refused.json()["error"]) == (
        403,
        "deciding needs the gallery's token, or this machine",
    )
    assert asked(deciding)["may_decide"]
    foreign = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    body = {"cluster": number, "name": "mine", "by": "eve"}
    assert deciding.post("/api/clusters/names", json=body, headers=foreign).status_code == 403

    def full(*_: Any, **__: Any) -> None:
        raise CurationError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Rewrite, "commit", full)
        later = name(deciding, number, "mine")
    assert (later.status_code, "no space left" in later.json()["error"]) == (503, True)
    assert asked(deciding)["clusters"][0]["named_by"] is None
    (log,) = own.tables.cluster_names.path.glob("_delta_log/*.json")
    assert json.loads(log.read_text().splitlines()[0])


def test_decisions_and_sides_of_datasets_are_columns(deciding: TestClient, own: Pipeline) -> None:
    recipe = {"name": "leaves", "labels": {"field": "class"}, "split": {"train": 0.7, "test": 0.3, "seed": 1}}
    own.find_label_issues(LogProgress())
    own.build_dataset(parse_recipe(recipe, "leaves.toml"), LogProgress())
    key = "coffee/rust/photo_000.jpg"
    assert decide(deciding, {"token": "1" * 16, "kind": "remove", "key": key}).status_code == 200
    answer = deciding.get("/api/map").json()
    assert {"decided", "split_leaves"} <= set(answer["colours"])
    for by, labels in (("decided", {"remove"}), ("split_leaves", {"train", "test"})):
        told = deciding.get("/api/map/scores", params={"id": answer["id"], "by": by}).json()
        assert set(told["labels"]) == labels
        for condition, number in zip(
            [*told["conditions"], told["without_condition"]],
            [*told["counts"], answer["count"] - sum(told["counts"])],
            strict=True,
        ):
            assert deciding.get("/api/search", params={"where": condition}).json()["total"] == number
    together = {"train": 0.7, "test": 0.3, "seed": 1, "together": {"column": "split_leaves"}}
    for circular in ({"images": {"where": "split_leaves = 'test'"}}, {"split": together}):
        with pytest.raises(CurationError, match="split_leaves tells of a dataset's versions"):
            own.build_dataset(parse_recipe(recipe | circular, "leaves.toml"), LogProgress(), dry_run=True)


def test_where_nothing_is_scored_the_answer_says_what_does_that(ready: Pipeline) -> None:
    own = client_of(ready)
    ready.tables.directory.create()
    answer = own.get("/api/clusters")
    assert answer.status_code == 400
    assert own.get("/clusters").status_code == 200


def test_clusters_are_named_in_place_and_led_to(visit: Open, own: Pipeline, serve: Callable[..., str]) -> None:
    from playwright.sync_api import expect

    window = visit(390, at=serve(own), color_scheme="dark")
    page = window.go("/clusters")
    cards = page.locator(".cluster")
    expect(cards.first.locator(".tile")).not_to_have_count(0)
    assert fits(page)
    number = cards.first.get_attribute("data-cluster")
    own_name = cards.first.locator(".naming").inner_text()
    cards.first.locator(".naming").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("no, not that")
    page.keyboard.press("Escape")
    expect(cards.first.locator(".naming")).to_have_text(own_name)
    expect(cards.first.locator(".naming")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type(HOSTILE)
    page.keyboard.press("Enter")
    page.get_by_label("Name", exact=True).last.fill("Ann")
    page.keyboard.press("Enter")
    expect(cards.first.locator(".naming")).to_have_text(HOSTILE)
    expect(cards.first).to_contain_text(f"named by Ann; the program calls it {own_name}")
    assert fits(page)
    with client_of(own, client=THIS_MACHINE) as other:
        assert name(other, int(number or 0), "bob's", by="bob").status_code == 200
    page.keyboard.press("Enter")
    page.keyboard.type("mine")
    page.keyboard.press("Enter")
    expect(cards.first).to_contain_text(re.compile("bob named cluster .*Save again to overrule it"))
    page.keyboard.press("Enter")
    expect(cards.first.locator(".naming")).to_have_text("mine")
    window.problems.clear()  # the browser tells of the conflict
    page.keyboard.press("ArrowDown")
    expect(cards.nth(1).locator(".naming")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("MINE")
    page.wait_for_url("**/clusters?name=MINE")
    expect(cards).to_have_count(1)
    page.reload()
    expect(cards).to_have_count(1)
    page.locator("#folder").fill("rice")
    page.locator("#folder").press("Enter")
    expect(page.locator("#count")).to_contain_text("of 30 images")
    page.go_back()
    expect(page.locator("#count")).not_to_contain_text("of 30 images")
    cards.first.get_by_role("link", name=re.compile("the most typical first")).click()
    page.wait_for_url(re.compile(f"where=cluster.*{number}"))
    expect(page.locator("#count")).to_contain_text("by cluster_distance")


def test_the_maps_colouring_stays_in_the_address(visit: Open) -> None:
    from playwright.sync_api import expect

    window = visit()
    page = window.go("/clusters")
    page.get_by_role("link", name="All on the map").click()
    colour, legend = page.get_by_role("combobox", name="Colour by"), page.locator("#legend")
    expect(colour).to_have_value("cluster", timeout=SLOW_MS)
    expect(legend.locator("li").first).to_contain_text(": ")
    colour.select_option("problems")
    expect(legend).to_contain_text("no problem")
    assert window.asked == {"colour": ["problems"]}
    page.reload()
    expect(legend).to_contain_text("no problem", timeout=SLOW_MS)
    page.go_back()
    expect(colour).to_have_value("cluster")
    page.go_back()
    page.locator(".cluster").nth(1).get_by_role("link", name=re.compile("on the map")).click()
    expect(legend.get_by_role("checkbox", checked=True)).to_have_count(1, timeout=SLOW_MS)
    page.get_by_role("button", name="Show what is hidden").click()
    expect(legend.get_by_role("checkbox", checked=False)).to_have_count(0)
    page.goto(page.url.split("?")[0] + "?colour=no%3Cb%3Esuch")
    expect(page.locator("#state")).to_contain_text("points can be told apart by", timeout=SLOW_MS)
    expect(legend.locator("li").first).to_contain_text("coffee")
    window.problems.clear()
    # Twenty values, of which fourteen have a colour of their own.
    values = [f"v{at}" for at in range(20)]
    told = {"labels": values, "conditions": [f"x = '{one}'" for one in values], "counts": [1] * 20, "others": 0}
    told |= {"label": "/////w==", "without": "none", "without_condition": "x IS NULL"}
    page.route("**/api/map/scores?*", lambda route: route.fulfill(json=told | {"label": _first(page, 20)}))
    page.goto(page.url.split("?")[0] + "?colour=label_class")
    expect(legend.locator("> li")).to_have_count(14 + 2 + 1, timeout=SLOW_MS)
    expect(legend).to_contain_text("6 others")
    swatches = legend.locator(".swatch").evaluate_all("all => all.map(one => one.style.backgroundColor)")
    assert len(set(swatches)) == 16
    legend.get_by_text("Which").click()
    expect(legend.get_by_role("link", name="Show the images of v19")).to_have_attribute("href", re.compile("x%20%3D"))


def _first(page: Any, number: int) -> str:
    """Places of the map's points: some have one each, the others none."""
    import base64

    count = int(re.sub(r"\D", "", page.locator("#state").inner_text()) or 0) or 200
    return base64.b64encode(bytes([*range(number), *[255] * (count - number)])).decode()
