"""Where an export may go, and how it is made there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from curation_assets.export.archive import ArchiveTarget, staged_in_archive
from curation_assets.export.staging import Stage, staged
from curation_assets.export.store_staging import StoreTarget, staged_in_store

Target: TypeAlias = Path | StoreTarget | ArchiveTarget


def stage_of(target: Target, key: str, *, is_file: bool) -> AbstractContextManager[Stage]:
    """Where an export is made, by where it is to be.

    Args:
        key: of all that decides what is written.
        is_file: whether it is one file; never of an archive.
    """
    if isinstance(target, Path):
        return staged(target, key, is_file=is_file)
    if isinstance(target, StoreTarget):
        return staged_in_store(target, key, is_file=is_file)
    return staged_in_archive(target)
