"""Foreign photographs planted among those of one source, and which score finds them; beside two rivals.

    python -m benchmarks.outliers [--photographs DIR] [--rounds N] [--many N] [--only-ours] [--save]

The sources are the uppermost folders of ``photographs``. For each ordered pair of them, a share of the host's number of
distinct images is drawn from the other source and put among the host's: 1 %, at least one. They come several at once, so
each finds its like. Every candidate scores all images; its AUROC is how often a foreign image scores higher than one of
the host's. Vectors are the embedded model's. The threshold of the problem ``outlier`` is judged on the sources as they
are. ``--many`` drawn vectors of 768 floats are scored and clustered, then a few new ones among them; 0 leaves that out.
``--only-ours`` leaves out the other candidates. ``--save`` writes ``benchmarks/results/outliers.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import measure
from curation_assets.curate.neighbours import exact_lists
from curation_assets.curate.neighbours.parts import dense_parts, distinct_lists
from curation_assets.curate.neighbours.vectors import NodeVectors, ids_of, values_of
from curation_assets.curate.problems import DISTANCE, KINDS, OUTLIER, thresholds
from curation_assets.curate.scores.clusters import cluster
from curation_assets.curate.scores.outliers import outlier_scores
from curation_assets.progress import LogProgress

MODULE = "benchmarks.outliers"
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "crop_photos"
OURS = "ours: 2 % of a sample of 2,048"
RIVALS = ("scikit-learn LocalOutlierFactor", "scikit-learn IsolationForest")
Floats = NDArray[np.float32]
Lists = tuple[NDArray[np.int32], Floats]


@dataclass(frozen=True)
class Source:
    """Distinct images: (n,) SHA-256 and (n, dimension) vectors; sorted by SHA-256, as nodes are."""

    contents: NDArray[np.str_]
    vectors: Floats


@dataclass(frozen=True, eq=False)
class Lake:
    """Vectors, and the distinct and plain lists of their graph; what candidates may look at."""

    vectors: Floats
    distinct: Lists
    plain: Lists


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="(default ../shared/data/crop_photos)")
    parser.add_argument("--rounds", type=int, default=5, help="each with other foreign images (default 5)")
    parser.add_argument("--many", type=int, default=100_000, help="drawn vectors (default 100000)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--only-ours", action="store_true", help="leave out the other candidates and the rivals")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/outliers.md")
    arguments = parser.parse_args()
    if arguments.child:
        measure.answer(many(int(arguments.child[1]), arguments.child[2]))
        return
    if not arguments.photographs.is_dir():
        sys.exit(f"there are no photographs at {arguments.photographs}; nothing is measured")
    with tempfile.TemporaryDirectory() as directory:
        sources = embedded(arguments.photographs, Path(directory))
        figures = measure.in_a_process(MODULE, "many", arguments.many, directory) if arguments.many else None
    report = _report(sources, arguments.rounds, only_ours=arguments.only_ours, figures=figures)
    print(report)
    if arguments.save:
        measure.save(report, "outliers")


def embedded(photographs: Path, directory: Path) -> dict[str, Source]:
    """The sources, embedded by a pipeline of their own."""
    from curation_assets.ingest import run
    from curation_assets.pipeline import Pipeline
    from curation_assets.settings import load_settings

    pipeline = Pipeline(load_settings(images_root=photographs, lake_root=directory / "lake", model_source="demo"), True)
    run(pipeline, LogProgress(), curate=False)
    found = pipeline.champion_index()
    assert found is not None
    _, index = found
    rows = index.rows.filter(pl.col("position").is_not_null()).unique("content_sha256", keep="first")
    rows = rows.with_columns(source=pl.col("relative_path").str.split("/").list.first()).sort("content_sha256")
    return {
        str(source): Source(some["content_sha256"].to_numpy().astype(str), index.take(some["position"].to_numpy()))
        for (source,), some in rows.sort("source", "content_sha256").group_by("source", maintain_order=True)
    }


def planted(host: Source, foreign: Source, share: float, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Vectors of both, in the order of their hashes; and which are foreign."""
    others = np.flatnonzero(~np.isin(foreign.contents, host.contents))
    some = np.random.default_rng(seed).choice(others, max(1, round(share * len(host.contents))), replace=False)
    contents = np.concatenate([host.contents, foreign.contents[some]])
    order = np.argsort(contents)
    is_foreign = np.arange(len(contents)) >= len(host.contents)
    return np.concatenate([host.vectors, foreign.vectors[some]])[order], is_foreign[order]


def lake_of(vectors: Floats) -> Lake:
    """What ``curate/neighbours`` makes of vectors."""
    nodes = NodeVectors([vectors], np.arange(len(vectors)))
    keys = exact_lists.of_all(nodes, 40, LogProgress())[:, :28]
    plain = ids_of(keys), values_of(keys)
    parts = dense_parts(nodes, *plain)
    return Lake(vectors, distinct_lists(nodes, *plain, parts, 20)[:2], plain)


