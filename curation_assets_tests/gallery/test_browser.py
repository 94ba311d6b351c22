"""The gallery in a real browser, by mouse and by keyboard."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from curation_assets.images.names import printable
from curation_assets.pipeline import Pipeline
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import BOXED, HOSTILE, NEAR, SCRIPT

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

USABLE, ALL = 130, 133


def count(page: Page) -> Any:
    return expect(page.locator("#count"))


def settled(page: Page) -> None:
    """Wait until a page shows what it asked for."""
    for told in page.locator("#count, #state").all():
        expect(told).to_contain_text("image")
    for strip in page.locator("#like").all():
        expect(strip.locator("li")).to_have_count(12)
    if page.locator("#swagger").count():
        expect(page.get_by_text("/api/search")).to_be_visible()


# ------------------------------------------------------------------ searching


def test_images_are_browsed_and_more_come_as_one_scrolls(visit: Open) -> None:
    window = visit()
    page = window.go()
    count(page).to_have_text(f"60 of {ALL} images, in the order of their paths")
    window.scroll_to_the_end()
    count(page).to_have_text(f"{ALL} images, in the order of their paths")
    assert window.keys() == sorted(window.keys())
    assert len(set(window.keys())) == ALL
    expect(page.get_by_role("button", name="Load more")).to_be_hidden()


def test_a_text_is_searched_for_and_stands_in_the_address(visit: Open, lake: Pipeline) -> None:
    window = visit()
    page = window.go()
    page.get_by_label("What the images should show").fill("a leaf with brown spots")
    page.keyboard.press("Enter")
    count(page).to_have_text(f"60 of {USABLE} images, the nearest first")
    expected = lake.searcher.search("a leaf with brown spots", 60).rows
    assert window.keys() == expected["relative_path"].to_list()
    assert window.asked == {"text": ["a leaf with brown spots"]}
    expect(page.locator(".tile .score").first).to_have_text(f"cosine {expected['score'][0]:.3f}")
    expect(page.locator("#notices")).to_contain_text("For demonstration only")
    assert page.locator(".tile img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96


def test_texts_are_added_or_excluded(visit: Open, lake: Pipeline) -> None:
    window = visit()
    page = window.go("/?text=leaf")
    page.get_by_role("button", name="another text").click()
    page.get_by_label("Text 2", exact=True).fill("soil")
    page.get_by_label("Not this, text 2").check()
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**/?text=leaf&not=soil")
    count(page).to_contain_text("the nearest first")
    page.get_by_role("button", name="Remove text 2").click()
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**/?text=leaf")


def test_back_forward_and_a_bookmark_lead_to_the_same_result(visit: Open) -> None:
    window = visit()
    page = window.go("/?text=rice&folder=rice&min_side=10")
    count(page).to_have_text("30 images, the nearest first")
    ranked = window.keys()
    page.get_by_role("button", name="Clear all").click()
    count(page).to_contain_text(f"of {ALL}")
    page.go_back()
    count(page).to_have_text("30 images, the nearest first")
    assert window.keys() == ranked
    expect(page.get_by_label("What the images should show")).to_have_value("rice")
    expect(page.get_by_label("Folder, with all below it")).to_have_value("rice")
    page.go_forward()
    count(page).to_contain_text(f"of {ALL}")
    expect(page.get_by_label("What the images should show")).to_have_value("")


def test_filters_narrow_the_result(visit: Open) -> None:
    window = visit()
    page = window.go()
    page.get_by_label("Folder, with all below it").fill("coffee")
    page.get_by_label("Name contains").fill("photo_01")
    page.get_by_label("Smallest file, kB").fill("0.1")
    page.get_by_label("Has GPS").select_option("no")
    page.get_by_label("Condition in SQL").fill("height < width")
    page.get_by_role("button", name="Search", exact=True).click()
    count(page).to_have_text("20 images, in the order of their paths")
    assert window.asked["min_bytes"] == ["100"]
    expect(page.locator("#filter-count")).to_have_text("5")
    page.get_by_label("Condition in SQL").fill("nonsense = 1")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#notices")).to_contain_text("there is no column nonsense")
    window.problems.clear()  # the browser tells of the 400 itself


def test_folders_are_suggested(visit: Open) -> None:
    page = visit().go()
    page.get_by_label("Folder, with all below it").focus()
    expect(page.locator("#folders option[value='coffee/rust']")).to_be_attached()
    expect(page.locator("#folders option[value='coffee']")).to_be_attached()


@pytest.mark.parametrize("way", ["chosen", "dropped", "pasted"])
def test_an_image_is_searched_with(visit: Open, lake: Pipeline, way: str) -> None:
    window = visit()
    page = window.go()
    count(page).to_contain_text("images")
    data = (lake.settings.images_root / "rice/photo_007.jpg").read_bytes()
    if way == "chosen":
        page.locator("#file").set_input_files({"name": "<i>mine</i>.jpg", "mimeType": "image/jpeg", "buffer": data})
    else:
        page.evaluate(
            """([way, text]) => {
                const bytes = Uint8Array.from(atob(text), char => char.charCodeAt(0));
                const moved = new DataTransfer();
                moved.items.add(new File([bytes], '<i>mine</i>.jpg', {type: 'image/jpeg'}));
                const event = way === 'dropped'
                    ? new DragEvent('drop', {dataTransfer: moved, bubbles: true, cancelable: true})
                    : new ClipboardEvent('paste', {clipboardData: moved, bubbles: true, cancelable: true});
                document.body.dispatchEvent(event);
            }""",
            [way, base64.b64encode(data).decode()],
        )
    count(page).to_have_text(f"60 of {USABLE} images, the nearest first")
    assert window.keys()[0] == "rice/photo_007.jpg"
    expect(page.locator("#chips li")).to_have_text("your image <i>mine</i>.jpg×")
    page.reload()
    count(page).to_have_text(f"60 of {USABLE} images, the nearest first")
    expect(page.locator("#chips li")).to_have_text("your image <i>mine</i>.jpg×")
    page.get_by_role("button", name="Remove your image").click()
    count(page).to_contain_text("in the order of their paths")


def test_an_image_that_can_not_be_used_is_refused_in_words(visit: Open) -> None:
    window = visit()
    page = window.go()
    count(page).to_contain_text("images")
    page.locator("#file").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"<html>"})
    expect(page.locator("#notices")).to_contain_text("not an image")
    window.problems.clear()
    page.locator("#file").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": bytes(300_000)})
    expect(page.locator("#notices")).to_contain_text("more than 200,000 bytes")
    count(page).to_contain_text(f"of {ALL}")


# ---------------------------------------------------------------------- grid


def test_one_walks_the_grid_and_selects_by_keyboard(visit: Open) -> None:
    window = visit()
    page = window.go("/?folder=coffee/rust")  # one page: at its end no more images come while they are counted
    count(page).to_contain_text("images")
    page.locator(".tile").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert (window.focused(), window.selected()) == (1, [1])
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert window.selected() == [1, 2, 3]
    page.keyboard.press("Shift+ArrowLeft")
    assert window.selected() == [1, 2]
    columns: int = page.evaluate(
        "getComputedStyle(document.querySelector('#tiles')).gridTemplateColumns.split(' ').length"
    )
    page.keyboard.press("ArrowDown")
    assert window.focused() == 2 + columns
    page.keyboard.press("End")
    assert window.focused() == page.locator(".tile").count() - 1
    page.keyboard.press("Home")
    assert window.focused() == 0
    expect(page.locator("#selected-count")).to_have_text("2")
    page.keyboard.press("Control+a")
    assert len(window.selected()) == page.locator(".tile").count()
    page.keyboard.press("Escape")
    assert window.selected() == []
    expect(page.locator("#selection")).to_be_hidden()
    assert page.locator(".tile[tabindex='0']").count() == 1


def test_one_selects_by_mouse(visit: Open) -> None:
    window = visit()
    page = window.go()
    count(page).to_contain_text("images")
    boxes = page.locator(".tile input")
    boxes.nth(2).click()
    boxes.nth(5).click(modifiers=["Shift"])
    page.wait_for_timeout(50)
    assert window.selected() == [2, 3, 4, 5]
    boxes.nth(3).click()
    assert window.selected() == [2, 4, 5]
    page.locator(".tile a").nth(7).click(modifiers=["Shift"])
    assert window.selected() == [2, 3, 4, 5, 6, 7]
    page.get_by_role("button", name="Clear", exact=True).click()
    assert window.selected() == []
    page.locator(".tile a").nth(1).click()
    page.wait_for_url("**/image?key=*")


def test_the_keys_are_listed_and_lead_where_they_say(visit: Open) -> None:
    window = visit()
    page = window.go()
    count(page).to_contain_text("images")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_label("What the images should show")).to_be_focused()
    page.keyboard.type("a/b?")
    expect(page.get_by_label("What the images should show")).to_have_value("a/b?")


def test_everything_is_done_by_keyboard_alone(visit: Open) -> None:
    window = visit()
    page = window.go()
    count(page).to_contain_text("images")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("rust")
    page.keyboard.press("Enter")
    count(page).to_contain_text("the nearest first")
    for _ in range(40):
        page.keyboard.press("Tab")
        if window.focused() == 0:
            break
    assert window.focused() == 0
    outline: str = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    second = window.keys()[1]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.locator(".tile[tabindex='0']").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/image?key=*")
    assert parse_qs(urlsplit(page.url).query)["key"] == [second]
    page.go_back()
    count(page).to_contain_text("the nearest first")
    expect(page.locator("#selected-count")).to_have_text("1")
    page.locator(".tile[tabindex='0']").focus()
    assert window.focused() == 1
    page.keyboard.press("m")
    page.wait_for_url("**/?like=*")
    count(page).to_contain_text(f"of {USABLE - 1} images")


def test_the_load_more_button_goes_on_from_the_first_new_image(visit: Open) -> None:
    window = visit()
    page = window.go()
    count(page).to_contain_text(f"60 of {ALL}")
    page.evaluate("document.getElementById('more').click()")
    expect(page.locator(".tile").nth(60)).to_be_focused()


# -------------------------------------------------------------------- export


def test_a_jump_to_the_content_and_another_search_keep_the_selection(visit: Open) -> None:
    page = visit().go("/?folder=rice")
    count(page).to_contain_text("30 images")
    chosen = page.locator(".tile input:checked")
    for place in range(3):
        page.locator(".tile input").nth(place).click()
    page.locator("a.skip").focus()
    page.keyboard.press("Enter")
    expect(chosen).to_have_count(3)
    first = {page.locator(".tile a").nth(place).get_attribute("href") for place in range(3)}
    page.locator("#texts input[type=search]").first.fill("a leaf")
    page.keyboard.press("Enter")
    count(page).to_contain_text("the nearest first")
    seen = page.locator(".tile a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    place = next(place for place, link in enumerate(seen) if link not in first)
    page.locator(".tile input").nth(place).click()
    expect(page.locator("#selected-count")).to_have_text("4")
    page.go_back()
    expect(page.locator("#selected-count")).to_have_text("4")
    assert {page.locator(".tile:has(input:checked) a").nth(place).get_attribute("href") for place in range(3)} >= first
    page.go_forward()
    expect(page.locator("#selected-count")).to_have_text("4")


def test_a_selection_is_exported_with_where_it_comes_from(visit: Open, tmp_path: Path) -> None:
    window = visit()
    page = window.go("/?text=rust")
    count(page).to_contain_text("the nearest first")
    for place in (4, 1):
        page.locator(".tile input").nth(place).click()
    page.locator("#selection select").select_option("parquet")
    with page.expect_download() as started:
        page.get_by_role("button", name="Export", exact=True).click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    table = pq.read_table(path)
    keys = window.keys()
    assert table["relative_path"].to_pylist() == [keys[1], keys[4]]
    provenance = json.loads(table.schema.metadata[b"curation_provenance"])
    assert provenance["query"] == [{"text": "rust", "weight": 1.0}]


def test_a_whole_result_is_exported(visit: Open, tmp_path: Path) -> None:
    page = visit().go("/?folder=odd&folder=rice&min_side=20")
    count(page).to_contain_text("images")
    with page.expect_download() as started:
        page.get_by_role("button", name="Export all").click()
    assert re.fullmatch(r"images-\d{8}-\d{6}\.csv", started.value.suggested_filename)
    started.value.save_as(tmp_path / "all.csv")
    rows = pl.read_csv(tmp_path / "all.csv")
    assert len(rows) == 30 + len(HOSTILE)
    assert set(HOSTILE) <= set(rows["relative_path"])


def test_an_empty_result_is_not_offered_for_export(visit: Open) -> None:
    page = visit().go("/?min_side=1000000")
    count(page).to_have_text("No image meets the conditions.")
    expect(page.get_by_role("button", name="Nothing to export")).to_be_disabled()
    page.get_by_role("button", name="Clear all").click()
    expect(page.get_by_role("button", name="Export all")).to_be_enabled()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1366, 768)])
def test_all_filters_are_in_sight_on_a_small_laptop(visit: Open, width: int, height: int) -> None:
    page = visit().go("/")
    page.set_viewport_size({"width": width, "height": height})
    page.reload()
    expect(page.locator("#columns")).to_be_in_viewport(ratio=1)
    buttons = page.locator(".ask-do").bounding_box()
    lowest = page.locator("#columns").bounding_box()
    assert buttons is not None
    assert lowest is not None
    assert lowest["y"] + lowest["height"] <= buttons["y"]  # not beneath them


def test_on_a_phone_the_lowest_filter_is_reached_and_the_folders_table_fits(visit: Open) -> None:
    window = visit()
    page = window.page
    page.set_viewport_size({"width": 390, "height": 844})
    window.go("/")
    page.locator("#filters > summary").click()
    page.locator("textarea[name=where]").scroll_into_view_if_needed()
    expect(page.locator("textarea[name=where]")).to_be_in_viewport(ratio=1)
    window.go("/folders")
    expect(page.get_by_role("columnheader", name="Not usable")).to_be_in_viewport(ratio=1)
    table = page.get_by_role("region", name="Folders in this one")
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth")


# ------------------------------------------------------------------ one image


def test_an_image_has_a_page_with_all_that_is_known(visit: Open, lake: Pipeline) -> None:
    page = visit().go("/image?key=" + quote("kinds/told.jpg"))
    expect(page.get_by_role("heading", name="told.jpg")).to_be_visible()
    picture = page.get_by_role("img", name="told.jpg").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [1067, 1600]
    row = lake.tables.row("kinds/told.jpg")
    assert row is not None
    expect(page.locator(".facts")).to_contain_text(row["content_sha256"])
    expect(page.locator(".facts")).to_contain_text("clip_embedding version 1")
    page.get_by_text("EXIF", exact=True).click()
    expect(page.locator("#exif-tags")).to_contain_text("Field Cam <b>7</b>")
    link = page.get_by_role("link", name="Folder in Dagster").get_attribute("href")
    assert link == "http://127.0.0.1:3000/assets/crop_images_directory?view=partitions&partition=kinds"
    with page.expect_download() as started:
        page.get_by_role("link", name="Download the file").click()
    assert started.value.suggested_filename == "told.jpg"
    assert started.value.path().read_bytes() == (lake.settings.images_root / "kinds/told.jpg").read_bytes()


def test_more_like_an_image_are_shown_and_searched(visit: Open, lake: Pipeline) -> None:
    window = visit()
    page = window.go("/image?key=" + quote("rice/photo_000.jpg"))
    strip = page.locator("#like .tile")
    expect(strip).to_have_count(12)
    expect(strip.first).to_contain_text("copy.jpg")
    expect(page.locator(".plain-list:not(#decisions)")).to_have_text("kinds/copy.jpg")
    page = window.go("/image?key=" + quote(NEAR[1]))
    members = page.locator(".seen .strip .tile")
    expect(members).to_have_count(2)
    expect(members.nth(0)).to_contain_text("keep: ")
    expect(members.nth(1)).to_contain_text("mirrored")
    expect(members.locator("[aria-current=page]")).to_have_attribute("title", NEAR[1])
    page = window.go("/image?key=" + quote("rice/photo_000.jpg"))
    page.get_by_role("link", name="More like this").click()
    count(page).to_contain_text("the nearest first")
    assert window.asked == {"like": ["rice/photo_000.jpg"]}
    assert window.keys()[0] == "kinds/copy.jpg"
    page.get_by_role("button", name="Remove like rice/photo_000.jpg").click()
    count(page).to_contain_text("in the order of their paths")


def test_a_broken_image_says_why(visit: Open) -> None:
    page = visit().go("/image?key=" + quote("kinds/page.jpg"))
    expect(page.locator(".nothing")).to_contain_text("not an image")
    page.goto(page.url.split("/image")[0] + "/?status=corrupt")
    count(page).to_have_text("2 images, in the order of their paths")
    expect(page.locator(".tile .shot").first).to_have_text("corrupt")


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_names_are_text_wherever_they_stand(visit: Open, key: str) -> None:
    window = visit()
    page = window.go("/?folder=odd")
    count(page).to_have_text(f"{len(HOSTILE)} images, in the order of their paths")
    shown = printable(key.rsplit("/", 1)[-1])
    expect(page.locator(".tile .name", has_text=shown).first).to_have_text(shown)
    page.locator(".tile a").nth(window.keys().index(key)).click()
    expect(page.locator("h1")).to_have_text(shown)
    assert page.locator("h1 *").count() == 0
    expect(page.locator("#like .tile")).to_have_count(12)
    picture = page.locator("#picture")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    page.get_by_role("link", name="More like this").click()
    count(page).to_contain_text("the nearest first")
    assert window.asked == {"like": [key]}


# -------------------------------------------------------------------- folders


def test_folders_are_walked_and_bad_files_have_their_reasons(visit: Open) -> None:
    page = visit().go("/folders")
    expect(page.locator(".numbers")).to_contain_text(str(ALL))
    expect(page.locator(".reasons tbody tr")).to_have_count(3)
    expect(page.locator(".reasons")).to_contain_text("the file is empty")
    page.get_by_role("link", name="coffee/").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("coffee")
    page.get_by_role("link", name="rust", exact=True).click()
    page.get_by_role("link", name="Show the images").click()
    count(page).to_have_text("50 images, in the order of their paths")
    expect(page.get_by_label("Folder, with all below it")).to_have_value("coffee/rust")


def test_a_hostile_folder_is_walked_too(visit: Open) -> None:
    page = visit().go("/folders?folder=odd")
    page.get_by_role("link", name="<script>alert(1)<").click()
    page.get_by_role("link", name="Show the images").click()
    count(page).to_have_text("1 image, in the order of their paths")
    assert parse_qs(urlsplit(page.url).query)["folder"] == [SCRIPT.rsplit("/", 1)[0]]


# ------------------------------------------------------------------------ map


def mapped(page: Page, lake: Pipeline) -> tuple[np.ndarray[Any, Any], pl.DataFrame]:
    """(n, 2) places of the points on the page, computed from what the page shows of itself; and the points."""
    expect(page.locator("#state")).to_have_text(f"{USABLE} images")
    page.wait_for_timeout(400)
    points = lake.searcher.map_of(lake.searcher.open())
    xy = points.select("x", "y").to_numpy()
    box = page.locator("#map canvas").bounding_box()
    assert box is not None
    size = xy.max(axis=0) - xy.min(axis=0)
    centre = (xy.max(axis=0) + xy.min(axis=0)) / 2
    scale = min((box["width"] - 40) / size[0], (box["height"] - 40) / size[1])
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    return middle + (xy - centre) * scale * np.array([1, -1]), points


def lonely(places: np.ndarray[Any, Any]) -> int:
    """The point that lies farthest from its neighbour."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(len(places)) * 1e9
    return int(distances.min(axis=1).argmax())


