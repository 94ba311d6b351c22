"""Deciding in a real browser: one key each, two reviewers, a server that is killed, a table that changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import polars as pl
import pytest

from curation_assets.decisions.record import append, read_decisions, read_rows
from curation_assets.pipeline import Pipeline
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import HOSTILE, SCRIPT, serving

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

EVERYTHING = "/problems?kind=blurry&threshold=10&view=worst"


def said(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Kind and who said it of each decision that counts, the earliest first."""
    return read_decisions(pipeline.tables.decisions).rows.select("kind", "decided_by").rows()


def named(page: Page, name: str) -> None:
    page.evaluate("name => localStorage.setItem('curation name', JSON.stringify(name))", name)


def saved(page: Page) -> None:
    expect(page.locator("#saved")).to_have_text("All saved")


def test_one_key_each_and_the_next_comes_by_itself(visit: Open, own: Pipeline, serve: Callable[..., str]) -> None:
    page = visit(at=serve(own)).go(EVERYTHING)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/picture?" in request.url else None)
    expect(page.locator("#count")).to_contain_text("130 images at sharpness < 10: 130 to decide")
    page.locator("#begin").click()
    page.get_by_label("Name").fill("Ann")
    page.keyboard.press("Enter")
    links = page.locator("#review figcaption a")
    large = page.locator("#review .large img")
    expect(large).to_be_visible()
    deadline = time.monotonic() + 20
    while len(set(asked)) < 5 and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    ahead = {urlsplit(url).query for url in asked}
    assert len(ahead) == 5, "this one's picture, and those of the next four"
    seen = []
    for key in "krks":
        seen.append(links.inner_text())
        page.keyboard.press(key)
        expect(links).not_to_have_text(seen[-1])
        assert urlsplit(large.get_attribute("src") or "").query in ahead, "it was asked for before the key was pressed"
    saved(page)
    assert said(own) == [("keep", "Ann"), ("remove", "Ann"), ("keep", "Ann"), ("unsure", "Ann")]
    shown = json.loads(read_rows(own.tables.decisions)["shown"][0])
    assert (shown["problem"], shown["threshold"]) == ("blurry", 10)
    expect(page.get_by_text("126 to decide")).to_be_visible()
    page.keyboard.press("z")
    expect(links).to_have_text(seen[-1])
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("You said: Keep")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#count")).to_contain_text("127 to decide, 2 keep, 1 remove")
    assert len(said(own)) == 3
    page.reload()
    expect(page.locator("#tiles .tile[data-decided]")).to_have_count(3)
    said_so = "async said => (await import('/static/measuring.js')).idle(said)"
    assert page.evaluate(said_so, ["Remove"] + ["Keep"] * 59) == "stop here? 59 in a row were kept"
    assert page.evaluate(said_so, ["Keep"] * 58) == page.evaluate(said_so, ["Keep"] * 58 + ["Can't tell"]) == ""


def test_whose_token_says_who_decides_is_not_asked(visit: Open, own: Pipeline, serve: Callable[..., str]) -> None:
    page = visit(at=serve(own, {"a secret of hers": "Ana"})).go(EVERYTHING)
    page.get_by_label("Token").fill("a secret of hers")
    page.keyboard.press("Enter")
    page.locator("#begin").click()
    expect(page.locator("#review .large img")).to_be_visible()
    page.keyboard.press("k")
    saved(page)
    assert said(own) == [("keep", "Ana")]


def test_a_selection_is_decided_on_at_once_and_taken_back(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    page = visit(at=serve(own)).go("/")
    named(page, "Ann")
    told: list[str] = []
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.accept()))
    tiles = page.locator("#tiles .tile")
    tiles.nth(0).focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    page.locator("#selection").get_by_role("button", name="Remove").click()
    expect(page.locator("#tiles .tile[data-decided=remove]")).to_have_count(5)
    assert told == [
        "Remove: 5 images are left out of the next versions of datasets; no file is deleted. Undo takes it back."
    ]
    saved(page)
    assert said(own) == [("remove", "Ann")] * 5
    tiles.nth(7).focus()
    page.keyboard.press("k")
    expect(page.locator("#tiles .tile[data-decided=keep]")).to_have_count(1)
    page.keyboard.press("z")
    expect(page.locator("#tiles .tile[data-decided]")).to_have_count(5)
    page.keyboard.press("z")
    expect(page.locator("#tiles .tile[data-decided]")).to_have_count(0)
    saved(page)
    assert said(own) == []
    tiles.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("l")
    page.get_by_role("dialog").get_by_role("button", name="rust").click()
    expect(tiles.nth(1)).to_contain_text("rust")
    saved(page)
    assert said(own) == [("relabel", "Ann")] * 2
    page.keyboard.press("z")
    expect(tiles.nth(1)).to_contain_text("coffee/healthyhealthy")


