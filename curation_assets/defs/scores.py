"""``image_scores``: how far each image lies from the others, and the clusters they form; following by state."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl

from curation_assets.curate.problems import OUTLIER
from curation_assets.curate.scores import checks
from curation_assets.curate.scores.given_names import as_named, read_names
from curation_assets.curate.scores.overview import Cluster, clusters_of, outliers_of
from curation_assets.curate.scores.scoring import Scoring, images_of
from curation_assets.defs import metadata as md
from curation_assets.defs.duplicates import index_is_in_line, searched_index
from curation_assets.defs.following import Remembered
from curation_assets.defs.precision import MEANING, PRECISION, precision_check
from curation_assets.defs.reports import AssetReport, Check, Event
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, failing_for_good, progress, trying_again
from curation_assets.defs.runs import data_version, next_run, run_at_work
from curation_assets.defs.search import image_search_index, index_version
from curation_assets.defs.tags import ONE_PROCESS, OWNERS
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.lake.schemas import SCORES
from curation_assets.pipeline import Pipeline
from curation_assets.search.index import SearchIndex
from curation_assets.settings import Settings

NAME = "image_scores"
FINITE, AS_BEFORE = "scores_are_finite", "outliers_as_before"
_IMAGES, _OUTLIERS, _LIMIT, _MADE_WITH = "images", "outliers", "outlier threshold", "made with"
_SHEETS, _FARTHEST, _BESIDE = 8, 4, 4  # clusters that are shown, images, and what is shown beside each of these


@dg.asset(
    name=NAME,
    deps=[image_search_index],  # vectors, and the graph of neighbours beside them
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="Of every image with a vector how far it lies from the others (outlier_score), what it adds "
    "(uniqueness), and its cluster with a name; `curation problems outlier` and `curation clusters` tell. What is new "
    "is scored and joins the clusters; they are laid out anew when a third is new.",
    metadata={"dagster/column_schema": md.column_schema(SCORES)},
    check_specs=[
        dg.AssetCheckSpec(
            FINITE, asset=NAME, blocking=True, description="Every image with a vector has one row, with finite scores."
        ),
        dg.AssetCheckSpec(AS_BEFORE, asset=NAME, description="No much larger share of the images are outliers."),
        dg.AssetCheckSpec(PRECISION, asset=NAME, description=MEANING),
    ],
)
def image_scores(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Score what is new, and bring the clusters in line."""
    with trying_again(context), failing_for_good():
        return score_images_of(context, curation.pipeline()).result()


def scored(context: dg.OpExecutionContext, curation: CurationResource) -> Iterator[Event]:
    """Bring the scores in line in a job of ops, and tell of them as the asset's own run would."""
    with failing_for_good():
        report = score_images_of(context, curation.pipeline())
    yield from report.events(context.instance)


def score_images_of(context: Context, pipeline: Pipeline) -> AssetReport:
    """Bring the scores in line with the search index."""
    return _report(context.instance, pipeline, pipeline.score(progress(context)))


score_images = dg.define_asset_job(
    "score_images",
    selection=[image_scores],
    executor_def=ONE_PROCESS,
    description="Score and cluster the images by their vectors: what `curation curate` does of outliers and clusters.",
)


def scores_version(pipeline: Pipeline) -> str:
    """The data version: of the table."""
    scores = pipeline.tables.scores.latest()
    return f"{scores.table_id}.{scores.version}"


def scores_state(pipeline: Pipeline) -> str:
    """32 hex digits of all that scores are made of: the same as long as nothing happened that could help."""
    found = pipeline.champion_index()
    made_with = None if found is None else pipeline.wanted_clusters(found[0]).made_with
    index = searched_index(pipeline)
    said = None if index is None else index_version(index), made_with
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


_known = Remembered[bool]()


def scores_behind(pipeline: Pipeline) -> bool:
    """Whether scoring would do something."""
    scores = pipeline.tables.scores
    scores.create()
    rows = scores.latest()
    damaged = tuple(file.path for file, _ in rows.broken())
    versions = rows.table_id, rows.version, damaged, scores_state(pipeline)
    return _known.get(str(scores.path), versions, pipeline.scores_are_behind)


