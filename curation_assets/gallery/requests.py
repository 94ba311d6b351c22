"""What a visitor asks for, as it stands in an address or in the body of an export."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curation_assets.curate.problems import check_filter
from curation_assets.errors import CurationError
from curation_assets.search.filters import Filter, Point, Status, make_filter

MOST_IMAGES = 500  # of one answer
_Text = Annotated[str, Field(max_length=1000)]
_Key = Annotated[str, Field(max_length=4096)]


class Versions(BaseModel):
    """Which version of model and table is meant; neither: the champion, and what the index covers."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    model_version: str | None = Field(None, description="Version of the registered model [the champion].")
    table_version: int | None = Field(
        None, ge=0, description="Version of the embeddings table, to search as of then [what the index covers]."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_empty(cls, value: Any) -> Any:
        """An input of a form that was left empty is no condition."""
        if not isinstance(value, dict):
            return value
        kept = {name: [one for one in v if one != ""] if isinstance(v, list) else v for name, v in value.items()}
        return {name: v for name, v in kept.items() if v not in ("", [])}


class ImageRequest(Versions):
    """One image."""

    key: str = Field(description="Its relative path, the key of both tables.")
    v: str | None = Field(
        None, description="First digits of its SHA-256: an answer for ever, as content never changes."
    )


class SearchRequest(Versions):
    """A search: parts that are added up, and conditions that an image has to meet, all of them."""

    text: list[_Text] = Field([], max_length=20, description="What images should show; several are added up.")
    weight: list[float] = Field([], max_length=20, description="Of the texts, one each, in their order [1].")
    not_: list[_Text] = Field([], alias="not", max_length=20, description="What they should not show.")
    like: list[_Key] = Field(
        [], max_length=20, description="Relative path of a stored image that they should resemble."
    )
    image: list[_Key] = Field([], max_length=20, description="Id of an image given to `POST /api/images`.")
    folder: list[_Key] = Field([], max_length=100, description="In this folder or below it; several: in one of them.")
    name: str | None = Field(None, max_length=1000, description="Part of the relative path, in any case.")
    camera: str | None = Field(None, max_length=1000, description="Part of make and model, in any case.")
    captured_from: datetime | None = Field(None, description="Captured at this moment or later; UTC without a zone.")
    captured_to: datetime | None = Field(None, description="Captured before this moment; UTC without a zone.")
    min_side: int | None = Field(None, ge=0, description="Pixels of the shorter side, at least.")
    max_side: int | None = Field(None, ge=0, description="Pixels of the shorter side, at most.")
    min_bytes: int | None = Field(None, ge=0, description="Size of the file, at least.")
    max_bytes: int | None = Field(None, ge=0, description="Size of the file, at most.")
    format: list[_Text] = Field([], max_length=20, description="Image format by content: `JPEG`, `PNG`, `TIFF`, …")
    status: list[Status] = Field([], max_length=20, description="What the scan found; only `ok` images can be ranked.")
    has_gps: bool | None = Field(None, description="Whether the image says where it was taken.")
    problem: list[_Text] = Field([], max_length=20, description="Has one of these kinds of problem; `any`: one at all.")
    tag: list[_Text] = Field([], max_length=20, description="Has one of these tags.")
    where: str | None = Field(
        None, max_length=10_000, description="A condition in SQL: `width > 2 * height AND camera LIKE 'DJI%'`."
    )
    region: str | None = Field(
        None, max_length=100_000, description="A polygon on the map, at least three corners: `x1,y1;x2,y2;x3,y3`."
    )

    sort: str | None = Field(
        None,
        max_length=100,
        description="Column that a list without a query is in the order of: `captured_at:desc` [path].",
    )
    distinct: bool = Field(False, description="Of images of the same content or photograph only one.")

    def filter(self) -> Filter:
        """The conditions.

        Raises:
            CurationError: naming the one that can't be used.
        """
        return make_filter(
            folder=tuple(self.folder),
            name=self.name,
            camera=self.camera,
            captured_from=self.captured_from,
            captured_to=self.captured_to,
            min_side=self.min_side,
            max_side=self.max_side,
            min_bytes=self.min_bytes,
            max_bytes=self.max_bytes,
            format=tuple(self.format),
            status=tuple(self.status),
            has_gps=self.has_gps,
            problem=check_filter(self.problem),
            tag=tuple(self.tag),
            where=self.where,
            region=_region(self.region) if self.region else None,
        )


class PageRequest(SearchRequest):
    """A part of what a search finds."""

    k: int = Field(60, ge=1, le=MOST_IMAGES, description="How many images.")
    offset: int = Field(0, ge=0, description="How many of the best to leave out, for the next page.")


class LabelRequest(PageRequest):
    """A part of what a search finds, to be labelled."""

    label: list[_Text] = Field([], max_length=50, description="Two texts or more to choose between [CURATION_LABELS].")


class MapPointRequest(Versions):
    """A point on the map, or its labels."""

    id: str = Field(description="Of the map, as `/api/map` gave it.")
    number: int = Field(0, ge=0, description="Of the point, counted from 0.")


class MapLabelsRequest(Versions):
    """Labels of everything on the map."""

    id: str = Field(description="Of the map, as `/api/map` gave it.")
    label: list[_Text] = Field([], max_length=50, description="Two texts or more to choose between [CURATION_LABELS].")


class MapScoresRequest(Versions):
    """Values of a column of everything on the map."""

    id: str = Field(description="Of the map, as `/api/map` gave it.")
    by: _Text = Field("cluster", description="What the points are told apart by: one of the map's `colours`.")


class ExportRequest(BaseModel):
    """What to export, and how."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["csv", "parquet", "json"] = Field(description="Of the file.")
    search: SearchRequest = Field(
        default_factory=lambda: SearchRequest.model_validate({}), description="The search to export."
    )
    keys: list[_Key] | None = Field(
        None, max_length=1_000_000, description="Relative paths of the images that were selected of it [all of it]."
    )

    @field_validator("keys")
    @classmethod
    def _written_in_utf8(cls, value: list[str] | None) -> list[str] | None:
        for key in value or ():
            try:
                key.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{key!r} is no key: it is not valid UTF-8") from None
        return value


def _region(text: str) -> tuple[Point, ...]:
    try:
        corners = [tuple(float(number) for number in corner.split(",")) for corner in text.split(";") if corner]
        return tuple((x, y) for x, y in corners)
    except ValueError:
        raise CurationError(f"filter region={text[:60]!r}: write corners as x1,y1;x2,y2;x3,y3") from None


class ProblemsRequest(Versions):
    """Images of a kind of problem."""

    threshold: float | None = Field(None, gt=0, allow_inf_nan=False, description="Instead of the settings' one.")
    folder: str | None = Field(None, max_length=4096, description="In this folder or below it.")
    undecided: bool = Field(False, description="Only those at fault of which nobody said anything.")
    around: bool = Field(False, description="Those on both sides of the threshold, whatever `offset` says.")
    k: int = Field(60, ge=0, le=MOST_IMAGES, description="How many images.")
    offset: int = Field(0, ge=0, description="How many of the worst to leave out.")


class DuplicatesRequest(Versions):
    """Groups of duplicates."""

    kind: Literal["exact", "near", "burst"] | None = Field(None, description="Only these [all].")
    folder: str | None = Field(None, max_length=4096, description="Of which an image is in this folder or below it.")
    undecided: bool = Field(False, description="Only those of which nobody said anything.")
    k: int = Field(20, ge=0, le=100, description="How many groups.")
    offset: int = Field(0, ge=0, description="How many of the largest to leave out.")
    images: int = Field(12, ge=2, le=MOST_IMAGES, description="How many images of each are described, at most.")
    rest: bool = Field(False, description="Whether to name the others of each.")


class SinceRequest(BaseModel):
    """Which decisions are news."""

    after: str = Field("", max_length=64, description="Id of the latest decision that is known.")


class Decided(BaseModel):
    """A decision, or the taking back of one."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(description="16 lower-case hexadecimal digits of your own: with the same it is written once.")
    kind: str | None = Field(None, max_length=20, description="`keep`, `remove`, `keeper`, `relabel`, …")
    key: _Key | None = Field(None, description="Relative path of the image.")
    content: str | None = Field(None, max_length=64, description="SHA-256 of what was looked at.")
    other: _Key | None = Field(None, description="Relative path of the other image, of `same` and `different`.")
    other_content: str | None = Field(None, max_length=64, description="SHA-256 of that.")
    field: str | None = Field(None, max_length=200, description="`quality`, `duplicate`, or a field of labels.")
    value: str | None = Field(None, max_length=1000, description="The label, of `relabel`.")
    reason: str | None = Field(None, max_length=2000, description="In your own words.")
    shown: dict[str, Any] | None = Field(
        None, description="Scores and versions that were looked at; `sample`: id of the sample that it was said of."
    )
    seen: str | None = Field(None, max_length=64, description="Id of the latest decision that you know of.")
    undoes: str | None = Field(None, max_length=64, description="Id or token of the decision to take back.")


class DecisionsRequest(BaseModel):
    """Decisions of a person."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"\S",
        description="Who decides; a token of a person's own says so instead.",
    )
    decisions: list[Decided] = Field(min_length=1, max_length=10_000)


class SampleRequest(Versions):
    """Samples of a kind of problem."""

    kind: str = Field(max_length=100, description="Of problem.")
    sample: str | None = Field(None, max_length=64, description="Id of one: its images that nobody looked at are told.")
    by: str | None = Field(None, max_length=100, description="Those that this person didn't look at, to judge anew.")
    k: int = Field(50, ge=0, le=MOST_IMAGES, description="How many of those.")


class DrawRequest(BaseModel):
    """A sample to draw."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(max_length=100, description="Of problem.")
    by: str = Field(min_length=1, max_length=100, pattern=r"\S", description="Who asks for it.")
    size: int = Field(59, description="Images of a band: 59, 140 or 300.")
    threshold: float | None = Field(None, gt=0, allow_inf_nan=False, description="The line [the settings' one].")


class LabelIssuesRequest(Versions):
    """Labels that something speaks against."""

    field: str | None = Field(None, max_length=200, description="Of this field of labels [all].")
    issue: Literal["mislabelled", "conflicting"] | None = Field(None, description="Only these [all].")
    given: _Text | None = Field(None, description="With this label.")
    suggested: _Text | None = Field(None, description="That look like this one.")
    folder: str | None = Field(None, max_length=4096, description="In this folder or below it.")
    undecided: bool = Field(False, description="Only those of which nobody said anything.")
    k: int = Field(60, ge=0, le=MOST_IMAGES, description="How many issues.")
    offset: int = Field(0, ge=0, description="How many of the likeliest to leave out.")


class BesideRequest(Versions):
    """An image whose label is doubted."""

    key: _Key = Field(description="Its relative path.")
    field: str = Field(max_length=200, description="Of labels.")


class EvidenceRequest(Versions):
    """An image that may have a problem."""

    key: _Key = Field(description="Its relative path.")


class ConfusionRequest(BaseModel):
    """A field of labels."""

    field: str = Field(max_length=200, description="Of labels.")


class VersionImagesRequest(Versions):
    """Images of a version of a dataset."""

    side: _Text | None = Field(None, description="That are kept on this side.")
    class_: _Text | None = Field(None, alias="class", description="With this label.")
    unlabelled: bool = Field(False, description="Without a label.")
    reason: _Text | None = Field(None, description="That are left out for this [those that are kept].")
    k: int = Field(60, ge=0, le=MOST_IMAGES, description="How many images.")
    offset: int = Field(0, ge=0, description="How many of the first to leave out.")


class DiffRequest(Versions):
    """What is otherwise in a version."""

    other: int = Field(ge=1, description="Number of the version that it is compared with.")
    change: Literal["came", "went", "moved", "relabelled", "replaced"] | None = Field(
        None, description="Only these [all]."
    )
    by: _Text | None = Field(None, description="Only those of this reason, as `counts` have it.")
    k: int = Field(60, ge=0, le=MOST_IMAGES, description="How many changes.")
    offset: int = Field(0, ge=0, description="How many of the first to leave out.")


class ListRequest(BaseModel):
    """A version as a list."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["csv", "jsonl", "parquet"] = Field("csv", description="Of the file.")
    called: str | None = Field(None, max_length=200, description="Name of the file [dataset and version].")


class FilesRequest(BaseModel):
    """A version as files of a format."""

    model_config = ConfigDict(extra="forbid")

    to: Literal["folders", "coco", "yolo", "webdataset", "hf-imagefolder", "hf-parquet"] = Field(
        "folders", description="The format, as `curation dataset export` has it."
    )
    upright: bool = Field(False, description="Images that EXIF turns are written upright, anew.")
    strip_metadata: bool = Field(False, description="Nothing but pixels and colour profile is written.")


class ArchiveRequest(FilesRequest):
    """The same as an archive."""

    dataset: str = Field(max_length=300, description="Its name.")
    version: int = Field(ge=1, le=2**31 - 1, description="Of the dataset.")
    called: str | None = Field(None, max_length=200, description="Name of the archive [dataset and version].")
    by: str | None = Field(None, max_length=100, description="Who takes it; a token of a person's own says so instead.")


class LeakageRequest(Versions):
    """Images on two sides."""

    dataset: str | None = Field(None, max_length=100, description="Of a version of this [of the annotations' splits].")
    version: int | None = Field(None, ge=1, description="Of the dataset [the newest].")
    kind: Literal["exact", "near", "burst"] | None = Field(None, description="Only these pairs [all].")
    one: _Text | None = Field(None, description="Only pairs of this side …")
    other: _Text | None = Field(None, description="… and this one.")
    beside: int = Field(5, ge=1, le=20, description="How many images are shown beside each, at most.")
    k: int = Field(20, ge=0, le=100, description="How many images that should give way.")
    offset: int = Field(0, ge=0, description="How many of the first to leave out.")


class ClustersRequest(Versions):
    """Clusters of images."""

    folder: str | None = Field(None, max_length=4096, description="Only images in this folder or below it count.")
    name: str | None = Field(None, max_length=1000, description="Part of the cluster's name, in any case.")
    k: int = Field(60, ge=0, le=MOST_IMAGES, description="How many clusters.")
    offset: int = Field(0, ge=0, description="How many of the largest to leave out.")


class ClusterNameRequest(BaseModel):
    """A name for a cluster."""

    model_config = ConfigDict(extra="forbid")

    cluster: int = Field(description="Its number.")
    name: str | None = Field(max_length=1000, description="At most 100 characters; null: the program's own name.")
    by: str = Field(min_length=1, max_length=100, pattern=r"\S", description="Who names it.")
    seen: str | None = Field(None, max_length=1000, description="What it was called when you looked [whatever].")
