"""``image_search_index``: what search and gallery read, kept in line with the embeddings; and the map of the images."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from curation_assets.clip.versions import RegisteredModel
from curation_assets.defs import metadata as md
from curation_assets.defs.embeddings import crop_images_directory_embeddings
from curation_assets.defs.reports import AssetReport
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, failing_for_good, progress, trying_again
from curation_assets.defs.runs import data_version, next_run, run_at_work
from curation_assets.defs.sightings import contact_sheets, is_new, observation, of_newest, worth_telling
from curation_assets.defs.state import covered
from curation_assets.defs.tags import DATA_VERSION, OWNERS
from curation_assets.errors import CurationError
from curation_assets.files import waiting_lock
from curation_assets.pipeline import Pipeline
from curation_assets.progress import Progress
from curation_assets.search import image_map as maps
from curation_assets.search.index import IndexInfo, read_info
from curation_assets.search.refresh import IndexRefresh
from curation_assets.search.standing import look
from curation_assets.settings import Settings

NAME = "image_search_index"


@dg.asset(
    name=NAME,
    deps=[crop_images_directory_embeddings],
    group_name="search",
    owners=OWNERS,
    kinds={"numpy", "faiss"},
    description="An index beside the lake for `curation search` and `curation gallery`: a row for every image file and "
    "the champion's vectors. Only what changed is read; exact up to `CURATION_SEARCH_EXACT_VECTORS` vectors, above "
    "that with an approximate index that finds at least 98 % of the exact ten nearest.",
)
def image_search_index(context: dg.AssetExecutionContext, curation: CurationResource) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    """Refresh the index, and look for the standing queries in what is new."""
    with trying_again(context), index_refresh(context, curation.pipeline()) as told:
        yield told.result()


@contextmanager
def index_refresh(context: Context, pipeline: Pipeline) -> Iterator[AssetReport]:
    """Bring the index in line, and tell of the standing queries.

    One run at a time, until its materialization is recorded: the next then finds nothing to do, and nothing new to
    tell of.
    """
    said, lock = progress(context), Path(context.instance.storage_directory()) / "image_search_index.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with waiting_lock(lock, lambda: said.note("waiting for another run that refreshes the search index")):
        with failing_for_good():
            done = pipeline.searcher.refresh(said)
            new = is_new(context, image_search_index.key, done.index.info)
            sightings = look(pipeline.searcher, done.index, pipeline.settings.standing_queries, new)
            told = worth_telling(context, sightings)
            shown = [*of_newest(sightings), *told]
            previews = pipeline.searcher.previews(done.index, {key for s in shown for key in s.rows["relative_path"]})
        for sighting in told:
            context.log_event(observation(image_search_index.key, sighting, previews))
        facts = contact_sheets(sightings, previews) | _facts(done)
        yield AssetReport(image_search_index.key, index_version(done.index.info), facts)


def index_version(info: IndexInfo) -> str:
    """The data version of an index, and of what is made of it alone."""
    return covered(info.embeddings_id, info.embeddings_version, info.directory_version, info.model_fingerprint)


def _facts(done: IndexRefresh) -> dict[str, Any]:
    info = done.index.info
    return {
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


@dg.asset(
    name="image_map",
    deps=[image_search_index],
    group_name="search",
    owners=OWNERS,
    kinds={"scikitlearn"},
    description="A point in the plane for every embedded image, near to those that look alike (t-SNE of a sample, the "
    "others among it), for the gallery's map. What is on it stays where it is until half of it is new.",
)
def image_map(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Bring the map in line with the index."""
    with trying_again(context), failing_for_good():
        told = map_refresh(curation.pipeline(), progress(context))
    return told.result()