def test_a_point_under_the_pointer_shows_its_image_and_opens_it(visit: Open, lake: Pipeline) -> None:
    page = visit().go("/map")
    places, points = mapped(page, lake)
    number = lonely(places)
    key = points["relative_path"][number]
    page.mouse.move(*places[number])
    expect(page.locator("#tip")).to_be_visible()
    expect(page.locator("#tip-name")).to_have_text(printable(key.rsplit("/", 1)[-1]))
    assert page.locator("#tip-picture").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.mouse.click(*places[number])
    page.wait_for_url("**/image?key=*")
    assert parse_qs(urlsplit(page.url).query)["key"] == [key]


@pytest.mark.parametrize("way", ["button", "shift"])
def test_a_lasso_leads_to_the_images_inside(visit: Open, lake: Pipeline, way: str) -> None:
    window = visit()
    page = window.go("/map")
    places, points = mapped(page, lake)
    (left, top), (_, bottom) = places.min(axis=0) - 8, places.max(axis=0) + 8
    middle = float(np.sort(places[:, 0])[len(places) // 2 - 1 : len(places) // 2 + 1].mean())
    corners = [(left, top), (middle, top), (middle, bottom), (left, bottom)]
    if way == "button":
        page.get_by_role("button", name="Lasso").click()
    else:
        page.keyboard.down("Shift")
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in [*corners[1:], corners[0]]:
        page.mouse.move(*corner, steps=10)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_url("**/?region=*")
    expected = set(points["relative_path"].filter(pl.Series(places[:, 0] < middle)))
    count(page).to_contain_text("images")
    window.scroll_to_the_end()
    count(page).to_have_text(f"{len(expected)} images, in the order of their paths")
    assert set(window.keys()) == expected
    expect(page.locator("#chips")).to_contain_text("region of the map")


def test_points_are_coloured_by_folder_or_by_label(visit: Open, lake: Pipeline) -> None:
    window = visit()
    page = window.go("/map")
    mapped(page, lake)
    expect(page.locator("#legend li").first).to_contain_text("coffee")
    expect(page.locator("#legend li").first).to_contain_text("90")
    page.get_by_role("combobox", name="Colour by").select_option("2")
    expect(page.locator("#legend li").first).to_contain_text("coffee/rust")
    before = page.locator("#map canvas").screenshot()
    page.locator("#legend input").first.uncheck()
    page.wait_for_timeout(200)
    assert page.locator("#map canvas").screenshot() != before
    page.get_by_role("combobox", name="Colour by").select_option("cluster")
    expect(page.locator("#legend li").first).to_contain_text(": ")
    page.get_by_role("combobox", name="Colour by").select_option("outlier_score")
    expect(page.locator("#legend li").first).to_contain_text("the farthest 1 %")
    page.get_by_role("combobox", name="Colour by").select_option("label_class")
    expect(page.locator("#legend li").first).to_have_text("rust50")
    expect(page.locator("#legend li").last).to_have_text(f"none{USABLE - 91}")
    page.get_by_label("Labels, one a line").fill("a green leaf\n<b>soil</b>\n")
    page.get_by_role("button", name="Colour by these labels").click()
    expect(page.locator("#legend")).to_contain_text("<b>soil</b>")
    page.get_by_label("Labels, one a line").fill("alone")
    page.get_by_role("button", name="Colour by these labels").click()
    expect(page.locator("#state")).to_contain_text("at least two")
    window.problems.clear()


def test_boxes_lie_over_the_picture_and_can_be_put_away(visit: Open) -> None:
    page = visit().go(f"/image?key={BOXED}")
    picture, box = page.locator("#picture"), page.locator("#boxes rect")
    expect(box).to_be_visible()
    seen, drawn = picture.bounding_box(), box.bounding_box()
    assert seen is not None
    assert drawn is not None
    scale = seen["width"] / 1600
    assert abs(drawn["x"] - seen["x"] - 100 * scale) < 3
    assert abs(drawn["height"] - 400 * scale) < 4
    page.get_by_label("Show the boxes").uncheck()
    expect(box).to_be_hidden()


def test_the_map_is_moved_and_zoomed(visit: Open, lake: Pipeline) -> None:
    page = visit().go("/map")
    mapped(page, lake)
    canvas = page.locator("#map canvas")

    def changes(act: Callable[[], Any]) -> None:
        before = canvas.screenshot()
        act()
        page.wait_for_timeout(250)
        assert canvas.screenshot() != before

    changes(lambda: page.get_by_role("button", name="Zoom in").click())
    changes(lambda: page.get_by_role("button", name="Show all").click())
    page.locator("#map").focus()
    changes(lambda: page.keyboard.press("ArrowLeft"))
    changes(lambda: page.keyboard.press("+"))
    changes(lambda: page.keyboard.press("0"))
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    changes(lambda: page.mouse.wheel(0, -300))


def test_a_rectangle_by_numbers_does_what_the_lasso_does(visit: Open, lake: Pipeline) -> None:
    page = visit().go("/map")
    mapped(page, lake)
    page.get_by_text("A rectangle, by numbers").click()
    for name, value in (("x from", "-2"), ("x to", "2"), ("y from", "-2"), ("y to", "2")):
        page.get_by_role("spinbutton", name=name).fill(value)
    page.keyboard.press("Enter")
    page.wait_for_url("**/?region=*")
    count(page).to_contain_text(f"of {USABLE} images")


# ---------------------------------------------------------------- whole pages

PATHS = ["/", "/?text=rust&folder=coffee&where=width>1&like=rice/photo_000.jpg", "/folders", "/folders?folder=odd"]
PATHS += ["/map", "/docs", "/nowhere", "/image?key=" + quote(SCRIPT), "/image?key=kinds/print.tif"]


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "dark")])
def test_nothing_is_wider_than_the_window(visit: Open, width: int, scheme: str) -> None:
    window = visit(width, color_scheme=scheme)
    for path in PATHS:
        page = window.go(path)
        settled(page)
        assert fits(page), path
    window.problems.clear()  # of /nowhere, a 404


