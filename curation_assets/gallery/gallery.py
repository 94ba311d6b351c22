"""What all requests share: the searcher, stored pixels, uploads, the map; and a search made of what was asked."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import polars as pl
from fastapi import Depends, Request

from curation_assets.errors import CurationError
from curation_assets.gallery import responses
from curation_assets.gallery.clusters import Clusters
from curation_assets.gallery.datasets import Datasets
from curation_assets.gallery.files import Files, NotThereError
from curation_assets.gallery.leakage import LeakagePages
from curation_assets.gallery.points import Maps
from curation_assets.gallery.requests import LabelRequest, MapLabelsRequest, SearchRequest, Versions
from curation_assets.gallery.review import Review
from curation_assets.gallery.security import MOST_BODY_BYTES
from curation_assets.gallery.uploads import Uploads
from curation_assets.images.names import printable
from curation_assets.partition_keys import key_of
from curation_assets.pipeline import Pipeline
from curation_assets.search.filters import MAP_COLUMNS
from curation_assets.search.index import SearchIndex
from curation_assets.search.query import Like, Picture, Query, Text
from curation_assets.search.searcher import SearchResult
from curation_assets.search.zero_shot import check_labels
from curation_assets.serving.bodies import Bodies
from curation_assets.serving.leaving import Threads

logger = logging.getLogger(__name__)

_UPLOADS, _FILES, _EXPORTS, _SEARCHES = 4, 4, 2, 8  # at work at once: of the first three each is in memory as a whole
_ARCHIVES = 2  # that are being sent, for as long as their clients take
_DECISIONS = 16  # that wait for the disk, in few commits
_COMPARISONS = 2  # of versions and sides: each may take long, and nobody else's search should wait for it
_WAITING = 64  # for each of them
_HELD_UPLOADS = 8  # of the largest size


class Gallery:
    """One lake, as the gallery shows it. Threads may share it.

    Args:
        pipeline: of the lake.

    Attributes:
        lake: tells it from others, for what a browser keeps.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.settings = pipeline.settings
        self.lake = sha256(str(pipeline.tables.directory.path).encode("utf-8", "backslashreplace")).hexdigest()[:12]
        self.tables = pipeline.tables
        self.agreements = pipeline.agreements
        self.annotations_of = pipeline.annotations_of
        self.evidence = pipeline.evidence
        self.searcher = pipeline.searcher
        self.files = Files(self.searcher, self.settings, pipeline.source)
        self.uploads = Uploads()
        self.bodies = Bodies(_HELD_UPLOADS * self.settings.gallery_max_upload_bytes + 2 * MOST_BODY_BYTES)
        self.uploading = Threads("uploads", _UPLOADS, _WAITING)
        self.reading = Threads("files", _FILES, _WAITING)
        self.exporting = Threads("exports", _EXPORTS, _WAITING)
        refusal = f"{_ARCHIVES} archives are being sent already: try again when one is done, or use the command"
        self.sending = Threads("archives", _ARCHIVES, 0, refusal, 60)
        self.searching = Threads("searches", _SEARCHES, _WAITING)
        self.deciding = Threads("deciding", _DECISIONS, _WAITING)
        self.comparing = Threads("comparing", _COMPARISONS, _WAITING)
        self.maps = Maps(self.searcher)
        self.thresholds = pipeline.thresholds
        self.review = Review(pipeline)
        self.datasets = Datasets(pipeline)
        self.leakage = LeakagePages(pipeline, self.datasets)
        self.clusters = Clusters(pipeline)

    def close(self) -> None:
        """End the threads; what is at work is finished, or given up where nobody waits for it."""
        for threads in (
            self.uploading, self.reading, self.exporting, self.sending, self.searching, self.comparing,
        ):  # fmt: skip
            threads.close()
        self.review.close()  # first: whoever decided waits for it
        self.deciding.close()
        self.files.close()

    def warm_up(self) -> None:
        """Load what the first visitors need; what fails here is told to them when they ask for it."""
        try:
            self.searcher.open()
            self.searcher.embed_texts(["a photograph"])  # a model's weights are read when they are first used
            self.datasets.catalogue()
            with suppress(CurationError):  # nothing is scored yet
                self.clusters.images(self.searcher.open())
            self.review.labels(self.searcher.open())
            self.review.warm_up()
            self.leakage.across(None, None)
        except CurationError as error:
            logger.info("%s", error)
        except Exception:
            logger.exception("warming up failed")

    def open(self, versions: Versions) -> SearchIndex:
        """The index of some versions."""
        return self.searcher.open(versions.model_version, versions.table_version)

    def row(self, index: SearchIndex, key: str) -> dict[str, Any]:
        """An image's row of the index.

        Raises:
            NotThereError: there is no such image.
        """
        return index.rows.row(_row_number(index, key), named=True)

    def further(self, index: SearchIndex, key: str) -> dict[str, Any]:
        """An image's further columns, but for its place on the map.

        Raises:
            NotThereError: there is no such image.
        """
        names = [name for name in self.searcher.further_columns if name not in MAP_COLUMNS]
        return self.searcher.further(index, [_row_number(index, key)], names).row(0, named=True)

    def search(self, asked: SearchRequest, k: int, offset: int = 0) -> SearchResult:
        """What a search finds.

        Raises:
            CurationError: it can't be made; the message says why.
        """
        return self.searcher.search(
            self._query(asked),
            k,
            offset=offset,
            sort=asked.sort,
            distinct=asked.distinct,
            exact=True,  # pages follow each other without gap or repeat
            filter=asked.filter(),
            model_version=asked.model_version,
            table_version=asked.table_version,
        )

    def _query(self, asked: SearchRequest) -> Query:
        weights = asked.weight or [1.0] * len(asked.text)
        if len(weights) != len(asked.text):
            raise CurationError(f"weight is given {len(weights)} times for {len(asked.text)} texts: give one for each")
        parts: list[Text | Like | Picture] = [
            Text(text, weight) for text, weight in zip(asked.text, weights, strict=True)
        ]
        parts += [self.uploads.get(key) for key in asked.image]
        parts += [Like(key) for key in asked.like]
        parts += [Text(text, -1.0) for text in asked.not_]
        return Query(tuple(parts))

    def labels(self, asked: LabelRequest) -> responses.LabelsAnswer:
        """Zero-shot labels of a part of what a search finds."""
        labels = check_labels(self.labels_of(asked))
        found = self.search(asked, asked.k, asked.offset)
        labelled = self.searcher.label(found, labels)
        images = [responses.Label.model_validate(row) for row in labelled.iter_rows(named=True)]
        return responses.LabelsAnswer(labels=labels, total=found.total, images=images)

    def labels_of(self, asked: LabelRequest | MapLabelsRequest) -> list[str]:
        """The labels that were asked for, or those of the settings."""
        return asked.label or list(self.settings.labels)

    def dagster_link(self, folder: str) -> str | None:
        """A folder's partition in Dagster."""
        base = self.settings.gallery_dagster_url.rstrip("/")
        if not base:
            return None
        partition = quote(key_of(folder), safe="")
        return f"{base}/assets/crop_images_directory?view=partitions&partition={partition}"

    def index_facts(self, index: SearchIndex) -> responses.IndexFacts:
        """What an answer says of the index it comes from."""
        info = index.info
        return responses.IndexFacts(
            model=info.model_name,
            model_version=info.model_version,
            demonstration=self.searcher.model(info.model_version).demonstration,
            dimension=info.dimension,
            embeddings_table_version=info.embeddings_version,
            directory_table_version=info.directory_version,
            kind=info.kind,
            images=info.images,
            vectors=info.vectors,
            built_at=info.built_at,
            behind=self.searcher.behind(index),
        )


