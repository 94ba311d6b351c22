"""Versions that are taken along as archives: the files of the command, or nothing that could be taken for them."""

from __future__ import annotations

import http.client
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

import polars as pl
import pytest
from starlette.testclient import TestClient

from curation_assets.errors import CurationError
from curation_assets.export.archive import ArchiveTarget, staged_in_archive
from curation_assets.export.protocol import Options
from curation_assets.export.reading import ImageReader, LackingError
from curation_assets.export.record import exports_of
from curation_assets.export.staging import Written
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.gallery.conftest import client_of, copy_of, serving
from curation_assets_tests.waiting import wait_until

FORMATS = ("folders", "hf-imagefolder", "webdataset")


@pytest.fixture(scope="module")
def client(published: Pipeline) -> Iterator[TestClient]:
    with client_of(published) as made:
        yield made


def of_leaves(**asked: Any) -> str:
    return f"/archive?{urlencode({'dataset': 'leaves', 'version': 2, **asked})}"


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert all(one.external_attr >> 16 == 0o100644 for one in archive.infolist())
        assert len(archive.namelist()) == len(set(archive.namelist()))
        return {name: archive.read(name) for name in archive.namelist()}


def files_below(folder: Path, above: str) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {above + file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def lacking(_reader: ImageReader, _rows: pl.DataFrame) -> pl.DataFrame:
    raise LackingError({"a.jpg": "it is gone"}, 5)


@pytest.mark.parametrize("form", FORMATS)
def test_an_archive_holds_what_the_command_writes(
    client: TestClient, published: Pipeline, tmp_path: Path, form: str
) -> None:
    answer = client.get(of_leaves(to=form))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"].startswith('attachment; filename="leaves-2.zip";')
    told = published.export_dataset("leaves", 2, form, tmp_path / "out", Options(), LogProgress())
    assert unpacked(answer.content) == files_below(tmp_path / "out", "leaves-2/")
    would = client.get("/api/datasets/leaves/versions/2/files", params={"to": form}).json()
    assert (would["images"], would["notes"]) == (told.images, told.notes)
    if form == "folders":
        assert would["bytes"] == told.bytes


def test_images_are_written_as_asked(client: TestClient, published: Pipeline, tmp_path: Path) -> None:
    options = Options(upright=True, strip_metadata=True)
    told = published.export_dataset("leaves", 2, "folders", tmp_path / "out", options, LogProgress())
    asked = {"to": "folders", "upright": True, "strip_metadata": True}
    assert unpacked(client.get(of_leaves(**asked)).content) == files_below(tmp_path / "out", "leaves-2/")
    assert client.get("/api/datasets/leaves/versions/2/files", params=asked).json()["notes"] == told.notes


@pytest.mark.parametrize(
    ("called", "folder", "file"),
    [
        ("mine.zip", "mine", "mine.zip"), ("../a\\b", "%2E.%2Fa%5Cb", ".._a_b.zip"), ("..", "%2E%2E", "...zip"),
        (".ZIP", "leaves-2", "leaves-2.zip"), (" ", "leaves-2", "leaves-2.zip"),
        ("é" * 100, "é" * 100, "_" * 100 + ".zip"),
    ],
)  # fmt: skip
def test_what_it_is_called_leads_nowhere_else(client: TestClient, called: str, folder: str, file: str) -> None:
    answer = client.get(of_leaves(called=called))
    assert {name.split("/")[0] for name in unpacked(answer.content)} == {folder}
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{file}";')


def test_what_can_not_be_sent_is_refused_in_a_line(client: TestClient) -> None:
    for asked, status, said in (
        ({"version": 9}, 404, "leaves has no version 9; it has 1, 2"),
        ({"version": 3}, 404, "leaves@3 was withdrawn"),
        ({"dataset": "no"}, 404, "no"),
        ({"to": "csv"}, 400, "to='csv'"),
        ({"version": 0}, 400, "version"),
        ({"more": 1}, 400, "more"),
        ({"called": "é" * 101}, 400, "called: that is too long"),
    ):
        answer = client.get(of_leaves(**asked))
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
        assert said in answer.json()["error"]
    page = client.get(of_leaves(version=9), headers={"Accept": "text/html"})
    assert (page.status_code, "leaves has no version 9" in page.text) == (404, True)
    assert client.get("/api/datasets/leaves/versions/9/files").status_code == 404
    for mode in ("no-cors", "navigate"):  # a download is noted, so no other site's page may begin one
        elsewhere = client.get(of_leaves(), headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode})
        assert elsewhere.status_code == 403


