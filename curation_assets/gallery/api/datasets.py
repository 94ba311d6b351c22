"""Datasets: recipes, versions, what is in them and what isn't, how two differ, and taking one along."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path as Place
from typing import IO, Annotated, Any

import polars as pl
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from curation_assets.curate.duplicates.between import how
from curation_assets.datasets.catalogue import Listed
from curation_assets.datasets.steps import SUBSET
from curation_assets.errors import CurationError
from curation_assets.export.archive import ArchiveTarget
from curation_assets.export.names import MOST_BYTES, safe_part
from curation_assets.export.protocol import Options
from curation_assets.gallery import responses
from curation_assets.gallery.api.decisions import who
from curation_assets.gallery.api.documentation import NOT_THERE
from curation_assets.gallery.api.export import sent
from curation_assets.gallery.api.pixels import attachment
from curation_assets.gallery.datasets import RecipeFile, VersionRows, options_of
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.gallery import Gallery, GalleryOf, named_image
from curation_assets.gallery.head import IS_HEAD
from curation_assets.gallery.requests import (
    ArchiveRequest,
    DiffRequest,
    FilesRequest,
    ListRequest,
    VersionImagesRequest,
)
from curation_assets.images.names import printable
from curation_assets.search.index import SearchIndex
from curation_assets.serving.streaming import streamed

_MOST_CLASSES = 200
_LISTS = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonlines",
    "parquet": "application/vnd.apache.parquet",
}
ZIP = "application/zip"
_SENDING: dict[str, Any] = {"model": responses.Problem, "description": "Two archives are being sent already."}
Name = Annotated[str, Path(description="Of the dataset.", max_length=300)]
Number = Annotated[int, Path(description="Of the version.", ge=1, le=2**31 - 1)]

router = APIRouter()


@router.get("/api/datasets", tags=["datasets"], summary="Recipes and datasets")
async def datasets(gallery: GalleryOf, request: Request) -> responses.DatasetsAnswer:
    """Every recipe, broken ones too, and every dataset of which a version was published, with its latest version."""
    return await gallery.searching.run(request, _datasets, gallery)


@router.get("/api/datasets/{name}", tags=["datasets"], summary="A recipe and its versions", responses=NOT_THERE)
async def dataset(gallery: GalleryOf, request: Request, name: Name) -> responses.DatasetAnswer:
    """A recipe as it is written, and all versions that were published, also those that were taken back."""
    return await gallery.searching.run(request, _dataset, gallery, name)


@router.get(
    "/api/datasets/{name}/versions/{version}", tags=["datasets"], summary="A version of a dataset", responses=NOT_THERE
)
async def version(gallery: GalleryOf, request: Request, name: Name, version: Number) -> responses.VersionAnswer:
    """How many images of which class lie on which side, what is left out and why, the gate, what it was made of."""
    return await gallery.searching.run(request, _version, gallery, name, version)


@router.get(
    "/api/datasets/{name}/versions/{version}/images",
    tags=["datasets"],
    summary="Images of a version",
    responses=NOT_THERE,
)
async def images(
    gallery: GalleryOf, request: Request, name: Name, version: Number, asked: Annotated[VersionImagesRequest, Query()]
) -> responses.VersionImagesAnswer:
    """What is kept, by side and class; or what is left out for a reason, each beside what stands for it."""
    return await gallery.searching.run(request, _images, gallery, name, version, asked)


@router.get(
    "/api/datasets/{name}/versions/{version}/diff",
    tags=["datasets"],
    summary="What is otherwise in a version",
    responses=NOT_THERE,
)
async def diff(
    gallery: GalleryOf, request: Request, name: Name, version: Number, asked: Annotated[DiffRequest, Query()]
) -> responses.DiffAnswer:
    """Which images came, went, changed sides, labels or bytes from the other version to this one, and why."""
    return await gallery.comparing.run(request, _diff, gallery, name, version, asked)


@router.get(
    "/api/datasets/{name}/versions/{version}/list",
    tags=["datasets"],
    summary="Take a version along as a list",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in _LISTS.values()}, "description": "The file."}, **NOT_THERE},
)
async def list_of(
    gallery: GalleryOf, request: Request, name: Name, version: Number, asked: Annotated[ListRequest, Query()]
) -> Response:
    """What a version keeps as `curation dataset export` writes it: paths, contents, labels, sides, sizes and boxes."""
    file = await gallery.exporting.run(request, _written, gallery, name, version, asked.format)
    ending = f".{asked.format}"
    called = (asked.called or f"{name}-{version}").removesuffix(ending) + ending
    headers = {"Content-Disposition": attachment(called), "Content-Length": str(file.seek(0, os.SEEK_END))}
    return StreamingResponse(sent(file), media_type=_LISTS[asked.format], headers=headers)


@router.get(
    "/api/datasets/{name}/versions/{version}/files",
    tags=["datasets"],
    summary="What a version would be as files",
    responses={429: _SENDING, **NOT_THERE},
)
async def files_of(
    gallery: GalleryOf, request: Request, name: Name, version: Number, asked: Annotated[FilesRequest, Query()]
) -> responses.FilesAnswer:
    """How many images of how many bytes, and what a format loses of them; 400 with the reason if it can't hold them."""
    gallery.sending.check()
    images, size, notes = await gallery.exporting.run(
        request, gallery.datasets.check_files, name, version, asked.to, _options(asked)
    )
    return responses.FilesAnswer(images=images, bytes=size, notes=notes)


