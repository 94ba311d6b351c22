"""Which version is the champion, and which were before it.

The registry's alias ``champion`` says which version is in use. The experiment that holds the registration runs says, in
two tags, what an alias can't: which versions were champion before, for a rollback; and what ``MODEL_SOURCE`` was when
it was last looked at, so that a version promoted by hand stays until ``MODEL_SOURCE`` really changes.

A registry without aliases (``uc:``, the open-source Unity Catalog) has the last of those versions as its champion.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

CHAMPION = "champion"
HISTORY_TAG = "curation.champions"
SOURCE_TAG = "curation.source"
_REMEMBERED = 20


@dataclass(frozen=True)
class SeenSource:
    """What ``MODEL_SOURCE`` was at the last registration, promotion or rollback.

    Attributes:
        name: the setting, as ``source_key`` writes it.
        fingerprint: of the model it named; None where that couldn't be had.
        by_hand: the champion was chosen by hand since, and stays while the setting names that model.
    """

    name: str
    fingerprint: str | None
    by_hand: bool

    def is_model(self, name: str, fingerprint: str) -> bool:
        """Whether a setting that names a model of this fingerprint now is the one that was seen."""
        return self.fingerprint == fingerprint if self.fingerprint else self.name == name


class ChampionRecord:
    """Alias and tags of one registered model.

    Args:
        client: an MLflow client.
        name: catalog.schema.model.
        experiment: that holds the registration runs, as MLflow describes it; None if there is none yet.
    """

    def __init__(self, client: Any, name: str, experiment: Any | None) -> None:
        self._client = client
        self._name = name
        self._experiment_id = None if experiment is None else str(experiment.experiment_id)
        tags = {} if experiment is None else experiment.tags
        self._champions: list[str] = json.loads(tags.get(HISTORY_TAG, "[]"))
        self.source = SeenSource(**json.loads(tags[SOURCE_TAG])) if SOURCE_TAG in tags else None

    def current(self) -> Any | None:
        """The champion as MLflow describes a version, or None."""
        from mlflow.exceptions import MlflowException

        try:
            try:
                return self._client.get_model_version_by_alias(self._name, CHAMPION)
            except NotImplementedError:
                last = self._champions[-1] if self._champions else None
                return None if last is None else self._client.get_model_version(self._name, last)
        except MlflowException as error:
            if is_not_found(error):
                return None
            raise

    def history(self) -> list[str]:
        """Versions that were champion, newest last; the last one is the champion now."""
        current = self.current()
        return _with_last(self._champions, None if current is None else str(current.version))

    def crown(self, version: str) -> None:
        """Make a version the champion."""
        history = _with_last(self.history(), version)
        self._set_alias(version)  # first: if this is all that happens, the history ends with the alias's version
        self._remember(history)

    def go_back(self, history: Sequence[str]) -> None:
        """Make the last of the versions that were champion before the champion, and forget those after it."""
        self._remember(history)  # first: if this is all that happens, the next rollback goes the same way
        self._set_alias(history[-1])

    def see(self, source: SeenSource) -> None:
        """Note what ``MODEL_SOURCE`` is."""
        if source == self.source:
            return
        self._client.set_experiment_tag(self._experiment_id, SOURCE_TAG, json.dumps(asdict(source)))
        self.source = source

    def _set_alias(self, version: str) -> None:
        with suppress(NotImplementedError):  # then the tag is what says it
            self._client.set_registered_model_alias(self._name, CHAMPION, version)

    def _remember(self, history: Sequence[str]) -> None:
        champions = list(history[-_REMEMBERED:])
        self._client.set_experiment_tag(self._experiment_id, HISTORY_TAG, json.dumps(champions))
        self._champions = champions


def is_not_found(error: Any) -> bool:
    """Whether an ``MlflowException`` says that there is no such model, version or alias."""
    # SQLite answers a missing alias with INVALID_PARAMETER_VALUE; the others with a 404 of one code or another.
    known = error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    return known or error.get_http_status_code() == 404


def _with_last(versions: Sequence[str], last: str | None) -> list[str]:
    return list(versions) if last is None or list(versions[-1:]) == [last] else [*versions, last]
