from __future__ import annotations

import base64
import csv
import html
import json
import re
import shutil
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image, ImageFilter
from starlette.testclient import TestClient

from curation_assets.annotations.sources import make_source
from curation_assets.callers import current
from curation_assets.curate.columns import QUALITY_COLUMNS, SCORE_COLUMNS
from curation_assets.errors import CurationError
from curation_assets.gallery import files
from curation_assets.gallery.api import images as api_images
from curation_assets.gallery.api import uploads
from curation_assets.gallery.files import ByteCache
from curation_assets.gallery.points import clusters_of, problems_of, values_of
from curation_assets.gallery.security import POLICY
from curation_assets.gallery.uploads import Uploads
from curation_assets.images.names import printable
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search.query import Picture
from curation_assets.search.searcher import Searcher
from curation_assets.settings import load_settings
from curation_assets_tests.gallery.conftest import (
    BOXED,
    BURST,
    BYTES,
    HERE,
    HOSTILE,
    HOSTILE_LABEL,
    NEAR,
    NEWLINE,
    SCRIPT,
    client_of,
    drawn,
)

ALL = 133  # image files of the drawn tree
USABLE = 130
PLAIN = "rice/photo_003.jpg"
HTML = {"Accept": "text/html,*/*"}


def search(client: TestClient, **parameters: Any) -> dict[str, Any]:
    answer = client.get("/api/search", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refusal(client: TestClient, path: str, **parameters: Any) -> tuple[int, str]:
    """(status, sentence) of an answer that is an error, in the one form that errors have."""
    answer = client.get(path, params=parameters)
    body = answer.json()
    assert list(body) == ["error"]
    assert "Traceback" not in answer.text
    assert "\n" not in body["error"]
    return answer.status_code, body["error"]


def upload(client: TestClient, data: bytes, name: str = "mine.jpg") -> Any:
    return client.post("/api/images", files={"file": (name, data)})


# ------------------------------------------------------------------ searching


def test_without_a_query_images_come_in_the_order_of_their_paths(client: TestClient) -> None:
    found = search(client, k=500)
    keys = [image["relative_path"] for image in found["images"]]
    assert found["total"] == len(keys) == ALL
    assert keys == sorted(keys)
    assert {image["score"] for image in found["images"]} == {None}


def test_a_text_ranks_every_image_that_has_a_vector_by_cosine(client: TestClient, lake: Pipeline) -> None:
    found = search(client, text="a leaf with brown spots", k=500)
    expected = lake.searcher.search("a leaf with brown spots", 500).rows
    assert found["total"] == USABLE
    assert [image["relative_path"] for image in found["images"]] == expected["relative_path"].to_list()
    np.testing.assert_allclose([image["score"] for image in found["images"]], expected["score"], atol=1e-6)
    assert found["described"] == "“a leaf with brown spots”"
    assert found["query"] == [{"text": "a leaf with brown spots", "weight": 1.0}]


def test_pages_of_a_result_join_to_the_whole(client: TestClient) -> None:
    whole = search(client, text="rice", k=130)["images"]
    parts = [image for offset in (0, 60, 120) for image in search(client, text="rice", k=60, offset=offset)["images"]]
    assert parts == whole


def test_wanted_and_unwanted_texts_weights_and_images_make_one_query(client: TestClient) -> None:
    parameters = {"text": ["leaf", "rust"], "weight": [1, 0.5], "not": "soil", "like": PLAIN}
    found = search(client, **parameters)
    assert [list(part.values()) for part in found["query"]] == [["leaf", 1], ["rust", 0.5], [PLAIN, 1], ["soil", -1]]
    assert PLAIN not in [image["relative_path"] for image in found["images"]]


def test_every_filter_narrows_the_result(client: TestClient) -> None:
    def keys(**conditions: Any) -> set[str]:
        return {image["relative_path"] for image in search(client, k=500, **conditions)["images"]}

    told = {"kinds/told.jpg"}
    bad = {"kinds/cut.jpg", "kinds/empty.jpg", "kinds/page.jpg"}
    assert len(keys(folder="coffee")) == 90
    assert len(keys(folder=["coffee/rust", "rice"])) == 80
    assert len(keys(name="PHOTO_00")) == 30
    assert keys(camera="acme") == keys(has_gps="true") == told
    assert keys(captured_from="2024-05-06", captured_to="2024-05-07") == told
    assert keys(captured_to="2024-05-06") == set()
    assert keys(min_side=500, status="ok") == told | {"kinds/print.tif"}
    assert keys(max_side=80, folder="kinds") == {"kinds/deep.png", "kinds/copy.jpg"}
    assert keys(status=["corrupt", "unsupported"]) == bad
    assert keys(max_bytes=0) == {"kinds/empty.jpg"}
    assert keys(min_bytes=20_000) == told | {"kinds/print.tif"}
    assert keys(format="tiff") == {"kinds/print.tif"}
    assert keys(where="width > 2 * height") == {"kinds/print.tif"}
    assert len(keys(region="-9,-9;9,-9;9,9;-9,9")) == USABLE
    assert keys(region="8,8;9,8;9,9") == set()


def test_what_a_form_leaves_empty_is_no_condition(client: TestClient) -> None:
    assert search(client, text="", folder="", name="", min_side="", has_gps="", where="")["total"] == ALL


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"k": 501}, "k='501': Input should be less than or equal to 500"),
        ({"k": "many"}, "k='many'"),
        ({"offset": -1}, "offset='-1'"),
        ({"foler": "rice"}, "foler='rice': Extra inputs are not permitted"),
        ({"where": "width >"}, "filter where='width >'"),
        ({"where": "secret = 1"}, "there is no column secret"),
        ({"region": "1,2;3,4"}, "at least three corners"),
        ({"region": "a,b;c,d;e,f"}, "write corners as x1,y1;x2,y2;x3,y3"),
        ({"not": "soil"}, "say what to look for too"),
        ({"like": "nowhere.jpg"}, "there is no image 'nowhere.jpg'"),
        ({"like": "kinds/cut.jpg"}, "it is corrupt"),
        ({"image": "guessed"}, "give it again"),
        ({"text": ["a", "b"], "weight": [1]}, "give one for each"),
        ({"status": "fine"}, "status.0='fine'"),
        ({"captured_from": "yesterday"}, "captured_from='yesterday'"),
        ({"table_version": 999}, "no 999"),
        ({"model_version": "99"}, "99"),
    ],
)
def test_a_search_that_can_not_be_made_is_refused_in_a_sentence(
    client: TestClient, parameters: dict[str, Any], said: str
) -> None:
    status, error = refusal(client, "/api/search", **parameters)
    assert status == 400
    assert said in error


def test_the_answer_says_which_index_gave_it_and_that_the_model_is_for_demonstration(
    client: TestClient, lake: Pipeline
) -> None:
    index = search(client, k=1)["index"]
    info = lake.searcher.open().info
    assert index["embeddings_table_version"] == info.embeddings_version
    assert index["directory_table_version"] == info.directory_version
    assert (index["model_version"], index["kind"], index["vectors"]) == ("1", "exact", USABLE)
    assert index["demonstration"] is True
    assert index["behind"] is None


def test_an_index_that_is_behind_its_tables_says_so(ready: Pipeline, fill: Callable[..., list[Path]]) -> None:
    fill("a", 3)
    run(ready, LogProgress(), curate=False)
    client = client_of(ready)
    fill("a", 4)
    ready.scan(["a"], LogProgress())
    assert "`curation index` brings it up to date" in search(client)["index"]["behind"]
    assert "`curation index` brings it up to date" in client.get("/folders", headers=HTML).text.replace("&#39;", "'")


