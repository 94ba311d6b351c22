"""Candidates → rows of the pairs table: what the pixels say, which kind that is, and who is a witness of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curation_assets.curate.duplicates.candidates import NUMBERS, TIME_S, number_of, stem_of
from curation_assets.curate.duplicates.pictures import Pictures
from curation_assets.curate.duplicates.squares import in_words
from curation_assets.curate.duplicates.verification import VERIFICATION_VERSION, Verdicts, verify
from curation_assets.lake.schemas import PAIRS

_LEAST_SHOWN, _MOST_SHOWN = 0.5, 0.8  # of the one picture and of the other, that both show: a crop to 80 % shows 0.64
_BURST_SHOWN = 0.4
_SAME_FRAME, _LENIENCE = 0.95, 0.03  # where both show the same frame less was searched, and less can fit by chance
_DETAIL_LENIENCE = 0.02
# Where neither is a part of the other, or one is stretched, more was free to fit: the detail has to agree better.
_A_PART, _MOST_STRETCHED, _DETAIL_STRICTNESS = 0.985, 0.03, 0.04
_NEVER = 2.0  # an agreement that none has
PAIR_TYPES = pl.Schema(PAIRS.arrow_schema.remove_metadata())


@dataclass(frozen=True)
class Thresholds:
    """From which agreement on two pictures are the same photograph; or one scene, by time with a camera or without.

    Numbers that follow each other are a weaker witness than time: an album is numbered too. They count halfway between.

    Attributes:
        likeness: cosine of the model, from which on two with a witness are one scene, whatever their pixels say.
    """

    near: float = 0.9
    burst: float = 0.76
    burst_alone: float = 0.88
    likeness: float = 1.0

    def __str__(self) -> str:
        return f"near {self.near:g}, burst {self.burst:g}, alone {self.burst_alone:g}, likeness {self.likeness:g}"

    @property
    def burst_by_number(self) -> float:
        """The same where file numbers say so."""
        return (self.burst + self.burst_alone) / 2


class Candidates:
    """Candidates, and what has to be known of their images to judge them: put together for a part of them at a time.

    Args:
        keys: ``first``, ``second`` (places in ``rows``), ``method``.
        rows: of the nodes.
        likeness: ``first``, ``second``, ``likeness`` of those in each other's lists; None: no model counts.
    """

    def __init__(self, keys: pl.DataFrame, rows: pl.DataFrame, likeness: pl.DataFrame | None) -> None:
        self._keys = keys
        self._told = rows.select(
            "content_sha256",
            "picture",
            "width",
            "height",
            "camera",
            "captured_at",
            "folder",
            number=number_of(pl.col("file_name")),
            stem=stem_of(pl.col("file_name")),
        )
        self._likeness = likeness

    def __len__(self) -> int:
        return len(self._keys)

    def part(self, start: int, number: int) -> pl.DataFrame:
        """Some of them: ``method``, ``likeness``, and of each side what is known of it, as ``width_first``."""
        keys = self._keys.slice(start, number)
        if self._likeness is None:
            keys = keys.with_columns(likeness=pl.lit(None, pl.Float32))
        else:
            keys = keys.join(self._likeness, on=["first", "second"], how="left", maintain_order="left")
        sides = [self._told[keys[side]].select(pl.all().name.suffix(f"_{side}")) for side in ("first", "second")]
        return pl.concat([keys.select("method", "likeness"), *sides], how="horizontal")


@dataclass(frozen=True)
class Judge:
    """Judges candidates; pickled, where executors do that.

    Attributes:
        place: folder of the pictures.
        model_version: whose neighbours some candidates are.
    """

    place: Path
    thresholds: Thresholds
    model_version: str | None

    def rows(self, pictures: Pictures, some: pl.DataFrame) -> pl.DataFrame:
        """Rows of those candidates of :func:`told_of` that are pairs."""
        pixels = [
            some.select(f"width_{side}", f"height_{side}").to_numpy().astype(np.float32) for side in ("first", "second")
        ]
        squares = [
            pictures.squares(some[f"picture_{side}"].to_numpy().astype(np.int64)) for side in ("first", "second")
        ]
        verdicts = verify(squares[0], squares[1], pixels[0], pixels[1])
        limits = self.thresholds
        near = is_near(verdicts, limits)
        witness = _witnesses(some)
        may_be = verdicts.least >= _BURST_SHOWN
        least = {"time": limits.burst, "number": limits.burst_by_number, None: _NEVER}
        by_pixels = may_be & (verdicts.agreement >= np.array([least[who] for who in witness]))
        alike = some["likeness"].fill_null(-1).to_numpy() >= limits.likeness
        by_model = alike & np.array([who is not None for who in witness], bool) & (limits.likeness < 1)
        in_detail = verdicts.detail >= limits.burst_alone - _DETAIL_LENIENCE
        alone = may_be & in_detail & (verdicts.agreement >= limits.burst_alone) & (limits.burst_alone < 1)
        chosen = np.flatnonzero(near | by_pixels | by_model | alone)
        if not len(chosen):
            return pl.DataFrame(schema=PAIR_TYPES)
        with_witness = by_pixels | by_model
        keys = some[chosen].select(
            first="content_sha256_first",
            second="content_sha256_second",
            method="method",
            similarity=pl.Series(np.minimum(verdicts.agreement[chosen], 1)),
            transform=_transforms(verdicts, chosen, *pixels),
            kind=pl.Series(np.where(near[chosen], "near", "burst")),
            witness=pl.Series(
                [None if near[at] else (witness[at] if with_witness[at] else "looks") for at in chosen.tolist()],
                dtype=pl.String,
            ),
        )
        version = pl.when(pl.col("method") == "neighbours").then(pl.lit(self.model_version, pl.String))
        return pair_rows(keys.with_columns(model_version=version), thresholds=str(limits))


def is_near(verdicts: Verdicts, limits: Thresholds) -> NDArray[np.bool_]:
    """(pairs,) which of them are the same photograph."""
    least = np.where(verdicts.least >= _SAME_FRAME, limits.near - _LENIENCE, limits.near)
    is_plain = (verdicts.most >= _A_PART) & (verdicts.stretch <= _MOST_STRETCHED)
    detail = limits.near + np.where(is_plain, -_DETAIL_LENIENCE, _DETAIL_STRICTNESS)
    by_pixels = (verdicts.agreement >= least) & (verdicts.detail >= np.minimum(detail, 1))
    return np.asarray(by_pixels & (verdicts.least >= _LEAST_SHOWN) & (verdicts.most >= _MOST_SHOWN), bool)


def in_threads(
    judge: Judge, pictures: Pictures, parts: Iterable[pl.DataFrame], threads: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Judge parts of candidates, in their order: how many more were judged, and the rows of those that are pairs."""
    pool = ThreadPoolExecutor(threads, "pairs")
    waiting: deque[tuple[int, Future[pl.DataFrame]]] = deque()
    try:
        with threadpool_limits(1):
            for some in parts:
                while len(waiting) >= 2 * threads:
                    number, future = waiting.popleft()
                    yield number, future.result()
                waiting.append((len(some), pool.submit(judge.rows, pictures, some)))
            while waiting:
                number, future = waiting.popleft()
                yield number, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def pair_rows(keys: pl.DataFrame, **same: str) -> pl.DataFrame:
    """Rows of the pairs table: what isn't given is null."""
    rows = keys.with_columns(
        **{name: pl.lit(value) for name, value in same.items()},
        verification_version=pl.lit(VERIFICATION_VERSION, pl.Int32),
        found_at=pl.lit(datetime.now(UTC)),
    )
    lacking = [pl.lit(None, kind).alias(name) for name, kind in PAIR_TYPES.items() if name not in rows.columns]
    return rows.with_columns(lacking).select(pl.col(name).cast(kind) for name, kind in PAIR_TYPES.items())


