"""``image_search_index``: what search and gallery read, kept in line with the embeddings; and the map of the images."""

import itertools
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from curation_assets.defs import metadata as md
from curation_assets.defs.crop_images_directory_embeddings import crop_images_directory_embeddings
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import failing_for_good, progress
from curation_assets.defs.tags import OWNERS, RETRIES
from curation_assets.images.contact_sheet import contact_sheet
from curation_assets.images.names import printable
from curation_assets.search import image_map as maps
from curation_assets.search.index import IndexInfo
from curation_assets.search.standing import Sighting, look

NAME = "image_search_index"
SIGHTING = "standing query"
_DATA_VERSION = "dagster/data_version"
_OBSERVATIONS = 100  # of one refresh: the first of a large tree would tell of every folder


def covered(table_id: str, table_version: int, directory_version: int, model_fingerprint: str) -> str:
    """The data version of an index: what it was made of."""
    return f"{table_id}.{table_version}.{directory_version}.{model_fingerprint}"


@dg.asset(
    name=NAME,
    deps=[crop_images_directory_embeddings],
    retry_policy=RETRIES,
    group_name="search",
    owners=OWNERS,
    kinds={"numpy", "faiss"},
    description="An index beside the lake for `curation search` and `curation gallery`: a row for every image file and "
    "the champion's vectors. Only what changed is read; exact up to `CURATION_SEARCH_EXACT_VECTORS` vectors, above "
    "that with an approximate index that finds at least 98 % of the exact ten nearest.",
)
def image_search_index(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Refresh the index, and look for the standing queries in what is new."""
    pipeline = curation.pipeline()
    with failing_for_good():
        done = pipeline.searcher.refresh(progress(context))
        queries = pipeline.settings.standing_queries
        sightings = look(pipeline.searcher, done.index, queries, _is_new(context, done.index.info))
        told = _worth_telling(context, sightings)
        shown = [*_of_newest(sightings), *told]
        previews = pipeline.searcher.previews(done.index, {key for s in shown for key in s.rows["relative_path"]})
    for sighting in told:
        context.log_event(_observation(context.asset_key, sighting, previews))
    info = done.index.info
    facts: dict[str, Any] = {
        "images": info.images,
        "vectors": info.vectors,
        "added": len(done.added),
        "removed": done.removed,
        "search": info.kind,
        "recall at 10": info.recall,
        "milliseconds a query": info.latency_ms,
        "laid out anew": done.rebuilt,
        "seconds": round(done.seconds, 3),
        "model": f"models:/{info.model_name}/{info.model_version}",
        "embeddings table version": info.embeddings_version,
        "directory table version": info.directory_version,
        "folder": dg.MetadataValue.path(str(done.index.path)),
    }
    version = covered(info.embeddings_id, info.embeddings_version, info.directory_version, info.model_fingerprint)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version), metadata=_contact_sheets(sightings, previews) | facts
    )


@dg.asset(
    name="image_map",
    deps=[image_search_index],
    retry_policy=RETRIES,
    group_name="search",
    owners=OWNERS,
    kinds={"scikitlearn"},
    description="A point in the plane for every embedded image, near to those that look alike (t-SNE of a sample, the "
    "others among it), for the gallery's map. What is on it stays where it is until half of it is new.",
)
def image_map(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Bring the map in line with the index."""
    pipeline = curation.pipeline()
    with failing_for_good():
        done = maps.refresh(pipeline.searcher.refresh(progress(context)).index, progress(context))
    return dg.MaterializeResult(
        metadata={
            "images": done.info.images,
            "new": done.new,
            "laid out by t-SNE": done.info.laid_out,
            "laid out anew": done.fresh_layout,
            "seconds": round(done.seconds, 3),
            "embeddings table version": done.info.embeddings_version,
        }
        | ({"picture": md.picture(maps.draw(done.points), "map of the images", "png")} if len(done.points) else {})
    )


def _is_new(context: dg.AssetExecutionContext, info: IndexInfo) -> pl.Expr:
    """Which vectors came since the last materialization, whoever brought the index in line meanwhile."""
    event = context.instance.get_latest_materialization_event(context.asset_key)
    if event is None or event.asset_materialization is None:
        return pl.lit(True)
    tag = (event.asset_materialization.tags or {}).get(_DATA_VERSION, "").split(".")
    if len(tag) == 4 and tag[0] == info.embeddings_id:
        if tag[3] != info.model_fingerprint:
            context.log.info("the vectors are new, the images are not: another model took over")
            return pl.lit(False)
        if info.built_at_version <= int(tag[1]):
            return pl.col("first_seen_version") > int(tag[1])
    # The index was built from nothing since, or the tables were: then only the time of embedding tells.
    return pl.col("embedded_at") > datetime.fromtimestamp(event.timestamp, UTC)


def _worth_telling(context: dg.AssetExecutionContext, sightings: list[Sighting]) -> list[Sighting]:
    """Those that pass their threshold; of too many, of each query in turn."""
    of_query: dict[str, list[Sighting]] = {}
    for sighting in sightings:
        if sighting.passes:
            of_query.setdefault(sighting.text, []).append(sighting)
    in_turn = [one for turn in itertools.zip_longest(*of_query.values()) for one in turn if one is not None]
    if len(in_turn) > _OBSERVATIONS:
        context.log.warning("%d sightings; the first %d are observations", len(in_turn), _OBSERVATIONS)
    return in_turn[:_OBSERVATIONS]


def _of_newest(sightings: list[Sighting]) -> list[Sighting]:
    """One of each query: of the folder that was embedded last."""
    return list({sighting.text: sighting for sighting in reversed(sightings)}.values())[::-1]


def _observation(asset: dg.AssetKey, sighting: Sighting, previews: dict[str, bytes]) -> dg.AssetObservation:
    folder = printable(sighting.folder)
    return dg.AssetObservation(
        asset_key=asset,
        description=f"{SIGHTING} {sighting.text!r}: {sighting.score:.3f} in {folder}, threshold {sighting.threshold:g}",
        metadata={
            SIGHTING: sighting.text,
            "image folder": folder,
            "score": sighting.score,
            "threshold": float(sighting.threshold or 0),
            "best image": printable(sighting.rows["relative_path"][0]),
            **_sheet("images", sighting, previews),
        },
    )


def _contact_sheets(sightings: list[Sighting], previews: dict[str, bytes]) -> dict[str, dg.MetadataValue]:
    found: dict[str, dg.MetadataValue] = {}
    for sighting in _of_newest(sightings):
        found |= _sheet(f"{SIGHTING}: {sighting.text}", sighting, previews)
    return found


def _sheet(name: str, sighting: Sighting, previews: dict[str, bytes]) -> dict[str, dg.MetadataValue]:
    pictures = [previews[key] for key in sighting.rows["relative_path"] if key in previews]
    if not pictures:
        return {}
    scores = ", ".join(f"{score:.3f}" for score in sighting.rows["score"])
    place = md.escaped(printable(sighting.folder))
    said = f"best of {place}, cosines {scores}"
    return {name: md.picture(contact_sheet(pictures), f"{len(pictures)} images", "jpeg", said)}
