"""One filled lake and one server for all tests that only look."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from filelock import FileLock
from PIL import Image, ImageDraw, ImageOps
from starlette.testclient import TestClient

from curation_assets.annotations.sources import make_source
from curation_assets.demo.sample import in_the_wind
from curation_assets.gallery.app import create_app
from curation_assets.gallery.gallery import Gallery
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search import image_map
from curation_assets.settings import Settings, load_settings
from curation_assets_tests.conftest import copy_registry
from curation_assets_tests.gallery.browsing import browser, visit, window_of  # noqa: F401  fixtures
from curation_assets_tests.gallery.published import with_datasets

HERE = "http://127.0.0.1"
THIS_MACHINE = ("127.0.0.1", 50_000)
# A folder `<script>alert(1)<` that holds `script>.jpg`: the path of the key is the whole element.
SCRIPT = "odd/<script>alert(1)</script>.jpg"
BOXED = "kinds/told.jpg"
HOSTILE_LABEL = "a <b>leaf</b>'s"
ALERTING = "<img src=x onerror=alert(1)>"  # a label too
NEWLINE = "odd/two\nlines.jpg"
QUOTES = 'odd/it\'s "quoted" & <b>bold<∕b>.jpg'
HANDLER = 'odd/"><img src=x onerror=alert(1)>.jpg'
URLISH = "odd/100%20 a+b#c?d=é;.jpg"
BYTES = "odd/caf\U0010ffe9.jpg"  # the name b"caf\xe9.jpg", as tables write it
# In place of drawings of their own: a mirrored copy of another, and a scene that was taken twice within seconds.
NEAR = ("coffee/healthy/photo_036.jpg", "coffee/healthy/photo_039.jpg")
BURST = ("coffee/healthy/photo_037.jpg", "coffee/healthy/photo_038 <img src=x onerror=alert(1)>.jpg")
HOSTILE = (SCRIPT, NEWLINE, QUOTES, HANDLER, URLISH, BYTES)


def drawn(seed: int, size: tuple[int, int] = (96, 72), form: str = "JPEG", mode: str = "RGB", **save: Any) -> bytes:
    """A leaf of some hue with some spots, in a light that no other has."""
    hue = (seed * 37) % 360
    image = Image.new("RGB", size, f"hsl({hue}, 45%, 80%)")
    draw = ImageDraw.Draw(image)
    draw.ellipse((size[0] * 0.15, size[1] * 0.1, size[0] * 0.85, size[1] * 0.9), f"hsl({(hue + 90) % 360}, 60%, 35%)")
    for spot in range(seed % 7):
        x, y = size[0] * (0.25 + 0.07 * spot), size[1] * (0.3 + 0.4 * ((seed * 7 + spot * 3) % 10) / 10)
        draw.ellipse((x, y, x + size[0] / 12, y + size[0] / 12), "#8b4513")
    light = Image.new("RGB", (8, 6))
    rng = random.Random(seed)
    light.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(48)])
    image = Image.blend(image, light.resize(size, Image.Resampling.BICUBIC), 0.6)
    out = BytesIO()
    image.convert(mode).save(out, form, **save)
    return out.getvalue()


def with_exif() -> bytes:
    """A photograph whose camera told a lot, some of it nonsense."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "ACME", "Field Cam <b>7</b>"
    exif[0x0112] = 6
    exif[0x010E] = "x" * 5000
    exif.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0x829A: 0.004, 0x927C: bytes(range(200)) * 20})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (9.0, 15.0, 0.0)})
    return drawn(501, (2400, 1600), exif=exif)


