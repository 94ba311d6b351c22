"""The pages of datasets and leakage in a real browser: by keyboard, on a phone, and with names that are markup."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from curation_assets.pipeline import Pipeline
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import NEAR, serving
from curation_assets_tests.gallery.published import GONE, MERGED, SIDES

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def place(published: Pipeline) -> Iterator[str]:
    with serving(published) as found:
        yield found


def test_a_dataset_is_looked_through_by_keyboard_alone(visit: Open, place: str) -> None:
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


def test_a_version_is_taken_along_as_a_list_or_by_a_command(visit: Open, place: str) -> None:
    page = visit(at=place).go("/datasets?name=leaves&version=1")
    page.get_by_label("Called").fill("it's mine")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "it's mine.csv"
    expect(page.locator("#export-state")).to_contain_text("downloads")
    page.locator("#format").select_option("folders")
    expect(page.locator("#download")).to_be_hidden()
    expect(page.locator("#command code")).to_contain_text(
        "curation dataset export leaves@1 --to folders --out 'it'\\''s mine' --lake "
    )
    page.locator("#command").get_by_role("button", name="Copy").click()
    expect(page.locator("#command")).to_contain_text("opied")


def test_phones_show_all_and_markup_is_text(visit: Open, place: str) -> None:
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


def test_leaks_are_filtered_and_the_address_holds_it(visit: Open, place: str) -> None:
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
