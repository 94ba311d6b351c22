from __future__ import annotations

import subprocess
import sys

import dagster as dg

from curation_assets.defs.tags import DEVICE_TAG
from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS

GRAPH = {
    "image_folders": ("images", set(), True),
    "crop_images_directory": ("images", {"image_folders"}, True),
    "clip_model": ("model", set(), False),
    "crop_images_directory_embeddings": ("embeddings", {"crop_images_directory", "clip_model"}, True),
    "image_quality": ("curation", {"crop_images_directory"}, True),
    "image_annotations": ("curation", {"crop_images_directory"}, False),
    "image_search_index": ("search", {"crop_images_directory_embeddings"}, False),
    "image_map": ("search", {"image_search_index"}, False),
    "image_pairs": ("curation", {"crop_images_directory", "image_search_index"}, False),
    "image_groups": ("curation", {"crop_images_directory", "image_pairs", "image_quality", "image_annotations"}, False),
    "image_scores": ("curation", {"image_search_index"}, False),
    "image_predictions": ("curation", {"image_annotations", "image_pairs", "image_search_index"}, False),
    "label_issues": ("curation", {"image_annotations", "image_pairs", "image_groups", "image_predictions"}, False),
    "lake_maintenance": ("upkeep", set(), False),
}
CHECKS = {
    ("crop_images_directory", "directory_key_is_unique", True),
    ("crop_images_directory", "few_bad_files", False),
    ("crop_images_directory", "few_bad_files_anywhere", False),
    ("crop_images_directory", "every_file_is_usable", False),
    ("crop_images_directory_embeddings", "embeddings_key_is_unique", True),
    ("crop_images_directory_embeddings", "every_image_embedded_once", True),
    ("crop_images_directory_embeddings", "vectors_are_unit", True),
    ("image_quality", "scores_are_finite", True),
    ("image_quality", "problems_as_before", False),
    ("image_quality", "reviewed_precision", False),
    ("image_annotations", "annotations_have_images", False),
    ("image_annotations", "labels_as_before", False),
    ("image_groups", "members_agree", False),
    ("image_groups", "keepers_live", True),
    ("image_groups", "spare_as_before", False),
    ("image_scores", "scores_are_finite", True),
    ("image_scores", "outliers_as_before", False),
    ("image_scores", "reviewed_precision", False),
    ("image_predictions", "predictions_are_whole", True),
    ("image_predictions", "accuracy_as_before", False),
    ("label_issues", "label_issues_as_before", False),
    ("label_issues", "no_leaks", False),
    ("label_issues", "reviewed_precision", False),
}


def test_the_graph_is_what_users_and_other_projects_know(defs: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    seen = {
        name: (
            spec.group_name,
            {dep.asset_key.to_user_string() for dep in spec.deps},
            spec.partitions_def is not None,
        )
        for name, spec in specs.items()
    }
    assert seen == GRAPH
    assert all(spec.description and spec.owners and spec.kinds for spec in specs.values())


def test_checks_block_where_downstream_would_be_wrong(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    seen = {
        (key.asset_key.to_user_string(), key.name, graph.get(key).blocking)  # type: ignore[union-attr]
        for key in graph.asset_check_keys
    }
    assert seen == CHECKS


def test_column_schemas_name_every_column_with_its_meaning(defs: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    for name, table in (("crop_images_directory", DIRECTORY), ("crop_images_directory_embeddings", EMBEDDINGS)):
        columns = specs[name].metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == [column.name for column in table.columns]
        assert all(column.description for column in columns)
    lineage = specs["crop_images_directory_embeddings"].metadata["dagster/column_lineage"].deps_by_column
    assert lineage["embeddings"][0].column_name == "image_base64"
    assert lineage["content_sha256"][0].asset_key == dg.AssetKey("crop_images_directory")


def test_embedding_asks_for_a_gpu_within_a_run_across_runs_and_on_kubernetes(defs: dg.Definitions) -> None:
    op = defs.resolve_assets_def("crop_images_directory_embeddings").op
    assert op.tags[DEVICE_TAG] == "gpu"
    assert "nvidia.com/gpu" in str(op.tags["dagster-k8s/config"])
    assert op.pool == "gpu"
    directory = defs.resolve_assets_def("crop_images_directory").op
    assert directory.pool is None
    assert DEVICE_TAG not in directory.tags
    executor = defs.executor
    assert isinstance(executor, dg.ExecutorDefinition)
    assert executor.name == "multiprocess"
    config = executor.apply_config_mapping({"config": {}}).value["config"]
    assert config["tag_concurrency_limits"] == [{"key": DEVICE_TAG, "value": "gpu", "limit": 1}]


def test_sensors_start_with_the_project(defs: dg.Definitions) -> None:
    repository = defs.get_repository_def()
    status = {sensor.name: sensor.default_status for sensor in repository.sensor_defs}
    assert status == {
        "dead_runs_sensor": dg.DefaultSensorStatus.RUNNING,
        "new_images_sensor": dg.DefaultSensorStatus.RUNNING,
        "embeddings_automation_sensor": dg.DefaultSensorStatus.RUNNING,
        "image_quality_sensor": dg.DefaultSensorStatus.RUNNING,
        "image_annotations_sensor": dg.DefaultSensorStatus.RUNNING,
        "search_index_sensor": dg.DefaultSensorStatus.RUNNING,
        "image_duplicates_sensor": dg.DefaultSensorStatus.RUNNING,
        "image_scores_sensor": dg.DefaultSensorStatus.RUNNING,
        "image_predictions_sensor": dg.DefaultSensorStatus.RUNNING,
        "label_issues_sensor": dg.DefaultSensorStatus.RUNNING,
    }


def test_loading_definitions_and_help_imports_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; import curation_assets.definitions, curation_assets.cli;"
        "print([m for m in ('torch', 'transformers', 'mlflow', 'pandas', 'scipy', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_only_the_dagster_layer_imports_dagster() -> None:
    code = "import sys; import curation_assets.cli, curation_assets.pipeline; print('dagster' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
