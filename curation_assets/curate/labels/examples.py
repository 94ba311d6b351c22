"""What a classifier of a field is fitted to: images with one label that counts, and which of them belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from curation_assets.annotations.columns import counting_labels
from curation_assets.clip.versions import RegisteredModel
from curation_assets.curate.labels.classifier import FOLDS, LEAST, MOST, STRENGTH, classes_with_enough, sampled
from curation_assets.decisions.record import read_decisions
from curation_assets.lake.table import LakeTable

METHOD_VERSION = 1  # raised when a classifier, a confidence or a quality is computed otherwise
_IMAGE = ["relative_path", "content_sha256"]


@dataclass(frozen=True)
class Examples:
    """What a field's classifier is fitted to.

    Attributes:
        field: of the annotations.
        labelled: images with one label of a usable class: ``relative_path``, ``content_sha256``, ``label``.
        entries: each content with each label it has, sorted: ``content_sha256``, ``label``, ``group`` (one photograph
            or scene, from 0) and ``fitted``: not of a content with two labels, nor beyond what is fitted on.
        few: classes with too few examples, or of one scene only → their contents.
        several, nothing, no_vector: images with several labels, with none (the annotation says so), or not embedded.
        conflicting: images whose content has two labels; they are judged, not fitted on.
    """

    field: str
    labelled: pl.DataFrame
    entries: pl.DataFrame
    few: dict[str, int]
    several: int
    nothing: int
    no_vector: int
    conflicting: int

    @cached_property
    def classes(self) -> list[str]:
        """Those that are usable, sorted."""
        return self.entries["label"].unique().sort().to_list()

    @property
    def why_not(self) -> str | None:
        """Why no classifier can be fitted; None where one can."""
        if len(self.classes) >= 2:
            return None
        some = ", ".join(f"{name} ({number})" for name, number in list(self.few.items())[:LEAST])
        more = f"; too few: {some}" if some else ""
        left = f"{self.several:,} image{'s are' if self.several > 1 else ' is'} left out for having several labels"
        more += f"; {left}" if self.several else ""
        there = "only one class has" if self.classes else "no class has"
        return f"{self.field}: {there} {LEAST} labelled images of more than one scene, and two are needed{more}"

    def made_with(self, model: RegisteredModel) -> str:
        """The version of the method, and 12 hex digits of settings, model, labels and groups."""
        said = [FOLDS, LEAST, MOST, STRENGTH, model.fingerprint, self.field, self._entries_digest]
        return f"{METHOD_VERSION}-{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]}"

    @cached_property
    def _entries_digest(self) -> str:
        first = pl.col("content_sha256").first().over("group")  # what the groups are, whatever their numbers
        rows = self.entries.with_columns(group=first).select("content_sha256", "label", "group", "fitted")
        digest = hashlib.sha256()
        for part in rows.iter_slices(100_000):
            for line in part.select(pl.struct(pl.all()).struct.json_encode()).to_series():
                digest.update(line.encode() + b"\n")
        return digest.hexdigest()


def read_examples(
    annotations: LakeTable,
    decisions: LakeTable,
    pairs: LakeTable,
    order: Sequence[str],
    images: pl.DataFrame,
    embedded: pl.DataFrame,
) -> list[Examples]:
    """Of every field that something counts of, sorted.

    Args:
        order: of sources, the first counts most.
        images: ``relative_path`` and ``content_sha256`` of the directory table.
        embedded: the same of images with a vector.

    Raises:
        CurationError: a table can't be read.
    """
    counting = counting_labels(annotations, decisions, pairs, order, images).filter(pl.col("values").is_not_null())
    if not len(counting):
        return []
    links = linked_contents(pairs, decisions)
    parts = counting.sort("field").group_by("field", maintain_order=True)
    return [examples_of(str(name), rows, embedded, links) for (name,), rows in parts]


def linked_contents(pairs: LakeTable, decisions: LakeTable) -> pl.DataFrame:
    """``first`` and ``second`` of contents that are one photograph or scene, by pixels and by what people said."""
    columns = ["first", "second"]
    said = read_decisions(decisions)
    found = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    if pairs.exists():
        found = pairs.latest().read(columns).select(columns)
    return pl.concat([found.join(said.different_pairs(), on=columns, how="anti"), said.same_pairs()]).unique()


def examples_of(name: str, said: pl.DataFrame, embedded: pl.DataFrame, links: pl.DataFrame) -> Examples:
    """What a field's classifier is fitted to.

    Args:
        said: what counts of the field: ``relative_path``, ``content_sha256`` and ``values``.
        embedded: images with a vector.
        links: as of :func:`linked_contents`.
    """
    said = said.select(*_IMAGE, pl.col("values").list.drop_nulls().list.unique().list.sort())
    there = said.join(embedded, on=_IMAGE, how="semi")
    number = pl.col("values").list.len()
    single = there.filter(number == 1).select(*_IMAGE, label=pl.col("values").list.first())
    single = single.sort("relative_path", "content_sha256")
    entries = single.select("content_sha256", "label").unique().sort("content_sha256", "label")
    alone = pl.len().over("content_sha256") == 1
    entries = entries.with_columns(group=_groups(entries["content_sha256"], links), fitted=alone)
    fitted = entries.filter("fitted")
    names = fitted["label"].unique().sort()
    classes = fitted["label"].cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    enough = classes_with_enough(classes, fitted["group"].to_numpy().astype(np.int64), len(names))
    usable, counts = names.filter(pl.Series(enough, dtype=pl.Boolean)), np.bincount(classes, minlength=len(names))
    few = {str(one): int(count) for one, count, is_one in zip(names, counts, enough, strict=True) if not is_one}
    of_usable = pl.col("label").is_in(usable.implode())
    entries = entries.filter(of_usable)
    return Examples(
        field=name,
        labelled=single.filter(of_usable),
        entries=entries.with_columns(group=pl.col("group").rank("dense").cast(pl.Int64) - 1, fitted=_fitted(entries)),
        few=dict(sorted(few.items(), key=lambda one: (-one[1], one[0]))),
        several=len(there.filter(number > 1)),
        nothing=len(there.filter(number == 0)),
        no_vector=len(said) - len(there),
        conflicting=len(single.filter(pl.col("label").n_unique().over("content_sha256") > 1)),
    )


def _fitted(entries: pl.DataFrame) -> pl.Series:
    """Those that are fitted on: no more than the classifier takes of each class."""
    found = entries["fitted"].to_numpy().copy()
    rows = np.flatnonzero(found)
    if len(rows) > MOST:
        found[rows] = sampled(np.unique(entries["label"].to_numpy(), return_inverse=True)[1][rows])
    return pl.Series("fitted", found, pl.Boolean)


def _groups(contents: pl.Series, links: pl.DataFrame) -> pl.Series:
    """A number for each content, the same where a chain of links goes from one to the other."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    every = pl.concat([contents, links["first"], links["second"]]).unique().sort()
    place = pl.DataFrame({"content": every}).with_row_index("at")

    def places(of: pl.Series) -> np.ndarray:
        return of.to_frame("content").join(place, on="content", how="left", maintain_order="left")["at"].to_numpy()

    ends = places(links["first"]), places(links["second"])
    matrix = coo_matrix((np.ones(len(links), bool), ends), shape=(len(every), len(every)))
    return pl.Series(connected_components(matrix, directed=False)[1][places(contents)], dtype=pl.Int64)
