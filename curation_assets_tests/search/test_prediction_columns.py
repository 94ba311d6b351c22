"""Predictions join an open index, those of its own model's vectors, also of fields that came since it was opened."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from curation_assets.curate.duplicates.rows import replace_rows
from curation_assets.curate.labels.columns import PredictionSource
from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import PREDICTIONS
from curation_assets.lake.table import LakeTable
from curation_assets.search.attachments import Attachments
from curation_assets.search.index import SearchIndex
from curation_assets_tests.search.conftest import Lake
from curation_assets_tests.search.test_attachments import matching


def put(table: LakeTable, index: SearchIndex, field: str, said: dict[str, tuple[str, float]], version: str) -> None:
    content = dict(index.rows.select("relative_path", "content_sha256").iter_rows())
    names = PREDICTIONS.arrow_schema.remove_metadata()
    new = pl.DataFrame(
        [
            dict.fromkeys(names.names)
            | {"relative_path": path, "content_sha256": content[path], "field": field, "predicted": predicted}
            | {"confidence": confidence, "model_name": index.info.model_name, "model_version": version}
            | {"model_fingerprint": index.info.model_fingerprint, "out_of_fold": False, "made_with": "1-x"}
            for path, (predicted, confidence) in said.items()
        ],
        schema=pl.Schema(names),
    )

    def work(change: Rewrite) -> None:
        replace_rows(change, list(PREDICTIONS.key), new.select(PREDICTIONS.key), new)

    rewrite(table, hive.WHOLE, work, info={})


def test_predictions_of_the_searched_model_are_conditions(lake: Lake, tmp_path: Path) -> None:
    lake.put("f", {"a.jpg": "x", "b.jpg": "y", "c.jpg": "z"})
    index = lake.refresh().index
    table = LakeTable(tmp_path / "predictions", PREDICTIONS)
    attachments = Attachments([PredictionSource(table)])
    assert [column.name for column in attachments.columns] == ["predicted_class", "confidence_class"]
    assert matching(index, attachments, where="predicted_class IS NULL") == ["f/a.jpg", "f/b.jpg", "f/c.jpg"]
    assert attachments.shown(index).columns == [], "exports of a lake without predictions stay as they are"
    table.create()
    assert attachments.shown(index).columns == []
    version = index.info.model_version
    put(table, index, "class", {"f/a.jpg": ("rust", 0.5), "f/b.jpg": ("rust", 0.9)}, version)
    put(table, index, "class", {"f/c.jpg": ("rust", 0.5)}, f"{version}0")
    where = "predicted_class = 'rust' AND confidence_class < 0.6"
    assert matching(index, attachments, where=where) == ["f/a.jpg"]
    with pytest.raises(CurationError, match="there is no column predicted_pest"):
        matching(index, attachments, where="predicted_pest = 'mite'")
    put(table, index, "pest", {"f/b.jpg": ("mite", 0.7)}, version)
    assert matching(index, attachments, where="predicted_pest = 'mite'") == ["f/b.jpg"]
    shown = attachments.shown(index)
    assert shown.columns == ["predicted_class", "confidence_class", "predicted_pest", "confidence_pest"]
    assert shown["predicted_pest"].to_list() == [None, "mite", None]
