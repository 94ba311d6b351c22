"""The one resource: the pipeline of one configuration; with ``ENGINE=spark``, dagster-pyspark's session within it."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from curation_assets.defs.speed_history import SpeedPictures
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings, load_settings


class CurationResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Tables, registry and jobs, as the settings say. The settings stand here to be seen in Dagster's UI.

    Attributes:
        settings: every setting, by its name without the prefix.
    """

    settings: dict[str, Any]

    @classmethod
    def of(cls, settings: Settings) -> CurationResource:
        """The resource for some settings, without the secrets: those that a step needs are in its environment."""
        secret = {"serve_token", "gallery_token", "gallery_tokens", "storage_options"}
        dumped = settings.model_dump(mode="json", exclude=secret)
        shown = {name: value for name, value in dumped.items() if value is not None}  # Dagster's maps hold no null
        if settings.engine != "spark":
            return CurationResource(settings=shown)
        from curation_assets.defs.spark_resource import spark_resource  # pyspark, only where it is wanted

        return spark_resource(settings, shown)

    _pipeline: Pipeline | None = PrivateAttr(None)
    _pictures: SpeedPictures = PrivateAttr(default_factory=SpeedPictures)

    def pipeline(self) -> Pipeline:
        """The library object that does the work: one for all steps in a process, so that each table and model is
        opened once.
        """
        if self._pipeline is None:
            self._pipeline = self._open()
        return self._pipeline

    @property
    def pictures(self) -> SpeedPictures:
        """The speeds of the run's assets over time."""
        return self._pictures

    def _open(self) -> Pipeline:
        return Pipeline(load_settings(**self.settings))
