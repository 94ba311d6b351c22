"""Which model is used: ``MODEL_SOURCE``, or the champion that was chosen by hand over it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from curation_assets.clip.champion import SeenSource
from curation_assets.clip.registry import NotRegisteredError, Registry
from curation_assets.clip.source import resolve
from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.settings import source_key


@dataclass(frozen=True)
class ChosenModel:
    """What embeddings are to be made with.

    Attributes:
        model: the champion.
        is_new: a version was registered.
        overruled: the version of ``MODEL_SOURCE``, where another was promoted and is the champion.
        unavailable: why the model of ``MODEL_SOURCE`` can't be had, where the champion was chosen by hand.
    """

    model: RegisteredModel
    is_new: bool
    overruled: RegisteredModel | None
    unavailable: str | None = None


class ModelSelection:
    """The choice between the versions of a registry.

    Args:
        registry: of the versions.
        model_source: ``MODEL_SOURCE``.
    """

    def __init__(self, registry: Registry, model_source: str) -> None:
        self._registry = registry
        self._model_source = model_source

    def choose(self) -> ChosenModel:
        """Register the model of ``MODEL_SOURCE`` if it is new, and give the champion.

        It becomes the champion unless another was promoted. Where it can't be had, a champion that was chosen by hand
        over the same setting is used all the same.

        Raises:
            CurationError: the model can't be had, and no such champion is there.
        """
        try:
            source = resolve(self._model_source)
        except CurationError as error:
            kept = None
            with suppress(NotRegisteredError):
                kept = self._registry.chosen_by_hand(self._model_source)
            if kept is None:
                raise
            return ChosenModel(kept, False, self._registry.overruled(), unavailable=str(error))
        model, is_new = self._registry.register(source)
        return ChosenModel(model, is_new, self._registry.overruled())

    def current(self) -> RegisteredModel | None:
        """The champion; None where no version is registered.

        Raises:
            CurationError: the registry can't be reached.
        """
        try:
            return self._registry.champion()
        except NotRegisteredError:
            return None

    def promote(self, version: str) -> RegisteredModel:
        """Make a version the champion, until ``MODEL_SOURCE`` is another model than it is now.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: there is no such version, or the registry can't be reached or written.
        """
        return self._registry.promote(version, self._source_now())

    def rollback(self) -> RegisteredModel:
        """Make the champion before this one the champion again, until ``MODEL_SOURCE`` is another model than now.

        Raises:
            NotRegisteredError: none is registered yet.
            CurationError: there is no earlier one, or the registry can't be reached or written.
        """
        return self._registry.rollback(self._source_now())

    def _source_now(self) -> SeenSource:
        """``MODEL_SOURCE`` as far as it can be told without the network; reads every byte of a model that is here."""
        name, fingerprint = self._model_source, None
        with suppress(CurationError):
            fingerprint = resolve(name, download=False).fingerprint
        return SeenSource(source_key(name), fingerprint, by_hand=True)
