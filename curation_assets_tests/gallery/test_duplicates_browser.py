"""Deciding on duplicates in a real browser, by keyboard, on a phone, and with names that are markup."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from curation_assets.decisions.record import append, read_decisions, read_rows
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.gallery.browsing import Open
from curation_assets_tests.gallery.conftest import BURST, NEAR

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect


def test_groups_are_decided_by_keyboard_alone(own: Pipeline, visit: Open, serve: Callable[..., str]) -> None:
    window = visit(at=serve(own))
    page = window.go("/duplicates?undecided=true")
    expect(page.locator(".group")).to_have_count(3)
    expect(page.locator("#count")).to_contain_text("3 groups of 6 images: 3 to decide")
    page.locator("#begin").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    group = page.get_by_role("region")
    expect(group).to_contain_text("the same bytes")
    page.keyboard.press("d")
    expect(page.locator(".review")).to_contain_text("they can't show something else")
    page.keyboard.press("ArrowRight")
    expect(group).to_contain_text("mirrored")
    page.keyboard.press("b")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"The keeper: {NEAR[0]}")
    page.keyboard.press("b")
    expect(dialog).to_contain_text(f"{NEAR[1]} · mirrored")
    expect(dialog.get_by_role("button", name="Difference")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("2")
    expect(group).to_contain_text("the same scene")
    page.keyboard.press("b")
    expect(dialog.get_by_role("button", name="Difference")).to_be_enabled()
    page.keyboard.press("x")
    expect(dialog).to_contain_text(re.compile(r"\d\.\d % on average"))
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.locator(".review")).to_contain_text("Nothing is left to decide here")
    page.keyboard.press("z")
    expect(group).to_contain_text("the same scene")
    expect(page.locator("#saved")).to_have_text("All saved")
    (keeper,) = read_decisions(own.tables.decisions).rows.iter_rows(named=True)
    assert (keeper["kind"], keeper["relative_path"], keeper["decided_by"]) == ("keeper", NEAR[1], "ann")
    shown = json.loads(keeper["shown"])
    assert (shown["proposed"], shown["images"], shown["members"]) == (NEAR[0], 2, sorted(shown["members"]))
    assert len(read_rows(own.tables.decisions)) == 5
    page.reload()
    expect(page.locator(".left, .review")).to_contain_text("2 groups to decide")
    page.keyboard.press("Escape")
    expect(page.locator(".group")).to_have_count(2)
    assert window.asked == {"undecided": ["true"]}
    page.go_back()
    expect(page.locator(".member")).to_have_count(2)


def test_groups_are_decided_by_mouse_with_what_tells_their_images_apart(
    own: Pipeline, visit: Open, serve: Callable[..., str]
) -> None:
    page = visit(at=serve(own), color_scheme="dark").go("/duplicates?kind=near")
    page.evaluate("localStorage.setItem('curation name', '\"ann\"')")
    page.locator("#begin").click()
    members = page.locator(".member")
    expect(members.first).to_contain_text("keep:")
    expect(members.first.locator("dl")).to_contain_text("pixels96 × 72")
    expect(members.last).to_contain_text("the keeper is preferred:")
    facts = members.last.locator("dl div")
    told = {each.locator("dt").inner_text(): each.locator("dd").inner_text() for each in facts.all()}
    assert (told["picture"], told["pixels"], told["date"], told["label"]) == (
        *("mirrored", "96 × 72", "no date", "healthy"),
    )
    assert re.fullmatch(r"[\d.]+ kB", told["size"])
    expect(facts.locator("b").first).to_have_text(told["picture"])  # what is otherwise than with the keeper stands out
    expect(members.last.locator("dd b").last).to_have_text(told["size"])
    members.last.locator("button.picture").click()  # it is chosen already: both in one place
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Own pixels").click()
    shown = dialog.locator("img:not([hidden])")
    expect(shown).to_have_js_property("clientWidth", 96)
    page.keyboard.press("f")
    expect(shown).not_to_have_js_property("clientWidth", 96)
    dialog.get_by_role("button", name="Close").click()
    members.last.get_by_role("button", name="Keep this one").click()
    expect(page.locator(".review")).to_contain_text("Nothing is left to decide here")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".review")).to_contain_text("Taken back")
    page.get_by_role("button", name="Keep all").click()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#count")).to_contain_text("0 to decide")
    rows = read_decisions(own.tables.decisions).rows
    assert rows.select("kind", "field", "relative_path").sort("relative_path").rows() == [
        ("keep", "duplicate", path) for path in NEAR
    ]


def test_of_a_group_of_three_one_leaves_and_two_reviewers_never_overwrite(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    third = "coffee/healthy/photo_035.jpg"
    contents = own.tables.contents([*NEAR, third])
    rows = [{"kind": "same", "content_sha256": contents[third], "other_sha256": contents[one]} for one in NEAR]
    append(own.tables.decisions, lambda _: [row | {"decided_by": "Cas"} for row in rows])
    own.group(LogProgress())
    at = serve(own)
    ann, ben = (visit(at=at, color_scheme=scheme).go("/folders") for scheme in ("light", "dark"))
    # What Ann says doesn't reach Ben before he answers.
    ben.route("**/api/decisions?after=*", lambda route: route.fulfill(json={"decisions": [], "latest": ""}))
    for page, name in ((ann, "Ann"), (ben, "Ben")):
        page.evaluate("name => localStorage.setItem('curation name', JSON.stringify(name))", name)
        page.goto(f"{at}/duplicates?view=one&kind=near")
        expect(page.locator(".member")).to_have_count(3)
    apart = ann.locator(".member.apart")
    ann.keyboard.press("d")
    expect(apart).to_contain_text("not the same as the keeper")
    ann.keyboard.press("z")
    expect(apart).to_have_count(0)
    ann.keyboard.press("d")
    expect(apart).to_have_count(1)
    ann.keyboard.press("Enter")
    expect(ann.locator(".review")).to_contain_text("Nothing is left to decide here")
    expect(ann.locator("#saved")).to_have_text("All saved")
    said = read_rows(own.tables.decisions).filter(decided_by="Ann")
    assert said["kind"].to_list() == ["different", "different", "different", "keeper"]
    assert said["undoes"].drop_nulls().to_list() == said["decision_id"].head(1).to_list()
    assert json.loads(said["shown"][3])["images"] == 2
    gone = said["content_sha256"][2]
    assert gone not in json.loads(said["shown"][3])["members"]
    ben.keyboard.press("a")
    banner = ben.get_by_role("alert").filter(has_text="Ann said “the one to keep” of")
    expect(banner).to_contain_text("yours was not written")
    written = read_decisions(own.tables.decisions).rows.filter(decided_by="Ben")
    assert written["content_sha256"].to_list() == [gone], "of that one Ann said nothing else"
    banner.get_by_role("button").click()
    expect(ben.locator("#saved")).to_have_text("All saved")
    assert len(read_decisions(own.tables.decisions).kept_duplicates()) == 3


def test_groups_that_are_others_meanwhile_are_not_decided_by_what_was_there(
    visit: Open, own: Pipeline, serve: Callable[..., str], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(own.settings.images_root, images)
    own = Pipeline(own.settings.model_copy(update={"images_root": images}))
    window = visit(at=serve(own))
    page = window.go("/folders")
    page.evaluate("localStorage.setItem('curation name', '\"Ann\"')")
    window.go("/duplicates?view=one")
    group = page.get_by_role("region")
    expect(group).to_contain_text("the same bytes")
    (images / NEAR[1]).unlink()
    shutil.copyfile(images / "rice/photo_001.jpg", images / BURST[1])  # another picture by now
    own.scan(["coffee/healthy"], LogProgress())
    own.compare_all(LogProgress())
    own.searcher.refresh()
    page.keyboard.press("Enter")
    expect(group).to_contain_text("the same photograph")
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text(f"Not written: there is no image '{NEAR[1]}' to decide on")
    expect(group).to_contain_text("the same scene")
    page.keyboard.press("a")
    expect(page.get_by_role("alert").last).to_contain_text(f"Not written: {BURST[1]} is another image by now")
    expect(page.locator("#saved")).to_have_text("All saved")
    said = read_decisions(own.tables.decisions).rows
    assert said["kind"].to_list() == ["keeper", "keep"]
    assert said["relative_path"][1] == BURST[0]
    assert NEAR[1] not in said["relative_path"].to_list()
    page.reload()
    expect(group).to_contain_text("the same bytes")  # of the new picture
    expect(page.locator(".member")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator("#count")).to_contain_text("2 groups of 4 images: 1 to decide")
    window.problems.clear()  # the browser tells of the answers 404 and 409


def test_filters_stay_in_the_address_and_a_phone_shows_all(visit: Open) -> None:
    for width, scheme in ((390, "dark"), (1280, "light")):
        window = visit(width, color_scheme=scheme)
        page = window.go("/duplicates")
        expect(page.locator(".group")).to_have_count(3)
        page.get_by_label("Kind").select_option("near")
        expect(page.locator(".group")).to_have_count(1)
        assert window.asked == {"kind": ["near"]}
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.reload()
        expect(page.locator("#meaning")).to_contain_text("The same photograph")
        page.go_back()
        expect(page.locator(".group")).to_have_count(3)
        page.evaluate("localStorage.setItem('curation name', '\"ann\"')")
        window.go("/duplicates?view=one&kind=burst")
        expect(page.locator(".member")).to_have_count(2)
        expect(page.locator(".member").last).to_contain_text("+2 s")
        expect(page.locator(".member").last.locator("a")).to_have_text(BURST[1].rpartition("/")[2])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.go_back()
        page.get_by_label("Folder").fill("no/<b>such</b>")
        page.get_by_label("Folder").press("Enter")
        expect(page.locator("#count")).to_have_text("No such group is here.")
        assert window.asked["folder"] == ["no/<b>such</b>"]