@router.get(
    "/archive",
    tags=["datasets"],
    summary="Take a version along as files",
    response_class=Response,
    responses={
        200: {"content": {ZIP: {}}, "description": "A ZIP archive."},
        429: _SENDING,
        **NOT_THERE,
    },
)
async def archive(gallery: GalleryOf, request: Request, asked: Annotated[ArchiveRequest, Query()]) -> Response:
    """What `curation dataset export` writes, in a ZIP archive that is made while it is sent.

    One that is broken off is no archive, as its directory comes last; it begins anew then, where the command goes on.
    """
    dataset, number, options = asked.dataset, asked.version, _options(asked)
    called = re.sub(r"\.zip$", "", (asked.called or "").strip(), flags=re.IGNORECASE) or f"{dataset}-{number}"
    folder = safe_part(called)
    if len(folder.encode()) > MOST_BYTES:
        raise CurationError(f"called: that is too long for a folder's name, of which {MOST_BYTES} bytes can be")
    if request.scope["http_version"] == "1.0":
        raise HTTPException(505, "an archive is sent in parts, which HTTP/1.0 doesn't know: use HTTP/1.1")
    headers = {"Content-Disposition": attachment(f"{called}.zip")}
    if IS_HEAD in request.scope:
        await gallery.exporting.run(request, gallery.datasets.check_files, dataset, number, asked.to, options)
        return Response(media_type=ZIP, headers=headers)
    await gallery.searching.run(request, gallery.datasets.check_there, dataset, number)
    by = who(request, asked.by or "") or None

    def write(out: IO[bytes]) -> None:
        gallery.datasets.send_files(dataset, number, asked.to, ArchiveTarget(folder, by, out), options)

    return await streamed(gallery.sending, write, headers, ZIP)


def _options(asked: FilesRequest) -> Options:
    return Options(upright=asked.upright, strip_metadata=asked.strip_metadata)


# ---------------------------------------------------------------------- answers


def _datasets(gallery: Gallery) -> responses.DatasetsAnswer:
    recipes, known = gallery.datasets.recipes(), gallery.datasets.catalogue()
    names = sorted({*recipes, *known})
    return responses.DatasetsAnswer(
        datasets=[_facts(name, recipes.get(name), known.get(name, [])) for name in names],
        recipes=str(gallery.settings.recipes),
        options=options_of(gallery.settings),
    )


def _facts(name: str, recipe: RecipeFile | None, versions: list[Listed]) -> responses.DatasetFacts:
    live = [listed for listed in versions if listed.withdrawn is None]
    said = None if recipe is None else recipe.recipe
    then = (live[0].manifest.get("recipe") or {}) if live else {}
    return responses.DatasetFacts(
        name=name,
        description=said.description if said is not None else str(then.get("description") or ""),
        has_recipe=recipe is not None,
        fault=None if recipe is None else recipe.fault,
        automatic=said is not None and said.automatic,
        versions=len(live),
        latest=_short(live[0]) if live else None,
    )


def _short(listed: Listed) -> responses.DatasetVersion:
    gate = None
    if listed.gate:
        gate = "let pass" if listed.let_pass else "holds"
    return responses.DatasetVersion(
        version=listed.version,
        published_at=listed.published_at,
        images=listed.images,
        left_out=0 if listed.withdrawn is not None else listed.left_out,
        has_sides=listed.has_sides,
        gate=gate,
        withdrawn=listed.withdrawn,
    )


def _dataset(gallery: Gallery, name: str) -> responses.DatasetAnswer:
    recipe, versions = gallery.datasets.recipe(name), gallery.datasets.catalogue().get(name, [])
    if recipe is None and not versions:
        raise NotThereError(
            f"there is no recipe and no dataset {printable(name)!r}; `curation dataset init` writes one"
        )
    latest = next((listed for listed in versions if listed.withdrawn is None), None)
    said = None if recipe is None else recipe.recipe
    return responses.DatasetAnswer(
        dataset=_facts(name, recipe, versions),
        versions=[_short(listed) for listed in versions],
        file=None if recipe is None else recipe.place,
        recipe=None if recipe is None else recipe.text,
        changed=[] if said is None or latest is None else gallery.datasets.changed_keys(said, latest),
        options=options_of(gallery.settings),
    )