def build_scores_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of the scores, with the interval of the settings.

    Its truth is what the table holds. Runs that bring folders in score images themselves, as ``curation run`` does;
    what is left to it is a promoted model, other settings, and whatever those runs did not come to.
    """

    @dg.sensor(
        name="image_scores_sensor",
        job=score_images,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run of image_scores when an image is not scored as it is, with the model that is "
        "searched with and these settings; tells of what the command line did.",
    )
    def sensor(context: dg.SensorEvaluationContext, curation: CurationResource) -> dg.RunRequest | dg.SkipReason:
        pipeline, instance = curation.pipeline(), context.instance
        if not pipeline.tables.directory.exists():
            return dg.SkipReason("nothing is scanned yet")
        if at_work := run_at_work(instance, image_scores.key):
            return dg.SkipReason(f"run {at_work[:8]} is at it")
        try:
            if pipeline.champion_index() is None or not index_is_in_line(pipeline):
                return dg.SkipReason("the search index is not in line yet")
            if scores_behind(pipeline):
                run = next_run(instance, NAME, score_images.name, scores_state(pipeline))
                return run if isinstance(run, dg.RunRequest) else dg.SkipReason(f"asked for already; {run}")
            if data_version(instance, image_scores.key) == scores_version(pipeline):
                return dg.SkipReason("scores are in line")
            for event in _report(instance, pipeline, None).events(instance):
                instance.report_runless_asset_event(event)
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        return dg.SkipReason("scores are in line; they were told of, which no run of Dagster made")

    return sensor


def _report(instance: dg.DagsterInstance, pipeline: Pipeline, done: Scoring | None) -> AssetReport:
    """What is to be told; no scoring where somebody else did it, or nothing is embedded."""
    table = pipeline.tables.scores
    table.create()
    made = table.latest() if done is None else table.at(done.version)
    rows = made.read(SCORES.arrow_schema.names).drop("_file")
    rows = as_named(rows, read_names(pipeline.tables.cluster_names))
    facts = scores_facts(pipeline, rows, done)
    # Another run may have brought the index further meanwhile, which the next scoring follows.
    index = _index(pipeline) if done is None else done.index
    images = rows.clear() if index is None else images_of(index)
    event = instance.get_latest_materialization_event(image_scores.key)
    told = event.asset_materialization.metadata if event is not None and event.asset_materialization else {}
    now, before = _values(facts), _values(told)
    same = all(now[name] == before.get(name) for name in (_LIMIT, _MADE_WITH))
    outliers_before, images_before = (before.get(_OUTLIERS), before.get(_IMAGES, 0)) if same else (None, 0)
    held = [
        Check(FINITE, checks.scores_are_finite(rows, images)),
        Check(
            AS_BEFORE,
            checks.outliers_as_before(now[_OUTLIERS], now[_IMAGES], outliers_before, images_before),
            blocking=False,
        ),
        precision_check(pipeline, [OUTLIER]),
    ]
    return AssetReport(image_scores.key, scores_version(pipeline), facts, held)


def _index(pipeline: Pipeline) -> SearchIndex | None:
    found = pipeline.champion_index()
    return None if found is None else found[1]


def _values(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name].value for name in (_IMAGES, _OUTLIERS, _LIMIT, _MADE_WITH) if name in facts}


def scores_facts(pipeline: Pipeline, rows: pl.DataFrame, done: Scoring | None) -> md.Facts:
    """What the asset's page tells: counts, clusters and the farthest images with pictures.

    Args:
        rows: of the table.
    """
    found, outliers = clusters_of(rows), outliers_of(rows, pipeline.thresholds)
    facts: md.Facts = _cluster_sheets(pipeline, found) | _farthest(pipeline, rows)
    if found:
        facts["clusters shown"] = _clusters(found)
    made_with = rows["made_with"].unique().sort().to_list()
    facts |= {
        _IMAGES: dg.MetadataValue.int(len(rows)),
        _OUTLIERS: dg.MetadataValue.int(len(outliers)),
        "clusters": dg.MetadataValue.int(len(found)),
        _LIMIT: dg.MetadataValue.float(pipeline.thresholds[OUTLIER]),
        _MADE_WITH: dg.MetadataValue.text(", ".join(made_with)),
    }
    for name in ("outlier_score", "uniqueness"):
        middle = rows[name].cast(pl.Float64).median()
        facts |= {} if middle is None else {f"median {name}": dg.MetadataValue.float(round(float(str(middle)), 4))}
    if done is None:
        facts["note"] = dg.MetadataValue.text(md.MADE_ELSEWHERE if len(rows) else "nothing is embedded yet")
    else:
        facts |= {
            "contents scored": dg.MetadataValue.int(done.scored),
            "changed rows": dg.MetadataValue.int(done.changed),
            "clusters laid out anew": dg.MetadataValue.bool(done.laid_out),
            "seconds": dg.MetadataValue.float(round(done.seconds, 3)),
        }
    name = pipeline.settings.full_name(pipeline.settings.scores_table)
    return facts | md.whole_table_facts(pipeline.tables.scores, name)


def _cluster_sheets(pipeline: Pipeline, found: list[Cluster]) -> md.Facts:
    shown = [
        (one.images["relative_path"].head(md.THUMBNAILS).to_list(), f"{one.cluster}: {one.name}, {len(one.images):,}")
        for one in found[:_SHEETS]
    ]
    return md.sheets(pipeline, "the largest clusters", "the most typical images of a cluster", shown)


def _farthest(pipeline: Pipeline, rows: pl.DataFrame) -> md.Facts:
    """The farthest images, whether they are outliers or not, each beside the images that it lies nearest to."""
    some = rows.drop_nulls("outlier_score").sort("outlier_score", "relative_path", descending=[True, False])
    some = some.unique("content_sha256", keep="first", maintain_order=True).head(_FARTHEST)
    near = pipeline.nearest(some["relative_path"])
    shown = [
        ([path, *(other for other, _ in near.get(path, [])[:_BESIDE])], f"{printable(path)}: {score:.3f}")
        for path, score in some.select("relative_path", "outlier_score").iter_rows()
    ]
    return md.sheets(pipeline, "the farthest, each beside its nearest", "an image and its nearest", shown)


def _clusters(found: list[Cluster]) -> dg.MetadataValue:
    columns = {
        "cluster": "int",
        "name": "string",
        _IMAGES: "int",
        "share": "float",
        "spread": "float",
        "medoid": "string",
    }
    return md.records(
        columns,
        [
            (
                one.cluster,
                one.name,
                len(one.images),
                round(one.share, 4),
                round(one.spread, 4),
                md.end_of_path(one.medoid),
            )
            for one in found
        ],
    )