def test_an_earlier_version_of_the_table_is_searched_with_its_own_images(
    ready: Pipeline, fill: Callable[..., list[Path]]
) -> None:
    fill("a", 3)
    run(ready, LogProgress(), curate=False)
    first = ready.tables.embeddings.newest_version()
    fill("a", 5)
    run(ready, LogProgress(), curate=False)
    client = client_of(ready)
    then = search(client, table_version=first)
    assert (then["total"], search(client)["total"]) == (3, 5)
    assert f"table_version={first}" in then["images"][0]["page"]
    assert client.get(then["images"][0]["thumbnail"]).status_code == 200
    assert client.get(then["images"][0]["page"], headers=HTML).status_code == 200


def test_without_tables_every_page_says_what_to_do(ready: Pipeline) -> None:
    client = client_of(ready)
    status, error = refusal(client, "/api/search")
    assert status == 400
    assert "run `curation run`" in error
    assert "run `curation run`" in client.get("/folders", headers=HTML).text
    assert client.get("/", headers=HTML).status_code == 200


# -------------------------------------------------------------------- uploads


def test_an_image_that_is_given_finds_itself_first(client: TestClient, lake: Pipeline) -> None:
    data = (lake.settings.images_root / PLAIN).read_bytes()
    answer = upload(client, data, "my <photo>.jpg")
    assert answer.status_code == 201
    given = answer.json()
    assert given["name"] == "my <photo>.jpg"
    found = search(client, image=given["id"], k=1)
    assert found["images"][0]["relative_path"] == PLAIN
    assert found["images"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert found["query"] == [{"image": "my <photo>.jpg", "weight": 1.0}]


def test_only_the_images_that_were_used_last_are_held() -> None:
    held = Uploads(most=2)
    one, two = (held.add(Picture(np.zeros(3, np.float32), "f", name)) for name in ("one", "two"))
    held.get(one)
    three = held.add(Picture(np.zeros(3, np.float32), "f", "three"))
    assert [held.get(key).name for key in (one, three)] == ["one", "three"]
    with pytest.raises(CurationError, match="give it again"):
        held.get(two)


def test_the_cache_of_pictures_holds_no_more_bytes_than_it_may() -> None:
    cache = ByteCache(10)
    for key in "abc":
        cache.put(key, bytes(4))
        cache.get("a")
    assert [key in cache for key in "abc"] == [True, False, True]
    cache.put("large", bytes(11))
    assert "large" not in cache
    cache.put("a", bytes(10))
    assert cache.get("a") == bytes(10)


def test_ids_of_given_images_can_not_be_guessed(client: TestClient) -> None:
    one, other = (upload(client, drawn(5)).json()["id"] for _ in range(2))
    assert one != other
    assert len(one) >= 20


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"", 400, "is empty"),
        (b"<html>", 400, "not an image"),
        (drawn(1, (400, 300))[:700], 400, "broken pixel data"),
        (drawn(1, (1001, 1000)), 400, "1001 x 1000 pixels"),
        (b"\xff\xd8" + bytes(200_000), 413, "200,000 bytes, the limit"),
        (bytes(500_000), 413, "200,000 bytes, the limit"),
        (bytes(1_000_000), 413, "200,000 bytes, the limit"),
    ],
)
def test_an_image_that_can_not_be_used_is_refused_in_a_sentence(
    client: TestClient, data: bytes, status: int, said: str
) -> None:
    answer = upload(client, data)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_an_upload_is_counted_as_it_comes_whatever_it_announced(client: TestClient) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        while sent < 50_000_000:
            sent += 100_000
            yield bytes(100_000)

    answer = client.post("/api/images", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{}", "application/json"),
        (b"--x\r\n", "multipart/form-data"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_a_body_that_is_no_form_with_a_file_is_refused(client: TestClient, content: bytes, kind: str) -> None:
    answer = client.post("/api/images", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


# --------------------------------------------------------------------- pixels


def test_a_thumbnail_is_the_preview_of_the_table_and_cached_by_its_content(client: TestClient, lake: Pipeline) -> None:
    image = search(client, name=PLAIN)["images"][0]
    answer = client.get(image["thumbnail"])
    assert answer.content == lake.searcher.image_bytes(lake.searcher.open(), PLAIN, "preview")
    assert answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]
    again = client.get(image["thumbnail"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" not in client.get("/thumbnail", params={"key": PLAIN}).headers["cache-control"]
    assert "immutable" not in client.get("/thumbnail", params={"key": PLAIN, "v": "00"}).headers["cache-control"]


@pytest.mark.parametrize(
    ("key", "size"),
    [
        ("kinds/told.jpg", (1067, 1600)),
        ("kinds/print.tif", (1600, 720)),
        ("kinds/deep.png", (96, 72)),
        (PLAIN, (96, 72)),
        (SCRIPT, (96, 72)),
        (BYTES, (96, 72)),
    ],
)
def test_a_picture_is_an_upright_jpeg_whatever_the_file_is(client: TestClient, key: str, size: tuple[int, int]) -> None:
    answer = client.get("/picture", params={"key": key})
    picture = Image.open(BytesIO(answer.content))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", size)


@pytest.mark.parametrize("key", [PLAIN, *HOSTILE])
def test_the_original_is_the_file_to_the_byte_under_its_own_name(client: TestClient, lake: Pipeline, key: str) -> None:
    row = lake.tables.row(key)
    assert row is not None
    answer = client.get("/original", params={"key": key})
    assert answer.status_code == 200
    stored = lake.searcher.image_bytes(lake.searcher.open(), key, "image_base64")
    assert stored is not None
    assert answer.content == base64.b64decode(stored)
    assert answer.headers["content-type"] == "application/octet-stream"
    disposition = answer.headers["content-disposition"]
    assert re.fullmatch(r"attachment; filename=\"[ !#-~]*\"; filename\*=UTF-8''[A-Za-z0-9._~%-]+", disposition)
    name = unquote(disposition.rsplit("''", 1)[1])
    assert name.isprintable()
    if key == PLAIN:
        assert name == "photo_003.jpg"


@pytest.mark.parametrize("path", ["/thumbnail", "/picture", "/original", "/api/image", "/api/exif", "/image"])
@pytest.mark.parametrize(
    "key",
    [
        "../../../../etc/passwd",
        "/etc/passwd",
        "rice/../../../../../etc/passwd",
        "rice/../rice/photo_003.jpg",
        "file:///etc/passwd",
        "rice/photo_003.jpg\0",
        "",
        ".",
        "rice",
        "\U0010fffe" * 50,
    ],
)
def test_only_keys_of_the_table_lead_to_files(client: TestClient, path: str, key: str) -> None:
    status, error = refusal(client, path, key=key)
    assert status == (400 if key == "" else 404)
    assert "root:" not in error


def test_a_file_of_the_image_tree_that_has_no_row_is_not_served(client: TestClient, lake: Pipeline) -> None:
    (lake.settings.images_root / "secret.txt").write_text("secret")
    assert refusal(client, "/original", key="secret.txt")[0] == 404


@pytest.mark.parametrize(("key", "said"), [("kinds/cut.jpg", "broken pixel data"), ("kinds/page.jpg", "not an image")])
def test_a_broken_image_has_no_preview_and_says_why(client: TestClient, key: str, said: str) -> None:
    for path in ("/thumbnail", "/picture"):
        status, error = refusal(client, path, key=key)
        assert status == 404
        assert said in error
    assert client.get("/original", params={"key": key}).status_code == 200


def test_where_the_table_holds_no_images_files_are_read_from_disk_while_they_are_the_same(
    ready: Pipeline, fill: Callable[..., list[Path]]
) -> None:
    lean = Pipeline(load_settings(**(ready.settings.model_dump() | {"store_images": False})))
    paths = fill("a", 3)
    run(lean, LogProgress(), curate=False)
    client = client_of(lean)
    assert client.get("/original", params={"key": "a/photo_0000.jpg"}).content == paths[0].read_bytes()
    assert client.get("/picture", params={"key": "a/photo_0001.jpg"}).status_code == 200
    paths[0].write_bytes(drawn(3))
    paths[2].unlink()
    status, error = refusal(client, "/original", key="a/photo_0000.jpg")
    assert (status, "has changed since it was scanned" in error) == (404, True)
    status, error = refusal(client, "/original", key="a/photo_0002.jpg")
    assert (status, "can't be read: No such file" in error) == (404, True)
    assert client.get("/thumbnail", params={"key": "a/photo_0002.jpg"}).status_code == 200


def test_a_data_file_that_was_vacuumed_gives_a_readable_message(
    ready: Pipeline, fill: Callable[..., list[Path]]
) -> None:
    paths = fill("a", 3)
    run(ready, LogProgress(), curate=False)
    client = client_of(ready)
    assert search(client)["total"] == 3
    paths[0].write_bytes(drawn(77))
    ready.scan(["a"], LogProgress())
    DeltaTable(str(ready.tables.directory.path)).vacuum(
        retention_hours=0, dry_run=False, enforce_retention_duration=False
    )
    for path in ("/original", "/picture", "/api/exif"):
        status, error = refusal(client, path, key="a/photo_0001.jpg")
        assert status == 404
        assert "`curation index` brings the index up to date" in error
    ready.searcher.refresh()
    assert client.get("/original", params={"key": "a/photo_0001.jpg"}).status_code == 200


def test_an_index_that_is_replaced_while_the_gallery_runs_is_used_from_then_on(
    ready: Pipeline, fill: Callable[..., list[Path]]
) -> None:
    fill("a", 3)
    run(ready, LogProgress(), curate=False)
    client = client_of(ready)
    assert search(client)["total"] == 3
    fill("b", 4)
    run(Pipeline(ready.settings), LogProgress(), curate=False)
    found = search(client, folder="b")
    assert found["total"] == 4
    assert all(client.get(image["thumbnail"]).status_code == 200 for image in found["images"])


# ------------------------------------------------------------------- metadata


def test_all_about_an_image(client: TestClient, lake: Pipeline) -> None:
    facts = client.get("/api/image", params={"key": "rice/photo_000.jpg"}).json()
    row = lake.tables.row("rice/photo_000.jpg")
    assert row is not None
    assert facts["columns"]["content_sha256"] == row["content_sha256"]
    assert facts["columns"]["file_path"] == row["file_path"]
    assert [copy["relative_path"] for copy in facts["copies"]] == ["kinds/copy.jpg"]
    group, *others = facts["groups"]
    assert others == []
    assert (group["kind"], group["total"]) == ("exact", 2)
    members = {member["image"]["relative_path"]: member["is_keeper"] for member in group["images"]}
    assert set(members) == {"kinds/copy.jpg", "rice/photo_000.jpg"}
    assert sorted(members.values()) == [False, True]
    assert (facts["copies_total"], facts["compared"]) == (1, True)
    assert facts["embedding"]["model_version"] == "1"
    assert facts["embedding"]["embeddings_table_version"] == lake.searcher.open().info.embeddings_version
    assert facts["dagster"].startswith("http://127.0.0.1:3000/assets/crop_images_directory?view=partitions&partition=")


def test_near_and_burst_groups_of_an_image_are_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def group(key: str) -> dict[str, Any]:
        (found,) = client.get("/api/image", params={"key": key}).json()["groups"]
        return dict(found)

    for kind, of_kind, how in (("near", NEAR, "mirrored"), ("burst", BURST, "the same frame")):
        for key in of_kind:
            found = group(key)
            assert (found["kind"], found["total"]) == (kind, 2)
            assert {member["image"]["relative_path"] for member in found["images"]} == set(of_kind)
            keeper, other = found["images"]
            assert (keeper["is_keeper"], keeper["how"], other["is_keeper"], other["how"]) == (True, None, False, how)
            page = client.get("/image", params={"key": key}, headers=HTML).text
            title = {"near": "The same photograph", "burst": "The same scene"}[kind]
            assert f">{title}</h2>" in page
            (told,) = re.findall(r'<ul class="strip" data-group="([^"]*)">', page)
            assert json.loads(html.unescape(told)) == found
            assert "of the group's" not in page
    assert [member["image"]["relative_path"] for member in group(NEAR[1])["images"]] == list(NEAR), "more bytes a pixel"
    marked = {
        image["relative_path"]: image["near_copies"] for image in search(client, folder="coffee", k=500)["images"]
    }
    assert {path: near for path, near in marked.items() if near} == dict.fromkeys(NEAR, 1)
    monkeypatch.setattr(api_images, "_MOST_GROUPED", 1)
    shown = group(NEAR[1])
    assert ([member["image"]["relative_path"] for member in shown["images"]], shown["total"]) == ([NEAR[1]], 2)
    page = client.get("/image", params={"key": NEAR[1]}, headers=HTML).text
    assert "1 of the group's 2 images" in page


def test_exif_tags_are_readable_short_and_harmless(client: TestClient) -> None:
    tags = client.get("/api/exif", params={"key": "kinds/told.jpg"}).json()["tags"]
    told = {tag["name"]: tag["value"] for tag in tags}
    assert told["Model"] == "Field Cam <b>7</b>"
    assert told["DateTimeOriginal"] == "2024:05:06 07:08:09"
    assert told["GPSLatitude"] == "48, 30, 0"
    assert told["ExposureTime"] == "0.004"
    assert told["MakerNote"].startswith("4,000 bytes, 00 01 02")
    assert len(told["ImageDescription"]) == 200
    assert {tag["group"] for tag in tags} == {"Image", "Photo", "GPS"}
    assert client.get("/api/exif", params={"key": PLAIN}).json() == {"tags": []}
    assert client.get("/api/exif", params={"key": "kinds/page.jpg"}).json() == {"tags": []}


def test_folders_have_counts(client: TestClient, lake: Pipeline) -> None:
    found = {row["folder"]: row for row in client.get("/api/folders").json()["folders"]}
    expected = {row["folder"]: row for row in lake.tables.status(lake.selection.current()).iter_rows(named=True)}
    assert set(found) == set(expected)
    for folder, row in found.items():
        assert row == {name: expected[folder][name] for name in ("folder", "files", "ok", "bad", "embedded")}


def test_labels_choose_between_texts(client: TestClient, lake: Pipeline) -> None:
    texts = ["a green leaf", "a red fruit", "dry soil"]
    found = client.get("/api/labels", params={"label": texts, "folder": "rice", "k": 10}).json()
    expected = lake.searcher.labels(texts, folder="rice")
    assert (found["labels"], found["total"]) == (texts, 30)
    assert [image["label"] for image in found["images"]] == expected["label"].to_list()[:10]
    assert "at least two" in refusal(client, "/api/labels", label="one")[1]


def test_labels_of_the_settings_are_used_where_none_are_given(lake: Pipeline) -> None:
    settings = load_settings(**(lake.settings.model_dump() | {"labels": ["a leaf", "soil"]}))
    found = client_of(Pipeline(settings)).get("/api/labels", params={"k": 1}).json()
    assert found["labels"] == ["a leaf", "soil"]


# ------------------------------------------------------------------------ map


def decoded(text: str, kind: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_map_tells_place_and_folder_of_every_point(client: TestClient, lake: Pipeline) -> None:
    answer = client.get("/api/map").json()
    points = lake.searcher.map_of(lake.searcher.open())
    assert answer["count"] == len(points) == USABLE
    xy = decoded(answer["xy"], "<f4").reshape(-1, 2)
    np.testing.assert_array_equal(xy, points.select("x", "y").to_numpy())
    folders = [answer["folders"][number] for number in decoded(answer["folder"], "<u4")]
    for number in (0, 57, USABLE - 1):
        image = client.get("/api/map/point", params={"id": answer["id"], "number": number}).json()
        assert image["relative_path"] == points["relative_path"][number]
        assert image["folder"] == folders[number]


def test_a_region_of_the_map_finds_the_points_inside(client: TestClient) -> None:
    answer = client.get("/api/map").json()
    xy = decoded(answer["xy"], "<f4").reshape(-1, 2)
    inside = (xy[:, 0] > 0) & (xy[:, 1] > 0)
    assert 0 < inside.sum() < USABLE
    assert search(client, region="0,0;2,0;2,2;0,2")["total"] == inside.sum()


def test_labels_of_the_map_are_those_of_the_search(client: TestClient, lake: Pipeline) -> None:
    texts = ["a green leaf", "a red fruit"]
    map_id = client.get("/api/map").json()["id"]
    answer = client.get("/api/map/labels", params={"id": map_id, "label": texts}).json()
    expected = dict(lake.searcher.labels(texts).select("relative_path", "label").iter_rows())
    paths = lake.searcher.map_of(lake.searcher.open())["relative_path"]
    assert [texts[number] for number in decoded(answer["label"], "u1")] == [expected[path] for path in paths]
    assert sum(answer["counts"]) == USABLE
    assert "at least two" in refusal(client, "/api/map/labels", id=map_id)[1]


def test_points_are_told_apart_by_cluster_and_by_outlier_score(client: TestClient, lake: Pipeline) -> None:
    map_id = client.get("/api/map").json()["id"]
    paths = lake.searcher.map_of(lake.searcher.open())["relative_path"]
    rows = lake.tables.scores.latest().read(["relative_path", "cluster", "outlier_score"]).drop("_file")
    answer = client.get("/api/map/scores", params={"id": map_id}).json()
    expected = dict(rows.select("relative_path", "cluster").iter_rows())
    found = [int(answer["labels"][number].split(":")[0]) for number in decoded(answer["label"], "u1")]
    assert found == [expected[path] for path in paths]
    assert answer["counts"] == sorted(answer["counts"], reverse=True)
    far = client.get("/api/map/scores", params={"id": map_id, "by": "outlier_score"}).json()
    assert sum(answer["counts"]) == sum(far["counts"]) == USABLE
    for told in (answer, far):
        for condition, number in zip(told["conditions"], told["counts"], strict=True):
            assert search(client, where=condition)["total"] == number
    assert refusal(client, "/api/map/scores", id="old")[0] == 404
    assert refusal(client, "/api/map/scores", id=map_id, by="size")[0] == 400


def test_points_are_told_apart_by_what_is_said_of_their_images(client: TestClient, lake: Pipeline) -> None:
    answer = client.get("/api/map").json()
    paths = lake.searcher.map_of(lake.searcher.open())["relative_path"]
    assert {"cluster", "outlier_score", "label_class", "predicted_class", "split", "problems"} <= set(answer["colours"])
    told = client.get("/api/map/scores", params={"id": answer["id"], "by": "label_class"}).json()
    assert dict(zip(told["labels"], told["counts"], strict=True)) == {"rust": 50, "healthy": 40, HOSTILE_LABEL: 1}
    for path, number in zip(paths, decoded(told["label"], "u1"), strict=True):
        said = path.split("/")[1] if path.startswith("coffee/") else HOSTILE_LABEL if path == BOXED else None
        assert (None if number == 255 else told["labels"][number]) == said
    for condition, number in zip(told["conditions"], told["counts"], strict=True):
        assert search(client, where=condition)["total"] == number
    assert (told["without"], search(client, where=told["without_condition"])["total"]) == ("none", USABLE - 91)
    assert told["others"] == 0
    told = client.get("/api/map/scores", params={"id": answer["id"], "by": "problems"}).json()
    assert told["labels"][-1] == "no problem"
    assert "near" not in " ".join(told["labels"])
    assert sum(told["counts"]) == USABLE
    for condition, number in zip(told["conditions"], told["counts"], strict=True):
        assert search(client, where=condition)["total"] == number
    for by, values in (("predicted_class", {"rust", "healthy"}), ("split", {"test"})):
        told = client.get("/api/map/scores", params={"id": answer["id"], "by": by}).json()
        assert values & set(told["labels"])
        for condition, number in zip(told["conditions"], told["counts"], strict=True):
            assert search(client, where=condition)["total"] == number
    assert "label_class" in refusal(client, "/api/map/scores", id=answer["id"], by="label_size")[1]


def test_more_values_than_there_are_numbers_for_are_one() -> None:
    many = pl.Series(
        "label_class", [f"c{at % 300:03}" for at in range(600)] + ["c000", None, "x" * 2000, "x" * 2000] * 2
    )
    steps, places = values_of(many)
    assert [step.label for step in steps[:2]] == ["c000", "x" * 2000]
    assert [step.condition for step in (steps[0], steps[1], steps[-1])] == ["label_class = 'c000'", None, None]
    assert (len(steps), steps[-1].label, steps[-1].others) == (255, "47 others", 47)
    assert [int(place) for place in places[[0, 601, 602, 299]]] == [0, 255, 1, 254]


def test_points_are_told_apart_by_what_is_wrong_with_their_images() -> None:
    said = ["dark", "blurry", "blurry", "blurry, dark", None, None, "near_it"]
    rows = pl.DataFrame({"problems": said, "brightness": [0.1, 0.5, 0.5, 0.1, 0.5, None, None]})
    steps, places = problems_of(rows)
    labels = [step.label for step in steps]
    assert labels == ["blurry", "dark", "near it", "several problems", "no problem"]
    assert [None if at == 255 else labels[at] for at in places] == [
        "dark", "blurry", "blurry", "several problems", "no problem", None, "near it",
    ]  # fmt: skip
    clusters = pl.DataFrame({"cluster": [*range(300), None], "cluster_name": [*["x"] * 300, None]})
    steps, places = clusters_of(clusters)
    assert (len(steps), steps[-1].others, steps[-1].condition) == (255, 46, None)
    assert [int(places[at]) for at in (0, 253, 254, 299, 300)] == [0, 253, 254, 254, 255]


def test_an_images_page_shows_labels_split_and_boxes(client: TestClient) -> None:
    said = client.get("/api/image", params={"key": BOXED}).json()["annotations"]
    box = {"label": HOSTILE_LABEL, "x": 100, "y": 200, "width": 300, "height": 400}
    assert said == [
        {
            "field": "class",
            "source": "boxes.json",
            "values": [HOSTILE_LABEL],
            "split": "test",
            "boxes": [box],
            "counts": True,
        }
    ]
    page = client.get("/image", params={"key": BOXED}).text
    assert "a &lt;b&gt;leaf&lt;/b&gt;&#39;s" in page
    assert "<b>leaf" not in page
    assert '<rect x="100.0" y="200.0" width="300.0" height="400.0"/>' in page
    assert "<dt>split</dt><dd>test " in page
    plain = client.get("/image", params={"key": "rice/photo_001.jpg"})
    assert "<rect" not in plain.text
    columns = client.get("/api/image", params={"key": "rice/photo_001.jpg"}).json()["columns"]
    assert columns["predicted_class"] in ("rust", "healthy")
    assert f"predicted, confidence {columns['confidence_class']:.2f}" in plain.text
    assert "<h2>Labels</h2>" not in client.get("/image", params={"key": "kinds/cut.jpg"}).text


def test_an_images_page_leads_to_its_cluster(client: TestClient, lake: Pipeline) -> None:
    columns = client.get("/api/image", params={"key": "coffee/rust/photo_000.jpg"}).json()["columns"]
    row = lake.tables.row("coffee/rust/photo_000.jpg")
    assert row is not None
    scores = lake.scores_of(row)
    assert scores is not None
    assert {name: columns[name] for name in SCORE_COLUMNS} == {name: scores[name] for name in SCORE_COLUMNS}
    page = client.get("/image", params={"key": "coffee/rust/photo_000.jpg"}).text
    assert f"Its cluster: {columns['cluster_name']}" in page
    assert f"cluster+%3D+{columns['cluster']}" in page or f"cluster%20%3D%20{columns['cluster']}" in page


def test_points_of_another_map_are_refused(client: TestClient) -> None:
    status, error = refusal(client, "/api/map/point", id="old", number=0)
    assert (status, error) == (404, "the map was made anew meanwhile; reload the page")


def test_without_a_map_the_answer_says_how_to_make_one(ready: Pipeline, fill: Callable[..., list[Path]]) -> None:
    fill("a", 3)
    run(ready, LogProgress(), curate=False)
    status, error = refusal(client_of(ready), "/api/map")
    assert status == 400
    assert "`curation map`" in error


# --------------------------------------------------------------------- export


def exported(client: TestClient, form: str, **asked: Any) -> tuple[pl.DataFrame, dict[str, Any], Any]:
    """Rows, provenance and headers of an export, read as its description says."""
    answer = client.post("/api/export", json={"format": form, **asked})
    assert answer.status_code == 200, answer.text
    if form == "json":
        body = answer.json()
        return pl.DataFrame(body["images"], infer_schema_length=None), body["provenance"], answer.headers
    if form == "parquet":
        table = pq.read_table(BytesIO(answer.content))
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame, json.loads(table.schema.metadata[b"curation_provenance"]), answer.headers
    provenance = json.loads(answer.headers["curation-provenance"])
    frame = pl.read_csv(answer.content, infer_schema_length=None)
    assert pd.read_csv(BytesIO(answer.content)).columns.tolist() == frame.columns
    return frame, provenance, answer.headers


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_a_result_is_exported_whole_with_where_it_comes_from(client: TestClient, lake: Pipeline, form: str) -> None:
    rows, provenance, headers = exported(client, form, search={"text": ["rust"], "not": ["soil"], "status": ["ok"]})
    info = lake.searcher.open().info
    assert len(rows) == provenance["rows"] == provenance["total"] == USABLE
    assert rows["score"].is_sorted(descending=True)
    assert provenance["query"] == [{"text": "rust", "weight": 1.0}, {"text": "soil", "weight": -1.0}]
    assert provenance["filter"] == {"status": ["ok"]}
    assert provenance["embeddings_table_version"] == info.embeddings_version
    assert provenance["directory_table_version"] == info.directory_version
    assert (provenance["model_version"], provenance["model_fingerprint"]) == ("1", info.model_fingerprint)
    assert re.fullmatch(rf'attachment; filename="images-\d{{8}}-\d{{6}}\.{form}"', headers["content-disposition"])


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_a_selection_is_exported_in_the_order_of_the_result_with_hostile_names_intact(
    client: TestClient, form: str
) -> None:
    rows, provenance, _ = exported(client, form, keys=[*HOSTILE, PLAIN, "nowhere.jpg"])
    assert rows["relative_path"].to_list() == sorted([*HOSTILE, PLAIN])
    assert (provenance["selected"], provenance["rows"]) == (8, 7)


@pytest.mark.parametrize(
    "body", [{"format": "xml"}, {"format": "csv", "search": {"k": 3}}, {"format": "csv", "keys": "all"}, [], "{"]
)
def test_an_export_that_can_not_be_made_is_refused_in_a_sentence(client: TestClient, body: Any) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    answer = client.post("/api/export", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_the_first_line_of_a_csv_is_its_header(client: TestClient) -> None:
    answer = client.post("/api/export", json={"format": "csv", "keys": HOSTILE})
    header, first = list(csv.reader(StringIO(answer.text, newline="")))[:2]
    assert {"relative_path", "score"} <= set(header)
    assert len(set(header)) == len(header) == len(first)
    assert pd.read_csv(BytesIO(answer.content))["relative_path"].to_list() == sorted(HOSTILE)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_provenance_too_long_for_a_header_says_what_it_leaves_out(client: TestClient, form: str) -> None:
    where = "width > 0 AND relative_path <> '" + "å" * 900 + "'"
    body = {"format": form, "keys": [PLAIN], "search": {"where": where, "status": ["ok"]}}
    answer = client.post("/api/export", json=body)
    assert answer.status_code == 200, answer.text
    header = answer.headers["curation-provenance"]
    assert header.isascii()
    assert len(header) <= 4000
    provenance = json.loads(header)
    assert provenance["left_out"] == ["filter"]
    assert (provenance["rows"], provenance["model_version"]) == (1, "1")
    if form == "json":
        assert answer.json()["provenance"]["filter"]["where"] == where


def test_an_export_of_too_many_keys_is_refused(client: TestClient) -> None:
    body = json.dumps({"format": "csv", "keys": ["x" * 65_000_000]})
    answer = client.post("/api/export", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert list(answer.json()) == ["error"]


@pytest.fixture
def labelled(ready: Pipeline, fill: Callable[..., list[Path]]) -> Pipeline:
    """A lake of three images in each of two folders, of which one has zero-shot labels."""
    fill("a", 3)
    fill("b", 3)
    pipeline = Pipeline(ready.settings.model_copy(update={"labels": ["an <b>orange</b>", "a field"]}))
    run(pipeline, LogProgress(), curate=False)
    pipeline.label_zero_shot("a", pipeline.registry.champion())
    return pipeline


def test_zero_shot_labels_are_found_shown_and_follow_their_table(labelled: Pipeline) -> None:
    client = client_of(labelled)
    expected = {row["relative_path"]: row for row in client.get("/api/labels", params={"folder": "a"}).json()["images"]}
    for text in labelled.settings.labels:
        found = search(client, where=f"zero_shot_label = '{text}'")["images"]
        assert [image["relative_path"] for image in found] == [k for k, row in expected.items() if row["label"] == text]
    assert search(client, where="zero_shot_label IS NULL")["total"] == 3
    for key, row in expected.items():
        columns = client.get("/api/image", params={"key": key}).json()["columns"]
        assert columns["zero_shot_label"] == row["label"]
        assert columns["zero_shot_score"] == pytest.approx(row["score"], abs=1e-6)
        assert columns["zero_shot_margin"] == pytest.approx(row["margin"], abs=1e-6)
        page = client.get("/image", params={"key": key}, headers=HTML).text
        assert ">zero_shot_label</dt>" in page
        assert row["label"].replace("<", "&lt;").replace(">", "&gt;") in page
        assert "the text of CURATION_LABELS with the largest cosine" in page
    without = client.get("/api/image", params={"key": "b/photo_0000.jpg"}).json()["columns"]
    assert (without["zero_shot_label"], without["zero_shot_score"], without["zero_shot_margin"]) == (None, None, None)
    assert ">zero_shot_label</dt>" not in client.get("/image", params={"key": "b/photo_0000.jpg"}, headers=HTML).text
    assert "zero_shot_label, zero_shot_score, zero_shot_margin" in client.get("/", headers=HTML).text
    labelled.label_zero_shot("b", labelled.registry.champion())  # while the gallery runs, and the index stays
    assert search(client, where="zero_shot_label IS NULL")["total"] == 0
    assert client.get("/api/image", params={"key": "b/photo_0000.jpg"}).json()["columns"]["zero_shot_label"] is not None


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_zero_shot_labels_are_exported_beside_the_columns_of_the_index(labelled: Pipeline, form: str) -> None:
    client = client_of(labelled)
    rows, _, _ = exported(client, form, search={"text": ["leaf"]})
    labels = ["score", "zero_shot_label", "zero_shot_score", "zero_shot_margin"]
    assert rows.columns[-20:] == [*labels, *QUALITY_COLUMNS, "problems", *SCORE_COLUMNS]
    expected = {row["relative_path"]: row["label"] for row in client.get("/api/labels").json()["images"]}
    for path, found in rows.select("relative_path", "zero_shot_label").iter_rows():
        assert (found or None) == (expected[path] if path.startswith("a/") else None)
    chosen, _, _ = exported(
        client, form, search={"where": "zero_shot_margin >= 0"}, keys=["a/photo_0001.jpg", "b/photo_0001.jpg"]
    )
    assert chosen["zero_shot_label"].to_list() == [expected["a/photo_0001.jpg"]]


def test_without_labels_the_columns_are_there_and_empty(client: TestClient) -> None:
    assert search(client, where="zero_shot_label IS NOT NULL")["total"] == 0
    assert client.get("/api/image", params={"key": PLAIN}).json()["columns"]["zero_shot_label"] is None
    rows, _, _ = exported(client, "parquet")
    assert rows["zero_shot_label"].null_count() == len(rows) == ALL


# --------------------------------------------------------------------- safety


PAGES = [
    "/",
    "/folders",
    "/folders?folder=odd",
    "/map",
    "/datasets",
    "/datasets?name=%3Cb%3E",
    "/leakage",
    "/docs",
    "/openapi.json",
    "/static/search.js",
    "/vendor/deck.js",
]
PAGES += ["/vendor/swagger-ui.js", "/api/search", "/thumbnail?key=no", "/nowhere", "/static/../app.py", "/login"]
PAGES += ["/image?" + urlencode({"key": key}) for key in (PLAIN, *HOSTILE)]


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_carries_the_policy(client: TestClient, path: str) -> None:
    for headers in ({}, HTML):
        answer = client.get(path, headers=headers, follow_redirects=False)
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert "unsafe" not in POLICY


@pytest.mark.parametrize("path", PAGES)
def test_pages_hold_no_inline_script_style_or_handler_and_ask_nobody_else(client: TestClient, path: str) -> None:
    answer = client.get(path, headers=HTML)
    if not answer.headers.get("content-type", "").startswith("text/html"):
        return
    page = answer.text
    assert not re.search(r"<script(?![^>]* src=\"/)", page)
    assert not re.search(r"<style|\sstyle=|<[^>]*\son\w+=", re.sub(r'"[^"]*"', '""', page))
    assert not re.search(r'(src|href)="(https?:)?//(?!127\.0\.0\.1:3000/)', page)


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_names_stand_on_pages_as_text(client: TestClient, key: str) -> None:
    page = client.get("/image", params={"key": key}, headers=HTML).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<b>bold" not in page
    assert "\n" not in printable(key)
    assert "\U0010ffe9" not in re.sub(r"%F4%8F%BF%A9", "", page)
    assert "\\n" in page if key == NEWLINE else True
    assert "\\xe9" in page if key == BYTES else True


def test_an_unknown_page_is_a_readable_page(client: TestClient) -> None:
    answer = client.get("/nowhere", headers=HTML)
    assert answer.status_code == 404
    assert "there is no /nowhere here" in answer.text
    assert refusal(client, "/nowhere")[0] == 404
    image = client.get("/image", params={"key": "<b>no</b>"}, headers=HTML)
    assert (image.status_code, "<b>no" in image.text) == (404, False)


def test_a_failure_nobody_expected_is_told_in_a_sentence_and_logged(
    lake: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(lake)
    monkeypatch.setattr(type(lake.searcher), "search", lambda *_, **__: 1 / 0)
    answer = client.get("/api/search")
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "something went wrong in the gallery; its log says what"},
    )
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8080", "", "10.0.0.1"])
def test_another_name_that_leads_here_is_not_answered_to(client: TestClient, host: str) -> None:
    answer = client.get("/api/search", headers={"Host": host})
    assert answer.status_code == 400
    assert "names of this machine" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "[::1]:8080", "127.0.0.2"])
def test_names_of_this_machine_are_answered_to(client: TestClient, host: str) -> None:
    assert client.get("/static/icon.svg", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_can_change_nothing(client: TestClient) -> None:
    answer = client.post("/api/images", files={"file": ("a.jpg", drawn(1))}, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    answer = client.post("/api/images", files={"file": ("a.jpg", drawn(1))}, headers={"Origin": HERE})
    assert answer.status_code == 201


def test_with_a_token_nothing_is_shown_without_it(lake: Pipeline) -> None:
    client = client_of(lake, token="pass-wörd")
    for path in ("/api/search", "/thumbnail?key=x", "/openapi.json", "/vendor/deck.js", "/"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert list(answer.json()) == ["error"]
    assert client.get("/static/gallery.css").status_code == 200
    page = client.get("/folders?folder=rice", headers=HTML, follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Ffolders%3Ffolder%3Drice")
    wrong = {"Authorization": "Bearer pass-word"}
    assert client.get("/api/search", headers=wrong).status_code == 401
    right = {"Authorization": "Bearer pass-wörd".encode()}
    assert client.get("/api/search", headers=right).status_code == 200  # type: ignore[arg-type]


def test_the_login_form_lets_in_with_a_cookie_that_does_not_tell_the_token(lake: Pipeline) -> None:
    client = client_of(lake, token="secret-token")
    wrong = client.post("/login", data={"token": "guess"})
    assert (wrong.status_code, "not this gallery" in wrong.text) == (401, True)
    assert 'value="/map"' in client.post("/login", data={"token": "guess", "next": "/map"}).text
    answer = client.post("/login", data={"token": "secret-token", "next": "/folders"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/folders")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "secret-token" not in cookie
    assert client.get("/api/search").status_code == 200
    client.post("/logout")
    assert client.get("/api/search").status_code == 401


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        ("/folders?folder=a%20b", "/folders?folder=a%20b"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
    ],
)
def test_a_login_leads_on_to_this_gallery_only(lake: Pipeline, asked: str, way: str) -> None:
    client = client_of(lake, token="t")
    answer = client.post("/login", data={"token": "t", "next": asked}, follow_redirects=False)
    assert answer.headers["location"] == way


# -------------------------------------------------------------- documentation


def test_the_description_of_the_api_lists_every_way_to_ask(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert described["openapi"] == "3.0.3"
    paths = set(described["paths"])
    assert paths == {
        "/api/search", "/api/images", "/api/image", "/api/exif", "/api/labels", "/api/folders", "/api/map",
        "/api/map/point", "/api/map/labels", "/api/map/scores", "/api/export", "/api/problems", "/api/problems/{kind}",
        "/api/problems/{kind}/evidence",
        "/api/samples", "/api/decisions", "/api/tags", "/api/duplicates", "/api/label-fields", "/api/label-issues",
        "/api/label-issues/beside", "/api/label-issues/confusion", "/api/clusters", "/api/clusters/names",
        "/thumbnail", "/picture", "/original", "/archive",
        "/api/datasets", "/api/datasets/{name}", "/api/datasets/{name}/versions/{version}",
        "/api/datasets/{name}/versions/{version}/images", "/api/datasets/{name}/versions/{version}/diff",
        "/api/datasets/{name}/versions/{version}/list", "/api/datasets/{name}/versions/{version}/files", "/api/leakage",
    }  # fmt: skip
    assert set(described["components"]["schemas"]) == {
        "Annotation", "Asked", "Box", "Embedding", "ExifTag", "ExifTags", "Export", "FoldedImages", "FolderCounts",
        "FoldersAnswer", "FoundImage", "GroupedImage", "ImageFacts", "ImageGroup", "IndexFacts", "Label",
        "LabelsAnswer", "MapAnswer", "MapLabels", "MapScores", "Problem", "SearchAnswer", "Uploaded",
        "Decided", "Decision", "DecisionAnswer", "DecisionsAnswer", "DecisionsRequest", "DecisionsSince", "DrawRequest",
        "EvidenceAnswer", "EvidenceImage", "Histogram", "ProblemAnswer", "ProblemImage", "ProblemKind",
        "ProblemsAnswer", "SampleBand", "SampleEdge",
        "SampleFacts", "SamplesAnswer", "DuplicateCounts", "DuplicateGroup", "DuplicateImage", "DuplicateName",
        "DuplicatesAnswer", "BesideAnswer", "Confusion", "LabelClass", "LabelField", "LabelFieldClasses", "LabelFields",
        "LabelIssue", "LabelIssuesAnswer", "LabelledImage",
        "Tag", "TagsAnswer", "ChangeCounts", "ChangedImage", "ClassCounts", "DatasetAnswer",
        "DatasetFacts", "Cluster", "ClusterName", "ClusterNameRequest", "ClustersAnswer",
        "DatasetVersion", "DatasetsAnswer", "DiffAnswer", "Fact", "FilesAnswer", "GateValue", "LeakCounts", "LeakImage",
        "LeakNeighbour", "LeakageAnswer", "LeftOut", "NamedImage", "SplitImages", "SubsetMeasure", "VersionAnswer",
        "VersionImage", "VersionImagesAnswer", "VersionName",
    }  # fmt: skip
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert all(operation["summary"] and operation["description"] for operation in operations)
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", [])]
    assert all(parameter["description"] for parameter in parameters)
    assert "422" not in json.dumps(described)
    assert '"null"' not in json.dumps(described)


def signed_in(client: TestClient, token: str) -> str:
    """The cookie of a visitor who gave the token."""
    answer = client.post("/login", data={"token": token}, follow_redirects=False)
    return answer.headers["set-cookie"].split(";")[0]


@pytest.mark.parametrize("before", ['prefs={"a":1}; ', 'x="y; z=é; ', "a b; "])
def test_cookies_of_other_programs_lock_nobody_out(lake: Pipeline, before: str) -> None:
    cookie = signed_in(client_of(lake, token="secret"), "secret")
    stranger = client_of(lake, token="secret")
    assert stranger.get("/api/search", headers={"Cookie": (before + cookie).encode()}).status_code == 200  # type: ignore[arg-type]


def test_a_proxys_own_authorization_does_not_hide_the_cookie(lake: Pipeline) -> None:
    cookie = signed_in(client_of(lake, token="secret"), "secret")
    stranger = client_of(lake, token="secret")
    assert stranger.get("/api/search", headers={"Cookie": cookie, "Authorization": "Basic abc"}).status_code == 200
    assert stranger.get("/api/search", headers={"Authorization": "bearer secret"}).status_code == 200
    assert stranger.get("/api/search", headers={"Authorization": "Basic secret"}).status_code == 401


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/search", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("/thumbnail?key=rice/photo_000.jpg", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("/api/search", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("/folders", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("/api/search", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ],
)
def test_another_sites_page_can_link_here_but_have_nothing_of_this_in_itself(
    client: TestClient, path: str, headers: dict[str, str], status: int
) -> None:
    assert client.get(path, headers=headers).status_code == status


def test_an_origin_that_is_no_address_is_refused_with_all_headers(client: TestClient) -> None:
    answer = client.post("/api/export", json={"format": "csv"}, headers={"Origin": "http://[x"})
    assert (answer.status_code, list(answer.json())) == (403, ["error"])
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"text": "x" * 1001}, "1000 characters"),
        ({"captured_from": "0001-01-01T00:00:00+23:00"}, "before or after all years"),
        ({"weight": ["1"] * 21, "text": "x"}, "20 items"),
    ],
)
def test_what_is_too_long_or_too_old_is_refused_in_words(client: TestClient, asked: dict[str, Any], said: str) -> None:
    answer = client.get("/api/search", params=asked)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_keys_that_are_no_text_are_refused_and_doubled_ones_count_once(client: TestClient) -> None:
    body = b'{"format": "csv", "keys": ["\\ud800"]}'
    answer = client.post("/api/export", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    keys = ["rice/photo_000.jpg", "rice/photo_000.jpg", "nowhere.jpg"]
    said = client.post("/api/export", json={"format": "json", "keys": keys}).json()["provenance"]
    assert (said["selected"], said["rows"]) == (2, 1)


def test_a_folder_that_is_not_there_is_a_readable_404(client: TestClient) -> None:
    answer = client.get("/folders", params={"folder": "<b>nowhere"}, headers=HTML)
    assert (answer.status_code, "<b>nowhere" in answer.text, "there is no folder" in answer.text) == (404, False, True)


def test_a_slow_upload_is_given_up(lake: Pipeline, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., str]) -> None:
    monkeypatch.setattr(uploads, "_UPLOAD_SECONDS", 0.3)
    host, port = serve(lake).removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as slow:
        head = "POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n--x\r\n".encode())
        assert b"longer than 0.3 s to arrive" in slow.recv(65_536)


def test_a_preview_that_does_not_come_is_read_by_whoever_waits(lake: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PATIENCE_SECONDS", 0.05)
    made = files.Files(lake.searcher, lake.settings, lake.source)
    index = lake.searcher.open()
    row = index.rows.row(index.row_number("rice/photo_000.jpg") or 0, named=True)
    made._coming[row["content_sha256"]] = Future()
    assert made.thumbnail(index, row).startswith(b"\xff\xd8")
    made.close()


# ----------------------------------------------------------------------- HEAD


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/folders", 200),
        ("/map", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/login", 200),
        ("/static/gallery.css", 200),
        ("/api/search?k=2", 200),
        ("/api/folders", 200),
        (f"/thumbnail?key={PLAIN}", 200),
        (f"/original?key={PLAIN}", 200),
        (f"/image?key={PLAIN}", 200),
        ("/image?key=nowhere.jpg", 404),
        ("/api/export", 405),
    ],
)
def test_head_is_answered_as_get_is_without_the_body(client: TestClient, path: str, status: int) -> None:
    whole, head = client.get(path), client.head(path)
    assert (head.status_code, whole.status_code) == (status, status)
    assert head.content == b""
    assert dict(head.headers) == dict(whole.headers)


def test_head_asks_for_the_token_as_get_does(lake: Pipeline) -> None:
    client = client_of(lake, token="secret", follow_redirects=False)
    for headers, status in (({}, 401), (HTML, 303), ({"Authorization": "Bearer secret"}, 200)):
        assert client.head("/folders", headers=headers).status_code == status
        assert client.get("/folders", headers=headers).status_code == status


# ------------------------------------------------------------ lists and clients


def test_lists_are_sorted_fold_copies_and_tell_of_them(client: TestClient) -> None:
    sizes = [image["size_bytes"] for image in search(client, sort="size_bytes:desc", k=500)["images"]]
    assert sizes == sorted(sizes, reverse=True)
    answer = search(client, sort="path:desc", distinct=True, k=500)
    paths = [image["relative_path"] for image in answer["images"]]
    assert (answer["sort"], answer["distinct"], answer["total"]) == ("relative_path:desc", True, ALL - 2)
    assert (answer["folded"], answer["notice"]) == ({"copies": 1, "near_copies": 1}, None)
    assert paths == sorted(paths, key=str.encode, reverse=True)
    assert "kinds/copy.jpg" not in paths
    assert set(NEAR) - set(paths) == {NEAR[1]}, "the one to keep stands for both"
    assert {image["relative_path"]: image["copies"] for image in search(client, folder="kinds")["images"]} == {
        "kinds/copy.jpg": 1
    } | {f"kinds/{name}": 0 for name in ("cut.jpg", "deep.png", "empty.jpg", "page.jpg", "print.tif", "told.jpg")}
    found = search(client, text="rust", distinct=True, k=500)
    assert (found["total"], found["sort"]) == (USABLE - 2, None)
    scores = [image["score"] for image in found["images"]]
    assert scores == sorted(scores, reverse=True)
    assert search(client, text="rust")["folded"] is None
    assert refusal(client, "/api/search", text="rust", sort="width")[0] == 400
    assert "no column 'colour'" in refusal(client, "/api/search", sort="colour")[1]
    rows, provenance, _ = exported(client, "csv", search={"sort": "size:desc", "distinct": True})
    assert rows["size_bytes"].is_sorted(descending=True)
    assert (provenance["sort"], len(rows)) == ("size_bytes:desc", ALL - 2)
    assert provenance["folded"] == {"copies": 1, "near_copies": 1}


def test_an_export_of_nothing_is_refused_in_a_sentence(client: TestClient) -> None:
    for form in ("csv", "parquet", "json"):
        for asked in ({"search": {"name": "nowhere"}}, {"keys": []}, {"keys": ["nowhere.jpg"]}):
            answer = client.post("/api/export", json={"format": form, **asked})
            assert (answer.status_code, "nothing to export" in answer.json()["error"]) == (400, True)


def connected(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


UPLOAD = "POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"


def test_slow_uploads_shut_nobody_elses_out(address: str) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(address)) for _ in range(100)]
        for one in slow:
            one.sendall(f"{UPLOAD}Content-Length: 100000\r\n\r\n--x\r\n".encode())
        for seed in range(6):
            for one in slow:
                one.sendall(b"a")
            answer = httpx.post(f"{address}/api/images", files={"file": ("a.jpg", drawn(seed))}, timeout=20)
            assert answer.status_code == 201
        answer = httpx.post(f"{address}/api/export", json={"format": "csv", "search": {}}, timeout=20)
        assert answer.status_code == 200


def test_clients_that_leave_in_a_search_or_an_export_give_their_places_back(
    lake: Pipeline, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., str]
) -> None:
    began: list[float] = []

    def slow(*_: Any) -> Any:
        began.append(time.monotonic())
        while True:
            current().check()
            time.sleep(0.02)

    real = Searcher.matching
    monkeypatch.setattr(Searcher, "matching", lambda self, i, f: slow() if f.name == "slow" else real(self, i, f))
    address = serve(lake)
    body = json.dumps({"format": "csv", "search": {"name": "slow"}})
    head = f"POST /api/export HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    head = head.replace("Host: a", "Host: 127.0.0.1")
    for request in (f"{head}\r\n{body}", "GET /api/search?name=slow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
        for _ in range(30):
            with connected(address) as connection:
                connection.sendall(request.encode())
                time.sleep(0.02)
        answer = httpx.post(f"{address}/api/export", json={"format": "csv", "search": {}}, timeout=5)
        assert answer.status_code == 200
        assert httpx.get(f"{address}/api/search?k=1", timeout=5).status_code == 200
    assert began


def test_problems_are_told_filtered_by_and_sorted_by(ready: Pipeline, images: Path) -> None:
    (images / "a").mkdir()
    colours = np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8)
    sharp = Image.fromarray(colours).resize((400, 300), Image.Resampling.NEAREST)
    sharp.save(images / "a" / "sharp.jpg", quality=95)
    sharp.filter(ImageFilter.GaussianBlur(8)).save(images / "a" / "blurred.jpg", quality=90)
    run(ready, LogProgress())
    client = client_of(ready)
    found = {image["relative_path"]: image["problems"] for image in search(client)["images"]}
    assert found == {"a/blurred.jpg": ["blurry"], "a/sharp.jpg": []}
    for kind in ("blurry", "any"):
        assert [image["relative_path"] for image in search(client, problem=kind)["images"]] == ["a/blurred.jpg"]
    assert search(client, problem=["dark", "bright"])["total"] == 0
    order = [image["relative_path"] for image in search(client, sort="sharpness:desc")["images"]]
    assert order == ["a/sharp.jpg", "a/blurred.jpg"]
    answer = client.get("/api/search", params={"problem": "blury"})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "no kind of problem is called 'blury'; did you mean blurry?",
    )
    page = client.get("/image", params={"key": "a/blurred.jpg"}, headers=HTML).text
    assert ">problems</dt>" in page
    assert ">blurry</dd>" in page
    assert "It is not compared" not in page
    for table in (ready.tables.compared, ready.tables.groups):
        shutil.rmtree(table.path)
    assert "It is not compared" in client.get("/image", params={"key": "a/blurred.jpg"}, headers=HTML).text
    assert search(client, distinct=True)["notice"].startswith("images are not compared yet")


def test_label_issues_are_told_and_filtered_by(ready: Pipeline, images: Path) -> None:
    for folder in ("rust", "miner"):
        (images / folder).mkdir()
        (images / folder / "leaf.jpg").write_bytes(drawn(1))
    (images / "rust" / "other.jpg").write_bytes(drawn(2))
    run(ready, LogProgress(), curate=False)
    ready.annotate(make_source(format="folders", pattern="{class}/*"), LogProgress())
    run(ready, LogProgress())
    client = client_of(ready)
    found = [image["relative_path"] for image in search(client, problem="conflicting")["images"]]
    assert found == ["miner/leaf.jpg", "rust/leaf.jpg"]
    assert search(client, problem=["mislabelled", "leak", "bad_box"])["total"] == 0
    page = client.get("/image", params={"key": "rust/leaf.jpg"}, headers=HTML).text
    assert ">label_issues</dt>" in page
    assert "miner/leaf.jpg is the same file, labelled miner" in page
    assert '<option value="bad_box">bad box</option>' in client.get("/", headers=HTML).text
