from __future__ import annotations

import base64
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl
import pytest
from PIL import Image

from curation_assets.clip.versions import RegisteredModel
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search.page import tile, write_search_page
from curation_assets_tests.conftest import jpeg

MODEL = RegisteredModel("c.s.m", "7", "f", 64, 224, 1, "demo", True, "run")
HOSTILE = ("<script>alert(1)</script>.jpg", '"onload="alert(1).jpg', "&lt;b&gt; {{ 7 * 7 }}.jpg", "a b#c?d%20é.jpg")


class Elements(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def scanned(pipeline: Pipeline, names: tuple[str, ...]) -> pl.DataFrame:
    folder = pipeline.settings.images_root / "a"
    folder.mkdir()
    for index, name in enumerate(names):
        (folder / name.replace("/", "∕")).write_bytes(jpeg(index))
    pipeline.scan(["a"], LogProgress())
    rows = pipeline.tables.directory.snapshot().read(["relative_path", "file_path", "folder", "content_sha256"])
    return rows.drop("_file").sort("relative_path").with_columns(score=pl.lit(0.5))


def page_of(pipeline: Pipeline, found: list[tuple[str, pl.DataFrame]], model: RegisteredModel = MODEL) -> Elements:
    page = pipeline.settings.lake_root / "pages" / "search.html"
    previews = dict(pipeline.tables.directory.snapshot().read(["relative_path", "preview"]).drop("_file").iter_rows())
    write_search_page(page, model, found, previews)
    assert [path.name for path in page.parent.iterdir()] == ["search.html"]
    return Elements(page.read_text(encoding="utf-8"))


def test_hostile_names_and_queries_are_shown_as_text(pipeline: Pipeline) -> None:
    hits = scanned(pipeline, HOSTILE)
    page = page_of(pipeline, [("<img src=x onerror=alert(1)>", hits)])
    assert page.all("script") == []
    assert len(page.all("img")) == len(HOSTILE)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<img src=x onerror=alert(1)>" in page.text
    for name in HOSTILE:
        assert name.replace("/", "∕") in page.text


def test_every_link_leads_to_its_file(pipeline: Pipeline) -> None:
    hits = scanned(pipeline, HOSTILE)
    links = [str(link["href"]) for link in page_of(pipeline, [("q", hits)]).all("a")]
    files = [Path(unquote(urlsplit(link).path)) for link in links if link.startswith("file:")]
    assert [str(file) for file in files] == hits["file_path"].to_list()
    assert all(file.is_file() for file in files)


def test_an_image_in_a_bucket_is_linked_by_its_address() -> None:
    row = {"relative_path": "a b/1.jpg", "file_path": "s3://photos/a b/1.jpg"}
    assert tile(row, None).link == "s3://photos/a b/1.jpg"


def test_every_search_has_a_heading_that_the_navigation_leads_to(pipeline: Pipeline) -> None:
    hits = scanned(pipeline, ("one.jpg",))
    page = page_of(pipeline, [("first", hits), ("second", hits)])
    targets = [str(link["href"])[1:] for link in page.all("a") if str(link["href"]).startswith("#")]
    assert targets == [heading["id"] for heading in page.all("h2")]
    assert len(targets) == 2


def test_thumbnails_are_the_previews_of_the_table(pipeline: Pipeline) -> None:
    hits = scanned(pipeline, ("one.jpg",))
    (picture,) = page_of(pipeline, [("q", hits)]).all("img")
    data = base64.b64decode(str(picture["src"]).removeprefix("data:image/jpeg;base64,"))
    preview = pipeline.tables.directory.snapshot().read(["preview"])["preview"][0]
    assert data == preview
    assert Image.open(BytesIO(data)).size == (64, 48)


def test_an_image_without_a_preview_is_still_named(pipeline: Pipeline) -> None:
    hits = scanned(pipeline, ("one.jpg",)).with_columns(relative_path=pl.lit("a/two.jpg"))
    page = page_of(pipeline, [("q", hits)])
    assert page.all("img") == []
    assert "no preview" in page.text
    assert "a/two.jpg" in page.text


@pytest.mark.parametrize(
    ("demonstration", "source", "says", "silent"),
    [
        (True, "demo", "For demonstration only", "no such words"),
        (False, "openai/clip-vit-large-patch14", "openai/clip-vit-large-patch14", "demonstration"),
    ],
)
def test_the_page_says_what_the_model_is(
    pipeline: Pipeline, demonstration: bool, source: str, says: str, silent: str
) -> None:
    hits = scanned(pipeline, ("one.jpg",))
    page = page_of(pipeline, [("q", hits)], replace(MODEL, demonstration=demonstration, source=source))
    assert says in page.text
    assert silent not in page.text
    assert "c.s.m version 7" in page.text


def test_a_search_without_hits_says_so(pipeline: Pipeline) -> None:
    hits = scanned(pipeline, ("one.jpg",)).clear()
    assert "No photograph was found" in page_of(pipeline, [("q", hits)]).text


def test_the_page_needs_nothing_from_elsewhere(pipeline: Pipeline) -> None:
    hits = scanned(pipeline, ("one.jpg",))
    page = page_of(pipeline, [("q", hits)])
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "srcset")]
    assert all(str(source).startswith("data:") for source in sources)
    assert page.all("link") == []
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'")


def test_labels_stand_beside_the_scores(pipeline: Pipeline) -> None:
    hits = scanned(pipeline, ("one.jpg",)).with_columns(label=pl.lit("<b>rust</b>"), margin=pl.lit(0.25))
    page = page_of(pipeline, [("q", hits)])
    assert "<b>rust</b> (+0.250)" in page.text
    assert "cosine 0.500" in page.text
