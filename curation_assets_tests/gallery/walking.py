"""The walk of ``docs/review.md``, in a browser: what is wrong with the demo's coffee leaves is decided by key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page, expect

from curation_assets.datasets.reading import read_recipe
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress

_MOST = 40  # images of one page


@dataclass(frozen=True)
class Walked:
    """What was met on the way.

    Attributes:
        blurry, labels: of each, how many were decided.
        compared: text of the page that compares the versions.
    """

    blurry: int
    labels: int
    compared: str


def walk(page: Page, address: str, pipeline: Pipeline, look: Callable[[str], None] = lambda _: None) -> Walked:
    """Decide on what is wrong with the coffee leaves, and compare the version before with the one after.

    Args:
        look: is told each time when a step is to be seen.
    """
    review = page.locator("#review")

    def decided(keys: str) -> int:
        """Answer until nothing is left, the last of the keys again and again; how many it were."""
        expect(review.locator("figcaption a").first).to_be_visible()
        for number in range(_MOST):
            if review.get_by_text("Nothing is left").count():
                break
            before = review.inner_text()
            page.keyboard.press(keys[min(number, len(keys) - 1)])
            page.wait_for_function("before => document.querySelector('#review').innerText !== before", arg=before)
        expect(page.locator("#saved")).to_have_text("All saved")
        return number

    page.goto(f"{address}/problems")
    page.evaluate("localStorage.setItem('curation name', '\"Ann\"')")
    look("problems")
    page.goto(f"{address}/problems?kind=blurry&folder=coffee")
    look("line")
    page.locator("#begin").click()
    expect(review.locator("figcaption a")).to_be_visible()
    look("one")
    blurry = decided("rrk")
    page.goto(f"{address}/labels?field=class&view=one")
    expect(review.locator(".strip")).not_to_have_count(0)
    look("label")
    labels = decided("aka")
    page.goto(f"{address}/duplicates?kind=near")
    page.locator("#begin").click()
    expect(review.locator(".member")).not_to_have_count(0)
    look("group")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_have_text("All saved")
    page.wait_for_timeout(3000)  # what follows from decisions is brought in line when nobody has decided for a while
    pipeline.build_dataset(read_recipe(pipeline.settings.recipes / "leaves.toml"), LogProgress())
    page.goto(f"{address}/datasets?name=leaves&version=2&compare=1")
    expect(page.locator("#main")).to_contain_text("came")
    look("compared")
    return Walked(blurry, labels, page.locator("#main").inner_text())