def auroc(scores: NDArray[np.floating], is_foreign: NDArray[np.bool_]) -> float:
    """How often a foreign image scores higher than another; equal ones count half."""
    from scipy.stats import rankdata

    foreign = int(is_foreign.sum())
    ranks = rankdata(scores)[is_foreign].sum()
    return float((ranks - foreign * (foreign + 1) / 2) / (foreign * (len(scores) - foreign)))


def scored(vectors: Floats) -> Floats:
    """As the package scores."""
    nodes = NodeVectors([vectors], np.arange(len(vectors)))
    return np.asarray(outlier_scores(nodes, np.arange(len(vectors), dtype=np.int64), LogProgress()))


def _mean(lists: Lists, k: int) -> NDArray[np.float64]:
    near = np.where(np.isfinite(lists[1][:, :k]), 1 - lists[1][:, :k], np.nan)
    return np.nanmean(near, axis=1, dtype=np.float64)


def _last(lists: Lists, k: int) -> NDArray[np.float64]:
    near = np.where(np.isfinite(lists[1][:, :k]), 1 - lists[1][:, :k], np.nan)
    return np.nanmax(near, axis=1).astype(np.float64)


def _ratio(lake: Lake, k: int) -> NDArray[np.float64]:
    own, there = _mean(lake.distinct, k), lake.distinct[0][:, :k]
    others = np.where(there >= 0, own[np.maximum(there, 0)], np.nan)
    return np.asarray(own / np.maximum(np.nanmean(others, axis=1), 1e-6))


def _of_sample(lake: Lake, share: float, *, mean: bool = False) -> Floats:
    sample = min(1024, len(lake.vectors))
    cosines = lake.vectors @ lake.vectors[:sample].T
    cosines[np.arange(sample), np.arange(sample)] = -2
    near = max(1, int(np.ceil(share * sample)))
    best = -np.partition(-cosines, near - 1, axis=1)[:, :near]
    return np.asarray(1 - (best.mean(axis=1) if mean else best.min(axis=1)))


def _mahalanobis(lake: Lake) -> NDArray[np.float64]:
    from sklearn.covariance import LedoitWolf

    return np.asarray(LedoitWolf().fit(lake.vectors).mahalanobis(lake.vectors))


