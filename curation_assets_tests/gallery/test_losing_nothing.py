"""What could lose a decision in the browser: several pages at once, no room, others who decide meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from curation_assets.decisions.record import append, read_decisions
from curation_assets.pipeline import Pipeline
from curation_assets_tests.gallery.browsing import Open, fits
from curation_assets_tests.gallery.conftest import serving

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, Request, expect

EVERYTHING = "/problems?kind=blurry&threshold=10&view=worst"


FILLED = """for (let size = 1e6; size >= 1; size /= 2) {
  try {
    for (let at = 0; ; at += 1) localStorage.setItem(`${size} ${at}`, "x".repeat(size));
  } catch {}
}"""


def said(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Kind and path of each decision that counts, by path."""
    rows = read_decisions(pipeline.tables.decisions).rows.sort("relative_path")
    return rows.select("kind", "relative_path").rows()


def ready(page: Page, name: str = "Ann") -> None:
    page.evaluate("name => localStorage.setItem('curation name', JSON.stringify(name))", name)
    expect(page.locator("#tiles .tile").first).to_be_visible()


def decide(page: Page, at: int, key: str) -> None:
    page.locator("#tiles .tile").nth(at).focus()
    page.keyboard.press(key)


def test_what_waits_of_a_page_that_is_closed_is_sent_by_the_next_one(
    window_of: Callable[..., Page], own: Pipeline
) -> None:
    one, other = window_of(1440), window_of(1440)
    with serving(own) as address:
        for page in (one, other):
            page.goto(address + EVERYTHING)
            ready(page)
    for page, at in ((one, 0), (other, 1)):
        decide(page, at, "k")
        expect(page.locator("#saved")).to_contain_text("1 not saved: the gallery can't be reached")
    one.close()
    with serving(own, port=int(address.rpartition(":")[2])):
        expect(other.locator("#saved")).to_have_text("All saved", timeout=20_000)
        other.reload()
        expect(other.locator("#saved")).to_have_text("All saved")
        other.evaluate("localStorage.clear()")
        other.close()
    assert [kind for kind, _ in said(own)] == ["keep", "keep"]


