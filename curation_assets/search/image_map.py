"""A map of the images: a point in the plane for each, near to those that look alike.

t-SNE lays out a sample; every other image takes its place among the nearest of the sample, and so does one that comes
later: what stands on the map stays where it is until so much is new that a fresh layout is worth it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation_assets.errors import CurationError
from curation_assets.files import waiting_lock, write_whole
from curation_assets.images.names import printable
from curation_assets.progress import Progress
from curation_assets.search import exact
from curation_assets.search.index import SearchIndex, understandable_errors

SAMPLE = 10_000  # images that t-SNE lays out: about a minute
_NEIGHBOURS = 5
_NEW_SHARE = 0.5  # of the images not there when the layout was made, from which on it is made anew
_DIMENSIONS = 50  # that t-SNE looks at
_DRAWN = 20_000  # points in the small picture
_PALETTE = "tab10"
_COLOURS = 10
_FILE = "map.parquet"
_LOCK = "_writer.lock"
_METADATA = b"curation"
_NAMES = {"table_version": "embeddings_version"}  # what the metadata calls otherwise than ``MapInfo``


@dataclass(frozen=True)
class MapInfo:
    """How a map was made.

    Attributes:
        images: points on it.
        laid_out: of them by t-SNE, the others among these.
        embeddings_version: version of the embeddings table that it covers.
        fitted_images: how many images there were when the layout was made.
    """

    images: int
    laid_out: int
    embeddings_version: int
    fitted_images: int


@dataclass(frozen=True)
class MapRefresh:
    """What bringing a map in line did.

    Attributes:
        points: the map at its end, as :func:`read` gives it.
        new: how many points are new.
        fresh_layout: whether all were laid out anew.
        seconds: that it took.
    """

    points: pl.DataFrame
    info: MapInfo
    new: int
    fresh_layout: bool
    seconds: float


def location_of(index: Path) -> Path:
    """Where the map of an index lies, from where that lies."""
    return index / "map"


def read(location: Path) -> pl.DataFrame | None:
    """The points of a stored map: relative_path, content_sha256, x, y (about -1 to 1), laid_out; None without a map.

    Raises:
        CurationError: it is damaged.
    """
    stored = _stored(location)
    return None if stored is None else stored[0]


def version_of(location: Path) -> int | None:
    """A number that changes when a stored map does; None without a map."""
    try:
        return (location / _FILE).stat().st_mtime_ns  # a new one takes its place as a whole
    except OSError:
        return None


def refresh(index: SearchIndex, progress: Progress) -> MapRefresh:
    """Bring the stored map of an index in line with it, or make it.

    Raises:
        CurationError: the index is not a stored one, or the map can't be written.
    """
    started = time.perf_counter()
    if index.path is None:
        raise CurationError("a map is made of the stored index, not of an earlier version")
    location = location_of(index.path)
    with understandable_errors(location):
        location.mkdir(parents=True, exist_ok=True)
    with understandable_errors(location), waiting_lock(location / _LOCK):
        try:
            stored = _stored(location)
        except CurationError:
            stored = None
        images = index.rows.filter(pl.col("position").is_not_null()).select(
            "relative_path", "content_sha256", "position"
        )
        old = None if stored is None else stored[0]
        points = _known(images, old)
        new = points["x"].null_count()
        if stored is not None and stored[1].embeddings_version == index.info.embeddings_version and not new:
            return MapRefresh(stored[0], stored[1], 0, False, time.perf_counter() - started)
        fresh = stored is None or _is_worn(points, stored[1])
        if fresh:
            points = _lay_out(index, points, progress)
        points = _place(index, points, progress)
        info = MapInfo(
            images=len(points),
            laid_out=int(points["laid_out"].sum()),
            embeddings_version=index.info.embeddings_version,
            fitted_images=len(points) if fresh or stored is None else stored[1].fitted_images,
        )
        points = points.drop("position")
        _write(location, points, info)
    return MapRefresh(points, info, new, fresh, time.perf_counter() - started)


def draw(points: pl.DataFrame) -> bytes:
    """A small picture of a map, coloured by top-level folder: PNG bytes."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    shown = points.sample(min(len(points), _DRAWN), seed=0)
    top = shown["relative_path"].str.split("/").list.first()
    names = top.value_counts(sort=True).to_series().to_list()[:_COLOURS]
    figure = Figure(figsize=(5.4, 4.2), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps[_PALETTE].colors  # type: ignore[attr-defined]
    rest = ~top.is_in(names)
    for number, name in enumerate(names):
        of_name = shown.filter(top == name)
        axes.scatter(of_name["x"], of_name["y"], s=3, color=colours[number], label=printable(name)[:30])
    axes.scatter(shown.filter(rest)["x"], shown.filter(rest)["y"], s=3, color="#999999")
    axes.set_axis_off()
    if len(names) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3, frameon=False, fontsize=8)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _is_worn(points: pl.DataFrame, info: MapInfo) -> bool:
    """Whether too much is new, or too little of what was laid out is left."""
    return (
        points["x"].null_count() > _NEW_SHARE * len(points)
        or len(points) * (1 - _NEW_SHARE) > info.fitted_images
        or int(points["laid_out"].sum()) < info.laid_out / 2
    )


