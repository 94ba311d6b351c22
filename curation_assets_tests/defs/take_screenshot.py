"""The picture of an asset's page in Dagster for the documentation, of the demo's drawn photographs only.

    .venv/bin/python -m curation_assets_tests.defs.take_screenshot

draws the demo's sample into a folder that goes afterwards, lets `dg dev` bring it in, and then more photographs twice,
so that there are speeds to show. Writes ``docs/images/dagster-asset.png``: the page of a partition, and below it what
two of its links open.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from curation_assets.demo.sample import write_sample
from curation_assets.progress import LogProgress
from curation_assets_tests.chromium import installed
from curation_assets_tests.defs.dagster_process import CHECKOUT, DagsterDev, environment, stop, wait_for

TARGET = CHECKOUT / "docs" / "images" / "dagster-asset.png"
WIDTH, HEIGHT, GAP = 1280, 660, 16
ASSET, FOLDER = "crop_images_directory", "coffee/plot_03/rust"
LINKS = ("thumbnails", "speed over time")
COLOURS = 256  # of a palette: a third of the bytes


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory(prefix="curation-dagster-") as temporary:
        home, images = Path(temporary) / "home", Path(temporary) / "images"
        write_sample(images, progress=LogProgress())
        dev = DagsterDev(environment(home, images), Path(temporary) / "dg.log")
        try:
            wait_for("the folder is in", lambda: _done(dev, 1), 600)
            some = sorted((images / FOLDER).glob("*.jpg"))[:12]
            for runs in (2, 3):
                for path in some:
                    path.with_stem(f"{path.stem}_{runs}").write_bytes(path.read_bytes() + b"%d" % runs)
                wait_for("more is in", lambda runs=runs: _done(dev, runs), 300)
            write(dev.port)
        finally:
            stop(dev.process)


def write(port: int) -> None:
    """Take the picture from a Dagster that runs."""
    chromium = installed()
    if chromium is None:
        sys.exit("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        address = f"http://127.0.0.1:{port}/assets/{ASSET}?view=partitions&partition={quote(FOLDER, safe='')}"
        page.goto(address)
        page.get_by_alt_text("a few of the images").wait_for()
        page.wait_for_timeout(2000)
        shots = [page.screenshot(), *(_opened(page, link) for link in LINKS)]
        browser.close()
    top, *below = (Image.open(BytesIO(shot)).convert("RGB") for shot in shots)
    picture = Image.new("RGB", (WIDTH, HEIGHT + 2 * GAP + max(shot.height for shot in below)), "white")
    picture.paste(top, (0, 0))
    picture.paste((222, 222, 230), (0, HEIGHT, WIDTH, picture.height))
    left = (WIDTH - sum(shot.width for shot in below) - GAP * (len(below) - 1)) // 2
    for shot in below:
        picture.paste(shot, (left, HEIGHT + GAP))
        left += shot.width + GAP
    TARGET.parent.mkdir(exist_ok=True)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(TARGET, optimize=True)


def _opened(page: Page, name: str) -> bytes:
    row = page.locator("tr", has=page.get_by_text(name, exact=True))
    row.get_by_text("[Show Markdown]").click()
    dialog = page.get_by_role("dialog").last
    page.wait_for_timeout(1500)
    shot = dialog.screenshot()
    page.keyboard.press("Escape")
    page.wait_for_timeout(1000)
    return shot


def _done(dev: DagsterDev, number: int) -> bool:
    return [run["status"] for run in dev.runs_of(FOLDER)] == ["SUCCESS"] * number


if __name__ == "__main__":
    main()