def test_a_selection_outlives_searches_and_reloads_and_becomes_a_set(
    visit: Open, own: Pipeline, serve: Callable[..., str], tmp_path: Path
) -> None:
    address = serve(own)
    page = visit(390, at=address).go("/?folder=coffee")
    named(page, "Ann")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.locator("#tiles .tile").nth(0).focus()
    page.keyboard.press("Shift+ArrowRight")
    page.goto(page.url.replace("coffee", "rice"))
    selection = page.locator("#selection")
    expect(selection).to_contain_text("2 selected, 2 of them not here")
    assert fits(page)
    page.locator("#tiles .tile").nth(0).focus()
    page.keyboard.press("Space")
    page.keyboard.press("k")
    assert asked[0].startswith("Keep: 3 images, 2 of them not on this page, are good enough")
    page.reload()
    expect(selection).to_contain_text("3 selected, 2 of them not here")
    page.keyboard.press("t")
    page.get_by_role("dialog").get_by_label("Tag").fill(SCRIPT)
    page.keyboard.press("Enter")
    expect(page.locator("#tiles .marks .tag")).to_have_text(SCRIPT)
    saved(page)
    assert [row["tag"] for row in page.request.get(f"{address}/api/tags").json()["tags"]] == [SCRIPT]
    with page.expect_download() as taken:
        selection.get_by_role("button", name="Export").click()
    taken.value.save_as(tmp_path / "set.csv")
    assert pl.read_csv(tmp_path / "set.csv")["tags"].to_list() == [SCRIPT] * 3
    page.locator("#show-selected").click()
    page.locator("dialog .tile input").first.click()
    page.get_by_role("button", name="Close").click()
    expect(selection).to_contain_text("2 selected")
    page.goto(f"{address}/?tag={quote(SCRIPT)}")
    expect(page.locator("#count")).to_contain_text("4 images")  # one has a copy
    with page.expect_download() as taken:
        page.get_by_role("button", name="Export all").click()
    taken.value.save_as(tmp_path / "all.csv")
    assert len(pl.read_csv(tmp_path / "all.csv")) == 4
    expect(page.locator("[name=tag]")).to_have_value(SCRIPT)
    page.keyboard.press("t")
    page.get_by_role("button", name="×").last.click()
    expect(page.locator("#tiles .marks .tag")).to_have_count(2)
    page.keyboard.press("z")
    expect(page.locator("#tiles .marks .tag")).to_have_count(4)
    saved(page)
    page.keyboard.press("Escape")
    expect(selection).to_be_hidden()
    page.reload()
    expect(page.locator("#count")).to_contain_text("4 images")
    expect(selection).to_be_hidden()


