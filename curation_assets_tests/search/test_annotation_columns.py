"""Labels of annotations join an open index, also of fields that came since it was opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation_assets.annotations.columns import AnnotationSource
from curation_assets.annotations.fields import fault_of_field
from curation_assets.annotations.record import put, remove, rows_of
from curation_assets.annotations.said import DEFAULT_FIELD, Faults, Said, said_frame
from curation_assets.curate.columns import IssueSource
from curation_assets.decisions.record import append
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import ANNOTATIONS, DECISIONS, LABEL_ISSUES, PAIRS
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.search.attachments import Attachments
from curation_assets.search.index import SearchIndex
from curation_assets.search.ordering import Sort, ordered
from curation_assets_tests.search.conftest import Lake
from curation_assets_tests.search.test_attachments import matching


class Annotated:
    """The tables of annotations and decisions, and what joins an index of them."""

    def __init__(self, lake: Lake, root: Path) -> None:
        self.lake = lake
        self.annotations = LakeTable(root / "annotations", ANNOTATIONS)
        self.decisions = LakeTable(root / "decisions", DECISIONS)
        pairs = LakeTable(root / "pairs", PAIRS)
        self.attachments = Attachments([AnnotationSource(self.annotations, self.decisions, pairs, ["anna"])])

    def says(self, source: str, field: str, **labels: list[str]) -> None:
        frame = said_frame({"name": list(labels), "field": [field] * len(labels), "values": list(labels.values())})
        told = Said(frame, str, Faults("test"), is_stem=True)
        put(self.annotations, source, rows_of(told, self.lake.directory.latest(), "/", source))

    def paths(self, index: SearchIndex, where: str) -> list[str] | None:
        return matching(index, self.attachments, where=where)


@pytest.fixture
def said(lake: Lake, tmp_path: Path) -> Annotated:
    lake.put("f", {"a.jpg": "x", "b.jpg": "y", "c.jpg": "z"})
    return Annotated(lake, tmp_path)


def test_a_field_that_comes_later_is_a_column_at_once(lake: Lake, said: Annotated) -> None:
    index, attachments = lake.refresh().index, said.attachments
    assert [column.name for column in attachments.columns] == ["label_class", "split"]
    assert said.paths(index, "label_class IS NULL") == ["f/a.jpg", "f/b.jpg", "f/c.jpg"]
    assert attachments.shown(index).columns == [], "exports of a lake without annotations stay as they are"
    with pytest.raises(CurationError, match="there is no column label_grade"):
        said.paths(index, "label_grade = '3'")
    said.says("zoe", "grade", a=["3"], b=["5"])
    assert said.paths(index, "label_grade = '3'") == ["f/a.jpg"]
    assert attachments.shown(index).columns == ["label_class", "label_grade", "split"]
    rows = ordered(index, attachments, None, Sort.of("label_grade:desc", attachments))
    assert index.rows["relative_path"].gather(rows).to_list()[0] == "f/b.jpg"


def test_what_counts_follows_sources_and_decisions(lake: Lake, said: Annotated) -> None:
    index = lake.refresh().index
    said.says("zoe", "class", a=["rust"], b=["rust", "miner"], c=[])
    assert said.paths(index, "label_class = 'rust'") == ["f/a.jpg"]
    assert said.paths(index, "label_class LIKE '%miner%'") == ["f/b.jpg"]
    assert said.paths(index, "label_class = ''") == ["f/c.jpg"], "looked at, and nothing there"
    said.says("anna", "class", a=["phoma"])
    assert said.paths(index, "label_class = 'phoma'") == ["f/a.jpg"]
    content = index.rows["content_sha256"][1]
    word = {"decided_by": "me", "kind": "relabel", "content_sha256": content, "field": "class", "value": "phoma"}
    append(said.decisions, lambda _: [word])
    assert said.paths(index, "label_class = 'phoma'") == ["f/a.jpg", "f/b.jpg"]
    remove(said.annotations, "anna")
    assert said.paths(index, "label_class = 'phoma'") == ["f/b.jpg"]


def test_a_field_called_as_another_column_is_leaves_that_one_as_it_is(lake: Lake, said: Annotated) -> None:
    said.says("zoe", "issues", a=["many"])  # `annotate` refuses it; an earlier version did not
    said.says("zoe", "class", a=["rust"])
    (ours,) = (join.source for join in said.attachments._joins)
    attachments = Attachments([IssueSource(LakeTable(said.annotations.path / "none", LABEL_ISSUES)), ours])
    names = [column.name for column in attachments.columns]
    assert names == ["label_issues", "label_class", "split"]
    index = lake.refresh().index
    assert attachments.of(index, names).columns == names
    assert attachments.shown(index).columns == names[1:]
    assert attachments.texts == names[1:]
    assert not attachments.holds(index, "label_issues")
    assert matching(index, attachments, where="label_class = 'rust' AND label_issues IS NULL") == ["f/a.jpg"]


def test_no_field_can_be_called_as_a_column_that_joins_an_index(pipeline: Pipeline) -> None:
    names = set(pipeline.searcher.further_columns)
    starts = ("label_", "predicted_", "confidence_")
    fields = {name.removeprefix(of) for name in names for of in starts if name.startswith(of)} - {DEFAULT_FIELD}
    assert fields == {"issues"}
    told = {field: fault_of_field(field) for field in fields}
    assert all(f"_{field} is another column" in str(fault) for field, fault in told.items())
