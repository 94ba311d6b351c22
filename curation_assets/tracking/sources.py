"""A version of a dataset as MLflow knows datasets: a name, a digest, a source to find it by, and a profile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource

from curation_assets.errors import CurationError, reason_of

_DIGEST = 32  # MLflow takes at most 36 characters


class VersionSource(DatasetSource):  # type: ignore[misc]
    """Where a version lies: in a table of a lake, and perhaps in an export.

    Args:
        facts: ``dataset``, ``version``, ``content_id``, and, if known, ``table`` and ``export``, paths.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)

    @property
    def version(self) -> str:
        """``leaves@2``."""
        return f"{self.facts['dataset']}@{self.facts['version']}"

    def load(self) -> Any:
        """The folder of the export, if it is still there; else the rows of the version, a polars ``DataFrame``.

        Raises:
            CurationError: neither is there any more.
        """
        export, table = self.facts.get("export"), self.facts.get("table")
        if export and Path(export).exists():
            return export
        if table is None:
            raise CurationError(f"{self.version} is not at {export} any more, and its lake was not noted")
        from curation_assets.datasets.versions import read_version
        from curation_assets.lake.schemas import DATASETS
        from curation_assets.lake.table import LakeTable

        return read_version(LakeTable(Path(table), DATASETS), str(self.facts["dataset"]), int(self.facts["version"]))

    def to_dict(self) -> dict[str, Any]:
        """The facts."""
        return dict(self.facts)

    @classmethod
    def from_dict(cls, source_dict: dict[str, Any]) -> VersionSource:
        """Of the facts."""
        return cls(source_dict)

    @staticmethod
    def _get_source_type() -> str:
        return "curation_assets"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ARG004
        return False  # MLflow asks whether a path or an address is one

    @classmethod
    def _resolve(cls, raw_source: Any) -> VersionSource:
        raise NotImplementedError(raw_source)


class VersionDataset(Dataset):  # type: ignore[misc]
    """What ``mlflow.log_input`` takes.

    Args:
        profile: counts that MLflow shows.
    """

    def __init__(self, source: VersionSource, profile: Mapping[str, Any]) -> None:
        self._profile = dict(profile)
        super().__init__(source=source, name=source.version, digest=str(source.facts["content_id"])[:_DIGEST])

    def _compute_digest(self) -> str:
        return str(self.source.to_dict()["content_id"])[:_DIGEST]

    def to_dict(self) -> dict[str, str]:
        """As MLflow's server keeps it."""
        told: dict[str, str] = super().to_dict()
        return told | {"profile": json.dumps(self._profile)}

    @property
    def profile(self) -> dict[str, Any]:
        """Images, and images by side."""
        return self._profile

    @property
    def schema(self) -> None:
        """None: a dataset of files."""
        return


def dataset_of(export: str | Path) -> VersionDataset:
    """The version that a folder of ``curation dataset export`` holds, for ``mlflow.log_input``.

    Raises:
        CurationError: the folder is no such export.
    """
    folder = Path(export).absolute()
    try:
        about = json.loads((folder / "export.json").read_bytes())
        source = {name: about[name] for name in ("dataset", "version", "content_id")}
        profile = {"images": about["images"], "format": about["format"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "its export.json is another one's"
        raise CurationError(f"{folder} is no export of a version: {reason}") from None
    return VersionDataset(VersionSource(source | {"export": str(folder)}), profile)


def versions_of(run: Any) -> list[str]:
    """The versions that a run was given, as ``leaves@2``, in the order in which they were logged.

    Args:
        run: ``mlflow.get_run(run_id)``.
    """
    inputs = [each.dataset for each in run.inputs.dataset_inputs]
    ours = [json.loads(each.source) for each in inputs if each.source_type == VersionSource._get_source_type()]
    return list(dict.fromkeys(VersionSource(facts).version for facts in ours))
