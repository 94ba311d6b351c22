"""The gallery's pages: HTML around what the API answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import RedirectResponse, Response

from curation_assets import __version__
from curation_assets.curate.duplicates.overview import KINDS as GROUP_KINDS
from curation_assets.curate.labels.questions import ISSUES as LABEL_ISSUES
from curation_assets.curate.problems import KINDS, check_kind
from curation_assets.errors import CurationError
from curation_assets.export.formats import LISTS
from curation_assets.export.formats import NAMES as EXPORT_FORMATS
from curation_assets.gallery import security
from curation_assets.gallery.api.images import image_facts
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.folders import bad_files, branches, count_folders, totals
from curation_assets.gallery.gallery import Gallery, GalleryOf, address
from curation_assets.gallery.requests import ImageRequest
from curation_assets.gallery.scripts import script
from curation_assets.images.names import printable
from curation_assets.lake.schemas import DIRECTORY
from curation_assets.review.calibration import SIZES
from curation_assets.search.filters import PROBLEMS

PAGE = 60  # images that static/search.js asks for at a time; static/problems.js and labels.js too
MEMBERS, LEAKS = 30, 20  # the same of static/datasets.js and static/leakage.js
GROUPS, CLUSTERS = 20, 24  # and of static/duplicates.js and static/clusters.js
_OF_LEAKAGE = ("dataset", "version", "kind", "one", "other")
_SHOWN_BAD = 500
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
_PREDICTED = "predicted_"
_STATUSES = ("ok", "corrupt", "unsupported", "too_large", "unreadable")
_MEANINGS = {column.name: column.comment for column in DIRECTORY.columns}

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


def _human(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))


def _address(path: str, **parameters: Any) -> str:
    return f"{path}?{urlencode(parameters, quote_via=quote)}"


_templates = Environment(
    loader=PackageLoader("curation_assets.gallery"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"printable": printable, "human": _human, "number": "{:,}".format}
_templates.globals |= {"address": _address, "script": script, "version": __version__}


def render(template: str, request: Request, status: int = 200, **values: Any) -> HTMLResponse:
    """A page."""
    state = request.app.state
    shared = {
        "here": request.url.path,
        "has_token": bool(state.tokens),
        "reviewer": request.scope.get(security.REVIEWER),
        "lake": state.gallery.lake,
        "first_answers": [],  # addresses that the page's script will ask for first, as it writes them
    }
    text = _templates.get_template(template).render(shared | values)
    return HTMLResponse(text, status)


@router.get("/")
def search_page(gallery: GalleryOf, request: Request) -> Response:
    """Search, or browse."""
    return render(
        "search.html",
        request,
        first_answers=[_first_answer(request)],
        max_upload=gallery.settings.gallery_max_upload_bytes,
        formats=_FORMATS,
        statuses=_STATUSES,
        kinds=KINDS,
        columns=gallery.searcher.columns,
    )


def _first_answer(request: Request) -> str:
    """Address of the first images, written as the page's script will write it: the browser asks for it meanwhile."""
    asked = [*parse_qsl(request.url.query, keep_blank_values=True), ("k", str(PAGE)), ("offset", "0")]
    return f"/api/search?{_as_a_script_writes(asked)}"


@router.get("/image")
def image_page(gallery: GalleryOf, request: Request, asked: Annotated[ImageRequest, Query()]) -> Response:
    """One image."""
    latest = gallery.review.latest()
    facts = image_facts(gallery, asked)
    order = ("file_name", "folder", "status", "error", "warning", PROBLEMS, "label_issues")
    columns = sorted(facts.columns.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))
    meanings = _MEANINGS | gallery.searcher.further_columns
    return render(
        "image.html",
        request,
        facts=facts,
        latest=latest,
        columns=[(name, value, meanings.get(name, "")) for name, value in columns if value is not None],
        boxes=next((said.boxes for said in facts.annotations if said.boxes), []),
        predicted=_predicted(facts.columns),
        like=address("/api/search", asked.key, asked, {"k": "12"}, name="like"),
        like_page=address("/", asked.key, asked, name="like"),
        exif=address("/api/exif", asked.key, asked),
        folder_parts=_parts(facts.image.folder),
    )


@router.get("/folders")
def folders_page(gallery: GalleryOf, request: Request, folder: str = "") -> Response:
    """Folders with counts, and files that could not be used."""
    folder = folder.strip("/")
    index = gallery.searcher.open()
    counts = count_folders(index)
    sums = totals(counts, folder)
    if folder and not sums["files"]:
        raise NotThereError(f"there is no folder {printable(folder)[:300]!r} in the tables")
    bad = bad_files(index, folder).select("relative_path", "status", "error")
    return render(
        "folders.html",
        request,
        folder=folder,
        parts=_parts(folder) if folder else [],
        branches=[] if folder == "." else branches(counts, folder),
        totals=sums,
        own=[row for row in counts.iter_rows(named=True) if row["folder"] == folder],
        bad=bad.head(_SHOWN_BAD).rows(named=True),
        bad_total=len(bad),
        index=gallery.index_facts(index),
        dagster=gallery.dagster_link(folder) if folder in counts["folder"] else None,
    )