def map_refresh(pipeline: Pipeline, said: Progress) -> AssetReport:
    """Bring the map in line with the index, and that with the tables.

    Raises:
        CurationError: nothing is embedded yet, or one of them can't be written.
    """
    index, done = pipeline.refresh_map(said)
    facts = {
        "images": done.info.images,
        "new": done.new,
        "laid out by t-SNE": done.info.laid_out,
        "laid out anew": done.fresh_layout,
        "seconds": round(done.seconds, 3),
        "embeddings table version": done.info.embeddings_version,
    }
    picture = {"picture": md.picture(maps.draw(done.points), "map of the images", "png")} if len(done.points) else {}
    return AssetReport(image_map.key, index_version(index.info), facts | picture)


refresh_search_index = dg.define_asset_job(
    "refresh_search_index",
    selection=[image_search_index, image_map],
    description="Bring the search index in line with the tables, then the map.",
)


def _made_elsewhere(
    instance: dg.DagsterInstance, pipeline: Pipeline, champion: RegisteredModel, wanted: str
) -> Iterator[dg.AssetMaterialization]:
    """Events of an index and a map that the command line brought in line, of which Dagster knows nothing yet.

    Not where standing queries are set: a run tells of what they hold.
    """
    if pipeline.settings.standing_queries or any(
        instance.get_latest_materialization_event(of) for of in (image_search_index.key, image_map.key)
    ):
        return
    path = pipeline.searcher.location_of(champion)
    try:
        info, points = read_info(path), maps.read(maps.location_of(path))
    except CurationError:  # it is damaged: a run makes it anew, or says so
        return
    if info is None or index_version(info) != wanted:
        return
    facts: dict[str, Any] = {"note": "found in line with the tables; made outside Dagster"}
    tags = {DATA_VERSION: wanted}
    of_index: dict[str, Any] = {
        "images": info.images,
        "vectors": info.vectors,
        "search": info.kind,
        "recall at 10": info.recall,
    }
    yield dg.AssetMaterialization(image_search_index.key, metadata=of_index | facts, tags=tags)
    if points is not None and len(points) == info.vectors:
        if len(points):
            facts["picture"] = md.picture(maps.draw(points), "map of the images", "png")
        yield dg.AssetMaterialization(image_map.key, metadata={"images": len(points)} | facts, tags=tags)


def build_search_index_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of the search index, with the interval of the settings.

    Its truth is what the tables hold and what the last materializations covered, never an event: one that comes while
    the index is being refreshed is not lost. Runs that bring a folder in refresh the index themselves; what is left to
    this one is the map, and whatever they did not come to.
    """

    @dg.sensor(
        name="search_index_sensor",
        job=refresh_search_index,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run of image_search_index and image_map when the tables or the champion are others than "
        "those that the last one covered.",
    )
    def search_index_sensor(
        context: dg.SensorEvaluationContext, curation: CurationResource
    ) -> dg.RunRequest | dg.SkipReason | dg.SensorResult:
        pipeline = curation.pipeline()
        tables = pipeline.tables
        if tables.embeddings.newest_version() < 1 or (champion := pipeline.selection.current()) is None:
            return dg.SkipReason("nothing is embedded yet")
        try:
            embeddings, directory = tables.embeddings.latest(), tables.directory.latest()
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        wanted = covered(embeddings.table_id, embeddings.version, directory.version, champion.fingerprint)
        if all(data_version(context.instance, of) == wanted for of in (image_search_index.key, image_map.key)):
            return dg.SkipReason(f"the index covers version {embeddings.version} of the embeddings")
        if told := list(_made_elsewhere(context.instance, pipeline, champion, wanted)):
            return dg.SensorResult(asset_events=told, skip_reason="the index and the map were made outside Dagster")
        # Runs that bring folders in refresh the index, but leave the map.
        if at_work := run_at_work(context.instance, image_map.key):
            return dg.SkipReason(f"run {at_work[:8]} is at it")
        run = next_run(context.instance, NAME, refresh_search_index.name, wanted)
        return run if isinstance(run, dg.RunRequest) else dg.SkipReason(f"asked for already; {run}")

    return search_index_sensor
