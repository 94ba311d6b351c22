"""The resource where ``ENGINE=spark``: imported only then, as pyspark takes a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster_pyspark import LazyPySparkResource

from curation_assets.defs.resources import CurationResource
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings, load_settings
from curation_assets.spark import session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkCurationResource(CurationResource):
    """The pipeline together with a Spark session.

    Attributes:
        pyspark: begins the session, and a JVM, when a step first needs it. Nested, so that its configuration, which may
            hold tokens for executors, isn't shown.
    """

    pyspark: LazyPySparkResource

    def _open(self) -> Pipeline:
        settings = load_settings(**self.settings)

        def begin() -> SparkSession:
            session.prepare(settings)
            with session.starting():
                running: SparkSession = self.pyspark.spark_session
                return running

        return Pipeline(settings, spark=begin)


def spark_resource(settings: Settings, shown: dict[str, Any]) -> SparkCurationResource:
    """The resource for some settings.

    Args:
        shown: the settings as the resource holds them.
    """
    pyspark = LazyPySparkResource(spark_config=session.spark_config(settings))
    return SparkCurationResource(settings=shown, pyspark=pyspark)
