"""How well the subsets ``diverse`` and ``representative`` stand for real photographs, beside rivals; and what many cost.

    python -m benchmarks.subsets [--photographs DIR] [--home DIR] [--rows N] [--size K] [--save]

Sets are the uppermost folders of ``photographs`` with a few hundred images, and all of them; each content once. Vectors
are the embedded model's. What comes last in a subset (images with a problem) is left out before, for the rivals too:
random; random of each of as many clusters (k-means); the medoids of those clusters. Classes are the folders, of fruit the
beginnings of the names; a class is rare with less than half of the mean number. ``--home`` keeps lake and index for the
next time. ``--rows`` drawn vectors of 768 floats in clusters are chosen from too, each in a process of its own, beside a
plain farthest-first traversal. ``--save`` writes ``benchmarks/results/subsets.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks import measure
from curation_assets.curate.overview import as_decided
from curation_assets.curate.problems import KINDS, OF_PICTURE
from curation_assets.datasets.recipe import Subset
from curation_assets.datasets.subsets.choosing import choose
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings

MODULE = "benchmarks.subsets"
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "crop_photos"
SIZES = (20, 100, 500)
ROUNDS = 10  # of what is drawn
LEAST = 250  # images of a set
OURS = ("diverse", "representative")
RIVALS = ("random", "random of each cluster", "k-means medoids")
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="(default ../shared/data/crop_photos)")
    parser.add_argument("--home", type=Path, help="of lake and index, which are kept (default: a temporary folder)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/subsets.md")
    arguments = parser.parse_args()
    if arguments.child:
        step, rows, size = arguments.child
        measure.answer(plain(int(rows), int(size)) if step == "plain" else ours(step, int(rows), int(size)))
        return
    parts = ["# Subsets", ""]
    if arguments.photographs.is_dir():
        with tempfile.TemporaryDirectory() as directory:
            images, vectors = curated(arguments.photographs, arguments.home or Path(directory))
        parts += real(images, vectors)
    else:
        print(f"there are no photographs at {arguments.photographs}", file=sys.stderr)
    parts += ["", *many(arguments.rows, arguments.size), "", *measure.circumstances(MODULE, ("numpy", "scikit-learn"))]
    report = "\n".join(parts)
    print(report)
    if arguments.save:
        measure.save(report, "subsets")


def curated(photographs: Path, home: Path) -> tuple[pl.DataFrame, Floats]:
    """Images that don't come last, each content once: ``relative_path``, ``content_sha256``; and their vectors."""
    settings = load_settings(images_root=photographs, lake_root=home / "lake", model_source="demo")
    pipeline = Pipeline(settings, True)
    run(pipeline, LogProgress())
    kinds = [kind.name for kind in KINDS.values() if kind.told_by in OF_PICTURE]
    index = pipeline.searcher.open()
    rows = as_decided(pipeline.judged_rows()).filter(~pl.any_horizontal(kinds)).select("relative_path")
    found = index.rows.join(rows, on="relative_path", how="semi").drop_nulls("position")
    found = found.sort("relative_path").unique("content_sha256", keep="first", maintain_order=True)
    vectors = index.take(found["position"].to_numpy())
    return found.select("relative_path", "content_sha256"), vectors


def class_of(path: str) -> str:
    """Of a photograph: its folder, of fruit the beginning of its name."""
    folder, _, name = path.rpartition("/")
    return re.sub(r"_.*", "", name) if folder.startswith("fruit") else re.sub("/(train|val|test)/", "/", folder)


# ------------------------------------------------------------------ photographs


def real(images: pl.DataFrame, vectors: Floats) -> list[str]:
    """The table of all sets, sizes and ways."""
    source = images["relative_path"].str.split("/").list.first()
    sets = {name: np.flatnonzero((source == name).to_numpy()) for name in sorted(source.unique())}
    sets = {name: rows for name, rows in sets.items() if len(rows) >= LEAST} | {"all": np.arange(len(images))}
    lines = [
        "Cosine distance of all images to the nearest chosen one: the largest and the mean one (of what is drawn, the "
        f"mean of {ROUNDS} draws), and which share of the rare classes has one that is chosen, at least.",
        "",
        "| set | size | | " + " | ".join((*OURS, *RIVALS)) + " |",
        "|---|---|---|" + "---|" * len((*OURS, *RIVALS)),
    ]
    for name, rows in sets.items():
        some, of = images[rows], vectors[rows]
        classes = some["relative_path"].map_elements(class_of, pl.String)
        rare = rare_classes(classes)
        for size in SIZES:
            if size >= len(rows) * 0.8:
                continue
            told: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
            for way in (*OURS, *RIVALS):
                for seed in range(ROUNDS):
                    chosen = WAYS[way](some, of, size, seed)
                    nearest = (of @ of[chosen].T).max(axis=1)
                    recall = len(rare.intersection(classes.gather(chosen))) / len(rare) if rare else np.nan
                    told[way].append((1 - float(nearest.min()), 1 - float(nearest.mean()), recall))
            for at, what in enumerate(("largest", "mean", f"of {len(rare)} rare classes")):
                cells = [float(np.mean([one[at] for one in told[way]])) for way in (*OURS, *RIVALS)]
                shown = [f"{cell:.0%}" if at == 2 else f"{cell:.4f}" for cell in cells]
                which = f"{name} ({len(rows):,})" if (size, at) == (SIZES[0], 0) else ""
                lines.append(f"| {which} | {size if not at else ''} | {what} | {' | '.join(shown)} |")
    return lines


def rare_classes(classes: pl.Series) -> set[str]:
    """With less than half of the mean number of images."""
    counts = classes.value_counts()
    return set(counts.filter(pl.col("count") < len(classes) / len(counts) / 2)[classes.name])