def _residual(lake: Lake, dimensions: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    pca = PCA(min(dimensions, len(lake.vectors) - 1), random_state=0).fit(lake.vectors)
    return np.asarray(((lake.vectors - pca.inverse_transform(pca.transform(lake.vectors))) ** 2).sum(axis=1))


def _centre(lake: Lake) -> Floats:
    mean = lake.vectors.mean(axis=0)
    return np.asarray(1 - lake.vectors @ (mean / np.linalg.norm(mean)))


def _of_clusters(lake: Lake, k: int, least: float) -> Floats:
    """Distance to the nearest centre of a cluster with at least a share of the images."""
    nodes = NodeVectors([lake.vectors], np.arange(len(lake.vectors)))
    none = np.full(len(lake.vectors), -1, np.int32)
    made = cluster(nodes, none, none > 0, k, LogProgress())
    sizes = {one: (made.cluster == one).mean() for one in made.centres}
    centres = np.array([centre for one, centre in made.centres.items() if sizes[one] >= least])
    return np.asarray(1 - (lake.vectors @ centres.T).max(axis=1))


def _local_outlier_factor(lake: Lake) -> NDArray[np.float64]:
    from sklearn.neighbors import LocalOutlierFactor

    return np.asarray(-LocalOutlierFactor(20, metric="cosine").fit(lake.vectors).negative_outlier_factor_)


def _isolation_forest(lake: Lake) -> NDArray[np.float64]:
    from sklearn.ensemble import IsolationForest

    return np.asarray(-IsolationForest(random_state=0).fit(lake.vectors).score_samples(lake.vectors))


CANDIDATES: dict[str, Callable[[Lake], NDArray[np.floating]]] = {
    OURS: lambda lake: scored(lake.vectors),
    **{f"mean distance to the {k} nearest distinct": lambda lake, k=k: _mean(lake.distinct, k) for k in (1, 5, 10, 20)},
    "mean distance to the 10 nearest": lambda lake: _mean(lake.plain, 10),
    "distance to the 20th nearest distinct": lambda lake: _last(lake.distinct, 20),
    **{f"that mean of {k} over its neighbours' own": lambda lake, k=k: _ratio(lake, k) for k in (5, 20)},
    **{
        f"distance to {share:.0%} of a sample of 1,024": lambda lake, share=share: _of_sample(lake, share)
        for share in (0.01, 0.02, 0.05, 0.1, 0.25)
    },
    "mean distance to 5% of a sample of 1,024": lambda lake: _of_sample(lake, 0.05, mean=True),
    "distance to the mean": _centre,
    "Mahalanobis, shrunk by Ledoit and Wolf": _mahalanobis,
    **{f"residual of PCA with {d} dimensions": lambda lake, d=d: _residual(lake, d) for d in (8, 32)},
    **{
        f"distance to the nearest of {k} centres": lambda lake, k=k: _of_clusters(lake, k, 0) for k in (10, 50)
    },
    "distance to the nearest of 20 centres with at least 3 %": lambda lake: _of_clusters(lake, 20, 0.03),
    "mean of 10 nearest times distance to the mean": lambda lake: _mean(lake.distinct, 10) * _centre(lake),
    RIVALS[0]: _local_outlier_factor,
    RIVALS[1]: _isolation_forest,
}  # fmt: skip


def many(number: int, scratch: str) -> measure.Figures:
    """Seconds to score and cluster so many drawn vectors, beside the bare product of float64 that scoring needs; and
    anonymous memory, as the vectors are mapped from a file."""
    from curation_assets.curate.scores.outliers import sample_size

    new, dimension = max(1, number // 200), 768
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(200, dimension)).astype(np.float32)
    stored = np.lib.format.open_memmap(f"{scratch}/vectors.npy", "w+", np.float32, (number, dimension))
    for start in range(0, number, 10_000):
        rows = stored[start : start + 10_000]
        rows[:] = kinds[rng.integers(0, 200, len(rows))] + rng.normal(size=rows.shape)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    stored.flush()
    del stored, rows
    nodes = NodeVectors([np.load(f"{scratch}/vectors.npy", mmap_mode="r")], rng.permutation(number))
    every, none = np.arange(number, dtype=np.int64), np.full(number, -1, np.int32)
    figures: measure.Figures = {"number": number, "new": new, "sample": sample_size(number)[0]}
    some, sample = rng.normal(size=(4096, dimension)), rng.normal(size=(dimension, figures["sample"]))
    started = time.perf_counter()
    for _ in range(4):
        some @ sample
    figures["product"] = (time.perf_counter() - started) * number / (4 * 4096)
    started = time.perf_counter()
    outlier_scores(nodes, every, LogProgress())
    figures["scores"] = time.perf_counter() - started
    started = time.perf_counter()
    made = cluster(nodes, none, none > 0, None, LogProgress())
    figures["clusters"] = time.perf_counter() - started
    before = made.cluster.copy()
    before[-new:] = -1
    started = time.perf_counter()
    outlier_scores(nodes, every[-new:], LogProgress())
    cluster(nodes, before, none > 0, None, LogProgress())
    figures["follow"] = time.perf_counter() - started
    status = Path("/proc/self/status").read_text().splitlines()
    figures["anonymous_mb"] = next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))
    return figures


def _of_many(figures: measure.Figures, number: int) -> list[str]:
    whole = figures["scores"] + figures["clusters"]
    return [
        "\n## Many\n",
        f"{number:,} drawn vectors of 768 floats, in an order of their own in a mapped file.\n",
        "| | seconds |",
        "|---|---|",
        f"| the product with the sample alone, float64 | {figures['product']:.1f} |",
        f"| outlier scores | {figures['scores']:.1f}, **{figures['scores'] / figures['product']:.2f}** of it |",
        f"| clusters, laid out | {figures['clusters']:.1f} |",
        f"| {figures['new']:,} new beside them | {figures['follow']:.1f}, **{figures['follow'] / whole:.3f}** of both |",
        f"\nMemory beside the mapped vectors at the end: {figures['anonymous_mb']:.0f} MB.",
    ]


