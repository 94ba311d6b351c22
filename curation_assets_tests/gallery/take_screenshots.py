"""Pictures of the gallery for the documentation, of the demo's drawn photographs only.

    .venv/bin/python -m curation_assets_tests.gallery.take_screenshots

draws the demo's sample into a folder that goes afterwards, fills a lake with it, and writes
``docs/images/gallery-*.png``; then it walks as ``docs/review.md`` does, deciding by key, and writes ``review-*.png``.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from curation_assets.datasets.reading import read_recipe
from curation_assets.demo import annotated
from curation_assets.demo.sample import write_sample
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search import image_map
from curation_assets.settings import load_settings
from curation_assets_tests.chromium import installed
from curation_assets_tests.gallery.conftest import serving
from curation_assets_tests.gallery.walking import walk

TARGET = Path(__file__).resolve().parents[2] / "docs" / "images"
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
COLOURS = 256  # of a palette: a third of the bytes


@dataclass(frozen=True)
class Shot:
    """One picture: its name, what it shows, and in which window."""

    name: str
    path: str
    width: int = 1280
    height: int = 800
    scheme: str = "light"


SHOTS = (
    Shot("search", "/?text=rust+on+a+coffee+leaf"),
    Shot("detail", ""),
    Shot("map", "/map", scheme="dark"),
    Shot("folders", "/folders"),
    Shot("narrow", "/?text=ripe+oranges&not=leaf", 390, 844),
)


def main() -> None:
    """Write all pictures."""
    chromium = installed()
    if chromium is None:
        sys.exit("no Chromium is installed")
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="curation-gallery-") as home:
        pipeline = demo_lake(Path(home))
        best = pipeline.searcher.search("rust on a coffee leaf", 1).rows["relative_path"][0]
        with serving(pipeline) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            for shot in SHOTS:
                page = browser.new_page(
                    viewport={"width": shot.width, "height": shot.height},
                    color_scheme=shot.scheme,  # type: ignore[arg-type]
                )
                page.goto(address + (shot.path or f"/image?key={best}"))
                ready(page, shot.name)
                write(page, TARGET / f"gallery-{shot.name}.png")
                page.close()
            walked(browser, address, pipeline)
            browser.close()


def walked(browser: Browser, address: str, pipeline: Pipeline) -> None:
    """Pictures of each step of the walk."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})

    def shot(name: str) -> None:
        page.wait_for_load_state("networkidle")
        drawn = "() => [...document.images].filter(one => one.loading !== 'lazy').every(one => one.naturalWidth)"
        page.wait_for_function(drawn)
        write(page, TARGET / f"review-{name}.png")

    print(walk(page, address, pipeline, shot))
    page.close()


def demo_lake(home: Path) -> Pipeline:
    """The demo's sample, with everything that the gallery shows."""
    settings = load_settings(
        images_root=home / "images",
        lake_root=home / "lake",
        model_source="demo",
        annotations=annotated.sources(home / "splits.csv"),
        recipes=home / "recipes",
    )
    write_sample(settings.images_root, progress=LogProgress())
    annotated.write_splits(settings.images_root, home / "splits.csv")
    pipeline = Pipeline(settings, own_registry=True)
    run(pipeline, LogProgress())
    image_map.refresh(pipeline.searcher.refresh().index, LogProgress())
    pipeline.build_dataset(read_recipe(annotated.write_recipe(settings.recipes)), LogProgress())
    return pipeline


def ready(page: Page, name: str) -> None:
    """Wait until everything is drawn; and select two images where that shows something."""
    page.wait_for_load_state("networkidle")
    if name == "search":
        for place in (1, 3):
            page.locator(".tile input").nth(place).click()
        page.mouse.move(5, 5)
        page.locator("#count").click()
    if name == "map":
        page.locator("#label-texts").fill(
            "a leaf with rust\na healthy leaf\nripe fruit\na field of wheat\nweeds in soil"
        )
        page.get_by_role("button", name="Colour by these labels").click()
        expect(page.locator("#legend")).to_contain_text("ripe fruit")
        page.wait_for_timeout(1500)


def write(page: Page, path: Path) -> None:
    """A screenshot with few colours."""
    page.screenshot(path=path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG)
    small.save(path, optimize=True)
    print(f"{path}  {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