def test_two_reviewers_see_each_other_and_never_overwrite(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    at = serve(own)
    ann, ben = (visit(at=at).go(EVERYTHING) for _ in range(2))
    for page in (ann, ben):
        expect(page.locator("#tiles .tile").first).to_be_visible()
    named(ann, "Ann")
    ann.locator("#tiles .tile").first.focus()
    ann.keyboard.press("r")
    saved(ann)
    named(ben, "Ben")  # both share what this browser keeps
    ben.locator("#tiles .tile").first.focus()
    ben.keyboard.press("k")
    banner = ben.get_by_role("alert").filter(has_text="Ann said “remove” of")
    expect(banner).to_contain_text("yours was not written")
    assert said(own) == [("remove", "Ann")]
    banner.get_by_role("button").click()
    saved(ben)
    assert said(own) == [("keep", "Ben")]
    expect(ann.locator("#tiles .tile").first).to_have_attribute("data-decided", "keep", timeout=10_000)


def test_a_killed_server_loses_nothing_that_was_acknowledged_and_the_rest_is_sent_again(
    window_of: Callable[..., Page],
    own: Pipeline,
) -> None:
    page = window_of(1440)
    with serving(own) as address:
        page.goto(address + EVERYTHING)
        named(page, "Ann")
        expect(page.locator("#tiles .tile").first).to_be_visible()
        page.locator("#tiles .tile").first.focus()
        page.keyboard.press("k")
        saved(page)
    page.locator("#tiles .tile").nth(1).focus()
    page.keyboard.press("r")
    expect(page.locator("#saved")).to_contain_text("1 not saved: the gallery can't be reached")
    assert said(own) == [("keep", "Ann")]
    with serving(own, port=int(address.rpartition(":")[2])):
        expect(page.locator("#saved")).to_have_text("All saved", timeout=20_000)
    page.close()
    assert said(own) == [("keep", "Ann"), ("remove", "Ann")]


def test_what_the_disk_has_no_room_for_is_said_and_kept(
    visit: Open,
    doubted: Pipeline,
    serve: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    window = visit(at=serve(doubted))
    named(window.go("/folders"), "Ann")
    for place, ready, key, kind in (
        (EVERYTHING, "#tiles .tile", "k", "keep"),
        ("/duplicates?view=one&kind=near", ".member", "Enter", "keeper"),
        ("/labels?view=one", "#review .large img", "k", "relabel"),
    ):
        page = window.go(place)
        expect(page.locator(ready).first).to_be_visible()
        with monkeypatch.context() as patch:
            patch.setattr("curation_assets.review.recording.append", full)
            if place == EVERYTHING:
                page.locator(ready).first.focus()
            page.keyboard.press(key)
            expect(page.locator("#saved")).to_contain_text("1 not saved: it can't be written: No space")
        expect(page.locator("#saved")).to_have_text("All saved", timeout=20_000)
        assert said(doubted)[-1] == (kind, "Ann")
    assert len(said(doubted)) == 3
    window.problems.clear()  # the browser tells of the answers 503


@pytest.mark.parametrize(("width", "scheme"), [(1440, "dark"), (390, "light")])
def test_pages_fit_and_hostile_names_are_text(visit: Open, width: int, scheme: str) -> None:
    window = visit(width, color_scheme=scheme)
    page = window.go("/problems")
    expect(page.locator(".kind").first).to_be_visible()
    assert fits(page)
    page = window.go("/problems?kind=blurry&threshold=10&folder=odd")
    expect(page.locator("#count")).to_contain_text(f"{len(HOSTILE)} images at sharpness < 10")
    assert fits(page)
    assert SCRIPT in [*window.keys()]
    page.locator("#measure summary").click()
    page.locator("#threshold").focus()
    page.keyboard.press("Home")
    expect(page.locator("#count")).to_contain_text("0 images at")


def test_decisions_stand_beside_an_image_and_are_made_there(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    content = own.tables.contents([SCRIPT])[SCRIPT]
    row = {"kind": "unsure", "field": "quality", "relative_path": SCRIPT, "content_sha256": content}
    append(own.tables.decisions, lambda _: [row | {"decided_by": "<b>Ben</b>", "reason": "<i>dark</i>"}])
    window = visit(at=serve(own))
    page = window.go("/image?key=" + SCRIPT.replace("<", "%3C"))
    expect(page.locator("#decisions li")).to_contain_text("unsure <b>Ben</b>")
    named(page, "Ann")
    page.keyboard.press("k")
    expect(page.locator("#decisions li")).to_contain_text("keep Ann")
    assert said(own) == [("keep", "Ann")]
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#decisions li")).to_contain_text("can't tell <b>Ben</b>")
    page.keyboard.press("l")
    page.get_by_label("Label", exact=True).fill("rust")
    page.keyboard.press("Enter")
    expect(page.locator("#decisions")).to_contain_text("it is rust (class) Ann")
    append(own.tables.decisions, lambda _: [row | {"kind": "remove", "decided_by": "Cleo"}])
    expect(page.locator("#decisions")).to_contain_text("remove Cleo")  # others' come by themselves
