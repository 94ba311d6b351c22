"""Rows that lately left a table, in files that still lie there: what a mistake removed need not be computed again.

Delta keeps the files of earlier versions until they are vacuumed, and its log says which left when.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from curation_assets.lake import hive
from curation_assets.lake.snapshot import DataFile, Snapshot

RETENTION = timedelta(days=7)  # as long as Delta's own vacuum keeps them by default
_MOST_COMMITS, _MOST_FILES = 2000, 2000  # looked at, the newest first


def removed_lately(table: Snapshot, retention: timedelta = RETENTION) -> Snapshot:
    """Files with rows that left a table within some time before its newest commit, and that can still be read.

    Args:
        table: at its newest version.

    Returns:
        As if it were a version of the table. Rows of its files may still be in the table, in others.

    Raises:
        OSError: the log can't be read.
    """
    of, storage = table.spec.partition_column, table.storage
    files: dict[str, DataFile] = {}
    there = {file.path for file in table.files()}
    for action in _removals(table, retention):
        path = unquote(action["path"])
        if path in files or path in there:
            continue
        with suppress(OSError, pa.ArrowException), storage.parquet(path) as parquet:
            partition = hive.WHOLE if of is None else action.get("partitionValues", {}).get(of, "")
            files[path] = DataFile(path, partition, storage.size(path), parquet.metadata.num_rows)
        if len(files) == _MOST_FILES:
            break
    by_partition: dict[str, list[DataFile]] = {}
    for file in files.values():
        by_partition.setdefault(file.partition, []).append(file)
    return Snapshot(storage, table.spec, table.version, table.table_id, table.schema, by_partition)


def _removals(table: Snapshot, retention: timedelta) -> Iterator[dict[str, Any]]:
    """Removals of the log, the newest first; not those of files whose rows were only laid out anew."""
    oldest = 0.0
    for version in range(table.version, max(-1, table.version - _MOST_COMMITS), -1):
        try:
            lines = table.storage.get(f"_delta_log/{version:020}.json").splitlines()
        except FileNotFoundError:
            return  # older ones are in a checkpoint
        actions = [json.loads(line) for line in lines if line.strip()]
        committed = max(
            (action["commitInfo"].get("timestamp", 0) for action in actions if "commitInfo" in action), default=0
        )
        oldest = oldest or committed - retention.total_seconds() * 1000
        if committed < oldest:
            return
        yield from (action["remove"] for action in actions if action.get("remove", {}).get("dataChange"))