def _ours(strategy: str) -> Callable[[pl.DataFrame, Floats, int, int], Ids]:
    def way(images: pl.DataFrame, vectors: Floats, size: int, seed: int) -> Ids:
        asked = images.with_columns(
            label=pl.lit(None, pl.String), last=pl.lit(None, pl.String), must=pl.lit(value=False)
        ).with_columns(position=pl.int_range(len(images)))
        found = choose(asked, Subset(size=size, strategy=strategy, seed=seed), [vectors], LogProgress())  # type: ignore[arg-type]
        return np.flatnonzero(images["relative_path"].is_in(found.paths.implode()).to_numpy())

    return way


def _random(_: pl.DataFrame, vectors: Floats, size: int, seed: int) -> Ids:
    return np.random.default_rng(seed).choice(len(vectors), size, replace=False)


def _clusters(vectors: Floats, size: int, seed: int) -> KMeans:
    return KMeans(size, n_init=1, random_state=seed).fit(vectors)


def _random_of_each(_: pl.DataFrame, vectors: Floats, size: int, seed: int) -> Ids:
    order = np.random.default_rng(seed).permutation(len(vectors))
    first = np.unique(_clusters(vectors, size, seed).labels_[order], return_index=True)[1]
    return np.asarray(order[first])


def _medoids(_: pl.DataFrame, vectors: Floats, size: int, seed: int) -> Ids:
    distances = _clusters(vectors, size, seed).transform(vectors)
    return np.unique(distances.argmin(axis=0))


WAYS: dict[str, Callable[[pl.DataFrame, Floats, int, int], Ids]] = {
    **{strategy: _ours(strategy) for strategy in OURS},
    "random": _random,
    "random of each cluster": _random_of_each,
    "k-means medoids": _medoids,
}


# ------------------------------------------------------------------------- many


def many(rows: int, size: int) -> list[str]:
    """What choosing of many costs."""
    figures = {step: measure.in_a_process(MODULE, step, rows, size) for step in ("plain", *OURS)}
    lines = [
        f"{size:,} of {rows:,} drawn vectors of 768 floats, in 300 clusters of very different sizes and widths. The "
        "measures beside random subsets are a part of it. *Plain*: a farthest-first traversal that looks at all vectors "
        "for each that it chooses (float32, BLAS on all cores). Memory is that of the process beyond the vectors.",
        "",
        "| | seconds | memory, MB | largest | mean |",
        "|---|---|---|---|---|",
    ]
    for step, of in figures.items():
        told = [f"{of[name]:.4f}" for name in ("largest", "mean")]
        lines.append(f"| {step} | {of['seconds']:.1f} | {of['peak_mb'] - of['before_mb']:.0f} | {' | '.join(told)} |")
    ratio = figures["diverse"]["largest"] / figures["plain"]["largest"]
    same = "the same images" if figures["diverse"]["chosen"] == figures["plain"]["chosen"] else "other images"
    return [
        *lines,
        "",
        f"The largest distance of `diverse` is {ratio:.4f} of the plain traversal's: {same} are chosen.",
    ]


def drawn(rows: int) -> Floats:
    """(rows, 768) unit vectors in clusters."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((300, 768), np.float32)
    vectors = centres[rng.choice(300, rows, p=rng.dirichlet(np.full(300, 0.5)))]
    for start in range(0, rows, 10_000):
        part = vectors[start : start + 10_000]
        width = rng.gamma(2, 0.3, (len(part), 1)).astype(np.float32)
        part += rng.standard_normal(part.shape, np.float32) * width
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def asked_of(rows: int) -> pl.DataFrame:
    """Images of drawn vectors."""
    contents = [hashlib.sha256(b"%d" % at).hexdigest() for at in range(rows)]
    return pl.DataFrame({"relative_path": contents, "content_sha256": contents, "position": range(rows)}).with_columns(
        label=pl.lit(None, pl.String), last=pl.lit(None, pl.String), must=pl.lit(value=False)
    )


def ours(strategy: str, rows: int, size: int) -> measure.Figures:
    """Figures of a strategy."""
    vectors, images = drawn(rows), asked_of(rows)
    before = measure.peak_mb()
    start = time.perf_counter()
    found = choose(images, Subset(size=size, strategy=strategy), [vectors], LogProgress())  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    assert found.measured is not None
    told: dict[str, Any] = {"seconds": seconds, "before_mb": before, "chosen": digest(found.paths.to_list())}
    return told | {"largest": found.measured.largest, "mean": found.measured.mean}


def plain(rows: int, size: int) -> measure.Figures:
    """Figures of a traversal that looks at all each time, beginning where ours does."""
    vectors, images = drawn(rows), asked_of(rows)
    first = choose(images, Subset(size=1, strategy="diverse"), [vectors], LogProgress()).paths[0]
    contents = images["relative_path"].to_list()
    before = measure.peak_mb()
    start = time.perf_counter()
    nearest, chosen = np.full(rows, -np.inf, np.float32), [contents.index(first)]
    while True:
        np.maximum(nearest, vectors @ vectors[chosen[-1]], out=nearest)
        if len(chosen) == size:
            break
        open_ones = nearest.copy()
        open_ones[chosen] = np.inf
        chosen.append(int(open_ones.argmin()))
    told: dict[str, Any] = {"seconds": time.perf_counter() - start, "before_mb": before}
    told |= {"chosen": digest([contents[at] for at in chosen])}
    return told | {"largest": 1 - float(nearest.min()), "mean": 1 - float(nearest.mean())}


def digest(contents: list[str]) -> str:
    """Of a set of images."""
    return hashlib.sha256("".join(sorted(contents)).encode()).hexdigest()[:12]


if __name__ == "__main__":
    main()
