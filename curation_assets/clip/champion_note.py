"""The champion as MLflow last told it, for as long as its database is untouched: asking costs seconds of imports.

Only for the database of SQLite beside the lake, whose files show every change. Whoever asks MLflow leaves the note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from curation_assets.clip.notes import States, are_settled, read_note, states, write_note
from curation_assets.clip.versions import RegisteredModel

# SQLite keeps what is not in the database yet in one of these, by its mode.
_SUFFIXES = ("", "-journal", "-wal")


class ChampionNote:
    """The note of one registered model.

    Args:
        folder: where notes are kept.
        database: of the registry; None for one that isn't a file here, of which no note is kept.
        name: catalog.schema.model.
    """

    def __init__(self, folder: Path, database: Path | None, name: str) -> None:
        self._path = folder / f"{name}.champion.json"
        self._files: Sequence[Path] = [] if database is None else [Path(f"{database}{end}") for end in _SUFFIXES]

    def database(self) -> States | None:
        """What is to be seen of the database's files now; None where no note can be kept."""
        try:
            found = states(self._files)
        except OSError:
            return None
        return found if found and found[0] is not None else None

    def read(self, database: States | None) -> RegisteredModel | None:
        """The champion, if it was noted when the database's files were as they are now."""
        note = None if database is None else read_note(self._path)
        if note is None or note.get("database") != database:
            return None
        try:
            return RegisteredModel(**note["champion"])
        except (KeyError, TypeError):  # of another version of this package
            return None

    def write(self, database: States | None, champion: RegisteredModel, opened: int | None) -> None:
        """Keep what MLflow has told, unless the database was written to meanwhile, or is another than it reads.

        Args:
            database: its files as they were before MLflow was asked.
            opened: inode of the database that it was asked of: one that was replaced stays open.
        """
        if database is None or database[0] is None or database[0][0] != opened:
            return
        if self.database() == database and are_settled(database):
            write_note(self._path, {"database": database, "champion": asdict(champion)})
