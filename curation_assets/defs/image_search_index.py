"""``image_search_index``: what search and gallery read, kept in line with the embeddings; and the map of the images."""

import base64
from typing import Any

import dagster as dg

from curation_assets.defs import metadata as md
from curation_assets.defs.crop_images_directory_embeddings import crop_images_directory_embeddings
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import progress
from curation_assets.defs.tags import OWNERS, RETRIES
from curation_assets.errors import CurationError
from curation_assets.images.contact_sheet import contact_sheet
from curation_assets.images.names import printable
from curation_assets.search import image_map as maps
from curation_assets.search.index import SearchIndex
from curation_assets.search.refresh import Refreshed
from curation_assets.search.searcher import Searcher
from curation_assets.search.standing import Sighting, look

NAME = "image_search_index"
SIGHTING = "standing query"
_DATA_VERSION = "dagster/data_version"
_OBSERVATIONS = 100  # of one refresh: the first of a large tree would tell of every folder

# Whenever a folder's embeddings were made: what did not change costs a look at two version numbers. On the first look
# after an upgrade, for what was embedded before.
WHEN_EMBEDDED = (
    dg.AutomationCondition.any_deps_updated()
    | (
        dg.AutomationCondition.initial_evaluation()
        & dg.AutomationCondition.missing()
        & dg.AutomationCondition.any_deps_match(~dg.AutomationCondition.missing())
    )
).since(
    dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
) & ~dg.AutomationCondition.in_progress()

# An update that was only just asked for counts: the map follows in the run that refreshes the index.
WHEN_INDEXED = (
    dg.AutomationCondition.any_deps_updated().since(
        dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    )
    & ~dg.AutomationCondition.in_progress()
)


@dg.asset(
    name=NAME,
    deps=[crop_images_directory_embeddings],
    automation_condition=WHEN_EMBEDDED,
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
    try:
        done = pipeline.searcher.refresh(progress(context))
        after = _looked_at(context, done.index)
        sightings = look(pipeline.searcher, done.index, pipeline.settings.standing_queries, after)
        previews = _previews(pipeline.searcher, done, sightings)
    except CurationError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    for sighting in [sighting for sighting in sightings if sighting.passes][:_OBSERVATIONS]:
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
        "embeddings table version": info.table_version,
        "directory table version": info.directory_version,
        "folder": dg.MetadataValue.path(str(done.index.folder)),
    }
    version = f"{info.table_id}.{info.table_version}.{info.directory_version}.{info.model_fingerprint}"
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version), metadata=_contact_sheets(sightings, previews) | facts
    )


@dg.asset(
    name="image_map",
    deps=[image_search_index],
    automation_condition=WHEN_INDEXED,
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
    try:
        done = maps.refresh(pipeline.searcher.open(), progress(context))
    except CurationError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    return dg.MaterializeResult(
        metadata={
            "images": done.info.images,
            "new": done.new,
            "laid out by t-SNE": done.info.laid_out,
            "laid out anew": done.fresh_layout,
            "seconds": round(done.seconds, 3),
            "embeddings table version": done.info.table_version,
            "picture": _picture(maps.draw(done.points)),
        }
    )


def _looked_at(context: dg.AssetExecutionContext, index: SearchIndex) -> int:
    """The version of the embeddings table that the last materialization covered: what is newer was not looked at."""
    event = context.instance.get_latest_materialization_event(context.asset_key)
    tags = (event.asset_materialization.tags or {}) if event and event.asset_materialization else {}
    table_id, _, rest = tags.get(_DATA_VERSION, "").partition(".")
    return int(rest.partition(".")[0]) if table_id == index.info.table_id else -1


def _previews(searcher: Searcher, done: Refreshed, sightings: list[Sighting]) -> dict[str, bytes]:
    shown = [*_of_newest(sightings), *[sighting for sighting in sightings if sighting.passes][:_OBSERVATIONS]]
    return searcher.previews(done.index, {key for sighting in shown for key in sighting.rows["relative_path"]})


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
    data = base64.b64encode(contact_sheet(pictures)).decode()
    text = f"best of {place}, cosines {scores}\n\n![{len(pictures)} images](data:image/jpeg;base64,{data})"
    return {name: dg.MetadataValue.md(text)}


def _picture(png: bytes) -> dg.MetadataValue:
    return dg.MetadataValue.md(f"![map of the images](data:image/png;base64,{base64.b64encode(png).decode()})")


search_automation_sensor = dg.AutomationConditionSensorDefinition(
    "search_automation_sensor",
    target=dg.AssetSelection.assets(image_search_index, image_map),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Refreshes the search index, and after it the map, when embeddings were made.",
)