def test_no_room_in_the_browser_is_told(visit: Open, own: Pipeline, serve: Callable[..., str]) -> None:
    window = visit(390, at=serve(own))
    page = window.go("/")
    ready(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.evaluate(FILLED)
    page.locator("#tiles .tile").nth(0).focus()
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#selection")).to_contain_text("2 selected. This browser has no room for it")
    assert fits(page)
    page.context.set_offline(True)
    page.keyboard.press("k")
    expect(page.locator("#saved")).to_contain_text("2 not saved: the gallery can't be reached")
    expect(page.locator("#saved")).to_contain_text("This browser has no room for them: leave the page open")
    page.context.set_offline(False)
    expect(page.locator("#saved")).to_have_text("All saved")
    window.problems.clear()  # the browser tells that it was offline
    assert len(said(own)) == 2


def test_one_image_that_is_another_by_now_keeps_no_other_from_being_decided_and_is_told(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    window = visit(at=serve(own))
    page = window.go("/?folder=rice")
    ready(page)
    page.on("dialog", lambda dialog: dialog.accept())
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.locator("#tiles .tile").nth(0).focus()
    page.keyboard.press("Control+a")
    page.evaluate(
        """() => {
          const name = Object.keys(localStorage).find((one) => one.startsWith("curation selection"));
          const selected = JSON.parse(localStorage.getItem(name));
          selected[17][1] = "0".repeat(64);
          localStorage.setItem(name, JSON.stringify(selected));
        }"""
    )
    page.reload()
    expect(page.locator("#selection")).to_contain_text("30 selected")
    decide(page, 0, "r")
    expect(page.get_by_role("alert")).to_contain_text("Not written: rice/photo_017.jpg is another image by now")
    expect(page.locator("#saved")).to_have_text("All saved")
    assert len(said(own)) == 29
    assert len(posts) <= 11, "it is found by halves"
    decided = page.locator("#tiles .tile[data-decided]")
    expect(decided).to_have_count(29)
    page.keyboard.press("z")
    expect(decided).to_have_count(0)
    expect(page.locator("#saved")).to_have_text("All saved")
    expect(page.get_by_role("alert")).to_have_count(1)
    assert said(own) == []
    page.locator("[name=name]").fill("photo_0")
    page.keyboard.press("Enter")
    expect(page.locator("#count")).to_contain_text("in the order of their paths")
    expect(page.get_by_role("alert")).to_contain_text("Not written")
    window.problems.clear()  # the browser tells of the answer 409


def test_taking_tags_and_decisions_back_shows_what_was_before_also_of_an_earlier_page(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    path = "rice/photo_001.jpg"
    of = {"relative_path": path, "content_sha256": own.tables.contents([path])[path], "decided_by": "Ben"}
    kinds = ({"kind": "tag", "value": "hard"}, {"kind": "remove", "field": "quality"})
    append(own.tables.decisions, lambda _: [kind | of for kind in kinds])
    page = visit(at=serve(own)).go("/?folder=rice")
    ready(page)
    page.on("dialog", lambda dialog: dialog.accept())
    tags, decided = page.locator("#tiles .marks .tag"), page.locator("#tiles .tile[data-decided]")
    expect(tags).to_have_count(1)
    decide(page, 1, "Shift+ArrowRight")
    for is_earlier in (False, True):
        page.keyboard.press("t")
        page.get_by_role("button", name="hard ×").click()
        expect(tags).to_have_count(0)
        if is_earlier:
            expect(page.locator("#saved")).to_have_text("All saved")
            page.reload()
            expect(page.locator("#tiles .tile").first).to_be_visible()
        page.keyboard.press("z")
        expect(tags).to_have_count(1)
        expect(page.locator("#saved")).to_have_text("All saved")
        expect(tags).to_have_count(1)
    decide(page, 1, "k")
    expect(page.locator("#tiles .tile[data-decided=keep]")).to_have_count(2)
    expect(page.locator("#saved")).to_have_text("All saved")
    page.reload()
    expect(decided).to_have_count(2)
    page.keyboard.press("z")
    expect(decided).to_have_count(1)
    expect(decided).to_have_attribute("data-decided", "remove")
    page.locator("#tiles .tile").first.focus()
    page.keyboard.press("t")
    page.get_by_role("dialog").get_by_label("Tag").fill("a\u200db")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")


def test_what_others_said_of_images_that_are_not_here_is_not_overwritten(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    page = visit(at=serve(own)).go("/?folder=coffee")
    ready(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#tiles .tile").nth(0).focus()
    page.keyboard.press("Shift+ArrowRight")
    path = "coffee/healthy/photo_001.jpg"
    row = {"kind": "remove", "field": "quality", "relative_path": path, "decided_by": "Ben"}
    append(own.tables.decisions, lambda _: [row | {"content_sha256": own.tables.contents([path])[path]}])
    page.goto(page.url.replace("coffee", "rice"))
    expect(page.locator("#selection")).to_contain_text("2 selected, 2 of them not here")
    page.locator("#selection").get_by_role("button", name="Keep").click()
    expect(page.get_by_role("alert")).to_contain_text(f"Ben said “remove” of {path} meanwhile; yours was not written.")
    expect(page.locator("#saved")).to_have_text("All saved")
    assert [kind for kind, _ in said(own)] == ["keep", "remove"]


def test_a_page_that_is_open_for_hours_asks_one_thing_at_a_time_and_shows_what_others_said(
    visit: Open, own: Pipeline, serve: Callable[..., str]
) -> None:
    window = visit(1300, at=serve(own))  # of another browser than other tests', as its clock is set
    page, asking, most, looks = window.page, 0, 0, 0

    def begun(request: Request) -> None:
        nonlocal asking, most, looks
        if "/api/decisions?" in request.url:
            asking, looks = asking + 1, looks + 1
            most = max(most, asking)

    def ended(request: Request) -> None:
        nonlocal asking
        asking -= "/api/decisions?" in request.url

    page.clock.install()
    window.go("/?folder=coffee")
    ready(page)
    page.on("request", begun)
    page.on("requestfinished", ended)
    path = window.keys()[0]
    content = own.tables.contents([path])[path]
    elements = page.locator("*").count()
    for kind, shown in (("remove", "remove"), ("keep", "keep"), ("unsure", "can't tell")) * 2:
        row = {"kind": kind, "field": "quality", "relative_path": path, "content_sha256": content, "decided_by": "Ben"}
        append(own.tables.decisions, lambda _, row=row: [row])
        page.clock.run_for(3_600_000)
        page.wait_for_timeout(200)
        page.clock.run_for(10_000)
        expect(page.locator("#tiles .tile").first).to_contain_text(shown)
    assert (most, looks > 10) == (1, True)
    assert page.locator("*").count() <= elements + 5


LISTED = """async ([total, theirs]) => {
  const { undecided } = await import("/static/review.js");
  let left = Array.from({ length: total }, (_, at) => ({ key: String(at) }));
  const page = async (from) => {
    const next = from + 10 < left.length ? from + 10 : null;
    return { things: left.slice(from, from + 10), next, total: left.length };
  };
  const load = undecided(page);
  const given = [];
  let done = 0;
  for (;;) {
    const found = await load(given, () => done);
    if (!found.length) return given.map((one) => Number(one.key));
    given.push(...found);
    const mine = found.filter((one) => left.includes(one)).slice(0, 5); // one's own answers, and others'
    done += mine.length;
    left = left.filter((one) => !mine.includes(one) && !theirs.includes(Number(one.key)));
    theirs = [];
  }
}"""


@pytest.mark.parametrize("theirs", [[], [*range(5, 40)], [*range(90, 100)], [*range(100)]])
def test_nothing_is_skipped_where_others_decide_meanwhile(visit: Open, theirs: list[int]) -> None:
    page = visit().go("/folders")
    found = page.evaluate(LISTED, [100, theirs])
    assert len(found) == len(set(found))
    assert set(found) >= set(range(100)) - set(theirs)


def test_what_could_not_be_loaded_is_no_end(visit: Open, own: Pipeline, serve: Callable[..., str]) -> None:
    window = visit(at=serve(own))
    page = window.go(EVERYTHING)
    ready(page)
    page.locator("#begin").click()
    links = page.locator("#review figcaption a")
    expect(links).to_be_visible()
    after = window.page.request.get(f"{window.address}/api/problems/blurry?threshold=10&k=1&offset=50").json()
    page.context.set_offline(True)
    for _ in range(51):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#review .nothing")).to_contain_text("could not be loaded")
    page.context.set_offline(False)
    page.keyboard.press("ArrowRight")
    expect(links).to_have_text(after["images"][0]["image"]["path"])
    window.problems.clear()  # the browser tells that it was offline
