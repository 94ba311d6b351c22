"""The page of all settings, made of their own descriptions: ``make docs`` writes it to ``docs/settings.md``."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from curation_assets.settings import Settings, project_dir
from curation_assets.stores.options import StorageOptions

# Each subject, and what the names of its settings begin with; the first that fits holds a setting.
_SUBJECTS = (
    ("Images and tables", ("images_", "lake_", "catalog_", "schema_", "directory_", "embeddings_", "folder_", "stor",
                           "max_", "bands", "decode_", "bad_", "leave_", "follow_")),
    ("Model", ("model_", "mlflow_", "artifacts_")),
    ("Where and how fast", ("engine", "device", "precision", "batch_", "threads", "spark_")),
    ("Search and zero-shot labels", ("index_", "cache_", "search_", "standing_", "labels")),
    (
        "Curation",
        (
            *("problem_", "quality_", "pairs_", "compared_", "groups_", "near_", "burst_", "keeper_", "decisions_"),
            *("samples_", "reviewed_", "annotations", "scores_", "predictions_", "label_issues_", "cluster"),
            *("datasets_", "exports_", "recipes"),
        ),
    ),
    ("Gallery", ("gallery_",)),
    ("Dagster", ("sensor_", "full_", "settle_")),
    ("Serving", ("serve_",)),
    ("Databricks endpoint", ("endpoint_",)),
)  # fmt: skip
_HEAD = """# Settings

Environment variables, or lines in a `.env` file in the project folder (the working directory of an installed
package). Relative paths start there too. A wrong value is one line that names the variable and what is allowed.

`MLFLOW_TRACKING_URI` and `MLFLOW_REGISTRY_URI` keep their meaning; the default is SQLite and local artifacts in
`mlflow/` beside the lake. Where the registry is a Databricks workspace's (`databricks`, `databricks-uc`, with a
profile or `DATABRICKS_HOST` and `DATABRICKS_TOKEN`), Dagster also has the asset `clip_endpoint`: materialized once, it
creates the serving endpoint, which then follows the champion. On a workspace the experiment is `/Shared/<model>`.
"""


def markdown() -> str:
    """The page: a table for each subject, with variable, default and meaning."""
    of_subject: dict[str, list[str]] = {subject: [] for subject, _ in _SUBJECTS}
    for name, field in Settings.model_fields.items():
        subject = next(title for title, starts in _SUBJECTS if name.startswith(starts))
        of_subject[subject].append(f"| `CURATION_{name.upper()}` | {_default(field)} | {_meaning(field)} |")
    parts = [_HEAD]
    for subject, rows in of_subject.items():
        parts.append(f"## {subject}\n\n| variable | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", (), StorageOptions()):
        return "none"
    if isinstance(value, tuple):
        value = ", ".join(value)
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown}`"


def _meaning(field: FieldInfo) -> str:
    allowed = [f"`{choice}`" for choice in _choices(field.annotation) if f"`{choice}`" not in (field.description or "")]
    return f"{field.description}{'; one of ' + ', '.join(allowed) if len(allowed) > 1 else ''}"


def _choices(annotation: Any) -> list[Any]:
    """Words that a setting may be."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType, Annotated) and annotation is not SecretStr:
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else project_dir() / "docs" / "settings.md"
    target.write_text(markdown(), encoding="utf-8")