def _version(gallery: Gallery, name: str, number: int) -> responses.VersionAnswer:
    found = gallery.datasets.version(name, number)
    listed, manifest = found.listed, found.listed.manifest
    classes, more = _classes(found)
    totals = dict(found.classes.group_by("split").agg(pl.col("images").sum()).iter_rows())
    return responses.VersionAnswer(
        dataset=name,
        version=_short(listed),
        description=found.card.text,
        content_id=found.card.content_id,
        sides=found.sides,
        classes=classes,
        more_classes=more,
        totals=[totals.get(side, 0) for side in found.sides],
        left_out=[responses.LeftOut.model_validate(row) for row in found.left_out.iter_rows(named=True)],
        gate=[
            responses.GateValue(
                name=condition, passed=one["passed"], told=one["told"], let_pass=listed.let_pass.get(condition)
            )
            for condition, one in listed.gate.items()
        ],
        subset=responses.SubsetMeasure.model_validate(manifest["subset"]) if manifest.get("subset") else None,
        leaks=(manifest.get("leakage") or {}).get("pairs"),
        facts=[responses.Fact(name=name, text=text) for name, text in found.card.facts],
        notes=list(found.card.limits),
    )


def _classes(found: VersionRows) -> tuple[list[responses.ClassCounts], int]:
    """Classes by name, and how many more there are."""
    of_class: dict[str | None, dict[str | None, int]] = {}
    for label, split, number in found.classes.iter_rows():
        of_class.setdefault(label, {})[split] = number
    names = sorted(of_class, key=lambda label: (label is None, label or ""))
    told = [
        responses.ClassCounts(
            label=label,
            images=[of_class[label].get(side, 0) for side in found.sides],
            total=sum(of_class[label].values()),
        )
        for label in names[:_MOST_CLASSES]
    ]
    return told, len(names) - len(told)


def _images(gallery: Gallery, name: str, number: int, asked: VersionImagesRequest) -> responses.VersionImagesAnswer:
    rows, index = gallery.datasets.version(name, number).rows, gallery.open(asked)
    rows = rows.filter(pl.col("kept") if asked.reason is None else ~pl.col("kept") & (pl.col("reason") == asked.reason))
    if asked.side is not None:
        rows = rows.filter(pl.col("split") == asked.side)
    if asked.unlabelled:
        rows = rows.filter(pl.col("label").is_null())
    elif asked.class_ is not None:
        rows = rows.filter(pl.col("label") == asked.class_)
    return responses.VersionImagesAnswer(
        total=len(rows),
        offset=asked.offset,
        images=[_image(index, row, asked) for row in rows.slice(asked.offset, asked.k).iter_rows(named=True)],
    )


def _image(index: SearchIndex, row: dict[str, Any], asked: VersionImagesRequest) -> responses.VersionImage:
    witness = row["witness"]
    is_cosine = row["reason"] == SUBSET and row["similarity"] is not None
    return responses.VersionImage(
        **dict(named_image(index, row["relative_path"], row["content_sha256"], asked)),
        label=row["label"],
        split=row["split"],
        reason=row["reason"],
        witness=None if witness is None else named_image(index, witness, row["witness_content"], asked),
        similarity=row["similarity"],
        method="cosine" if is_cosine else row["method"],
        how=how(row, "content_sha256", "witness_content"),
    )


def _diff(gallery: Gallery, name: str, number: int, asked: DiffRequest) -> responses.DiffAnswer:
    index, found = gallery.open(asked), gallery.datasets.changes(name, asked.other, number)
    rows = found.rows
    for column in ("change", "by"):
        if (value := getattr(asked, column)) is not None:
            rows = rows.filter(pl.col(column) == value)
    return responses.DiffAnswer(
        counts=[responses.ChangeCounts.model_validate(row) for row in found.counts.iter_rows(named=True)],
        total=len(rows),
        offset=asked.offset,
        images=[
            responses.ChangedImage(
                **dict(named_image(index, row["relative_path"], row["content_sha256"], asked)),
                change=row["change"],
                before=row["before"],
                after=row["after"],
                by=row["by"],
                reason=row["why"],
            )
            for row in rows.slice(asked.offset, asked.k).iter_rows(named=True)
        ],
    )


def _written(gallery: Gallery, name: str, number: int, format: str) -> IO[bytes]:
    """The file, without a name: while a client takes it, it lies on the disk, and holds no place."""
    with tempfile.TemporaryDirectory(prefix="curation-list-") as folder:
        target = Place(folder) / "list"
        gallery.datasets.write_list(name, number, format, target)
        return target.open("rb")  # whoever sends it closes it
