"""The model registry: which versions there are, and which of them is the champion.

With its modules ``connection``, ``versions``, ``version_files`` and ``champion`` the one place that talks to MLflow.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation_assets.clip import leftovers, version_files
from curation_assets.clip.champion import ChampionRecord, SeenSource
from curation_assets.clip.champion_note import ChampionNote
from curation_assets.clip.connection import Connection
from curation_assets.clip.source import ModelSource
from curation_assets.clip.versions import NotOursError, RegisteredModel, Versions, version_tags
from curation_assets.errors import CurationError
from curation_assets.settings import source_key

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder


class NotRegisteredError(CurationError):
    """The registry is there, but no version is registered in it yet."""


@dataclass(frozen=True)
class ListedVersion:
    """A version and its standing.

    Attributes:
        registered_at: in UTC.
        is_champion: embeddings and search use it.
        is_source: ``MODEL_SOURCE`` was this model when it was last looked at.
    """

    model: RegisteredModel
    registered_at: datetime
    is_champion: bool
    is_source: bool


class Registry:
    """Versions of one registered model.

    Args:
        name: catalog.schema.model.
        folder: of the registry where MLflow's variables name none, and of ``downloads``, where a version's files lie
            elsewhere; see ``Connection``.
        own: ignore MLflow's variables and use the folder.
        artifacts: where files of models that are registered go, rather than into the folder.

    Raises:
        CurationError: the folder can't be used, as its path has a character that a database's URI can't have.
    """

    def __init__(self, name: str, folder: Path, own: bool = False, artifacts: str | None = None) -> None:
        self.name = name
        self._connection = Connection(folder, own, artifacts)

    @property
    def folder(self) -> Path:
        """Of the registry, where MLflow's variables name none."""
        return self._connection.folder

    @property
    def tracking_uri(self) -> str:
        """Where the runs are that logged the versions."""
        return self._connection.tracking_uri

    def register(self, source: ModelSource) -> tuple[RegisteredModel, bool]:
        """Register these weights if no version has their fingerprint, and make them the champion if they are new here.

        A version that was promoted by hand stays the champion as long as the source is the one that was last
        registered or seen by a promotion: promotion decides until ``MODEL_SOURCE`` changes.

        Returns:
            The champion, and whether a version was registered. ``overruled`` tells whether it is the source's.

        Raises:
            CurationError: the registry can't be reached or written.
        """
        with self._writing() as client:
            return self._register(client, source)

    def promote(self, version: str, source: SeenSource | None = None) -> RegisteredModel:
        """Make a version the champion.

        Args:
            version: its number.
            source: what ``MODEL_SOURCE`` is now, over which the version is chosen; None is what it last was.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: there is no such version, or the registry can't be reached or written.
        """
        self._refuse_to_create()
        with self._writing() as client:
            model = self._find(client, version)
            record = self._record_to_write(client)
            record.crown(model.version)
            _note_choice(record, source)
            return model

    def rollback(self, source: SeenSource | None = None) -> RegisteredModel:
        """Make the champion before this one the champion again; a second time, the one before that.

        Args:
            source: what ``MODEL_SOURCE`` is now, over which the version is chosen; None is what it last was.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: there is no earlier one, or the registry can't be reached or written.
        """
        self._refuse_to_create()
        with self._writing() as client:
            known = {model.version: model for model, _ in self._versions(client).listed()}
            if not known:
                raise self._not_registered()
            record = self._record_to_write(client)
            history = record.history()
            earlier = [version for version in history[:-1] if version in known]
            while earlier and earlier[-1] == history[-1]:  # what lay between them was deleted
                earlier.pop()
            if not earlier:
                raise CurationError(
                    f"{self.name} has no earlier champion to go back to; `curation model promote` makes any version it"
                )
            record.go_back(earlier)
            _note_choice(record, source)
            return known[earlier[-1]]

    def champion(self) -> RegisteredModel:
        """The version that embeddings and search use.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: the registry can't be reached.
        """
        note = ChampionNote(self._connection.notes, self._connection.database, self.name)
        database = note.database()
        if (noted := note.read(database)) is not None:
            return noted
        with self._reading() as client:
            current = self._record(client).current()
            if current is None:
                raise self._not_registered()
            champion = self._versions(client).describe(current)
        note.write(database, champion, self._connection.opened_inode)
        return champion

    def chosen_by_hand(self, model_source: str) -> RegisteredModel | None:
        """The champion, if it was chosen by hand over this setting of ``MODEL_SOURCE``; else None.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: the registry can't be reached.
        """
        with self._reading() as client:
            record = self._record(client)
            champion, seen = self._own_champion(client, record), record.source
            if champion is None or seen is None or seen.name != source_key(model_source):
                return None
            return champion if seen.by_hand or champion.fingerprint != seen.fingerprint else None

    def version(self, version: str) -> RegisteredModel:
        """A version by its number.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: there is no such version, or the registry can't be reached.
        """
        with self._reading() as client:
            return self._find(client, version)

    def versions(self) -> list[ListedVersion]:
        """Versions that this project registered, oldest first.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: the registry can't be reached.
        """
        with self._reading() as client:
            found = self._versions(client).listed()
            if not found:
                raise self._not_registered()
            record = self._record(client)
            current = record.current()
            return [
                ListedVersion(
                    model,
                    registered_at,
                    is_champion=current is not None and str(current.version) == model.version,
                    is_source=record.source is not None and model.fingerprint == record.source.fingerprint,
                )
                for model, registered_at in found
            ]

    def in_use(self) -> list[RegisteredModel]:
        """Versions that somebody uses or may go back to: the champion, the one before it, that of ``MODEL_SOURCE``.

        And those that another alias names. The champion first.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: the registry can't be reached.
        """
        with self._reading() as client:
            listed = {model.version: model for model, _ in self._versions(client).listed()}
            record = self._record(client)
            champion = record.current()
            earlier = [version for version in record.history()[:-1] if version in listed]
            wanted = [str(champion.version)] if champion is not None else []
            wanted += earlier[-1:]
            for version, model in listed.items():
                is_source = record.source is not None and model.fingerprint == record.source.fingerprint
                if is_source or client.get_model_version(self.name, version).aliases:
                    wanted.append(version)
            return [listed[version] for version in dict.fromkeys(wanted) if version in listed]

    def overruled(self) -> RegisteredModel | None:
        """The version of ``MODEL_SOURCE``, where another one was promoted and is the champion.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: the registry can't be reached.
        """
        with self._reading() as client:  # nearly always it is the champion, which takes no list of all to see
            record = self._record(client)
            current, source = record.current(), record.source
            if current is not None and current.status == "READY" and source is not None:
                champion = self._own_champion(client, record)
                if champion is not None and champion.fingerprint == source.fingerprint:
                    return None
        versions = self.versions()
        if any(listed.is_champion and listed.is_source for listed in versions):
            return None
        return next((listed.model for listed in reversed(versions) if listed.is_source), None)

    def run_url(self, model: RegisteredModel) -> str | None:
        """Page of the MLflow run that logged a version; None where the tracking store has no pages.

        Raises:
            CurationError: the tracking server can't be reached.
        """
        if not self._connection.has_pages:
            return None
        with self._reading() as client:
            experiment = client.get_run(model.run_id).info.experiment_id
        return self._connection.run_url(experiment, model.run_id)

    def load_encoder(self, model: RegisteredModel, device: str, precision: str) -> Encoder:
        """Check a version's files and load them; files that aren't on this machine are downloaded once.

        A version that another revision of the code registered is asked for its golden vectors too, and used only if
        this code still computes them.

        Raises:
            CurationError: they can't be had, aren't those that were registered, or the device or precision isn't there.
        """
        return version_files.load_encoder(self._connection, model, device, precision)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """A client for questions, which create nothing."""
        self._refuse_to_create()
        with self._connection.understandable_errors():
            yield self._connection.client()

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A client that only one process of this machine has at a time."""
        with self._connection.understandable_errors(), self._connection.sole_client() as client:
            yield client

    def _refuse_to_create(self) -> None:
        """Raises ``NotRegisteredError`` where opening the registry would make one."""
        if self._connection.would_create():
            raise self._not_registered()

    def _not_registered(self) -> NotRegisteredError:
        hint = "materialize the asset clip_model, or use `curation run`"
        place = f" in {self.folder / 'mlflow.db'}" if self._connection.is_default else ""
        other = "; --lake (CURATION_LAKE_ROOT) names another lake" if place else ""
        return NotRegisteredError(f"no CLIP model is registered as {self.name}{place}: {hint}{other}")

    def _versions(self, client: Any) -> Versions:
        return Versions(self._connection, client, self.name)

    def _register(self, client: Any, source: ModelSource) -> tuple[RegisteredModel, bool]:
        found = [model for model, _ in self._versions(client).listed() if model.fingerprint == source.fingerprint]
        of_source = found[-1] if found else self._log(client, source)
        record = self._record_to_write(client)
        seen, now = record.source, SeenSource(source_key(source.name), source.fingerprint, by_hand=False)
        if seen and seen.is_model(now.name, source.fingerprint) and (kept := self._own_champion(client, record)):
            record.see(replace(now, by_hand=seen.by_hand))
            return kept, not found
        record.crown(of_source.version)
        record.see(now)
        return of_source, not found

    def _own_champion(self, client: Any, record: ChampionRecord) -> RegisteredModel | None:
        """The champion, unless there is none or it is a model that this project didn't register."""
        current = record.current()
        if current is None:
            return None
        try:
            return self._versions(client).describe(current)
        except NotOursError:
            return None

    def _record(self, client: Any) -> ChampionRecord:
        return ChampionRecord(client, self.name, client.get_experiment_by_name(self._experiment_name))

    def _record_to_write(self, client: Any) -> ChampionRecord:
        return ChampionRecord(client, self.name, client.get_experiment(self._experiment(client)))

    def _find(self, client: Any, version: str) -> RegisteredModel:
        if (found := self._versions(client).ready(version)) is not None:
            return found
        known = {model.version: model for model, _ in self._versions(client).listed()}
        if not known:
            raise self._not_registered()
        if version not in known:
            raise CurationError(f"{self.name} has no version {version!r}; it has {', '.join(known)}")
        return known[version]

    def _log(self, client: Any, source: ModelSource) -> RegisteredModel:
        from curation_assets.clip import packaging

        mlflow = self._connection.mlflow()
        tags = version_tags(packaging.tags(source))
        experiment = self._experiment(client)
        leftovers.sweep(self._connection, client, experiment)
        with leftovers.scratch(self._connection) as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about type hints; the signature is given
            packed = packaging.package(source, scratch)
            mlflow.set_experiment(experiment_id=experiment)
            with mlflow.start_run(run_name=f"{leftovers.RUN_NAME}{self.name}") as run:
                mlflow.set_tags(tags)
                info = mlflow.pyfunc.log_model(name="model", **packed)
            leftovers.sync_model(self._connection, client, info.model_id)
        return self._versions(client).create(info, run.info.run_id, tags, packaging.description(source))

    @property
    def _experiment_name(self) -> str:
        return self._connection.experiment_name(self.name)

    def _experiment(self, client: Any) -> str:
        return self._connection.experiment(client, self.name)


def _note_choice(record: ChampionRecord, source: SeenSource | None) -> None:
    """Note that the champion was chosen by hand, and over which ``MODEL_SOURCE``."""
    seen = record.source
    if source is None:
        source = seen
    elif source.fingerprint is None and seen is not None and seen.name == source.name:
        source = replace(source, fingerprint=seen.fingerprint)  # what it was when it could be had
    if source is not None:
        record.see(replace(source, by_hand=True))
