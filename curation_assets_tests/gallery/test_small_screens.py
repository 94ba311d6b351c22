"""What has to be in sight on small screens, and marks of copies, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1366, 768)])
def test_every_filter_is_in_sight(browser: Browser, address: str, width: int, height: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(f"{address}/?folder=kinds")
    page.wait_for_selector(".tile")
    button = page.locator(".ask-do").bounding_box()
    assert button is not None
    for name in page.eval_on_selector_all("#filters :is(input, select, textarea)", "all => all.map(one => one.name)"):
        box = page.locator(f"#filters [name={name}]").bounding_box()
        assert box is not None, name
        assert box["y"] + box["height"] <= button["y"] + 1, name
    page.close()


def test_on_a_phone_no_column_of_the_folders_is_cut_off(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{address}/folders")
    for table in page.locator(".scroll").all():
        assert table.evaluate("one => one.scrollWidth <= one.clientWidth")
    page.close()


def test_copies_are_marked_and_folded_and_an_empty_result_has_no_export(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{address}/?where=folder = 'kinds' OR folder = 'rice'")
    page.wait_for_selector(".tile")
    marked = page.locator(".tile", has=page.locator(".copies"))
    assert marked.evaluate_all("all => all.map(one => one.ariaLabel)") == ["copy.jpg, 1 copy", "photo_000.jpg, 1 copy"]
    assert page.locator("#export-all button").is_enabled()
    before = page.locator("#count").inner_text()
    page.select_option("[name=distinct]", "true")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_function("before => /of|images/.test(count.innerText) && count.innerText !== before", arg=before)
    assert "distinct=true" in page.url
    page.goto(f"{address}/?folder=coffee/healthy")
    page.wait_for_selector(".tile")
    assert page.locator(".copies").all_text_contents() == ["1 alike", "1 alike"]
    alike = page.locator(".tile", has=page.locator(".copies")).evaluate_all("all => all.map(one => one.ariaLabel)")
    assert alike == ["photo_036.jpg, healthy, 1 alike", "photo_039.jpg, healthy, 1 alike"]
    page.goto(f"{address}/?folder=coffee/healthy&distinct=true")
    page.wait_for_selector(".tile")
    page.wait_for_function("count.innerText === '39 images, in the order of their paths; 1 more is folded'")
    page.goto(f"{address}/?name=nowhere")
    page.wait_for_selector(".nothing")
    assert page.locator("#export-all button").is_disabled()
    page.close()
