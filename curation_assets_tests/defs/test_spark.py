"""The assets with ``ENGINE=spark``: the same definitions, and dagster-pyspark's resource."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from curation_assets.definitions import build_defs
from curation_assets.pipeline import Pipeline

CODE = """
import sys
from curation_assets.definitions import build_defs
from curation_assets.settings import load_settings
build_defs(load_settings(engine=sys.argv[1]))
print(sorted({name.split(".")[0] for name in sys.modules} & {"pyspark", "torch", "mlflow"}))
"""


@pytest.mark.slow
def test_a_run_on_spark_materializes_both_tables(ready: Pipeline, spark: Any, fill: Any, images: Path) -> None:
    """``spark`` is running in this process already, and the resource takes that session."""
    settings = ready.settings.model_copy(update={"engine": "spark", "spark_scan_files": 1})
    fill("maize", 6)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("image_folders", ["maize"])
        job = build_defs(settings).resolve_job_def("ingest_image_folder")
        result = job.execute_in_process(instance=instance, partition_key="maize")
        facts = {
            event.asset_key.path[-1]: event.step_materialization_data.materialization.metadata
            for event in result.all_events
            if event.is_step_materialization and event.asset_key is not None
        }
    assert facts["crop_images_directory"]["images"].value == 6
    assert facts["crop_images_directory_embeddings"]["encoded"].value == 6
    assert facts["crop_images_directory_embeddings"]["images per second"].value > 0
    assert ready.tables.status(ready.selection.current()).row(0) == ("maize", 6, 6, 0, 6, 0)


@pytest.mark.parametrize("engine", ["local", "spark"])
def test_loading_the_definitions_imports_pyspark_only_for_spark(engine: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, engine], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ("['pyspark']" if engine == "spark" else "[]")
