"""The tables of pairs and of compared contents brought in line with the directory table, by state.

A content is compared once with all others, whatever its files are called. What is new is compared with everything;
pairs of contents that are gone leave. Pairs are committed before the contents are said to be compared, piece by piece:
so a killed run goes on from there, and what it had found is not compared again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curation_assets.curate.duplicates.candidates import (
    NeighbourLists,
    Nodes,
    by_hash,
    by_neighbours,
    by_witness,
    likeness_of,
)
from curation_assets.curate.duplicates.copies import NearSoFar
from curation_assets.curate.duplicates.crowds import Crowds, crowds
from curation_assets.curate.duplicates.judging import PAIR_TYPES, Candidates, Judge, Thresholds, in_threads, pair_rows
from curation_assets.curate.duplicates.pictures import Pictures, refresh_pictures
from curation_assets.curate.duplicates.rows import merge_files, replace_rows
from curation_assets.curate.duplicates.verification import AT_ONCE, VERIFICATION_VERSION
from curation_assets.lake import hive
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import COMPARED, PAIRS
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

if TYPE_CHECKING:
    from curation_assets.curate.duplicates.spark import SparkVerification

_PIECE_SECONDS = 30.0  # of one commit: what a kill can cost
Judged = Callable[[pl.DataFrame], Iterator[tuple[int, pl.DataFrame]]]  # keys → how many more, rows of the pairs
_READ = ["relative_path", "content_sha256", "pixels_as", "file_path", "folder", "file_name", "camera", "captured_at"]


@dataclass
class Comparison:
    """What bringing the pairs in line did.

    Attributes:
        contents: there are.
        compared: of them, now.
        verified: pairs whose pixels were compared.
        found: of them, near and burst.
        crowded: contents that another of thousands stands for.
        removed: pairs that left.
        failed: content → why it can't be compared.
    """

    contents: int = 0
    compared: int = 0
    verified: int = 0
    found: dict[str, int] = field(default_factory=lambda: {"near": 0, "burst": 0})
    crowded: int = 0
    removed: int = 0
    commits: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def compare_contents(
    directory: LakeTable,
    pairs: LakeTable,
    compared: LakeTable,
    place: Path,
    thresholds: Thresholds,
    progress: Progress,
    *,
    threads: int,
    neighbours: NeighbourLists | None = None,
    spark: SparkVerification | None = None,
) -> Comparison:
    """Bring the pairs in line with the images.

    Args:
        place: folder of the pictures.
        neighbours: of the model that is searched with; None: hashes and witnesses alone.
        spark: compares on executors.

    Raises:
        CurationError: a table can't be read or written; what was finished stays.
    """
    started = time.perf_counter()
    result = Comparison()

    def work(rows: Rewrite) -> None:
        _Work(rows, directory.latest(), compared, place, thresholds, progress, threads, neighbours, spark, result).do()

    rewrite(pairs, hive.WHOLE, work, info={"job": "pairs"}, progress=progress)
    result.seconds = time.perf_counter() - started
    return result


def contents_of(directory: Snapshot) -> pl.DataFrame:
    """One row a content of the usable images, sorted: ``_READ``, width, height, and ``_file``, of its first path."""
    rows = directory.read([*_READ, "width", "height", "status"])
    rows = rows.filter(pl.col("status") == "ok").drop("status").sort("content_sha256", "relative_path")
    return rows.unique("content_sha256", keep="first", maintain_order=True)


def not_compared(directory: Snapshot, compared: Snapshot | None, thresholds: Thresholds) -> pl.Series:
    """Contents that are new, or were compared by an earlier version or with other thresholds.

    Args:
        compared: None where nothing was ever compared: all of them.
    """
    rows = contents_of(directory).select("content_sha256", "pixels_as")
    if compared is None:
        return rows["content_sha256"]
    return rows.join(_current(compared, thresholds), on=rows.columns, how="anti", nulls_equal=True)["content_sha256"]


def _current(compared: Snapshot, thresholds: Thresholds) -> pl.DataFrame:
    columns = ["content_sha256", "pixels_as", "represented_by", "model_version", "model_fingerprint", "error"]
    return compared.read(columns, where=is_current(thresholds)).unique("content_sha256", keep="last")


def is_current(thresholds: Thresholds) -> pl.Expr:
    """Rows of pairs and of compared contents that this version made with some thresholds."""
    return (pl.col("verification_version") == VERIFICATION_VERSION) & (pl.col("thresholds") == str(thresholds))


@dataclass
class _Work:
    rows: Rewrite
    directory: Snapshot
    compared: LakeTable
    place: Path
    thresholds: Thresholds
    progress: Progress
    threads: int
    neighbours: NeighbourLists | None
    spark: SparkVerification | None
    result: Comparison

    def do(self) -> None:
        for snapshot in (self.directory, self.rows.base):
            for partition in {file.partition for file, _ in snapshot.broken()}:
                snapshot.refuse_broken(partition)
        contents = contents_of(self.directory)
        pictures = refresh_pictures(self.place, self.directory, contents, self.progress, self.threads)
        numbered = pictures.keys.with_row_index("picture").unique(["content_sha256", "pixels_as"], keep="last")
        contents = contents.join(
            numbered, on=["content_sha256", "pixels_as"], how="left", nulls_equal=True, maintain_order="left"
        )
        self.result.contents = len(contents)
        failed = contents.filter(pl.col("error").is_not_null())
        self.result.failed = dict(failed.select("content_sha256", "error").iter_rows())
        usable = contents.filter(pl.col("error").is_null())
        crowd = self._crowds(pictures, usable)
        nodes, member_of = self._nodes(usable, crowd)
        todo, looked_up = self._todo(nodes)
        self._take_out(nodes, member_of)
        self._tell_of_members(usable, member_of)
        self._compare(pictures, nodes, todo, looked_up)
        self._tell_of_failed(failed)
        self._forget(contents)
        self._merge()
        self.result.compared = len(usable)
        self.result.crowded = len(crowd.members)

    def _crowds(self, pictures: Pictures, usable: pl.DataFrame) -> Crowds:
        ratios = (usable["width"] / usable["height"]).to_numpy()
        numbers = usable["picture"].to_numpy().astype(np.int64)
        with threadpool_limits(self.threads):
            return crowds(pictures, usable["content_sha256"].to_list(), numbers, ratios, self.thresholds.near)

    def _nodes(self, usable: pl.DataFrame, crowd: Crowds) -> tuple[Nodes, pl.DataFrame]:
        """What is compared with each other; and members of crowds: ``content_sha256``, ``represented_by``."""
        of_picture = dict(zip(usable["picture"], usable["content_sha256"], strict=True))
        member_of = pl.DataFrame(
            {
                "content_sha256": [of_picture[number] for number in crowd.members.tolist()],
                "represented_by": [of_picture[number] for number in crowd.leaders.tolist()],
                "similarity": crowd.agreement,
            },
            schema={"content_sha256": pl.String, "represented_by": pl.String, "similarity": pl.Float32},
        )
        rows = usable.join(member_of, on="content_sha256", how="anti", maintain_order="left")
        return Nodes(rows, rows["picture"].to_numpy().astype(np.int64)), member_of

    def _todo(self, nodes: Nodes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(nodes,) which have to be compared; and which with the neighbours of the model too."""
        known = _current(self.compared.latest(), self.thresholds).filter(pl.col("represented_by").is_null())
        rows = nodes.rows.select("content_sha256", "pixels_as")
        found = rows.join(
            known.with_columns(_known=True), on=rows.columns, how="left", nulls_equal=True, maintain_order="left"
        )
        todo = found["_known"].is_null().to_numpy()
        if self.neighbours is None:
            return todo, np.zeros(len(todo), bool)
        of_model = (pl.col("model_version") == self.neighbours.model_version) & (
            pl.col("model_fingerprint") == self.neighbours.model_fingerprint
        )
        has_vector = rows["content_sha256"].is_in(self.neighbours.contents.implode())
        looked_up = found.select(of_model.fill_null(value=False)).to_series() | ~has_vector
        return todo, ~looked_up.to_numpy() | (todo & has_vector.to_numpy())

    def _take_out(self, nodes: Nodes, member_of: pl.DataFrame) -> None:
        """Pairs of contents that are gone, that are compared anew, or that another stands for now."""
        base = self.rows.base
        held = base.read(["first", "second", "method", "verification_version", "thresholds"])
        if not len(held):
            return
        alone = nodes.rows.select("content_sha256")
        of_nodes = held.join(alone, left_on="first", right_on="content_sha256", how="semi").join(
            alone, left_on="second", right_on="content_sha256", how="semi"
        )
        of_nodes = of_nodes.filter((pl.col("method") != "frame") & is_current(self.thresholds))
        framed = _frame_keys(member_of)
        of_crowds = held.filter((pl.col("method") == "frame") & is_current(self.thresholds)).join(
            framed, on=["first", "second"], how="semi"
        )
        kept = pl.concat([of_nodes, of_crowds]).unique(["first", "second"])
        going = held.join(kept, on=["first", "second"], how="anti")
        if len(going):
            self.result.removed += len(going)
            self.result.commits += replace_rows(self.rows, ["first", "second"], going)

    def _tell_of_members(self, usable: pl.DataFrame, member_of: pl.DataFrame) -> None:
        keys = _frame_keys(member_of).with_columns(similarity=member_of["similarity"])
        known = self.rows.base.read(["first", "second"])
        new = keys.join(known, on=["first", "second"], how="anti", maintain_order="left")
        if len(new):
            frame = pair_rows(new, kind="near", method="frame", thresholds=str(self.thresholds))
            self.result.found["near"] += len(new)
            self._commit(frame)
        told = member_of.join(usable.select("content_sha256", "pixels_as"), on="content_sha256")
        self._note(told.select("content_sha256", "pixels_as", "represented_by"))

    def _compare(self, pictures: Pictures, nodes: Nodes, todo: NDArray[np.bool_], looked_up: NDArray[np.bool_]) -> None:
        new = todo | looked_up
        if not new.any():
            return
        keys = self._candidates(pictures, nodes, todo, looked_up)
        known = self._known(nodes)
        keys = keys.join(known, on=["first", "second"], how="anti", maintain_order="left")
        # A pair is compared with the later of its new contents: all before that are done when it is.
        places = np.flatnonzero(new)
        rank = np.full(len(new), -1)
        rank[places] = np.arange(len(places))
        order = np.maximum(rank[keys["first"].to_numpy()], rank[keys["second"].to_numpy()])
        keys = keys.with_columns(order=pl.Series(order)).sort("order", "first", "second")
        likeness = None
        if self.neighbours is not None and self.thresholds.likeness < 1:
            likeness = likeness_of(self.neighbours, nodes)
        compared = pl.concat([keys.select("first", "second"), known.select("first", "second")])
        near = NearSoFar(len(new), known.filter(pl.col("kind") == "near"), compared)

        def judged(keys: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
            return self._judged(pictures, Candidates(keys, nodes.rows, likeness))

        self.progress.start("pairs", len(places))
        done, number, found, since = 0, 0, [], time.monotonic()
        for some, rows in judged(keys):
            number += some
            found.append(rows)
            last = int(keys["order"][number]) if number < len(keys) else len(places)
            if last > done and time.monotonic() - since >= _PIECE_SECONDS:
                self._finish(nodes, places[done:last], self._with_copies(found, near, nodes, judged))
                self.progress.advance(last - done)
                done, found, since = last, [], time.monotonic()
        self._finish(nodes, places[done:], self._with_copies(found, near, nodes, judged))
        self.progress.advance(len(places) - done)

    def _with_copies(self, found: list[pl.DataFrame], near: NearSoFar, nodes: Nodes, judged: Judged) -> pl.DataFrame:
        """Rows of pairs with those that their near ones bring together two steps apart, and those in turn.

        They are committed at once: after a kill between the two nothing would tell that they lack.
        """
        rows = [pl.DataFrame(schema=PAIR_TYPES), *found]
        while found:
            fresh = in_places(pl.concat(found).filter(pl.col("kind") == "near"), nodes)
            near.add(fresh)
            keys = near.two_steps_apart(pl.concat([fresh["first"], fresh["second"]]))
            found = [some for _, some in judged(keys.with_columns(method=pl.lit("copies")))]
            rows += found
        return pl.concat(rows)

    def _finish(self, nodes: Nodes, places: NDArray[np.int64], rows: pl.DataFrame) -> None:
        """Commit pairs, and then that the contents that they are of were compared."""
        if len(rows):
            for kind in ("near", "burst"):
                self.result.found[kind] += int((rows["kind"] == kind).sum())
            self._commit(rows)
        self._note(nodes.rows[places].select("content_sha256", "pixels_as"))

    def _candidates(
        self, pictures: Pictures, nodes: Nodes, todo: NDArray[np.bool_], looked_up: NDArray[np.bool_]
    ) -> pl.DataFrame:
        """``first``, ``second`` (places in the nodes), ``method``."""
        self.progress.note(f"pairs: looking for candidates of {int((todo | looked_up).sum()):,} images")
        found = [by_hash(pictures, nodes, todo).select("first", "second", method=pl.lit("hash"))]
        if self.neighbours is not None and looked_up.any():
            found.append(by_neighbours(self.neighbours, nodes, looked_up))
        found.append(by_witness(nodes, todo).with_columns(method=pl.lit("witness")))
        return pl.concat(found).unique(["first", "second"], keep="first", maintain_order=True)

    def _known(self, nodes: Nodes) -> pl.DataFrame:
        """``first``, ``second`` (places), ``kind``, ``similarity`` of pairs that the table has already."""
        return in_places(self.rows.base.read(["first", "second", "kind", "similarity"]), nodes)

    def _judged(self, pictures: Pictures, candidates: Candidates) -> Iterator[tuple[int, pl.DataFrame]]:
        """Rows of pairs in the order of the candidates, and how many candidates were judged for them."""
        version = None if self.neighbours is None else self.neighbours.model_version
        judge = Judge(self.place, self.thresholds, version)
        if self.spark is not None and self.spark.takes(len(candidates)):
            verified = self.spark.carry_out(judge, candidates, self.rows.writer, self.progress)
        else:
            parts = (candidates.part(start, AT_ONCE) for start in range(0, len(candidates), AT_ONCE))
            verified = in_threads(judge, pictures, parts, self.threads)
        for some, rows in verified:
            self.result.verified += some
            yield some, rows

    def _commit(self, rows: pl.DataFrame) -> None:
        with self.rows.writer.file() as stage:
            for batch in rows.to_arrow().cast(PAIRS.arrow_schema.remove_metadata()).to_batches():
                stage.write(batch)
        self.result.commits += self.rows.commit(stage.files, [])

    def _note(self, rows: pl.DataFrame) -> None:
        """Say of contents that they were compared."""
        version = fingerprint = pl.lit(None, pl.String)
        if self.neighbours is not None:  # what has no vector is looked up when it has one
            has_vector = pl.col("content_sha256").is_in(self.neighbours.contents.implode())
            version = pl.when(has_vector).then(pl.lit(self.neighbours.model_version))
            fingerprint = pl.when(has_vector).then(pl.lit(self.neighbours.model_fingerprint))
        told = rows.with_columns(
            [pl.lit(None, pl.String).alias(name) for name in ("represented_by", "error") if name not in rows.columns]
        ).with_columns(
            model_version=version,
            model_fingerprint=fingerprint,
            verification_version=pl.lit(VERIFICATION_VERSION, pl.Int32),
            thresholds=pl.lit(str(self.thresholds)),
            compared_at=pl.lit(datetime.now(UTC)).cast(pl.Datetime("us", "UTC")),
        )

        def work(change: Rewrite) -> None:
            same = [name for name in COMPARED.arrow_schema.names if name != "compared_at"]
            known = change.base.read(same)
            new = told.join(known, on=same, how="anti", nulls_equal=True, maintain_order="left")
            if not len(new):
                return
            old = known.join(new, on="content_sha256", how="semi")
            if len(old):
                replace_rows(change, ["content_sha256"], old.select("content_sha256"))
            with change.writer.file() as stage:
                for batch in new.select(COMPARED.arrow_schema.names).to_arrow().cast(_COMPARED_TYPES).to_batches():
                    stage.write(batch)
            change.commit(stage.files, [])

        rewrite(self.compared, hive.WHOLE, work, info={"job": "pairs"}, progress=self.progress)

    def _tell_of_failed(self, failed: pl.DataFrame) -> None:
        if len(failed):
            self._note(failed.select("content_sha256", "pixels_as", "error"))

    def _forget(self, contents: pl.DataFrame) -> None:
        """Contents that are gone are compared again if they come back, as their pairs are gone."""

        def work(change: Rewrite) -> None:
            known = change.base.read(["content_sha256"])
            gone = known.join(contents.select("content_sha256"), on="content_sha256", how="anti")
            if len(gone):
                replace_rows(change, ["content_sha256"], gone.select("content_sha256"))
            merge_files(change)

        rewrite(self.compared, hive.WHOLE, work, info={"job": "pairs"}, progress=self.progress)

    def _merge(self) -> None:
        self.result.commits += merge_files(self.rows)


def in_places(pairs: pl.DataFrame, nodes: Nodes) -> pl.DataFrame:
    """Pairs of contents as pairs of places in the nodes; those of others are left out."""
    place = nodes.rows.select("content_sha256", place=pl.int_range(pl.len(), dtype=pl.Int32))
    for side in ("first", "second"):
        pairs = pairs.join(place.rename({"content_sha256": side, "place": f"{side}_place"}), on=side)
    rest = [name for name in pairs.columns if name not in ("first", "second", "first_place", "second_place")]
    return pairs.select(*rest, first="first_place", second="second_place")


_COMPARED_TYPES = COMPARED.arrow_schema.remove_metadata()


def _frame_keys(member_of: pl.DataFrame) -> pl.DataFrame:
    low = pl.min_horizontal("content_sha256", "represented_by").alias("first")
    return member_of.select(low, pl.max_horizontal("content_sha256", "represented_by").alias("second"))
