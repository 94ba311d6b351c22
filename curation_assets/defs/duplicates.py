"""``image_pairs`` and ``image_groups``: the same photograph twice; counts over time, pictures, checks."""

import hashlib
from collections.abc import Iterator

import dagster as dg
import polars as pl

from curation_assets.clip.versions import RegisteredModel
from curation_assets.curate.duplicates import overview
from curation_assets.curate.duplicates.comparison import Comparison
from curation_assets.curate.duplicates.grouping import Grouping, formed
from curation_assets.curate.duplicates.standing import Vectors, contents_behind
from curation_assets.curate.duplicates.verification import VERIFICATION_VERSION
from curation_assets.decisions.record import read_decisions
from curation_assets.defs import metadata as md
from curation_assets.defs.annotations import image_annotations
from curation_assets.defs.duplicates_page import AGREE, AS_BEFORE, LIVE, group_checks, groups_facts, pairs_facts
from curation_assets.defs.following import Remembered
from curation_assets.defs.images import crop_images_directory
from curation_assets.defs.quality import image_quality
from curation_assets.defs.reports import AssetReport, Event
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, failing_for_good, progress, trying_again
from curation_assets.defs.runs import data_version, next_run, run_at_work
from curation_assets.defs.search import image_search_index, index_version
from curation_assets.defs.state import covered
from curation_assets.defs.tags import ONE_PROCESS, OWNERS
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import GROUPS, PAIRS
from curation_assets.pipeline import Pipeline
from curation_assets.search.index import IndexInfo, SearchIndex, read_info
from curation_assets.settings import Settings

PAIRS_NAME, GROUPS_NAME = "image_pairs", "image_groups"