def _row_number(index: SearchIndex, key: str) -> int:
    number = index.row_number(key)
    if number is None:
        raise NotThereError(f"there is no image {printable(key)[:300]!r} in the tables")
    return number


def number_of(index: SearchIndex, row: Mapping[str, Any]) -> int | None:
    """Place in an index of an image of a table; None where it is gone or another, or not in the index yet.

    Args:
        row: ``relative_path`` and ``content_sha256``.
    """
    number = index.row_number(row["relative_path"])
    is_it = number is not None and index.rows["content_sha256"][number] == row["content_sha256"]
    return number if is_it else None


def found_image(
    row: dict[str, Any],
    versions: Versions,
    copies: int = 0,
    problems: str | None = None,
    near: int | None = None,
    decided: str | None = None,
    tags: str | None = None,
    labels: dict[str, str] | None = None,
    split: str | None = None,
) -> responses.FoundImage:
    """A row of ``SearchResult.rows`` or of an index, with addresses of its preview and page."""
    content = row["content_sha256"]
    mark = {"v": content[:16]} if content else {}
    return responses.FoundImage(
        relative_path=row["relative_path"],
        name=printable(row["file_name"]),
        path=printable(row["relative_path"]),
        folder=row["folder"],
        score=row.get("score"),
        width=row["width"],
        height=row["height"],
        captured_at=row["captured_at"],
        camera=row["camera"],
        size_bytes=row["size_bytes"],
        status=row["status"],
        error=row["error"],
        content_sha256=content,
        thumbnail=address("/thumbnail", row["relative_path"], versions, mark) if row["status"] == "ok" else None,
        page=address("/image", row["relative_path"], versions),
        copies=copies,
        near_copies=near or 0,
        problems=problems.split(", ") if problems else [],
        decided=decided,
        tags=tags.split(", ") if tags else [],
        labels=labels or {},
        split=split,
    )


