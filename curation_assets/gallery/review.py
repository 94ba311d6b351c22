"""What the pages of decisions share: queues and decisions, read once a version of their tables, and the recorder."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from math import isfinite

import numpy as np
import polars as pl

from curation_assets.curate.duplicates.overview import group_table
from curation_assets.curate.findings import Findings
from curation_assets.curate.labels.overview import FieldReport, prediction_rows, report_of
from curation_assets.curate.labels.questions import ISSUES as LABEL_ISSUES
from curation_assets.curate.overview import measured_rows
from curation_assets.curate.problems import ACROSS, KINDS, LEAK, MISLABELLED, judged
from curation_assets.decisions.kinds import RELABEL
from curation_assets.decisions.record import Row, read_rows
from curation_assets.decisions.standing import Decisions, standing
from curation_assets.embed.vectors import KEY
from curation_assets.errors import CurationError
from curation_assets.held import Held
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.review.duplicate_queue import DuplicateQueue, duplicate_queue
from curation_assets.review.following import follow_decisions
from curation_assets.review.label_queue import LabelQueue, doubted_labels, label_queue
from curation_assets.review.problem_queue import ProblemQueue, problem_queue, said_of_pictures
from curation_assets.review.recording import Recorder
from curation_assets.review.samples import Sample, read_samples
from curation_assets.search.index import SearchIndex

LABEL, ISSUES = "label_", "label_issues"  # how columns of labels begin, and the one that is none
SPLIT = "split"


class Review:
    """Questions to people, and their answers. Threads may share it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._tables = pipeline.tables
        self._pictures = Held[pl.DataFrame]()
        self._measured = Held[pl.DataFrame]()
        self._queues: dict[str, Held[ProblemQueue]] = {}
        self._duplicates = Held[DuplicateQueue]()
        self._said_of_duplicates = Held[tuple[DuplicateQueue, pl.Series]]()
        self._labels = Held[pl.DataFrame]()
        self._rows = Held[pl.DataFrame]()
        self._decisions = Held[Decisions]()
        self._said = Held[dict[str, str]]()
        self._label_issues = Held[LabelQueue]()
        self._doubted: dict[str, Held[ProblemQueue]] = {}
        self._confusions: dict[str, Held[FieldReport | None]] = {}
        self._samples = Held[list[Sample]]()
        self.recorder = Recorder(pipeline.tables.decisions, self._follow)

    def close(self) -> None:
        """Finish what was answered."""
        self.recorder.close()

    def warm_up(self) -> None:
        """Judge all images, for the first who asks.

        Raises:
            CurationError: as :meth:`measured`.
        """
        for kind in KINDS:
            self.queue(kind)

    def measured(self) -> pl.DataFrame:
        """Every measured image with its verdicts, by the settings' thresholds and whatever people said.

        Raises:
            CurationError: nothing is measured yet, or a table can't be read.
        """
        return self._measured.of(self._version(self._pipeline.findings), lambda: self._judged(self._pipeline.findings))

    def pictures(self) -> pl.DataFrame:
        """The same by all but leaks, which take seconds to find, and are others after some decisions.

        Raises:
            CurationError: as :meth:`measured`.
        """
        findings = self._but_leaks()
        return self._pictures.of(self._version(findings), lambda: self._judged(findings))

    def scores_of(self, paths: Collection[str]) -> dict[str, dict[str, float]]:
        """Of each of some images by kind of problem what tells of it, as far as that is known.

        Leaks are those that were last found: whoever decides doesn't wait for others.
        """
        try:
            pictures = self.pictures()
        except CurationError:  # nor for measures
            return {}
        rows = pictures.filter(pl.col("relative_path").is_in(list(paths)))
        rows = rows.drop(ACROSS).join(self._pipeline.leaks.read_last(), on=KEY, how="left", maintain_order="left")
        known = [kind for kind in KINDS if kind != LEAK]
        scores = rows.select(
            *(pl.col(f"{kind}_score").cast(pl.Float64).alias(kind) for kind in known),
            pl.col(ACROSS).cast(pl.Float64).alias(LEAK),
        )
        told = (
            {kind: one for kind, one in row.items() if one is not None and isfinite(one)} for row in scores.to_dicts()
        )
        return dict(zip(rows["relative_path"], told, strict=True))

    def queue(self, kind: str) -> ProblemQueue:
        """Images of a kind of problem, the worst first.

        Raises:
            CurationError: as :meth:`measured`.
        """
        held = self._queues.setdefault(kind, Held())
        findings = self._pipeline.findings if kind == LEAK else self._but_leaks()
        return held.of(self._version(findings), lambda: problem_queue(self.judged_by(kind), kind))

    def judged_by(self, kind: str) -> pl.DataFrame:
        """Of :meth:`measured` and :meth:`pictures` the one that tells of a kind.

        Raises:
            CurationError: as :meth:`measured`.
        """
        return self.measured() if kind == LEAK else self.pictures()

    def duplicates(self) -> DuplicateQueue:
        """Groups of duplicates, the largest first.

        Raises:
            CurationError: nothing was compared yet, or a table can't be read.
        """
        tables = self._tables
        return self._duplicates.of(
            self._version_of_groups(), lambda: duplicate_queue(group_table(tables.groups), tables.pairs)
        )

    def said_of_duplicates(self) -> tuple[DuplicateQueue, pl.Series]:
        """The same, and of each group what people said; null: nothing."""

        def make() -> tuple[DuplicateQueue, pl.Series]:
            queue = self.duplicates()
            return queue, queue.decided(self.decisions())

        return self._said_of_duplicates.of((self._version_of_groups(), self._tables.decisions.newest_version()), make)

    def labels(self, index: SearchIndex) -> pl.DataFrame:
        """Labels that count, a column ``label_<field>`` each, and ``split``; one row for each of ``index.rows``.

        They are read anew when a label changed, not with every other decision.

        Raises:
            CurationError: what holds them is broken.
        """
        relabelled = self.decisions().rows.filter(pl.col("kind") == RELABEL)
        tables = (self._tables.annotations.newest_version(), self._tables.pairs.newest_version())
        info = index.info
        images = (index.path, info.model_version, info.directory_version, info.embeddings_version, info.built_at)
        key = (*images, *tables, len(relabelled), relabelled["decision_id"].max())
        searcher = self._pipeline.searcher
        names = [name for name in searcher.further_columns if name.startswith(LABEL) and name != ISSUES]
        names.append(SPLIT)
        return self._labels.of(key, lambda: searcher.further(index, np.arange(len(index.rows)), names))

    def label_issues(self) -> LabelQueue:
        """Labels that something speaks against, the likeliest wrong first.

        Raises:
            CurationError: nothing was found out of labels yet, or the table can't be read.
        """
        table, limit = self._looked_at(), self._pipeline.thresholds[MISLABELLED]
        return self._label_issues.of(table.newest_version(), lambda: label_queue(table, limit))

    def measurable(self, kind: str) -> ProblemQueue:
        """What a sample of a kind is drawn from: images, or labels, the worst first.

        Raises:
            CurationError: as :meth:`measured`; or nothing was found out of labels yet.
        """
        if kind not in LABEL_ISSUES:
            return self.queue(kind)
        table = self._looked_at()
        held = self._doubted.setdefault(kind, Held())
        return held.of(table.newest_version(), lambda: doubted_labels(table, kind))

    def confusion(self, field: str) -> FieldReport | None:
        """What a field's predictions tell; None where there are none. What was decided since is not in it.

        Raises:
            CurationError: a table can't be read.
        """
        predictions, annotations = self._tables.predictions, self._tables.annotations

        def make() -> FieldReport | None:
            if predictions.newest_version() < 1:
                return None
            rows = prediction_rows(predictions)
            rows = rows.filter(pl.col("field") == field).sort("relative_path")
            return report_of(field, rows, self._pipeline.said_of_labels()) if len(rows) else None

        held = self._confusions.setdefault(field, Held())
        return held.of((predictions.newest_version(), annotations.newest_version()), make)

    def rows(self) -> pl.DataFrame:
        """Every decision that was made, the earliest first."""
        table = self._tables.decisions
        return self._rows.of(table.newest_version(), lambda: read_rows(table))

    def decisions(self) -> Decisions:
        """Those that count."""
        return self._decisions.of(self._tables.decisions.newest_version(), lambda: standing(self.rows()))

    def said_of_pictures(self) -> dict[str, str]:
        """Content → ``keep``, ``remove`` or ``unsure``, as far as people said so of the picture itself."""
        return self._said.of(self._tables.decisions.newest_version(), lambda: said_of_pictures(self.decisions()))

    def tags(self, index: SearchIndex) -> pl.DataFrame:
        """Tags that images have, by name: ``tag``, ``images``."""
        images = index.rows.lazy().select("content_sha256")
        tags = self.decisions().tagged().lazy()
        return images.join(tags, on="content_sha256").group_by("tag").agg(images=pl.len()).sort("tag").collect()

    def latest(self) -> str:
        """Id of the latest decision; empty where there is none."""
        return str(self.rows()["decision_id"].max() or "")

    def samples(self) -> list[Sample]:
        """What was drawn to measure kinds of problem, the latest first."""
        table = self._tables.samples
        return self._samples.of(table.newest_version(), lambda: read_samples(table))

    def _looked_at(self) -> LakeTable:
        """The table of label issues, which is there once labels were looked at."""
        if self._tables.label_issues.newest_version() >= 0:
            return self._tables.label_issues
        if not self._tables.annotations.exists():
            raise CurationError("there are no labels yet; `curation annotate` brings them in")
        raise CurationError("labels were not looked at yet; `curation curate` does that")

    def _version_of_groups(self) -> Hashable:
        return (self._tables.groups.newest_version(), self._tables.pairs.newest_version())

    def _but_leaks(self) -> list[Findings]:
        return [found for found in self._pipeline.findings if found is not self._pipeline.leaks]

    def _version(self, findings: Sequence[Findings]) -> Hashable:
        return (self._tables.quality.newest_version(), *(found.version() for found in findings))

    def _judged(self, findings: Sequence[Findings]) -> pl.DataFrame:
        return judged(measured_rows(self._tables.quality, findings), self._pipeline.thresholds)

    def _follow(self, rows: Sequence[Row]) -> str | None:
        return follow_decisions(self._pipeline, rows, LogProgress())


def labels_at(labels: pl.DataFrame, number: int) -> dict[str, str]:
    """An image's labels that count, by field.

    Args:
        labels: of :meth:`Review.labels`.
        number: its place there, and in ``index.rows``.
    """
    row = labels.row(number, named=True)
    told = {name.removeprefix(LABEL): value for name, value in row.items() if name.startswith(LABEL)}
    return {field: value for field, value in told.items() if value is not None}