@dg.asset(
    name=PAIRS_NAME,
    deps=[crop_images_directory, image_search_index],  # previews, cameras and times; neighbours
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="Pairs of contents that are the same photograph (re-encoded, resized, cropped, turned, mirrored, "
    "toned, framed, written on) or scene, brought together by hashes and the model's neighbours and verified on "
    "their pixels. What is new is compared with everything; nothing is compared twice.",
    metadata={"dagster/column_schema": md.column_schema(PAIRS)},
)
def image_pairs(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Compare what is new with all."""
    with trying_again(context), failing_for_good():
        return compare_pairs(context, curation.pipeline()).result()


@dg.asset(
    name=GROUPS_NAME,
    # pixels, bytes and times, sharpness, and who is annotated: whom to keep
    deps=[crop_images_directory, image_pairs, image_quality, image_annotations],
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="Images of the same bytes (exact), photograph (near) or scene (burst), in groups of which every two "
    "members are a pair, each with the image to keep and why (CURATION_KEEPER_ORDER); `curation duplicates` tells.",
    metadata={"dagster/column_schema": md.column_schema(GROUPS)},
    check_specs=[
        dg.AssetCheckSpec(
            AGREE, asset=GROUPS_NAME, description="Every two members of a near or burst group meet its threshold."
        ),
        dg.AssetCheckSpec(
            LIVE, asset=GROUPS_NAME, blocking=True, description="Each group has one keeper, which is there."
        ),
        dg.AssetCheckSpec(AS_BEFORE, asset=GROUPS_NAME, description="No much larger share of the images is to spare."),
    ],
)
def image_groups(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Form the groups of the pairs and of what people decided."""
    with trying_again(context), failing_for_good():
        return form_groups(context, curation.pipeline()).result()


def compared(context: dg.OpExecutionContext, curation: CurationResource) -> Iterator[Event]:
    """Bring pairs and groups in line in a job of ops, and tell of them as the assets' own runs would."""
    pipeline = curation.pipeline()
    for work in (compare_pairs, form_groups):
        with failing_for_good():
            report = work(context, pipeline)
        yield from report.events(context.instance)


def compare_pairs(context: Context, pipeline: Pipeline) -> AssetReport:
    """Bring the pairs in line with the images."""
    return _pairs_report(pipeline, pipeline.compare(progress(context)))


def form_groups(context: Context, pipeline: Pipeline) -> AssetReport:
    """Bring the groups in line with pairs, images and decisions."""
    return _groups_report(context.instance, pipeline, pipeline.group(progress(context)))


def _pairs_report(pipeline: Pipeline, done: Comparison | None) -> AssetReport:
    """What is to be told of the pairs; no comparison where somebody else made them."""
    return AssetReport(image_pairs.key, pairs_version(pipeline), pairs_facts(pipeline, done))


def _groups_report(instance: dg.DagsterInstance, pipeline: Pipeline, done: Grouping | None) -> AssetReport:
    """The same of the groups."""
    facts = groups_facts(pipeline, overview.group_table(pipeline.tables.groups), done)
    found = group_checks(instance, image_groups.key, pipeline, facts, done)
    return AssetReport(image_groups.key, groups_version(pipeline), facts, found)


def pairs_version(pipeline: Pipeline) -> str:
    """The data version of the pairs: of the two tables that hold them, and of what they were found among."""
    pairs, compared = pipeline.tables.pairs.latest(), pipeline.tables.compared.latest()
    return f"{pairs.table_id}.{pairs.version}.{compared.version}"


def groups_version(pipeline: Pipeline) -> str:
    """The data version of the groups: of their table."""
    groups = pipeline.tables.groups.latest()
    return f"{groups.table_id}.{groups.version}"


find_duplicates = dg.define_asset_job(
    "find_duplicates",
    selection=[image_pairs, image_groups],
    executor_def=ONE_PROCESS,
    description="Compare what is new with all images, then form the groups: what `curation curate` does of duplicates.",
)


def duplicates_state(pipeline: Pipeline) -> str:
    """32 hex digits of all that pairs and groups are made of: the same as long as nothing happened that could help."""
    tables, settings = pipeline.tables, pipeline.settings
    directory, index = tables.directory.latest(), searched_index(pipeline)
    said = (
        directory.table_id,
        directory.version,
        None if index is None else index_version(index),
        tables.quality.newest_version(),
        tables.decisions.newest_version(),
        tables.annotations.newest_version(),
        VERIFICATION_VERSION,
        str(pipeline.agreements),
        settings.keeper_order,
    )
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


_known = Remembered[tuple[int, int]]()


def duplicates_behind(pipeline: Pipeline) -> tuple[int, int]:
    """How many contents comparing would do something about; if none, how many rows forming the groups would change."""
    tables = pipeline.tables
    made = (tables.compared, tables.pairs, tables.groups)
    for table in made:
        table.create()
    directory, (compared, pairs, groups) = tables.directory.latest(), (table.latest() for table in made)

    def find() -> tuple[int, int]:
        contents = contents_behind(directory, compared, pipeline.agreements, _vectors(pipeline))
        if contents:
            return contents, 0
        decisions, order = read_decisions(tables.decisions), pipeline.settings.keeper_order
        _, changed = formed(directory, pairs, tables.quality, tables.annotations, groups, decisions, order)
        return 0, len(changed)

    versions = [(of.table_id, of.version) for of in (compared, pairs, groups)]
    return _known.get(str(tables.groups.path), (duplicates_state(pipeline), *versions), find)


def build_duplicates_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of pairs and groups, with the interval of the settings.

    Its truth is what the tables hold. Runs that bring folders in find duplicates themselves, as ``curation run`` does;
    what is left to it is what people decided, other thresholds, and whatever those runs did not come to.
    """

    @dg.sensor(
        name="image_duplicates_sensor",
        job=find_duplicates,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run of image_pairs and image_groups when an image is not compared, or the groups are not "
        "those of the pairs and of what people decided; tells of what the command line did.",
    )
    def sensor(context: dg.SensorEvaluationContext, curation: CurationResource) -> dg.RunRequest | dg.SkipReason:
        pipeline, instance = curation.pipeline(), context.instance
        if not pipeline.tables.directory.exists():
            return dg.SkipReason("nothing is scanned yet")
        if at_work := run_at_work(instance, image_pairs.key, image_groups.key):
            return dg.SkipReason(f"run {at_work[:8]} is at it")
        try:
            if not index_is_in_line(pipeline):
                return dg.SkipReason("the search index is not in line yet")
            contents, rows = duplicates_behind(pipeline)
            if not contents and not rows:
                told = _tell_of_what_is_new(instance, pipeline)
                return dg.SkipReason(f"pairs and groups are in line{told}")
            run = next_run(instance, GROUPS_NAME, find_duplicates.name, duplicates_state(pipeline))
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        if isinstance(run, dg.RunRequest):
            return run
        behind = f"{contents} contents are to be compared" if contents else f"{rows} rows of groups are to be changed"
        return dg.SkipReason(f"{behind}; asked for already; {run}")

    return sensor


def _tell_of_what_is_new(instance: dg.DagsterInstance, pipeline: Pipeline) -> str:
    """Tell Dagster of pairs and groups that somebody else made, of which it knows nothing yet."""
    reports = []
    if data_version(instance, image_pairs.key) != pairs_version(pipeline):
        reports.append(_pairs_report(pipeline, None))
    if data_version(instance, image_groups.key) != groups_version(pipeline):
        reports.append(_groups_report(instance, pipeline, None))
    for report in reports:
        for event in report.events(instance):
            instance.report_runless_asset_event(event)
    return "; they were told of, which no run of Dagster made" if reports else ""


def _model(pipeline: Pipeline) -> RegisteredModel | None:
    """The model whose neighbours are candidates; None where nothing is embedded."""
    return pipeline.selection.current() if pipeline.tables.embeddings.newest_version() >= 1 else None


def searched_index(pipeline: Pipeline) -> IndexInfo | None:
    """What the search index covers, by which neighbours are found."""
    model = _model(pipeline)
    return None if model is None else read_info(pipeline.searcher.location_of(model))


def index_is_in_line(pipeline: Pipeline) -> bool:
    """Whether the neighbours of all images are known; where nothing is embedded there are none to wait for."""
    if (model := _model(pipeline)) is None:
        return True
    tables, info = pipeline.tables, read_info(pipeline.searcher.location_of(model))
    directory, embeddings = tables.directory.latest(), tables.embeddings.latest()
    wanted = covered(embeddings.table_id, embeddings.version, directory.version, model.fingerprint)
    return info is not None and index_version(info) == wanted


def _vectors(pipeline: Pipeline) -> Vectors | None:
    """Contents that the model's vectors bring together with others."""
    model = _model(pipeline)
    index = None if model is None else SearchIndex.open(pipeline.searcher.location_of(model))
    if model is None or index is None or not index.info.is_of(model):
        return None
    contents = index.rows.filter(pl.col("position").is_not_null())["content_sha256"]
    return Vectors(contents, model.version, model.fingerprint)
