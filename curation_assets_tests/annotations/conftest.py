"""A lake of small photographs, scanned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.conftest import jpeg

Put = Callable[..., None]


@pytest.fixture
def put(images: Path, pipeline: Pipeline) -> Put:
    """Write photographs, by path and seed (or bytes), and scan; None removes one."""

    def write(files: dict[str, int | bytes | None]) -> None:
        for name, content in files.items():
            path = images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content if isinstance(content, bytes) else jpeg(content))
        tree = pipeline.source.list_folders()
        known = pipeline.tables.directory.latest().folders if pipeline.tables.directory.exists() else []
        pipeline.scan(sorted({*tree.folders, *known}), LogProgress())

    return write