def named_image(index: SearchIndex, path: str, content: str | None, versions: Versions) -> responses.NamedImage:
    """An image that some table names, with its picture if it is still the one that is meant.

    Args:
        content: that it had; None: not known, and so none is shown.
    """
    number = index.row_number(path)
    name, shown = printable(path.rpartition("/")[2]), printable(path)
    if number is None:
        return responses.NamedImage(
            relative_path=path, name=name, path=shown, image=None, why="not in the lake any more"
        )
    row = index.rows.row(number, named=True)
    if content is None or row["content_sha256"] != content:
        return responses.NamedImage(relative_path=path, name=name, path=shown, image=None, why="another picture by now")
    return responses.NamedImage(relative_path=path, name=name, path=shown, image=found_image(row, versions), why=None)


def found_images(
    rows: pl.DataFrame, versions: Versions, copies: Iterable[int], told: Sequence[Mapping[str, Any]] | None = None
) -> list[responses.FoundImage]:
    """Some rows, as answers show them, with how many copies each has.

    Args:
        told: of each what :func:`found_image` takes beside.
    """
    told = [{}] * len(rows) if told is None else told
    return [
        found_image(row, versions, int(number), **more)
        for row, number, more in zip(rows.iter_rows(named=True), copies, told, strict=True)
    ]


def address(path: str, key: str, versions: Versions, more: dict[str, str] | None = None, name: str = "key") -> str:
    """``path?key=…`` with the versions that were asked for.

    Args:
        more: parameters beside.
        name: of the parameter that holds the key.
    """
    given = {name: key, "model_version": versions.model_version, "table_version": versions.table_version}
    chosen = {parameter: value for parameter, value in (given | (more or {})).items() if value is not None}
    return f"{path}?{urlencode(chosen, quote_via=quote)}"


async def _gallery_of(request: Request) -> Gallery:  # else it would be asked for on a thread of its own
    gallery: Gallery = request.app.state.gallery
    return gallery


GalleryOf = Annotated[Gallery, Depends(_gallery_of)]
