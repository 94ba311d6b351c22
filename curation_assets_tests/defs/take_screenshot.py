"""The picture of an asset's page in Dagster for the README, of the demo's drawn photographs only.

    .venv/bin/python -m curation_assets_tests.defs.take_screenshot

draws the demo's sample into a folder that goes afterwards, lets `dg dev` bring it in, and writes
``docs/images/dagster-asset.png``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from curation_assets.demo.sample import write_sample
from curation_assets.progress import LogProgress
from curation_assets_tests.defs.dagster_process import CHECKOUT, DagsterDev, environment, stop, wait_for

TARGET = CHECKOUT / "docs" / "images" / "dagster-asset.png"
SIZE = {"width": 1280, "height": 900}
ASSET, FOLDER = "crop_images_directory", "coffee"
COLOURS = 256  # of a palette: a third of the bytes


def main() -> None:
    """Write the picture."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium is installed")
    with tempfile.TemporaryDirectory(prefix="curation-dagster-") as temporary:
        home, images = Path(temporary) / "home", Path(temporary) / "images"
        write_sample(images, progress=LogProgress())
        folders = sorted(path.name for path in images.iterdir() if path.is_dir())
        folder = FOLDER if FOLDER in folders else folders[0]
        dev = DagsterDev(environment(home, images), Path(temporary) / "dg.log")
        try:
            wait_for(
                "the folders are in", lambda: dev.runs_of(folder) and dev.runs_of(folder)[0]["status"] == "SUCCESS", 600
            )
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
                page.goto(f"http://127.0.0.1:{dev.port}/assets/{ASSET}?view=partitions&partition={folder}")
                page.wait_for_timeout(15000)
                page.screenshot(path="/tmp/shot1.png", full_page=True)
                page.goto(f"http://127.0.0.1:{dev.port}/assets/{ASSET}")
                page.wait_for_timeout(8000)
                page.screenshot(path="/tmp/shot2.png", full_page=True)
                browser.close()
        finally:
            stop(dev.process)


if __name__ == "__main__":
    main()
