"""What happened outside Dagster (``curation run``, a promotion), told to Dagster: its pages then show what is."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from curation_assets.defs import metadata as md
from curation_assets.defs.embeddings import crop_images_directory_embeddings
from curation_assets.defs.images import crop_images_directory
from curation_assets.defs.model import clip_model, model_facts
from curation_assets.defs.runs import data_version
from curation_assets.defs.tags import DATA_VERSION, INPUT_VERSION
from curation_assets.embed.plan import folders_behind
from curation_assets.embed.vectors import is_current
from curation_assets.partition_keys import key_of
from curation_assets.pipeline import Pipeline

_NOTE: dict[str, dg.MetadataValue] = {
    "note": dg.MetadataValue.text("found up to date in the table; made outside Dagster")
}


def promotion(instance: dg.DagsterInstance, pipeline: Pipeline) -> Iterator[dg.AssetMaterialization]:
    """An event of clip_model, where the champion is another model than the one Dagster knows.

    Its data version makes embeddings stale. No run: that would register ``MODEL_SOURCE``, which has nothing to do with
    what was promoted, may be another deployment's, and may be just what can't be had.
    """
    model = pipeline.registry.champion()
    if data_version(instance, clip_model.key) == model.fingerprint:
        return
    facts = model_facts(pipeline, model, pipeline.registry.overruled())
    found = {"found": dg.MetadataValue.text("another champion in the registry; reported without a run")}
    yield dg.AssetMaterialization(clip_model.key, metadata=facts | found, tags={DATA_VERSION: model.fingerprint})


def materializations(pipeline: Pipeline, folders: list[str]) -> Iterator[dg.AssetMaterialization]:
    """Events for folders whose rows match the disk; of embeddings, only where every image has its vector.

    They carry the data versions that runs would have given, so that nothing looks stale because of them.
    """
    model = pipeline.registry.champion()
    images = pipeline.tables.directory.snapshot()
    vectors = pipeline.tables.embeddings.snapshot() if pipeline.tables.embeddings.exists() else None
    run = md.mlflow_run(pipeline, model)
    behind = set(folders_behind(images, vectors, model)) if vectors is not None else set(folders)
    for folder in folders:
        key, version = key_of(folder), pipeline.tables.content_version([folder])
        bad = pipeline.tables.bad_files([folder])
        facts = md.thumbnails(images, folder) | {
            "images": dg.MetadataValue.int(images.rows(folder) - len(bad)),
            "bad files": dg.MetadataValue.int(len(bad)),
        }
        if len(bad):
            facts["why bad"] = md.bad_files(bad.rows())
        name = pipeline.settings.full_name(pipeline.settings.directory_table)
        facts |= md.table_facts(pipeline.tables.directory.path, name, images, folder)
        tags = {DATA_VERSION: version}
        yield dg.AssetMaterialization(crop_images_directory.key, partition=key, metadata=facts | _NOTE, tags=tags)
        if vectors is None or folder in behind:
            continue
        facts = md.thumbnails(images, folder) | {
            "model": dg.MetadataValue.text(model.uri),
            "mlflow run": run,
            "vectors": dg.MetadataValue.int(len(vectors.read(["relative_path"], folder, where=is_current(model)))),
        }
        name = pipeline.settings.full_name(pipeline.settings.embeddings_table)
        facts |= md.table_facts(pipeline.tables.embeddings.path, name, vectors, folder)
        inputs = {crop_images_directory.key: version, clip_model.key: model.fingerprint}
        tags = {f"{INPUT_VERSION}{of.to_user_string()}": value for of, value in inputs.items()}
        yield dg.AssetMaterialization(
            crop_images_directory_embeddings.key, partition=key, metadata=facts | _NOTE, tags=tags
        )
