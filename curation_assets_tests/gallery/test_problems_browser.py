"""Problems in a real browser: from a card to the line, what lies either side of it, and decisions by mouse."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from curation_assets.decisions.record import read_decisions
from curation_assets.pipeline import Pipeline
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import BOXED

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect


def test_a_card_leads_to_its_images_and_the_line_counts_at_once(visit: Open) -> None:
    window = visit(color_scheme="dark")
    page = window.go("/problems")
    card = page.locator(".kind:not(.none)").first
    many = int(card.locator(".badge").inner_text())
    expect(card.locator(".shots img").first).to_be_visible()
    name = card.locator("b").inner_text()
    card.locator("a").click()
    expect(page.locator("#count")).to_contain_text(f"{many} image")
    assert window.asked["kind"] == [name.lower().replace(" ", "_")]
    page = window.go("/problems?kind=blurry")
    expect(page.locator("#count")).to_contain_text("at sharpness <")
    bars = page.locator("#histogram rect")
    line = page.locator("#threshold")
    line.fill("500")
    told = page.locator("#count")
    expect(told).to_contain_text(re.compile(r"^[1-9]\d* images? at sharpness"))
    expect(page.locator("#tiles .beyond").first).to_be_visible()
    expect(page.locator("#tiles .tile:not(.beyond)").first).to_be_visible()
    assert 0 < bars.locator("xpath=self::*[contains(@class, 'flagged')]").count() < bars.count()
    expect(page).to_have_url(re.compile("threshold="))
    asked = window.asked["threshold"]
    counted = told.inner_text()
    page.get_by_label("Folder").fill("coffee/rust")
    page.get_by_label("Folder").press("Enter")
    expect(told).not_to_have_text(counted)
    expect(page).to_have_url(re.compile("folder=coffee"))
    counted = told.inner_text()
    page.reload()
    expect(told).to_have_text(counted)
    assert window.asked["threshold"] == asked
    assert fits(page)


def test_what_is_decided_one_by_one_stands_in_the_address_and_by_mouse_too(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    window = visit(390, at=serve(own))
    page = window.go("/problems?kind=blurry&threshold=10")
    page.evaluate("localStorage.setItem('curation name', '\"Ann\"')")
    page.get_by_role("button", name="Decide one by one").click()
    path = page.locator("#review figcaption a")
    expect(path).to_be_visible()
    assert window.asked["one"] == ["true"]
    first = path.inner_text()
    page.get_by_role("button", name="Can't tell").click()
    expect(path).not_to_have_text(first)
    page.reload()
    expect(path).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#tiles")).to_be_visible()
    expect(page).not_to_have_url(re.compile("one="))
    page.go_back()
    expect(path).to_be_visible()
    expect(page.locator("#saved")).not_to_contain_text("Saving")
    assert read_decisions(own.tables.decisions).rows["relative_path"].to_list() == [first]


def test_tiles_of_the_search_tell_problems_labels_and_split(visit: Open) -> None:
    page = visit().go("/?folder=kinds")
    tile = page.locator("#tiles .tile", has=page.locator(f'[title="{BOXED}"]'))
    expect(tile.locator(".score").last).to_contain_text("test")
    page.goto(page.url.replace("/?folder=kinds", "/?where=problems%20%3C%3E%20%27%27"))
    expect(page.locator("#tiles .tile .problem").first).to_be_visible()


def test_where_nothing_is_there_yet_pages_say_what_to_do(
    ready: Pipeline, visit: Open, serve: Callable[..., str]
) -> None:
    window = visit(at=serve(ready))
    for place in ("/problems", "/duplicates", "/labels", "/clusters"):
        page = window.go(place)
        expect(page.locator("#notices")).to_contain_text("there is no table")
        expect(page.locator("#notices")).to_contain_text("run `curation run`")
    expect(window.go("/leakage").locator("main")).to_contain_text("`curation annotate` reads splits")
    expect(window.go("/datasets").locator("main")).to_contain_text("curation dataset init leaves")
    window.problems.clear()  # what is refused stands in the browser's console too
