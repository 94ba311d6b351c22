"""Sources that the setting ``ANNOTATIONS`` names are followed: read again when their files or the images changed.

What they were read at is noted beside the index. The note may be deleted at any time: then they are read once more,
which changes nothing where they say the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation_assets.annotations.following import Following, follow
from curation_assets.annotations.record import Import, put, rows_of
from curation_assets.annotations.sources import Source, read_source
from curation_assets.clip.notes import read_note, write_note
from curation_assets.errors import CurationError
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

READER_VERSION = 1  # of reading; another one reads everything again


@dataclass
class Followed:
    """What following did.

    Attributes:
        places: rows that went to where their image is now.
        imports: of the sources that were read.
        failed: sources that could not be, and why; what they said before stays.
        unchanged: sources that were not read, as nothing changed.
    """

    places: Following
    imports: list[Import] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)


def follow_sources(
    directory: LakeTable,
    annotations: LakeTable,
    sources: Sequence[Source],
    root: str,
    note: Path,
    progress: Progress,
    is_settled: Callable[[], bool] | None = None,
) -> Followed:
    """Let annotations go where their images are, then read those sources again that may say something else now.

    Args:
        sources: of the setting; those without a format are only named.
        root: the images root.
        note: where it is noted what they were read at.
        is_settled: whether the directory table is as the disk is.

    Raises:
        CurationError: a table can't be read or written. What is wrong with a source is in ``failed``.
    """
    done = Followed(follow(directory, annotations, progress, places_note(note), is_settled))
    known = read_note(note) or {}
    read = {}
    for source in (each for each in sources if each.format is not None):
        try:
            state = state_of(source, directory)
            if known.get(source.name) == state and annotations.exists():
                done.unchanged.append(source.name)
            else:
                images = directory.latest()
                state = state_of(source, directory)  # of the images that it is read on
                rows = rows_of(
                    said := read_source(source, images),
                    images,
                    root,
                    source.name,
                    is_stored=source.orientation == "stored",
                )
                imported = put(annotations, source.name, rows, progress, every_field=True)
                imported.notes += said.notes
                done.imports.append(imported)
            read[source.name] = state
        except OSError as error:
            done.failed[source.name] = f"{error.filename or source.path}: {error.strerror or error}"
        except CurationError as error:
            done.failed[source.name] = str(error)
    if read != known:
        write_note(note, read)
    return done


def places_note(note: Path) -> Path:
    """Where it is noted at what annotations last followed their images, beside the note of the sources."""
    return note.with_name("places.json")


def sources_behind(directory: LakeTable, sources: Sequence[Source], note: Path) -> list[str]:
    """Sources that :func:`follow_sources` would read; also those whose files can't be looked at."""
    known = read_note(note) or {}
    behind = []
    for source in (each for each in sources if each.format is not None):
        try:
            is_known = known.get(source.name) == state_of(source, directory)
        except OSError:
            is_known = False
        if not is_known:
            behind.append(source.name)
    return behind


def state_of(source: Source, directory: LakeTable) -> str:
    """32 hex digits of all that reading a source depends on.

    Raises:
        OSError: its files can't be looked at.
    """
    images = directory.latest()
    files = [] if source.path is None else list(_files(source.path))
    said = [READER_VERSION, source.model_dump(mode="json"), files, images.table_id, images.version]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _files(path: Path) -> list[list[str | int]]:
    """What changes with a file, or of a data set with its label files."""
    if path.is_dir() or path.suffix.lower() in (".yaml", ".yml"):
        root = path if path.is_dir() else path.parent
        names = (Path(above, name) for above, _, names in os.walk(root) for name in names)
        files = sorted(file for file in names if file.suffix in (".txt", ".yaml", ".yml", ".names"))
        files = files if path.is_dir() else [path, *(file for file in files if file != path)]
    else:
        files = [path]
    return [[str(file), *_state(file)] for file in files]


def _state(file: Path) -> tuple[int, int, int]:
    status = os.stat(file)
    return status.st_ino, status.st_size, status.st_mtime_ns