def test_a_download_is_noted_with_whose_it_is_and_nothing_that_was_refused(
    published: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copy_of(published, tmp_path / "own")
    contents = own.tables.directory.latest().read(["content_sha256"])["content_sha256"].head(0)
    with client_of(own, {"secret": "ann", "shared": None}) as client:
        asked = ("secret", "taken-1", "eve"), ("shared", "taken-2.zip", "bob"), ("shared", "taken-3", "")
        for token, called, by in asked:
            answer = client.get(of_leaves(called=called, by=by), headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
        client.headers["Authorization"] = "Bearer shared"
        assert client.get(of_leaves(called="taken-never", version=9)).status_code == 404
        assert client.head(of_leaves(called="taken-never")).headers["content-type"] == "application/zip"
        for called in ("taken-1", "taken-3"):
            assert client.get(of_leaves(called=called, version=1)).status_code == 200
        monkeypatch.setattr(ImageReader, "located", lacking)
        answer = client.get(of_leaves(called="taken-never"))
        assert (answer.status_code, answer.json()) == (400, {"error": "1 of 5 images can't be had: a.jpg: it is gone"})
    noted = exports_of(own.tables.exports, [("leaves", 1), ("leaves", 2)], contents)
    assert sorted((one.place, one.version, one.is_there) for one in noted if one.place.startswith("taken")) == [
        ("taken-1.zip, a download", 1, True),
        ("taken-1.zip, a download by ann", 2, True),
        ("taken-2.zip, a download by bob", 2, True),
        ("taken-3.zip, a download", 1, True),
        ("taken-3.zip, a download", 2, True),
    ]


# ------------------------------------------------------------------ broken off


@contextmanager
def asked_of(address: str, path: str, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.request(method, path)
        yield connection.getresponse()
    finally:
        connection.close()


def sending(monkeypatch: pytest.MonkeyPatch, write: Callable[[IO[bytes]], None]) -> None:
    monkeypatch.setattr(Pipeline, "send_export", lambda _self, *asked: write(asked[3].out))


def test_an_archive_that_fails_in_the_middle_is_never_taken_for_whole(
    published: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(out: IO[bytes]) -> None:
        with staged_in_archive(ArchiveTarget("leaves", None, out)) as stage:
            stage.write("a.jpg", b"a" * 500_000, Written(500_000, "-"))
            raise CurationError("b.jpg changed meanwhile")

    sending(monkeypatch, fail)
    with serving(published) as address, asked_of(address, of_leaves()) as answer:
        assert answer.status == 200
        with pytest.raises(http.client.IncompleteRead) as broken:
            answer.read()
    assert len(broken.value.partial) > 500_000
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(BytesIO(broken.value.partial))
    assert "broken off: b.jpg changed meanwhile" in caplog.text
    assert "Traceback" not in caplog.text


def test_who_leaves_or_wants_no_body_ends_the_writing_and_two_are_sent_at_once(
    published: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[type[BaseException]] = []

    def endless(out: IO[bytes]) -> None:
        try:
            while True:
                out.write(b"x" * 65_536)
        except BaseException as error:
            ended.append(type(error))
            raise

    sending(monkeypatch, endless)
    with serving(published) as address:
        with asked_of(address, of_leaves()) as one, asked_of(address, of_leaves()) as two:
            assert (len(one.read(1000)), len(two.read(1000))) == (1000, 1000)
            for path in (of_leaves(), "/api/datasets/leaves/versions/2/files"):
                with asked_of(address, path) as third:
                    assert (third.status, third.headers["Retry-After"]) == (429, "60")
            with asked_of(address, of_leaves(version=9)) as unknown:
                assert unknown.status == 404
            assert not ended
        wait_until(lambda: len(ended) == 2)
        with asked_of(address, of_leaves(), "HEAD") as head:
            assert (head.status, head.headers["Content-Type"], head.read()) == (200, "application/zip", b"")
        with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) as old:
            old.sendall(f"GET {of_leaves()} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert b" 505 " in old.recv(1000).split(b"\r\n")[0]
    assert ended == [BrokenPipeError] * 2


def test_an_image_that_can_not_be_had_ends_an_archive_at_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, at_once = ImageReader.each, list[bool]()

    def each(reader: ImageReader, *asked: Any, **more: Any) -> Any:
        at_once.append(more.get("at_once", False))
        return really(reader, *asked, **more)

    monkeypatch.setattr(ImageReader, "each", each)
    for form in FORMATS:
        client.get(of_leaves(to=form))
    assert at_once == [True] * len(FORMATS)
