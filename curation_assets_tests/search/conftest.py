"""Tables with rows that tests choose, without photographs or a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS, TableSpec
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress
from curation_assets.search.refresh import IndexRefresh, refresh

DIMENSION = 16
MODEL = RegisteredModel(
    name="c.s.model",
    version="1",
    run_id="run",
    source="test",
    fingerprint="f" * 32,
    dimension=DIMENSION,
    image_size=224,
    parameters=1,
    demonstration=False,
)


def vector_of(content: str) -> NDArray[np.float32]:
    """The unit vector that the pretended model makes of a content."""
    rng = np.random.default_rng(int(hashlib.sha256(content.encode()).hexdigest()[:12], 16))
    vector = rng.standard_normal(DIMENSION).astype(np.float32)
    return vector / np.linalg.norm(vector)


class Lake:
    """Two tables, written as the pipeline does: a folder's rows are replaced by a commit."""

    def __init__(self, root: Path) -> None:
        self.directory = LakeTable(root / "images", DIRECTORY)
        self.embeddings = LakeTable(root / "embeddings", EMBEDDINGS)
        self.directory.create()
        self.embeddings.create()
        self.index = root / "index"

    def scan(self, folder: str, images: dict[str, str], **facts: Any) -> None:
        """Make these the folder's images: name → content; ``facts`` are further columns of all of them."""
        rows = [self._row(folder, name, content) | facts for name, content in images.items()]
        self._replace(self.directory, DIRECTORY, folder, rows)

    def embed(
        self,
        folder: str,
        images: dict[str, str],
        model: RegisteredModel = MODEL,
        vectors: Any = None,
        **facts: Any,
    ) -> None:
        """Make these the folder's vectors of a model, beside those of others."""
        made = {
            "model_name": model.name,
            "model_version": model.version,
            "model_fingerprint": model.fingerprint,
            "embedded_at": datetime.now(UTC),
        }
        rows = [
            self._row(folder, name, content)
            | made
            | {"embeddings": (vector_of(content) if vectors is None else vectors[name]).tolist()}
            | facts
            for name, content in images.items()
        ]
        kept = self.embeddings.snapshot().read(
            EMBEDDINGS.file_schema.names, folder, where=pl.col("model_version") != model.version
        )
        self._replace(self.embeddings, EMBEDDINGS, folder, [*kept.drop("_file").to_dicts(), *rows])

    def put(self, folder: str, images: dict[str, str], **facts: Any) -> None:
        """Scan and embed."""
        self.scan(folder, images, **facts)
        self.embed(folder, images)

    def refresh(self, exact_vectors: int = 10**6, model: RegisteredModel = MODEL) -> IndexRefresh:
        """Bring the index in line."""
        return refresh(
            self.index,
            self.directory.snapshot(),
            self.embeddings.snapshot(),
            model,
            LogProgress(),
            exact_vectors=exact_vectors,
        )

    @staticmethod
    def _row(folder: str, name: str, content: str) -> dict[str, Any]:
        path = f"{folder}/{name}"
        return {
            "file_path": f"/root/{path}",
            "file_name": name,
            "relative_path": path,
            "size_bytes": len(content),
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
            "status": "ok",
        }

    @staticmethod
    def _replace(table: LakeTable, spec: TableSpec, folder: str, rows: Sequence[dict[str, Any]]) -> None:
        schema = pl.Schema(pl.DataFrame(spec.file_schema.empty_table()).schema)
        frame = pl.DataFrame(list(rows), schema=schema)
        with table.writer(folder) as writer:
            before = table.snapshot()
            with writer.file() as stage:
                for batch in frame.to_arrow().cast(spec.file_schema).to_batches():
                    stage.write(batch)
            table.replace(folder, before, add=stage.files, remove=before.files(folder))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(tmp_path)


Fill = Callable[..., list[Path]]