def _witnesses(some: pl.DataFrame) -> list[str | None]:
    """Of each pair, who says that they are of one moment: time, or else number, or nobody."""
    apart = (pl.col("captured_at_first") - pl.col("captured_at_second")).dt.total_seconds().abs()
    timed = (pl.col("camera_first") == pl.col("camera_second")) & (apart <= TIME_S)
    same_name = (pl.col("folder_first") == pl.col("folder_second")) & (pl.col("stem_first") == pl.col("stem_second"))
    numbered = same_name & ((pl.col("number_first") - pl.col("number_second")).abs() <= NUMBERS)
    who = pl.when(timed.fill_null(value=False)).then(pl.lit("time"))
    return some.select(who.when(numbered.fill_null(value=False)).then(pl.lit("number"))).to_series().to_list()


def _transforms(
    verdicts: Verdicts, chosen: NDArray[np.int64], first: NDArray[np.float32], second: NDArray[np.float32]
) -> pl.Series:
    words = [in_words(int(orientation)) for orientation in verdicts.orientation[chosen]]
    width, height = verdicts.placement[chosen, 2], verdicts.placement[chosen, 3]
    is_turned = (verdicts.orientation[chosen] & 4) > 0
    second = np.where(is_turned[:, None], second[chosen][:, ::-1], second[chosen])
    frame = pl.DataFrame(
        {
            "mirrored": [mirrored for _, mirrored in words],
            "rotation": [rotation for rotation, _ in words],
            "x": verdicts.placement[chosen, 0],
            "y": verdicts.placement[chosen, 1],
            "width": width,
            "height": height,
            "scale": np.sqrt(width * first[chosen, 0] / second[:, 0] * (height * first[chosen, 1] / second[:, 1])),
        }
    )
    return frame.select(pl.struct(pl.all())).to_series()