@router.get("/problems")
def problems_page(request: Request, kind: str = "") -> Response:
    """Kinds of problem; or the images of one."""
    told = KINDS[check_kind(kind)] if kind else None
    first = "/api/problems"
    if kind:  # as static/problems.js will write it
        around = [] if request.query_params.get("view") == "worst" else [("around", "true")]
        asked = [("k", str(PAGE)), *around, *_given(request, ("threshold", "folder"))]
        first = f"/api/problems/{kind}?{_as_a_script_writes(asked)}"
    return render(
        "problems.html",
        request,
        kind=kind,
        has_evidence=told is not None and told.told_by != "quality",
        is_of_label=kind in LABEL_ISSUES,
        sizes=SIZES,
        first_answers=[first],
    )


@router.get("/duplicates")
def duplicates_page(request: Request) -> Response:
    """Groups of duplicates."""
    offset, undecided = request.query_params.get("offset", ""), request.query_params.get("undecided") == "true"
    asked = [*_given(request, ("kind", "folder")), ("k", str(GROUPS))]
    asked += [("offset", offset)] if offset.strip("0") else []
    asked += [("undecided", "true")] if undecided else []
    first = f"/api/duplicates?{_as_a_script_writes(asked)}"
    return render("duplicates.html", request, kinds=GROUP_KINDS, first_answers=[first])


@router.get("/labels")
def labels_page(request: Request) -> Response:
    """Labels that something speaks against."""
    asked = _given(request, ("field", "issue", "given", "suggested", "folder", "undecided"))
    first = f"/api/label-issues?{_as_a_script_writes([*asked, ('k', str(PAGE))])}"
    return render("labels.html", request, sizes=SIZES, first_answers=[first])


@router.get("/leakage")
def leakage_page(request: Request) -> Response:
    """Images on two sides of a split."""
    first = f"/api/leakage?{_as_a_script_writes(_given(request, _OF_LEAKAGE) + _page(LEAKS))}"
    return render("leakage.html", request, kinds=GROUP_KINDS, first_answers=[first])


@router.get("/datasets")
def datasets_page(gallery: GalleryOf, request: Request, name: str = "") -> Response:
    """Recipes and datasets; or the versions of one."""
    formats = [format for format in EXPORT_FORMATS if format not in LISTS]
    first = _of_dataset(gallery, request, name) if name else ["/api/datasets"]
    return render("datasets.html", request, name=name, lists=LISTS, folders=formats, first_answers=first)


def _of_dataset(gallery: Gallery, request: Request, name: str) -> list[str]:
    """What static/datasets.js will ask for one after the other, as it will write it."""
    place = "/api/datasets/" + quote(name, safe="-_.!~*'()")
    live: list[int] = []
    with suppress(CurationError):  # it is told when the script asks
        live = [listed.version for listed in gallery.datasets.catalogue().get(name, []) if listed.withdrawn is None]
    version = request.query_params.get("version") or str(live[0] if live else "")
    if version not in map(str, live):
        return [place]
    place_of_version, other = f"{place}/versions/{version}", request.query_params.get("compare")
    if other:
        asked = [("other", other), *_given(request, ("change", "by"))]
        return [place, place_of_version, f"{place_of_version}/diff?{_as_a_script_writes(asked + _page(MEMBERS))}"]
    asked = _given(request, ("side", "class", "unlabelled", "reason"))
    return [place, place_of_version, f"{place_of_version}/images?{_as_a_script_writes(asked + _page(MEMBERS))}"]


def _given(request: Request, names: Sequence[str]) -> list[tuple[str, str]]:
    """Some parameters of an address, in this order, but for empty ones."""
    return [(name, value) for name in names if (value := request.query_params.get(name))]


def _page(images: int) -> list[tuple[str, str]]:
    return [("k", str(images)), ("offset", "0")]


def _as_a_script_writes(parameters: Sequence[tuple[str, str]]) -> str:
    """Parameters as ``URLSearchParams`` has them."""
    return urlencode(parameters, safe="*").replace("~", "%7E")


@router.get("/clusters")
def clusters_page(request: Request) -> Response:
    """What there is among the images."""
    first = f"/api/clusters?{_as_a_script_writes([*_given(request, ('name', 'folder')), ('k', str(CLUSTERS))])}"
    return render("clusters.html", request, first_answers=[first])


@router.get("/map")
def map_page(gallery: GalleryOf, request: Request) -> Response:
    """The map."""
    return render("map.html", request, labels=list(gallery.settings.labels))


@router.get("/docs")
def docs_page(request: Request) -> Response:
    """The API's documentation."""
    return render("docs.html", request)


@router.get("/login")
def login_page(request: Request, next: str = "/") -> Response:
    """The form that asks for the token."""
    if not request.app.state.tokens:
        return RedirectResponse("/", 303)
    return render("login.html", request, next=security.way_back(next), problem=None)


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Its answer."""
    answer = await security.log_in(request, request.app.state.tokens)
    if isinstance(answer, Response):
        return answer
    back, problem = answer
    return render("login.html", request, 401, next=back, problem=problem)


@router.post("/logout")
def log_out() -> Response:
    """Forget the token in this browser."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(security.COOKIE, httponly=True, samesite="lax")
    return answer


def _predicted(columns: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Field, label and confidence of each prediction."""
    told = [(name.removeprefix(_PREDICTED), value) for name, value in columns.items() if name.startswith(_PREDICTED)]
    return [(field, value, columns[f"confidence_{field}"]) for field, value in told if value is not None]


def _parts(folder: str) -> list[tuple[str, str]]:
    """(name, folder) of a folder and all above it, the topmost first."""
    names = folder.split("/")
    return [(name, "/".join(names[: place + 1])) for place, name in enumerate(names)]
