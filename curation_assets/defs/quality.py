"""``image_quality``: measures of every usable image; which of them have which problem, and how that changes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from curation_assets.curate.checks import problems_as_before, scores_are_finite
from curation_assets.curate.measuring import MEASURES_VERSION
from curation_assets.curate.overview import any_problem, overview
from curation_assets.curate.problems import KINDS, judged
from curation_assets.curate.quality import QualityResult, folders_behind
from curation_assets.defs import metadata as md
from curation_assets.defs.following import Remembered, Standing, bring_in_line, build_following_sensor, standing
from curation_assets.defs.images import FOLDERS, crop_images_directory
from curation_assets.defs.precision import MEANING, PRECISION, precision_check
from curation_assets.defs.reports import Check, Event, FolderReport, each_folder, holds, tell, tell_each
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, progress, trying_again
from curation_assets.defs.tags import FOLDERS_A_BACKFILL_RUN, ONE_PROCESS, OWNERS
from curation_assets.images.contact_sheet import contact_sheet
from curation_assets.lake.schemas import QUALITY
from curation_assets.partition_keys import folder_of_key, key_of
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings

NAME = "image_quality"
FINITE, AS_BEFORE = "scores_are_finite", "problems_as_before"
_SHEETS = {"the blurriest": "blurry", "the darkest": "dark"}
_KINDS = [name for name, kind in KINDS.items() if kind.told_by == "quality"]  # other assets tell of the others
_IMAGES, _ANY, _LIMITS, _VERSION = "images", "with a problem", "thresholds", "measures version"


def _check(name: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=NAME, partitions_def=FOLDERS, blocking=blocking, description=description)


@dg.asset(
    name=NAME,
    deps=[crop_images_directory],
    partitions_def=FOLDERS,
    backfill_policy=FOLDERS_A_BACKFILL_RUN,
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="How sharp, bright, contrasty and colourful every usable image of a folder is, as rows of a Delta "
    "table. Which of them are blurred, dark, … is judged by thresholds (CURATION_PROBLEM_THRESHOLDS) and among the "
    "others of its folder and camera; `curation problems` names them.",
    metadata={"dagster/column_schema": md.column_schema(QUALITY)},
    check_specs=[
        _check(FINITE, "Every usable image has one row, whose scores are within their scales.", blocking=True),
        _check(AS_BEFORE, "No kind of problem is much more frequent than it was the last time."),
        _check(PRECISION, MEANING),
    ],
)
def image_quality(context: dg.AssetExecutionContext, curation: CurationResource) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    """Measure what is new in the run's folders."""
    with trying_again(context):
        yield from tell(context, *measure_folders(context, curation, context.partition_keys))


def measure_folders(
    context: Context, curation: CurationResource, keys: Sequence[str]
) -> tuple[list[FolderReport], dict[str, Exception]]:
    """Bring the quality rows of some partitions' folders in line with their images.

    Returns:
        What is to be told of each; and the errors of those that failed.
    """
    pipeline, said = curation.pipeline(), progress(context)
    done, failed = each_folder(context.log, keys, lambda folder: pipeline.measure([folder], said)[0].checked())
    return _reports(context.instance, pipeline, done), failed


def measured_elsewhere(instance: dg.DagsterInstance, pipeline: Pipeline, keys: Sequence[str]) -> list[FolderReport]:
    """Of partitions whose folders the command line measured, what is to be told."""
    return _reports(instance, pipeline, dict.fromkeys(keys))


_known = Remembered[Standing]()


def quality_standing(pipeline: Pipeline) -> Standing:
    """Which folders have images that are not measured, or not as they are now."""
    directory, quality = pipeline.tables.directory, pipeline.tables.quality
    quality.create()
    images, rows = directory.latest(), quality.latest()

    def find() -> Standing:
        # Of a damaged file of the directory table nothing is seen: a run tells of its folder what is wrong.
        behind = sorted({*folders_behind(images, rows), *(file.partition for file, _ in images.broken())})
        return standing(images.folders, behind, (file.path for file in images.files_of(behind)), MEASURES_VERSION)

    damaged = tuple(file.path for file, _ in images.broken())
    versions = images.table_id, images.version, rows.table_id, rows.version, damaged
    return _known.get(str(quality.path), versions, find)


@dg.op(description="Measure what is new in the folders, and check the rows.")
def measure(
    context: dg.OpExecutionContext, curation: CurationResource, keys: list[str]
) -> Iterator[Event | dg.Output[int]]:
    """As ``image_quality`` does of partitions: of all at once, since verdicts are made of the whole table."""
    with trying_again(context):
        yield from tell_each(context.instance, *measure_folders(context, curation, keys))
        yield dg.Output(len(keys))


@dg.op(description="Measure every image that is not measured yet, or not as it is now, and check the rows.")
def measure_what_is_behind(
    context: dg.OpExecutionContext, curation: CurationResource
) -> Iterator[Event | dg.Output[int]]:
    """As ``image_quality`` does of partitions."""
    with trying_again(context):
        keys = [key_of(folder) for folder in quality_standing(curation.pipeline()).behind]
        context.instance.add_dynamic_partitions(str(FOLDERS.name), keys)
        yield from bring_in_line(context, curation, image_quality.key, keys, measure_folders)
        yield dg.Output(len(keys))


@dg.job(executor_def=ONE_PROCESS, description="What `curation curate` does of the quality of images.")
def measure_image_quality() -> None:
    """One step for all folders."""
    measure_what_is_behind()


