"""What happened outside Dagster (``curation run``, a promotion), told to Dagster: its pages then show what is.

Materializations are a tick's asset events. Checks of them are reported by the next tick, at once: an evaluation names
the stored materialization that it is of, or Dagster doesn't count it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecordStatus,
)

from curation_assets.clip.versions import RegisteredModel
from curation_assets.defs import metadata as md
from curation_assets.defs.embeddings import (
    ALL_EMBEDDED,
    crop_images_directory_embeddings,
    embeddings_data_version,
    vector_checks,
)
from curation_assets.defs.images import (
    ALL_USABLE,
    FEW_BAD,
    TABLE_VERSION,
    crop_images_directory,
    folder_checks,
    table_checks,
)
from curation_assets.defs.model import clip_model, model_facts
from curation_assets.defs.reports import Check, FolderReport, evaluations
from curation_assets.defs.runs import data_version
from curation_assets.defs.tags import DATA_VERSION
from curation_assets.embed.plan import folders_behind
from curation_assets.embed.vectors import is_current
from curation_assets.errors import CurationError
from curation_assets.partition_keys import key_of
from curation_assets.pipeline import Pipeline

_NOTE: md.Facts = {"note": dg.MetadataValue.text(md.MADE_ELSEWHERE)}


_behind: dict[str, tuple[tuple[object, ...], frozenset[str]]] = {}


def not_embedded(pipeline: Pipeline, model: RegisteredModel) -> frozenset[str]:
    """Folders of the directory table whose vectors of a model aren't in line with their rows.

    Kept while both tables stay as they are: a sensor asks at every tick, and reading the tables takes a while.
    """
    tables = pipeline.tables
    images = tables.directory.latest()
    vectors = tables.embeddings.latest() if tables.embeddings.exists() else None
    state = (images.table_id, images.version, vectors and (vectors.table_id, vectors.version), model)
    place = str(tables.directory.path)
    known = _behind.get(place)
    if known is None or known[0] != state:
        known = state, frozenset(images.folders if vectors is None else folders_behind(images, vectors, model))
        _behind[place] = known
    return known[1]


def promotion(instance: dg.DagsterInstance, pipeline: Pipeline) -> Iterator[dg.AssetMaterialization]:
    """An event of clip_model, where the champion is another model than the one Dagster knows.

    Its data version makes embeddings stale. No run: that would register ``MODEL_SOURCE``, which has nothing to do with
    what was promoted, may be another deployment's, and may be just what can't be had.
    """
    model = pipeline.registry.champion()
    if data_version(instance, clip_model.key) == model.fingerprint:
        return
    facts = model_facts(pipeline, model, pipeline.registry.overruled())
    found = {"found": dg.MetadataValue.text("the champion of the registry; reported without a run")}
    yield dg.AssetMaterialization(clip_model.key, metadata=facts | found, tags={DATA_VERSION: model.fingerprint})


def materializations(pipeline: Pipeline, folders: list[str]) -> Iterator[dg.AssetMaterialization]:
    """Events for folders whose rows match the disk; of embeddings, only where every image has its vector.

    They carry the data versions that runs would have given, so that nothing looks stale because of them.
    """
    if not folders:
        return
    model, tables = pipeline.registry.champion(), pipeline.tables
    images = tables.directory.latest()
    vectors = tables.embeddings.latest() if tables.embeddings.exists() else None
    run = md.mlflow_run(pipeline, model)
    behind = not_embedded(pipeline, model)
    for folder in folders:
        content = tables.content_version([folder])
        bad = tables.bad_files([folder])
        facts: md.Facts = {
            "images": dg.MetadataValue.int(images.rows(folder) - len(bad)),
            "bad files": dg.MetadataValue.int(len(bad)),
        }
        if len(bad):
            facts["why bad"] = md.bad_files(bad.rows())
        name = pipeline.settings.full_name(pipeline.settings.directory_table)
        facts |= md.table_facts(tables.directory.path, name, images, folder) | _NOTE
        pictures = md.thumbnails(images, folder)
        report = FolderReport(crop_images_directory.key, key_of(folder), content, facts, pictures)
        yield report.materialization()
        if vectors is None or folder in behind:
            continue
        count = len(vectors.read(["relative_path"], folder, where=is_current(model)))
        facts = {
            "model": dg.MetadataValue.text(model.uri),
            "mlflow run": run,
            "vectors": dg.MetadataValue.int(count),
        }
        name = pipeline.settings.full_name(pipeline.settings.embeddings_table)
        facts |= md.table_facts(tables.embeddings.path, name, vectors, folder) | _NOTE
        version = embeddings_data_version(content, model, count)
        inputs = {crop_images_directory.key: content, clip_model.key: model.fingerprint}
        key = crop_images_directory_embeddings.key
        yield FolderReport(key, key_of(folder), version, facts, pictures, inputs=inputs).materialization()


_CHECKING_SECONDS = 10  # that checks of folders may take of a tick


def report_checks(instance: dg.DagsterInstance, pipeline: Pipeline, in_line: Collection[str]) -> None:
    """Evaluate what no run has: checks of folders that were told of from outside, and of a table that changed.

    What isn't come to is left to the next tick.

    Args:
        in_line: folders that match their rows.
    """
    until = time.monotonic() + _CHECKING_SECONDS
    table = pipeline.tables.directory.latest()
    if not table.folders:
        return
    images, vectors = crop_images_directory.key, crop_images_directory_embeddings.key
    done = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(images, ALL_USABLE), limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
    )
    evaluation = done[0].evaluation if done else None
    seen = evaluation.metadata.get(TABLE_VERSION) if evaluation else None
    if seen is None or seen.value != f"{table.table_id}.{table.version}":
        _report(instance, images, None, lambda: table_checks(pipeline))
    model = pipeline.registry.champion()
    embedded = set(in_line) - not_embedded(pipeline, model) if pipeline.tables.embeddings.exists() else set()
    for folder in _unchecked(instance, images, FEW_BAD, in_line):
        if time.monotonic() > until:
            return
        _report(instance, images, folder, partial(folder_checks, pipeline, folder))
    for folder in _unchecked(instance, vectors, ALL_EMBEDDED, embedded):
        if time.monotonic() > until:
            return
        _report(instance, vectors, folder, partial(vector_checks, pipeline, folder, model))


def _report(
    instance: dg.DagsterInstance, asset: dg.AssetKey, folder: str | None, evaluate: Callable[[], Sequence[Check]]
) -> None:
    try:
        checks = evaluate()
    except CurationError:  # a file of the table is broken: the sensor has other folders to look after
        return
    for event in evaluations(instance, asset, None if folder is None else key_of(folder), checks):
        instance.report_runless_asset_event(event)


def _unchecked(instance: dg.DagsterInstance, asset: dg.AssetKey, check: str, folders: Collection[str]) -> list[str]:
    """Of some folders those that Dagster knows materialized, but whose newest materialization no check was made of."""
    infos = instance.event_log_storage.get_asset_check_partition_info([dg.AssetCheckKey(asset, check)])
    planned = {
        info.latest_planned_run_id
        for info in infos
        if info.latest_execution_status is AssetCheckExecutionRecordStatus.PLANNED
    }
    under_way = {
        run.run_id
        for run in (instance.get_runs(dg.RunsFilter(run_ids=list(planned))) if planned else [])
        if not run.is_finished
    }
    known = {
        info.partition_key
        for info in infos
        if info.latest_planned_run_id in under_way
        or (info.is_current and info.latest_execution_status is not AssetCheckExecutionRecordStatus.PLANNED)
    }
    open_keys = {key_of(folder): folder for folder in folders}.items()
    materialized = instance.get_materialized_partitions(asset)
    return [folder for key, folder in open_keys if key in materialized and key not in known]