def _report(sources: dict[str, Source], rounds: int, *, only_ours: bool, figures: measure.Figures | None) -> str:
    lines = ["# Outliers\n", _told(sources, rounds)]
    chosen = {OURS: CANDIDATES[OURS]} if only_ours else CANDIDATES
    of_pairs: dict[str, dict[tuple[str, str], list[float]]] = {name: {} for name in chosen}
    seconds = dict.fromkeys(chosen, 0.0)
    caught: dict[tuple[str, str], list[float]] = {}
    for host, foreign, number in _pairs(sources, rounds):
        vectors, is_foreign = planted(sources[host], sources[foreign], 0.01, number)
        lake = lake_of(vectors)
        for name, candidate in chosen.items():
            started = time.perf_counter()
            scores = candidate(lake)
            seconds[name] += time.perf_counter() - started
            of_pairs[name].setdefault((host, foreign), []).append(auroc(scores, is_foreign))
            if name == OURS:
                caught.setdefault((host, foreign), []).append(float(verdicts(scores)[is_foreign].mean()))
    lines += [
        "\n## 1 % foreign, all candidates\n",
        "| score | mean | least pair | least | seconds |",
        "|---|---|---|---|---|",
    ]
    rows = [(name, _means(found), min(min(some) for some in found.values())) for name, found in of_pairs.items()]
    for name, means, least in sorted(rows, key=lambda row: -min(row[1])):
        bold = "**" if name == OURS else ""
        told = " | ".join(f"{bold}{value:.3f}{bold}" for value in (float(np.mean(means)), min(means), least))
        lines.append(f"| {bold}{name}{bold} | {told} | {seconds[name]:.1f} |")
    lines += _of_ours(of_pairs[OURS], caught)
    lines += _of_shares(sources, rounds)
    lines += _alarms(sources)
    if figures is not None:
        lines += _of_many(figures, int(figures["number"]))
    return "\n".join([*lines, "", *measure.circumstances(MODULE, ("numpy", "scikit-learn"))]) + "\n"


def _told(sources: dict[str, Source], rounds: int) -> str:
    numbers = ", ".join(f"{name} {len(source.contents):,}" for name, source in sources.items())
    return (
        f"Distinct photographs of each source: {numbers}. The embedded model's vectors. {rounds} rounds of each of the "
        f"{len(sources) * (len(sources) - 1)} ordered pairs. `least pair` is the mean over rounds of the worst pair, `least` the "
        "worst round of all. A graph of neighbours is there already and costs a candidate nothing."
    )


def _pairs(sources: dict[str, Source], rounds: int) -> list[tuple[str, str, int]]:
    return [(host, foreign, n) for host in sources for foreign in sources if host != foreign for n in range(rounds)]


def _means(found: dict[tuple[str, str], list[float]]) -> list[float]:
    return [float(np.mean(some)) for some in found.values()]


def verdicts(scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether each is an outlier, by the default threshold."""
    rows = pl.DataFrame({DISTANCE: scores.astype(np.float32)})
    return np.asarray(rows.select(found=KINDS[OUTLIER].score > thresholds()[OUTLIER])["found"].fill_null(value=False))


def _of_ours(found: dict[tuple[str, str], list[float]], caught: dict[tuple[str, str], list[float]]) -> list[str]:
    lines = [
        "\n## Ours, pair by pair\n",
        "AUROC; and the share of the foreign that the problem `outlier` finds by default.\n",
    ]
    lines += ["| host | foreign | mean | least | found |", "|---|---|---|---|---|"]
    for (host, foreign), some in found.items():
        share = float(np.mean(caught[host, foreign]))
        lines.append(f"| {host} | {foreign} | **{np.mean(some):.3f}** | {min(some):.3f} | {share:.2f} |")
    return lines


def _of_shares(sources: dict[str, Source], rounds: int) -> list[str]:
    lines = ["\n## Ours, other shares\n", "| foreign | mean | least pair | least |", "|---|---|---|---|"]
    for share in (0.001, 0.005, 0.01, 0.015, 0.02, 0.03):
        found: dict[tuple[str, str], list[float]] = {}
        for host, foreign, number in _pairs(sources, rounds):
            if share * len(sources[host].contents) > len(sources[foreign].contents):
                continue
            vectors, is_foreign = planted(sources[host], sources[foreign], share, number)
            found.setdefault((host, foreign), []).append(auroc(scored(vectors), is_foreign))
        means = _means(found)
        least = min(min(some) for some in found.values())
        lines.append(f"| {share:.1%} | **{np.mean(means):.3f}** | {min(means):.3f} | {least:.3f} |")
    return lines


def _alarms(sources: dict[str, Source]) -> list[str]:
    """What the default threshold, and others, say of the sources as they are, and of all in one lake."""
    tried = (2.5, 3.0, 3.5, 4.0)
    lines = [
        "\n## False alarms\n",
        "Share of untouched photographs that the problem `outlier` names, by its threshold.\n",
    ]
    lines += [f"| | {' | '.join(f'{limit:g}' for limit in tried)} |", f"|---|{'---|' * len(tried)}"]
    contents = np.concatenate([source.contents for source in sources.values()])
    vectors = np.concatenate([source.vectors for source in sources.values()])
    order = np.unique(contents, return_index=True)[1]
    for name, some in (
        {name: of.vectors for name, of in sources.items()} | {"all in one lake": vectors[order]}
    ).items():
        rows = pl.DataFrame({DISTANCE: scored(some)})
        said = rows.select(score=KINDS[OUTLIER].score)["score"]
        lines.append(f"| {name} | {' | '.join(f'{(said > limit).mean():.2%}' for limit in tried)} |")
    return lines


if __name__ == "__main__":
    main()