def test_every_control_has_a_name_and_headings_begin_with_one_of_the_first_level(visit: Open) -> None:
    window = visit()
    for path in ("/?text=rust", "/map", "/folders", "/image?key=kinds/told.jpg"):
        page = window.go(path)
        settled(page)
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, a, input:not([type=hidden]), select, textarea')]
                .filter(one => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length
                    || one.querySelector('img[alt]:not([alt=""])')))
                .map(one => one.outerHTML)"""
        )
        assert nameless == [], path
        assert page.locator("h1").count() == 1
        assert page.evaluate("[...document.images].every(image => image.hasAttribute('alt'))")


def test_the_documentation_is_drawn_under_the_policy(visit: Open) -> None:
    page = visit().go("/docs")
    expect(page.get_by_text("/api/search")).to_be_visible()
    page.get_by_text("/api/search").click()
    expect(page.get_by_text("What images should show; several are added up.")).to_be_visible()


def test_a_gallery_with_a_token_asks_for_it_once(visit: Open, lake: Pipeline, serve: Callable[..., str]) -> None:
    window = visit(at=serve(lake, "the token"))
    page = window.go("/folders?folder=rice")
    page.get_by_label("Token").fill("a guess")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("that is not this gallery's token")
    window.problems.clear()
    window.go("/folders?folder=rice")
    page.get_by_label("Token").fill("the token")
    page.keyboard.press("Enter")
    page.wait_for_url("**/folders?folder=rice")
    expect(page.get_by_role("heading", level=1)).to_have_text("rice")
    window.go("/")
    count(page).to_contain_text("images")
    page.wait_for_load_state("networkidle")  # what is still on its way when the token goes is refused
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.wait_for_load_state("networkidle")  # its server ends with the test
