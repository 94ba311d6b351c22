"""The graph of neighbours: the whole beside the bare product of half the matrix, what is new beside all, one scene, many vectors.

    python -m benchmarks.neighbours [--only PART]... [--vectors N] [--many N] [--save]

Vectors are those of ``benchmarks.search``: 768 dimensions with the spectrum of CLIP's, in clusters of very different
sizes. The bare product is NumPy's, float32, of the same blocks in the same order into one array, with BLAS's threads; it
and the graph take turns, and the ratio is that of the fastest of each. ``follow`` brings 1,000 new ones into a graph of
50,000, on the disk, beside making all 51,000 anew. ``alike`` is 20,000 frames of one scene, equal or with a little
noise. ``many`` is the graph by the approximate index: 2,000 vectors get a partner at a cosine from 0.9 to 0.99, and a
pair is found where each stands in the list of the other. Memory is what the process holds for itself (RssAnon), at its
most, and before it began. ``--save`` writes ``benchmarks/results/neighbours.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Figures
from benchmarks.search import World, _anonymous_mb, _anonymous_peak, _two_cores, _unit

MODULE = "benchmarks.neighbours"
PARTS = ("whole", "follow", "alike", "many")
PACKAGES = ("numpy", "faiss-cpu", "scipy", "polars", "pyarrow")
ROUNDS = 1
FOLLOWED, NEW = 50_000, 1_000
ALIKE = 20_000
PAIRS = 2_000
DIMENSION = 768


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="measure just this part")
    parser.add_argument("--vectors", type=int, default=100_000, help="of the exact graph (default 100,000)")
    parser.add_argument("--many", type=int, default=1_000_000, help="of the approximate graph (default 1,000,000)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/neighbours.md")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, *rest = arguments.child
        with _anonymous_peak() as peak:
            figures = STEPS[step](*rest)
        measure.answer(figures | {"anonymous_mb": peak[0]})
        return
    _two_cores()
    lines = ["# The graph of neighbours", "", GOAL, ""]
    parts = arguments.only or PARTS
    with tempfile.TemporaryDirectory() as scratch:
        if "whole" in parts:
            lines += _of_whole(_run("whole", arguments.vectors, scratch), arguments.vectors)
        if "follow" in parts:
            lines += _of_follow(_run("follow", scratch))
        if "alike" in parts:
            lines += _of_alike([(noise, _run("alike", noise, scratch)) for noise in ("0", "0.0005", "0.005")])
        if "many" in parts:
            lines += _of_many(_run("many", arguments.many, scratch), arguments.many)
    report = "\n".join([*lines, *measure.circumstances(MODULE, PACKAGES)])
    print(report)
    if arguments.save:
        measure.save(report, "neighbours")


GOAL = (
    "Goals, on two cores: 100,000 vectors in at most 1.5 times the bare product; 1,000 new beside 50,000 in at most 10 % of all; "
    "20,000 alike in 2 GB and minutes; of 10^6 at least 0.98 of planted pairs."
)


def _run(step: str, *rest: object) -> Figures:
    return measure.in_a_process(MODULE, step, *rest)


def _index(folder: str, vectors: Any, version: int = 1, approximate: Any = None) -> Any:
    """An index whose vectors lie in a mapped file; content i is that of the i-th vector."""
    import numpy as np
    import polars as pl

    from curation_assets.search.index import IndexInfo, SearchIndex

    number = len(vectors)
    file = Path(folder) / f"{version}.npy"
    np.save(file, vectors)
    contents = [_content(i) for i in range(number)]
    frame = pl.DataFrame(
        {"relative_path": [f"{i:07}.jpg" for i in range(number)], "content_sha256": contents}
    ).with_columns(position=pl.int_range(number, dtype=pl.Int64))
    info = IndexInfo(
        model_name="m", model_version="1", model_fingerprint="f", dimension=DIMENSION, embeddings_id="e",
        embeddings_version=version, directory_id="d", directory_version=version, images=number, vectors=number,
        positions=number, segments=(), rows_file="", keys_file="", built_at_version=1, built_at=datetime.now(UTC),
    )  # fmt: skip
    return SearchIndex(info, frame, frame, [np.load(file, mmap_mode="r")], approximate, Path(folder) / "index")


def _content(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()


def _refresh(index: Any, exact_vectors: int = 10**7) -> Any:
    from curation_assets.curate.neighbours.refresh import refresh_neighbours
    from curation_assets.progress import LogProgress

    return refresh_neighbours(index, LogProgress(), exact_vectors=exact_vectors)


def whole(number: str, scratch: str) -> Figures:
    """The exact graph of all, and the bare product."""
    import shutil

    import numpy as np

    from curation_assets.curate.neighbours.exact_lists import BLOCK

    index = _index(scratch, World().images(np.random.default_rng(1), int(number)))
    (vectors,) = index.segments
    out = np.empty(BLOCK * BLOCK, np.float32)

    def bare() -> None:
        for i in range(0, len(vectors), BLOCK):
            for j in range(i, len(vectors), BLOCK):
                left, right = np.asarray(vectors[i : i + BLOCK]), np.asarray(vectors[j : j + BLOCK])
                np.matmul(left, right.T, out=out[: len(left) * len(right)].reshape(len(left), len(right)))

    before = _anonymous_mb()
    bares, graphs, worked, done = [], [], [0.0, 0.0], None
    for _ in range(ROUNDS):
        begun = time.process_time()
        bares.append(_seconds(bare))
        between = time.process_time()
        shutil.rmtree(index.path, ignore_errors=True)
        done = _refresh(index)
        worked = [worked[0] + between - begun, worked[1] + time.process_time() - between]
        graphs.append(done.seconds)
    assert done is not None
    file = (index.path / "neighbours" / done.neighbours.info.file).stat().st_size
    return {
        "worked": worked,
        "bare": bares,
        "graph": graphs,
        "filled": done.filled,
        "before_mb": before,
        "file_mb": file / 1e6,
    }


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def follow(scratch: str) -> Figures:
    """New ones beside many, and all anew."""
    import shutil

    import numpy as np

    vectors = World().images(np.random.default_rng(1), FOLLOWED + NEW)
    old, new = _index(scratch, vectors[:FOLLOWED], 1), _index(scratch, vectors, 2)
    followed, anew = [], []
    for _ in range(ROUNDS):
        shutil.rmtree(new.path, ignore_errors=True)
        _refresh(old)
        followed.append(_refresh(new).seconds)
        shutil.rmtree(new.path)
        anew.append(_refresh(new).seconds)
    nothing = _refresh(new).seconds
    return {"followed": followed, "anew": anew, "nothing": nothing}


def alike(noise: str, scratch: str) -> Figures:
    """Frames of one scene."""
    import shutil

    import numpy as np

    rng = np.random.default_rng(1)
    scene = World().images(rng, 1)
    vectors = _unit(scene + np.float32(noise) * rng.standard_normal((ALIKE, DIMENSION), np.float32))
    index = _index(scratch, vectors)
    before = _anonymous_mb()
    shutil.rmtree(index.path, ignore_errors=True)
    done = _refresh(index)
    parts = len(np.unique(done.neighbours.parts))
    cosine = float((vectors[:100] @ vectors[100:200].T).mean())
    return {"seconds": done.seconds, "parts": parts, "filled": done.filled, "cosine": cosine, "before_mb": before}


def many(number: str, scratch: str) -> Figures:
    """By the approximate index, with planted pairs."""
    import shutil

    import numpy as np

    from curation_assets.progress import LogProgress
    from curation_assets.search import measuring
    from curation_assets.search.approximate import ApproximateIndex

    rng = np.random.default_rng(1)
    world = World()
    vectors = np.lib.format.open_memmap(f"{scratch}/drawn.npy", "w+", np.float32, (int(number), DIMENSION))
    for start in range(0, len(vectors), 50_000):
        vectors[start : start + 50_000] = world.images(rng, min(50_000, len(vectors) - start))
    places = rng.choice(len(vectors), (PAIRS, 2), replace=False)
    cosines = np.linspace(0.9, 0.99, PAIRS, dtype=np.float32)[:, None]
    originals = vectors[places[:, 0]]
    away = _unit(world.noise(rng, PAIRS) @ world.turn)
    away = _unit(away - (away * originals).sum(axis=1, keepdims=True) * originals)
    vectors[places[:, 1]] = _unit(cosines * originals + np.sqrt(1 - cosines**2) * away)
    started = time.perf_counter()
    positions = np.arange(len(vectors), dtype=np.int64)
    made = ApproximateIndex.build([vectors], positions, LogProgress())
    index = _index(scratch, vectors, 1, made)
    recall = made.tune(index.segments, {"images": measuring.sample_queries(index)}, None)
    built = time.perf_counter() - started
    before = _anonymous_mb()
    shutil.rmtree(index.path, ignore_errors=True)
    done = _refresh(index, exact_vectors=0)
    graph = done.neighbours
    first, second = (graph.node_of([_content(i) for i in side]) for side in places.T.tolist())
    forth = (np.asarray(graph.indices[first]) == second[:, None]).any(axis=1)
    back = (np.asarray(graph.indices[second]) == first[:, None]).any(axis=1)
    # What the lists should hold, of a few rows.
    asked = rng.choice(len(vectors), 200, replace=False)
    index.approximate = None
    rows, _ = index.nearest(np.asarray(vectors[asked]), 21)
    nodes = graph.node_of([_content(i) for i in asked.tolist()])
    hits = [
        len(set(graph.node_of([_content(i) for i in right.tolist() if i != one]).tolist()) & set(found[:20].tolist()))
        for one, right, found in zip(asked.tolist(), rows, np.asarray(graph.indices[nodes]), strict=True)
    ]
    return {
        "seconds": done.seconds, "built": built, "pairs": float((forth & back).mean()), "either": float((forth | back).mean()),
        "by_cosine": [float((forth & back)[part].mean()) for part in np.array_split(np.arange(PAIRS), 3)],
        "recall": sum(hits) / (20 * len(asked)), "tuned": recall, "probes": made._probes, "before_mb": before, "filled": done.filled,
    }  # fmt: skip


STEPS: dict[str, Callable[..., Figures]] = {step.__name__: step for step in (whole, follow, alike, many)}


def _of_whole(run: Figures, number: int) -> list[str]:
    ratio = min(run["graph"]) / min(run["bare"])
    return [
        f"## {number:,} vectors, exact",
        "",
        f"The graph, with its distinct lists, on the disk: **{min(run['graph']):.1f} s**, **{ratio:.2f}** of the bare product ({min(run['bare']):.1f} s). "
        f"Rounds: {_times(run['graph'])} and {_times(run['bare'])}. "
        f"In seconds of the processor, which others on the machine don't lengthen: {run['worked'][1]:.0f} to {run['worked'][0]:.0f}, **{run['worked'][1] / run['worked'][0]:.2f}**. Peak memory {run['anonymous_mb']:,.0f} MB, of which {run['before_mb']:,.0f} before it began; "
        f"file {run['file_mb']:,.0f} MB; {run['filled']:,} distinct lists were filled up.",
        "",
    ]


def _of_follow(run: Figures) -> list[str]:
    return [
        f"## {NEW:,} new beside {FOLLOWED:,}",
        "",
        f"**{min(run['followed']):.2f} s**, **{min(run['followed']) / min(run['anew']):.3f}** of making all anew ({min(run['anew']):.1f} s). "
        f"Rounds: {_times(run['followed'])} and {_times(run['anew'])}. With nothing changed {run['nothing']:.3f} s.",
        "",
    ]


def _of_alike(runs: list[tuple[str, Figures]]) -> list[str]:
    return [
        f"## {ALIKE:,} alike",
        "",
        "| noise | cosine of two | seconds | peak MB | before | parts | lists filled up |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {noise} | {run['cosine']:.4f} | **{run['seconds']:.1f}** | {run['anonymous_mb']:,.0f} | {run['before_mb']:,.0f} | {run['parts']:,} | {run['filled']:,} |"
            for noise, run in runs
        ),
        "",
    ]


def _of_many(run: Figures, number: int) -> list[str]:
    by = ", ".join(f"{share:.3f}" for share in run["by_cosine"])
    return [
        f"## {number:,} vectors, approximate",
        "",
        f"**{run['seconds']:,.0f} s** (the index itself {run['built']:.0f} s); **{run['pairs']:.4f}** of {PAIRS:,} planted pairs stand in each other's lists "
        f"(cosines 0.90-0.93, -0.96, -0.99: {by}), {run['either']:.4f} in one of them; recall of the 20 nearest {run['recall']:.3f}; probes {run['probes']}. "
        f"Peak memory {run['anonymous_mb']:,.0f} MB, of which {run['before_mb']:,.0f} before it began.",
        "",
    ]


def _times(seconds: list[float]) -> str:
    return ", ".join(f"{one:.1f}" for one in seconds)


if __name__ == "__main__":
    main()
