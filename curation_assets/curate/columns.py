"""What curation knows of an image, as columns that join an index: for conditions, orders, pages and exports."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import polars as pl
import pyarrow as pa

from curation_assets.curate.findings import Findings
from curation_assets.curate.measuring import MEASURED
from curation_assets.curate.overview import as_decided, measured_rows, with_decisions
from curation_assets.curate.problems import KINDS, Thresholds, judged, problem_names
from curation_assets.curate.scores.given_names import as_named, read_names
from curation_assets.decisions.record import read_decisions
from curation_assets.embed.vectors import MODEL_COLUMNS
from curation_assets.held import Held
from curation_assets.lake.schemas import SCORES, Column
from curation_assets.lake.table import LakeTable
from curation_assets.search.attachments import TableSource, of_searched_model
from curation_assets.search.filters import PROBLEMS
from curation_assets.search.index import SearchIndex
from curation_assets.search.ordering import NEAR_COPIES, NEAR_GROUP, NEAR_KEEPER

SCORE_COLUMNS = ("outlier_score", "uniqueness", "cluster", "cluster_name", "cluster_distance")
QUALITY_COLUMNS = (*MEASURED, "aspect_ratio")


def quality_source(quality: LakeTable) -> TableSource:
    """Scores of the quality table."""
    return TableSource(quality, {name: name for name in QUALITY_COLUMNS})


class ScoreSource:
    """Outlier scores and clusters of the index's own vectors; clusters as people call them."""

    is_shown = True
    columns = tuple(column for column in SCORES.columns if column.name in SCORE_COLUMNS)

    def __init__(self, scores: LakeTable, names: LakeTable) -> None:
        self._scores = scores
        self._names = names

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest ones of the tables of scores and of names."""
        newest = self._scores.newest_version()
        return None if newest < 0 else (newest, self._names.newest_version())

    def read(self, index: SearchIndex) -> pl.DataFrame:
        """Images that are scored."""
        key = ["relative_path", "content_sha256"]
        columns = [*key, *MODEL_COLUMNS, *SCORE_COLUMNS]
        rows = self._scores.latest().read(columns, where=of_searched_model(index.info))
        return as_named(rows, read_names(self._names)).select(*key, *SCORE_COLUMNS)


class ProblemSource:
    """The verdicts: ``problems``, as ``blurry, dark``; null where there is none, or it is kept by a person's word."""

    is_shown = True
    columns = (Column(PROBLEMS, pa.string(), f"of {', '.join(KINDS)}"),)

    def __init__(
        self, quality: LakeTable, limits: Thresholds, decisions: LakeTable, findings: Sequence[Findings]
    ) -> None:
        self._quality = quality
        self._decisions = decisions
        self._findings = findings
        self._limits = limits
        self._judged = Held[pl.DataFrame]()

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest ones of the quality table, the decisions and what else is judged."""
        newest = self._quality.newest_version()
        if newest < 0:
            return None
        return self._decisions.newest_version(), *self._version_of_scores()

    def read(self, index: SearchIndex) -> pl.DataFrame:  # noqa: ARG002
        """Pictures that have a problem."""
        rows = self._judged.of(self._version_of_scores(), self._judge)
        rows = as_decided(with_decisions(rows, read_decisions(self._decisions)))
        found = rows.select("relative_path", "content_sha256").with_columns(problem_names(rows))
        return found.drop_nulls(PROBLEMS)

    def _version_of_scores(self) -> tuple[Hashable, ...]:
        return self._quality.newest_version(), *(found.version() for found in self._findings)

    def _judge(self) -> pl.DataFrame:
        """Images and their problems whatever people said: the same while scores stay."""
        rows = judged(measured_rows(self._quality, self._findings), self._limits)
        return rows.select("relative_path", "content_sha256", *KINDS)


class IssueSource:
    """What speaks against an image's labels and boxes, in words; null where nothing does."""

    is_shown = False
    columns = (Column("label_issues", pa.string(), "what speaks against its labels and boxes, in words"),)

    def __init__(self, label_issues: LakeTable) -> None:
        self._issues = label_issues

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest one of the table of label issues."""
        newest = self._issues.newest_version()
        return None if newest < 0 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:  # noqa: ARG002
        """Images with an issue."""
        key = ["relative_path", "content_sha256"]
        rows = self._issues.latest().read([*key, "field", "kind", "reason"]).drop("_file").sort("field", "kind")
        told = pl.format("{} ({}): {}", "kind", "field", "reason")
        return rows.group_by(key).agg(label_issues=told.str.join("; "))


class GroupSource:
    """The near and burst groups of images: what ``--distinct`` folds by, and conditions may name."""

    is_shown = False
    columns = (
        Column(NEAR_GROUP, pa.string(), "group of the same photograph; null where there is no other"),
        Column(NEAR_KEEPER, pa.bool_(), "whether the image is the one of its near group to keep; null without a group"),
        Column(NEAR_COPIES, pa.int32(), "other images of its near group; null without a group"),
        Column("burst_group", pa.string(), "group of the same scene; null where there is no other"),
    )

    def __init__(self, groups: LakeTable) -> None:
        self._groups = groups

    def version(self, index: SearchIndex) -> Hashable | None:  # noqa: ARG002
        """The newest one of the table of groups."""
        newest = self._groups.newest_version()
        return None if newest < 0 else newest

    def read(self, index: SearchIndex) -> pl.DataFrame:  # noqa: ARG002
        """Images that are in a group."""
        key = ["relative_path", "content_sha256"]
        rows = self._groups.latest().read([*key, "kind", "group_id", "is_keeper"]).drop("_file")
        near, burst = (rows.filter(pl.col("kind") == kind) for kind in ("near", "burst"))
        others = (pl.len().over("group_id") - 1).cast(pl.Int32)
        told = near.select(
            *key,
            pl.col("group_id").alias(NEAR_GROUP),
            pl.col("is_keeper").alias(NEAR_KEEPER),
            others.alias(NEAR_COPIES),
        )
        return told.join(burst.select(*key, burst_group="group_id"), on=key, how="full", coalesce=True)