def _known(images: pl.DataFrame, old: pl.DataFrame | None) -> pl.DataFrame:
    """The images with the places they have."""
    if old is None:
        none = pl.lit(None, pl.Float32)
        return images.with_columns(x=none, y=none, laid_out=pl.lit(False))
    places = images.join(old, on=["relative_path", "content_sha256"], how="left", maintain_order="left")
    return places.with_columns(pl.col("laid_out").fill_null(False))


def _lay_out(index: SearchIndex, points: pl.DataFrame, progress: Progress) -> pl.DataFrame:
    if not len(points):
        return points
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(points), min(SAMPLE, len(points)), replace=False))
    progress.start("map: laying out", len(chosen))
    places = _project(index.take(points["position"].gather(chosen).to_numpy()))
    progress.advance(len(chosen))
    at = pl.DataFrame({"_row": chosen, "x": places[:, 0], "y": places[:, 1], "laid_out": True}).with_columns(
        pl.col("_row").cast(pl.UInt32)
    )
    return (
        points.drop("x", "y", "laid_out")
        .with_row_index("_row")
        .join(at, on="_row", how="left", maintain_order="left")
        .with_columns(pl.col("laid_out").fill_null(False))
        .drop("_row")
    )


def _project(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, dimension) → (n, 2), each axis about -1 to 1; the same for the same vectors."""
    number = len(vectors)
    if number < 5:  # t-SNE wants more
        around = np.linspace(0, 2 * np.pi, number, endpoint=False)
        return np.stack([np.cos(around), np.sin(around)], axis=1).astype(np.float32) * (number > 1)
    from openTSNE import TSNE
    from sklearn.decomposition import PCA

    reduced = PCA(min(_DIMENSIONS, number, vectors.shape[1]), random_state=0).fit_transform(vectors)
    # One thread: several that wait for each other in turn take minutes where another process is at work.
    tsne = TSNE(perplexity=min(30, (number - 1) / 3), metric="cosine", initialization="pca", random_state=0, n_jobs=1)
    places = np.asarray(tsne.fit(reduced))
    places = places - (places.min(axis=0) + places.max(axis=0)) / 2
    return np.asarray(places / max(np.abs(places).max(), 1e-12), np.float32)


def _place(index: SearchIndex, points: pl.DataFrame, progress: Progress) -> pl.DataFrame:
    """Put the images without a place amid their nearest of those that were laid out."""
    missing = np.flatnonzero(points["x"].is_null().to_numpy())
    if not len(missing):
        return points
    anchors = points.filter("laid_out")
    vectors = index.take(anchors["position"].to_numpy())
    at = anchors.select("x", "y").to_numpy()
    places = points.select("x", "y").to_numpy().copy()
    progress.start("map: placing", len(missing))
    for start in range(0, len(missing), 4096):
        rows = missing[start : start + 4096]
        near, cosines = exact.nearest([vectors], index.take(points["position"].gather(rows).to_numpy()), _NEIGHBOURS)
        weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / 0.05)
        weights /= weights.sum(axis=1, keepdims=True)
        places[rows] = (weights[:, :, None] * at[near]).sum(axis=1)
        progress.advance(len(rows))
    return points.with_columns(x=pl.Series(places[:, 0], dtype=pl.Float32), y=pl.Series(places[:, 1], dtype=pl.Float32))


def _stored(location: Path) -> tuple[pl.DataFrame, MapInfo] | None:
    path = location / _FILE
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        said = json.loads(table.schema.metadata[_METADATA])
        info = MapInfo(**{_NAMES.get(name, name): value for name, value in said.items()})
        frame = pl.from_arrow(table)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise CurationError(
            f"the map {path} is damaged: {error}; remove it, and `curation map` makes it anew"
        ) from None
    assert isinstance(frame, pl.DataFrame)
    return frame, info


def _write(location: Path, points: pl.DataFrame, info: MapInfo) -> None:
    stored = {name: stored for stored, name in _NAMES.items()}
    said = json.dumps({stored.get(name, name): value for name, value in asdict(info).items()})
    table = points.to_arrow().replace_schema_metadata({_METADATA: said.encode()})
    out = BytesIO()
    pq.write_table(table, out, compression="zstd")
    write_whole(location / _FILE, out.getvalue())