def build_quality_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of the quality, with the interval of the settings."""
    return build_following_sensor(
        settings, "image_quality_sensor", image_quality, measure_image_quality, quality_standing, measured_elsewhere
    )


def _reports(
    instance: dg.DagsterInstance, pipeline: Pipeline, done: Mapping[str, QualityResult | None]
) -> list[FolderReport]:
    """What is to be told of some partitions; no result where somebody else measured."""
    if not done:
        return []
    # All of the table, once: an image is judged among the others of its camera, wherever they are.
    every = judged(pipeline.tables.quality.latest().read(QUALITY.arrow_schema.names).drop("_file"), pipeline.thresholds)
    parts = {key: every.filter(pl.col("folder") == folder_of_key(key)) for key in done}
    worst = {(key, kind): _worst(rows, kind) for key, rows in parts.items() for kind in _SHEETS.values()}
    shown = pipeline.tables.pictures(path for rows in worst.values() for path in rows["relative_path"])
    previews = {path: preview for path, (_, preview) in shown.items() if preview is not None}
    trusted = precision_check(pipeline, _KINDS)  # of the whole table
    reports = []
    for key, result in done.items():
        content = pipeline.tables.content_version([folder_of_key(key)])
        facts = _facts(pipeline, key, parts[key], result)
        pictures: md.Facts = {}
        for name, kind in _SHEETS.items():
            pictures |= _sheet(name, kind, worst[key, kind], previews)
        checks = [*quality_checks(instance, pipeline, key, facts, result), trusted]
        version = quality_data_version(content, len(parts[key]))
        inputs = {crop_images_directory.key: content}
        reports.append(FolderReport(image_quality.key, key, version, facts, pictures, checks, inputs))
    return reports


def quality_data_version(content: str, rows: int) -> str:
    """Of a folder's measures: changes with its content, the measures, or images that could not be read before."""
    return hashlib.sha256(f"{content}\0{MEASURES_VERSION}\0{rows}".encode()).hexdigest()[:32]


def quality_checks(
    instance: dg.DagsterInstance, pipeline: Pipeline, key: str, facts: md.Facts, done: QualityResult | None
) -> list[Check]:
    """What must hold of a folder's rows, and what should, seen against its materialization before.

    Args:
        done: by which run.
    """
    tables, finite = pipeline.tables, partial(scores_are_finite, folders=[folder_of_key(key)])
    newest = instance.fetch_materializations(dg.AssetRecordsFilter(image_quality.key, asset_partitions=[key]), limit=1)
    event = newest.records[0].asset_materialization if newest.records else None
    now, before = _values(facts), _values(event.metadata if event else {})
    same = all(now[name] == before.get(name) for name in (_LIMITS, _VERSION))  # else the shares differ by that
    counts, counts_before = ({name: told[name] for name in (_ANY, *_KINDS) if name in told} for told in (now, before))
    images_before = before.get(_IMAGES, 0) if same else 0
    return [
        Check(FINITE, holds(finite, tables.directory, tables.quality, done)),
        Check(AS_BEFORE, problems_as_before(counts, now[_IMAGES], counts_before, images_before), blocking=False),
    ]


def _values(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fact.value for name, fact in facts.items()}


def _facts(pipeline: Pipeline, key: str, rows: pl.DataFrame, result: QualityResult | None) -> md.Facts:
    kinds = [count for count in overview(rows, pipeline.thresholds) if count.kind.name in _KINDS]
    facts: md.Facts = {_IMAGES: dg.MetadataValue.int(len(rows)), _ANY: dg.MetadataValue.int(any_problem(rows))}
    counts = {count.kind.name: dg.MetadataValue.int(count.images) for count in kinds}
    facts |= {name: counts[name] for name in _KINDS}
    records = [
        dg.TableRecord(
            {"kind": c.kind.name, "images": c.images, "share": round(c.share, 4), "what to do": c.kind.advice}
        )
        for c in kinds
    ]
    columns = {"kind": "string", "images": "int", "share": "float", "what to do": "string"}
    schema = dg.TableSchema([dg.TableColumn(name, of) for name, of in columns.items()])
    facts |= {
        "problems": dg.MetadataValue.table(records, schema),
        _LIMITS: dg.MetadataValue.json(dict(pipeline.thresholds.values)),
        _VERSION: dg.MetadataValue.int(MEASURES_VERSION),
    }
    facts |= {"note": dg.MetadataValue.text(md.MADE_ELSEWHERE)} if result is None else _work(result)
    table, name = pipeline.tables.quality, pipeline.settings.full_name(pipeline.settings.quality_table)
    return facts | md.table_facts(table.path, name, table.latest(), folder_of_key(key))


def _work(result: QualityResult) -> md.Facts:
    facts: md.Facts = {
        "measured": dg.MetadataValue.int(result.measured),
        "removed": dg.MetadataValue.int(result.removed),
        "already there": dg.MetadataValue.int(result.current),
        "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
    }
    left = [(path, "some measures are missing", why) for path, why in result.done.failed.items()]
    left += [(path, "not measured", why) for path, why in result.done.waiting.items()]
    return facts | ({"not measured": md.bad_files(left)} if left else {})


def _worst(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The worst of a folder, whether they are as bad as the threshold or not."""
    score = f"{kind}_score"
    ordered = rows.drop_nulls(score).sort([score, "relative_path"], descending=[not KINDS[kind].is_low, False])
    return ordered.head(md.THUMBNAILS)


def _sheet(name: str, kind: str, rows: pl.DataFrame, previews: Mapping[str, bytes]) -> md.Facts:
    rows = rows.filter(pl.col("relative_path").is_in(list(previews)))
    if not len(rows):
        return {}
    scores = ", ".join(f"{score:.2f}" for score in rows[f"{kind}_score"])
    said = f"{KINDS[kind].scale} {scores}; {int(rows[kind].sum())} of these are {kind}"
    sheet = contact_sheet([previews[path] for path in rows["relative_path"]])
    return {name: md.picture(sheet, f"{len(rows)} images", "jpeg", said)}
