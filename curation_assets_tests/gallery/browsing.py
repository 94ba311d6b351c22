"""Windows of a real browser on the gallery; fixtures, which conftest.py takes over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from curation_assets_tests.chromium import installed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', e => violations.push(`${e.violatedDirective} ${e.blockedURI}`));
window.alert = text => violations.push(`alert ${text}`);
"""


@pytest.fixture(scope="module")  # while Playwright is at work, its process can run no other event loop
def browser() -> Iterator[Browser]:
    """Headless Chromium; WebGL is drawn by the CPU, all else without it, which is quicker there."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    api.expect.set_options(timeout=30_000)  # a limit of a machine that has other tests to do, and no wish
    chromium = installed()
    if chromium is None:
        pytest.skip("no Chromium is installed")
    arguments = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    with api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=chromium, args=arguments)
        except api.Error as error:
            pytest.skip(f"Chromium can't be started: {error.message.splitlines()[0]}")
        yield started
        started.close()


@dataclass
class Visit:
    """A page of the gallery and whatever went wrong on it."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)

    def go(self, path: str = "/") -> Page:
        self.page.goto(self.address + path)
        return self.page

    @property
    def asked(self) -> dict[str, list[str]]:
        """What stands in the browser's address."""
        return parse_qs(urlsplit(self.page.url).query)

    def keys(self) -> list[str]:
        """Keys of the images on the page, by their links."""
        links = self.page.locator("#tiles .tile a").evaluate_all("links => links.map(link => link.href)")
        return [parse_qs(urlsplit(link).query)["key"][0] for link in links]

    def selected(self) -> list[int]:
        """Places of the selected tiles."""
        states = self.page.locator("#tiles .tile").evaluate_all(
            "tiles => tiles.map(tile => [tile.getAttribute('aria-selected'), tile.querySelector('input').checked])"
        )
        assert all((state == "true") == checked for state, checked in states)
        return [place for place, (state, _) in enumerate(states) if state == "true"]

    def focused(self) -> int:
        """Place of the tile that has the focus."""
        place: int = self.page.evaluate(
            "[...document.getElementById('tiles').children].indexOf(document.activeElement)"
        )
        return place

    def scroll_to_the_end(self) -> None:
        """With the mouse wheel over the images."""
        self.page.locator("#count").hover()
        for _ in range(12):
            self.page.mouse.wheel(0, 3000)
            self.page.wait_for_timeout(50)


Open = Callable[..., Visit]


def _tells(message: ConsoleMessage) -> bool:
    """Whether something is wrong; not that WebGL is drawn by the CPU."""
    return message.type in ("error", "warning") and "GL Driver Message (OpenGL, Performance" not in message.text


@pytest.fixture(scope="module")
def window_of(browser: Browser) -> Callable[..., Page]:
    """New windows, which share what the browser keeps of scripts and pictures."""

    @cache
    def context(width: int, color_scheme: str) -> BrowserContext:
        found = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=color_scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        found.set_default_timeout(15_000)
        found.add_init_script(WATCH)
        return found

    return lambda width, color_scheme="light": context(width, color_scheme).new_page()


@pytest.fixture
def visit(serve: Callable[..., str], window_of: Callable[..., Page], address: str, tmp_path: Path) -> Iterator[Open]:
    """Open windows on the gallery; at the end none may have met an error or broken the policy.

    They close before what is served, of which they ask every few seconds, and before its files are removed.
    """
    del tmp_path
    visits: list[Visit] = []

    def opened(width: int = 1440, at: str = address, **options: Any) -> Visit:
        page = window_of(width, **options)
        found = Visit(page, at)
        page.on("console", lambda message: found.problems.append(message.text) if _tells(message) else None)
        page.on("pageerror", lambda error: found.problems.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((at, "blob:", "data:")) else found.problems.append(r.url))
        visits.append(found)
        return found

    yield opened
    for one in visits:
        # What this browser keeps of a visit is none of the next test's.
        look = "(window.location.origin === 'null' || localStorage.clear(), window.violations ?? [])"
        broken = [] if one.page.is_closed() else one.page.evaluate(look)
        one.page.close()
        assert one.problems + broken == []


def fits(page: Page) -> bool:
    """Whether nothing is wider than the window."""
    found: bool = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    return found