def draw_tree(root: Path) -> None:
    for folder, count in (("coffee/rust", 50), ("coffee/healthy", 40), ("rice", 30)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"photo_{number:03}.jpg").write_bytes(drawn(number + 100 * len(folder)))
    with Image.open(root / NEAR[0]) as photo:
        ImageOps.mirror(photo).save(root / NEAR[1], quality=60)
    (root / "coffee/healthy/photo_038.jpg").unlink()
    field = Image.open(BytesIO(drawn(600, (300, 225), quality=95)))
    for shot, path in enumerate(BURST):
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Trail", "Eye"
        exif.get_ifd(0x8769)[0x9003] = f"2025:06:20 10:41:{7 + 2 * shot:02}"
        in_the_wind(in_the_wind(field, 3.1 * shot), 1.2 * shot).save(root / path, quality=80, exif=exif)
    for place, key in enumerate(HOSTILE):
        path = root / os.fsdecode(key.encode().replace("\U0010ffe9".encode(), b"\xe9"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn(900 + place))
    kinds = root / "kinds"
    kinds.mkdir()
    (kinds / "told.jpg").write_bytes(with_exif())
    (kinds / "print.tif").write_bytes(drawn(502, (2000, 900), "TIFF", "CMYK"))
    (kinds / "deep.png").write_bytes(drawn(503, form="PNG", mode="I;16"))
    (kinds / "copy.jpg").write_bytes((root / "rice/photo_000.jpg").read_bytes())
    (kinds / "cut.jpg").write_bytes(drawn(504, (400, 300))[:900])
    (kinds / "page.jpg").write_bytes(b"<html><script>alert(1)</script></html>")
    (kinds / "empty.jpg").write_bytes(b"")


def settings_of(home: Path, **settings: Any) -> Settings:
    return load_settings(
        images_root=home / "images",
        lake_root=home / "lake",
        model_source="demo",
        gallery_dagster_url="http://127.0.0.1:3000",
        gallery_max_upload_bytes=200_000,
        gallery_max_pixels=1_000_000,
        **settings,
    )


def filled(home: Path, registered: Path, **settings: Any) -> Pipeline:
    """A pipeline over the drawn tree, everything embedded, indexed and mapped."""
    draw_tree(home / "images")
    copy_registry(registered, home / "mlflow")
    made = Pipeline(settings_of(home, **settings))
    run(made, LogProgress())
    image_map.refresh(made.searcher.refresh().index, LogProgress())
    annotate(made)
    return made


def annotate(made: Pipeline) -> None:
    """The folders of coffee are its classes; boxes of one image, which its camera took lying on its side."""
    boxes = {
        "images": [{"id": 1, "file_name": BOXED, "width": 1600, "height": 2400}],
        "categories": [{"id": 1, "name": HOSTILE_LABEL}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [100, 200, 300, 400]}],
    }
    coco = made.settings.lake_root / "boxes.json"
    coco.write_text(json.dumps(boxes))
    for source in (
        make_source(format="folders", pattern="coffee/{class}/*"),
        make_source(format="coco", path=coco, split="test"),
    ):
        made.annotate(source, LogProgress())
    made.classify(LogProgress())


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Pipeline:
    """A filled lake that tests only look at; made once for all processes of a run, each of which has its copy."""
    of_run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_run = of_run.parent
    home = of_run / "gallery"
    with FileLock(of_run / "gallery.lock"):
        if not (home / "done").exists():
            home.mkdir()
            filled(home, registered_model)
            (home / "done").touch()
    return copy_of(Pipeline(settings_of(home)), tmp_path_factory.mktemp("gallery") / "own")


@pytest.fixture(scope="session")
def client(lake: Pipeline) -> TestClient:
    """Asks the gallery of that lake."""
    return client_of(lake)


Tokens = str | Mapping[str, str | None] | None


def client_of(pipeline: Pipeline, token: Tokens = None, **options: Any) -> TestClient:
    return TestClient(create_app(Gallery(pipeline), tokens=tokens(token)), base_url=HERE, **options)


def tokens(token: Tokens) -> Mapping[str, str | None] | None:
    """One that is everybody's, or whose each is."""
    return {token: None} if isinstance(token, str) else token


@pytest.fixture
def own(lake: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of the filled lake, to decide in."""
    return copy_of(lake, tmp_path / "own")


@pytest.fixture(scope="session")
def doubtful(lake: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A copy in which a mirrored copy has another label than its photograph, and a hostile one."""
    home = tmp_path_factory.mktemp("doubted")
    table = home / "labels.csv"
    table.write_text(f"path,class\n{NEAR[1]},{ALERTING}\ncoffee/rust/photo_003.jpg,healthy\n")
    source = make_source(source="again", format="csv", path=table, field="class")
    made = copy_of(lake, home / "own")
    made.annotate(source, LogProgress())
    made.find_label_issues(LogProgress())
    return made


@pytest.fixture
def doubted(doubtful: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of that, to decide in."""
    return copy_of(doubtful, tmp_path / "doubted")


@pytest.fixture(scope="session")
def published(lake: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A copy with datasets, that tests only look at."""
    home = tmp_path_factory.mktemp("datasets")
    return with_datasets(copy_of(lake, home / "own"), home / "recipes", HOSTILE, NEAR, BURST)


def copy_of(lake: Pipeline, home: Path) -> Pipeline:
    settings = lake.settings
    home.mkdir()
    for place in ("lake", "lake_index", "mlflow"):
        shutil.copytree(settings.lake_root.parent / place, home / place, symlinks=True)
    return Pipeline(settings.model_copy(update={"lake_root": home / "lake"}))


def decide(client: TestClient, *decisions: dict[str, Any], by: str = "ann", **more: Any) -> Any:
    return client.post("/api/decisions", json={"by": by, "decisions": list(decisions)}, **more)


@contextmanager
def serving(pipeline: Pipeline, token: Tokens = None, port: int = 0) -> Iterator[str]:
    """The gallery on a real socket; its address."""
    app = create_app(Gallery(pipeline), tokens=tokens(token))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", ws="none"))
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"{HERE}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


@pytest.fixture(scope="session")
def address(lake: Pipeline) -> Iterator[str]:
    """Where the gallery of that lake is served."""
    with serving(lake) as found:
        yield found


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve galleries on real sockets until the test ends."""
    with ExitStack() as stack:
        yield lambda pipeline, token=None: stack.enter_context(serving(pipeline, token))
