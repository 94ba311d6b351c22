"""A table's log after a power cut: a last commit that was not written to its end, a checkpoint that is damaged.

Neither holds anything that is lost with it: what a torn commit would have said is done again by who finds it undone,
and a checkpoint only sums up commits. Both are put aside, not deleted.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress

import pyarrow as pa

from curation_assets.lake.storage import Storage

_LOG, ASIDE = "_delta_log", "_repaired"
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.(?:[^/]+\.)?parquet")
_HINT = "_last_checkpoint"


def log_faults(storage: Storage) -> dict[str, str]:
    """What of a table's log can be put aside: file of the log → what is wrong with it.

    Raises:
        OSError: the log can't be read now.
    """
    names = sorted(file.path.rpartition("/")[2] for file in storage.list(_LOG))
    commits = sorted(int(match[1]) for name in names if (match := _COMMIT.fullmatch(name)))
    faults: dict[str, str] = {}
    if commits and not _is_commit(storage.get(f"{_LOG}/{commits[-1]:020}.json")):
        faults[f"{commits[-1]:020}.json"] = "the last commit was not written to its end"
        commits.pop()
    checkpoints = [(int(match[1]), name) for name in names if (match := _CHECKPOINT.fullmatch(name))]
    broken = [(version, name) for version, name in checkpoints if not _is_parquet(storage, f"{_LOG}/{name}")]
    whole = {version for version, _ in checkpoints} - {version for version, _ in broken}
    for version, name in broken:
        earlier = max((each for each in whole if each < version), default=-1)
        if set(range(earlier + 1, version + 1)) <= set(commits):  # which say the same
            faults[name] = "the checkpoint is damaged"
    if _HINT in names:
        told = -1
        with suppress(ValueError, TypeError, KeyError):
            told = int(json.loads(storage.get(f"{_LOG}/{_HINT}"))["version"])
        if told not in whole:
            faults[_HINT] = "it names no checkpoint that can be read"
    return faults


def put_aside(storage: Storage, names: dict[str, str]) -> None:
    """Take files out of the log, into a folder beside it.

    Raises:
        OSError: the lake can't be written.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for name in sorted(names, reverse=True):  # the hint first: whoever looks meanwhile reads the commits
        storage.put_whole(f"{ASIDE}/{stamp}-{name}", storage.get(f"{_LOG}/{name}"))
        storage.delete(f"{_LOG}/{name}")


def _is_commit(data: bytes) -> bool:
    lines = data.splitlines()
    try:
        return bool(lines) and all(isinstance(json.loads(line), dict) for line in lines if line.strip())
    except ValueError:
        return False


def _is_parquet(storage: Storage, path: str) -> bool:
    try:
        with storage.parquet(path) as parquet:
            for _ in parquet.iter_batches():
                pass
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return False
    return True
