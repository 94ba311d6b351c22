"""What the gate's condition ``drift`` finds when other photographs come to a version, and what it says of none.

    python -m benchmarks.drift [--photographs DIR] [--rounds N] [--save]

A version of one source's photographs (uppermost folders of ``photographs``) goes on with a share of others: of the same
source, of another, or of the same source changed: darker, in warm light, out of focus, turned, compressed hard. Vectors
are the embedded model's. Beside it stand scikit-learn's logistic regression on the same folds, and the maximum mean
discrepancy (Gretton and others, 2012; Gaussian kernel of the median distance) of what came from what was there, which
finds where it is above 20 permutations of its own. ``--save`` writes ``benchmarks/results/drift.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from benchmarks import measure
from curation_assets.datasets import drift as ours
from curation_assets.datasets.drift import Drift, drift
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings

MODULE = "benchmarks.drift"
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "crop_photos"
SOURCES = {"coffee": 1000, "rice": 500}  # images of the version before
CHANGED = 400  # photographs of a source that are changed
SHARES = (0.05, 0.1, 0.3)
LIMITS = (0.5, 0.55, 0.6)
PERMUTATIONS = 20
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half as bright": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
    "in warm light": lambda image: Image.fromarray(
        (np.asarray(image, np.float32) * [1.15, 1.0, 0.85]).clip(0, 255).astype(np.uint8)
    ),
    "out of focus": lambda image: image.filter(ImageFilter.GaussianBlur(max(image.size) / 150)),
    "turned by 90°": lambda image: image.rotate(90, expand=True),
    "JPEG of quality 20": lambda image: image,
}


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        paths, vectors = embedded(arguments.photographs, Path(directory))
    contents = np.array([hashlib.sha256(path.encode()).hexdigest() for path in paths])  # copies are left out
    parts = ["# Drift", "", *found(paths, contents, vectors, arguments.rounds), "", *gate_of_many(), ""]
    parts += measure.circumstances(MODULE, ("scikit-learn", "numpy", "scipy"))
    report = "\n".join(parts)
    print(report)
    if arguments.save:
        measure.save(report, "drift")


def embedded(photographs: Path, home: Path) -> tuple[NDArray[np.str_], Floats]:
    """Paths and vectors of the photographs, each content once, and of those that are changed."""
    images = home / "images"
    for source in SOURCES:
        files = sorted(path for path in (photographs / source).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        shutil.copytree(photographs / source, images / "as they are" / source)
        order = np.random.default_rng(1).permutation(len(files))[:CHANGED]
        for way, change in WAYS.items():
            folder = images / way / source
            folder.mkdir(parents=True)
            for at in order.tolist():
                changed = io.BytesIO()
                quality = 20 if way.startswith("JPEG") else 92
                change(Image.open(files[at]).convert("RGB")).save(changed, "JPEG", quality=quality)
                (folder / f"{at}.jpg").write_bytes(changed.getvalue())
    pipeline = Pipeline(load_settings(images_root=images, lake_root=home / "lake", model_source="demo"), True)
    run(pipeline, LogProgress(), curate=False)
    index = pipeline.searcher.open()
    rows = index.rows.drop_nulls("position").unique("content_sha256", keep="first").sort("relative_path")
    return rows["relative_path"].to_numpy().astype(np.str_), index.take(rows["position"].to_numpy())


# ----------------------------------------------------------------------- cases


def cases(paths: NDArray[np.str_], rounds: int) -> Iterator[tuple[str, float, Ids, Ids]]:
    """What came, which share, images of the version before, and of the later one."""
    of = {source: np.flatnonzero(np.char.startswith(paths, f"as they are/{source}/")) for source in SOURCES}
    for number in range(rounds):
        drawn = np.random.default_rng(number)
        for source, size in SOURCES.items():
            order = drawn.permutation(of[source])
            before, same = order[:size], order[size:]
            others = {"of the same source": same, "of another source": of["rice" if source == "coffee" else "coffee"]}
            others |= {way: np.flatnonzero(np.char.startswith(paths, f"{way}/{source}/")) for way in WAYS}
            for name, among in others.items():
                for share in SHARES:
                    came = drawn.permutation(among)[: int(size * share)]
                    yield name, share, before, np.concatenate([before, came])
            half = len(order) // 2
            yield "none in common, same source", 1.0, order[:half], order[half:]
            yield "none in common, 100 of each", 1.0, order[:100], order[100:200]


def found(paths: NDArray[np.str_], contents: NDArray[np.str_], vectors: Floats, rounds: int) -> list[str]:
    """The table of all cases."""
    place = dict(zip(contents.tolist(), range(len(contents)), strict=True))
    known = pl.Series(contents)

    def vectors_of(asked: pl.Series) -> Floats:
        return vectors[[place[content] for content in asked]]

    def measured(before: Ids, now: Ids) -> Drift:
        return drift(1, pl.Series(contents[before]), pl.Series(contents[now]), known, vectors_of)

    told: dict[tuple[str, float], list[tuple[Drift, Drift, bool]]] = defaultdict(list)
    for name, share, before, now in cases(paths, rounds):
        with mock.patch.object(ours, "_scores", _logistic):
            rival = measured(before, now)
        told[name, share].append(
            (measured(before, now), rival, _discrepancy(vectors, before, np.setdiff1d(now, before)))
        )
    lines = [
        f"Photographs of {', '.join(f'{source} ({size:,} before)' for source, size in SOURCES.items())}, "
        f"{rounds} draws of each; shares are of the version before. *Came alone*: the area of what came against the "
        "version before. *Found*: how often it is above a limit by more than two errors.",
        "",
        "| what came | share | area | came alone | "
        + " | ".join(f"found, limit {limit:g}" for limit in LIMITS)
        + " | logistic regression: came alone | found, 0.5 | MMD: found |",
        "|---" * (7 + len(LIMITS)) + "|",
    ]
    for (name, share), of in told.items():
        came, rivals = ([one.area_of_came for one in every] for every in zip(*[row[:2] for row in of], strict=True))
        cells = [f"{np.mean([one.area for one, _, _ in of]):.3f}", f"{np.mean(came):.3f}"]
        cells += [f"{np.mean([one.is_above(limit) for one, _, _ in of]):.0%}" for limit in LIMITS]
        cells += [f"{np.mean(rivals):.3f}", f"{np.mean([rival.is_above(0.5) for _, rival, _ in of]):.0%}"]
        lines.append(f"| {name} | {share:.0%} | {' | '.join(cells)} | {np.mean([mmd for _, _, mmd in of]):.0%} |")
    return lines


def _logistic(vectors: Floats, was: NDArray[np.bool_], is_now: NDArray[np.bool_], fold: Ids) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([np.flatnonzero(was), np.flatnonzero(is_now)])
    later = np.arange(len(rows)) >= was.sum()
    scores = np.zeros(len(vectors))
    for one in range(int(fold.max()) + 1):
        fitted, judged = fold[rows] != one, fold == one
        model = LogisticRegression(C=30.0, max_iter=300).fit(vectors[rows[fitted]], later[fitted])
        scores[judged] = model.decision_function(vectors[judged])
    return scores


def _discrepancy(vectors: Floats, before: Ids, came: Ids) -> bool:
    """Whether the discrepancy of what came from what was there is above that of all its permutations."""
    every = np.concatenate([before, came])
    squares = np.maximum(2 - 2 * vectors[every] @ vectors[every].T, 0)
    kernel = np.exp(-squares / np.median(squares))

    def of(later: NDArray[np.bool_]) -> float:
        weights = np.where(later, 1 / later.sum(), -1 / (~later).sum())
        return float(weights @ kernel @ weights)

    given, drawn = np.arange(len(every)) >= len(before), np.random.default_rng(0)
    return of(given) > max(of(drawn.permutation(given)) for _ in range(PERMUTATIONS))


# ------------------------------------------------------------------------ time


def gate_of_many() -> list[str]:
    """What the condition costs over 50,000 images of 768 numbers a vector, a tenth of them new."""
    rows = 50_000
    drawn = np.random.default_rng(0).standard_normal((rows, 768)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    contents = pl.Series([hashlib.sha256(b"%d" % at).hexdigest() for at in range(rows)])
    place = dict(zip(contents, range(rows), strict=True))
    start = time.perf_counter()
    drift(1, contents[: rows * 9 // 10], contents, contents, lambda asked: drawn[[place[one] for one in asked]])
    seconds = time.perf_counter() - start
    return [f"The condition over {rows:,} images, vectors of 768: {seconds:.1f} s (the limit of a gate is 5 s).", ""]


if __name__ == "__main__":
    main()
