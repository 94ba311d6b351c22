"""Labels that something speaks against, the likeliest wrong first, with what people said of them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from curation_assets.curate.labels.questions import IS_OF_LABEL, TOLD, are_others, likely, questions
from curation_assets.curate.problems import CONFLICTING, KINDS, MISLABELLED
from curation_assets.decisions.kinds import DIFFERENT
from curation_assets.decisions.standing import Decisions
from curation_assets.lake.table import LakeTable
from curation_assets.review.problem_queue import ProblemQueue

_OF = ["content_sha256", "field"]
_LABEL = ["relative_path", "content_sha256", "field"]


@dataclass(frozen=True)
class LabelQueue:
    """Labels that something speaks against, a row an image and field.

    Attributes:
        rows: ``relative_path``, ``content_sha256``, ``field``, ``given``, ``suggested``, ``label_quality``, ``number``,
            ``evidence`` and ``reason`` as the table of label issues has them, and ``issues`` (of
            :data:`~curation_assets.curate.labels.questions.ISSUES`). Conflicting ones first, those that most speaks
            against; then mislabelled ones by the quality of their label; equals by path.
    """

    rows: pl.DataFrame

    def decided(self, decisions: Decisions) -> pl.Series:
        """Of each row what a person said; null: nothing.

        The label, or ``unsure``, unless it is another question by now; ``kept`` where the picture is; ``different``
        where the one image that it conflicts with is another photograph (until label issues are found anew).
        """
        said = decisions.rows.filter(IS_OF_LABEL).select(*_OF, said=pl.coalesce("value", "kind"))
        kept = decisions.kept().select("content_sha256", kept=pl.lit("kept"))
        rows = self.rows.join(said, on=_OF, how="left", maintain_order="left")
        rows = rows.join(kept, on="content_sha256", how="left", maintain_order="left")
        rows = rows.join(self._taken_apart(decisions), on=_LABEL, how="left", maintain_order="left")
        rows = rows.with_columns(_other=are_others(self.rows, decisions))
        return rows.select(decided=pl.coalesce(pl.when(~pl.col("_other")).then("said"), "kept", "apart"))["decided"]

    def _taken_apart(self, decisions: Decisions) -> pl.DataFrame:
        """Conflicts of two that are two photographs: the columns of a label, and ``apart``."""
        alone = self.rows.filter((pl.col("number") == 1) & (pl.col("issues") == [CONFLICTING]))
        both = alone.select(_LABEL).with_columns(other_sha256=_other(alone, self.rows))
        return both.filter(is_apart(both, decisions)).select(*_LABEL, apart=pl.lit(DIFFERENT))


def is_apart(rows: pl.DataFrame, decisions: Decisions) -> pl.Series:
    """Of each row whether somebody said that ``content_sha256`` and ``other_sha256`` are two photographs."""
    ends = pl.col("content_sha256", "other_sha256")
    both = rows.select(first=pl.min_horizontal(ends), second=pl.max_horizontal(ends))
    apart = decisions.different_pairs().with_columns(apart=pl.lit(value=True))
    found = both.join(apart, on=["first", "second"], how="left", maintain_order="left")
    return found["apart"].fill_null(value=False)


def _other(rows: pl.DataFrame, known: pl.DataFrame) -> pl.Series:
    """Of each row the content of the one image that its label conflicts with; null where there is none, or are several.

    Args:
        known: rows among which that image is.
    """
    contents = known.select(_other="relative_path", _content="content_sha256").unique("_other")
    others = rows.select("number", _other=pl.col("evidence").list.first())
    found = others.join(contents, on="_other", how="left", maintain_order="left")
    return found.select(pl.when(pl.col("number") == 1).then("_content"))["_content"]


def doubted_labels(label_issues: LakeTable, kind: str) -> ProblemQueue:
    """Every label that a kind's score tells something of, also beyond the threshold: to measure the kind.

    Args:
        kind: ``mislabelled`` or ``conflicting``.

    Returns:
        A queue whose rows are labels, with ``field``, ``given``, ``suggested``, ``label_quality``, ``number``,
        ``evidence`` and ``reason`` of the table, and ``other_sha256``: of the one image that a label conflicts with.

    Raises:
        CurationError: the table can't be read.
    """
    score = "label_quality" if kind == MISLABELLED else "number"
    columns = [*_LABEL, *TOLD, "reason"]
    is_of_kind = (pl.col("kind") == kind) & pl.col("asked_again").is_null()
    rows = label_issues.latest().read([*columns, "asked_again"], where=is_of_kind).drop("_file", "asked_again")
    rows = rows.with_columns(score=pl.col(score).cast(pl.Float64)).drop_nulls("score").unique(_LABEL, keep="first")
    rows = rows.sort("score", "relative_path", "field", descending=[not KINDS[kind].is_low, False, False])
    rows = rows.with_columns(other_sha256=_other(rows, rows) if kind == CONFLICTING else pl.lit(None, pl.String))
    return ProblemQueue(KINDS[kind], rows.with_columns(at="score"), len(rows))


def label_queue(label_issues: LakeTable, limit: float) -> LabelQueue:
    """The queue.

    Args:
        limit: quality of a label below which it is likely wrong; others are doubted, and not asked about.

    Raises:
        CurationError: the table can't be read.
    """
    columns = [*_LABEL, "kind", *TOLD, "reason"]
    both = questions(label_issues.latest().read(columns, where=likely(limit)).drop("_file"))
    order = [-pl.col("number").fill_null(0), "label_quality", "relative_path", "field"]
    return LabelQueue(both.sort(order, nulls_last=True))
