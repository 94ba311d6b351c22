"""A published version as a run of MLflow: the dataset, its counts, its manifest and its card."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import DatasetInput, InputTag, Metric, Param, ViewType
from mlflow.utils.time import get_current_time_millis

from curation_assets.clip.connection import Connection
from curation_assets.datasets.versions import Version, as_manifest
from curation_assets.stores.address import StoreAddress
from curation_assets.tracking.sources import VersionDataset, VersionSource

EXPERIMENT = "curation_datasets"
_CONTENT, _MOST_VALUE = "curation.content_id", 500


def log_version(
    connection: Connection,
    version: Version,
    table: Path | StoreAddress,
    manifest: Mapping[str, Any],
    cards: Mapping[str, str],
) -> str:
    """Log a version, once.

    Args:
        table: of the versions.
        cards: file name → text, kept as artifacts beside ``manifest.json``.

    Returns:
        The id of its run.

    Raises:
        CurationError: MLflow can't be reached or written.
    """
    name = f"{version.dataset}@{version.version}"
    facts = {"dataset": version.dataset, "version": version.version, "content_id": version.content_id}
    source = VersionSource(facts | {"table": str(table)})
    profile: dict[str, Any] = {"images": version.images, "left_out": version.left_out, "sides": version.splits}
    with connection.understandable_errors():
        client = connection.client()
        experiment = connection.experiment(client, EXPERIMENT)
        asked = f"tags.`{_CONTENT}` = '{version.content_id}' and attributes.run_name = '{name}'"
        if known := client.search_runs([experiment], asked, max_results=1):
            if known[0].info.status == "FINISHED":
                return str(known[0].info.run_id)
            client.delete_run(known[0].info.run_id)  # a killed one's
        tags = {_CONTENT: version.content_id, "curation.dataset": version.dataset}
        run = client.create_run(experiment, run_name=name, tags=tags | {"curation.version": str(version.version)})
        key = run.info.run_id
        entity = VersionDataset(source, profile)._to_mlflow_entity()
        client.log_inputs(key, [DatasetInput(entity, [InputTag("mlflow.data.context", "published")])])
        now = get_current_time_millis()
        numbers = {"images": version.images, "left_out": version.left_out}
        numbers |= {f"images_{side}": number for side, number in version.splits.items() if side.isidentifier()}
        params = {"parent": manifest.get("parent", 0), "code": manifest.get("code", "")}
        client.log_batch(
            key,
            [Metric(metric, float(number), now, 0) for metric, number in numbers.items()],
            [Param(param, str(value)[:_MOST_VALUE]) for param, value in params.items()],
        )
        for file, text in ({"manifest.json": as_manifest(manifest)} | dict(cards)).items():
            client.log_text(key, text, file)
        client.set_terminated(key)
    return str(key)


def empty_cards(connection: Connection, table: Path | StoreAddress, but: Collection[str]) -> None:
    """Let the pictures and names of images go that runs of a lake's versions show, also of withdrawn ones.

    Args:
        table: of the versions.
        but: versions whose cards stay, as ``leaves@2``.

    Raises:
        CurationError: MLflow can't be reached or written.
    """
    with connection.understandable_errors():
        client = connection.client()
        experiment, token = connection.experiment(client, EXPERIMENT), None
        while True:
            runs = client.search_runs([experiment], run_view_type=ViewType.ALL, page_token=token)
            for run in runs:
                name = str(run.info.run_name)
                sources = [json.loads(each.dataset.source) for each in run.inputs.dataset_inputs]
                if name in but or all(source.get("table") != str(table) for source in sources):
                    continue
                told = f"An image of it was forgotten; `curation dataset show {name} --card FILE` writes its card."
                for file in (each.path for each in client.list_artifacts(run.info.run_id)):
                    client.log_text(run.info.run_id, json.dumps(told) if file.endswith(".json") else told, file)
            token = runs.token
            if not token:
                return
