"""Search beside rivals: build, memory, latency of one query and of 64, recall, filters, and an index that follows its tables.

    python -m benchmarks.search [--vectors N,N] [--only PART]... [--save]

A lake of two Delta tables is written first, by the package's own writers: 100 folders, rows without image bytes, and
vectors of 768 dimensions with the spectrum of CLIP's, in 2,000 clusters of very different sizes around a direction
that all share. Half of the queries are images that are not in the lake; the other half lie apart from all images, as
vectors of texts do. All engines get the same vectors, the same queries, k = 10 and two cores.

A rival runs in a process of its own, in which our index is open too: both answer 20 queries in turn, so that whatever
else runs on the machine falls on both, and how many times as long a rival takes is the ratio of the medians. Its
memory is taken before our index is opened. NumPy is `x @ q` and argpartition over an array in memory; FAISS is
IndexFlatIP, which gives one query one thread; DuckDB is array_inner_product over FLOAT[768] in memory, 64 queries at
once by a join and max_by; LanceDB is a table on disk, compared vector by vector, and above the number of vectors from
which on our index is approximate its IVF_PQ index (√n partitions, its default; a code of 8 bits for 8 dimensions, twice
as many as its default), at the fastest of some nprobes and refine_factor that finds 98 % for queries of their own. Memory is what processes hold for themselves
(RssAnon); pages of mapped files come on top while there is room, and can be dropped at any time. ``--save`` writes
``benchmarks/results/search.md``. LanceDB comes with ``pip install -e '.[benchmark]'``, DuckDB with ``.[dev]``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Figures

MODULE = "benchmarks.search"
PARTS = ("ours", "rivals", "changes")
PACKAGES = ("numpy", "faiss-cpu", "polars", "pyarrow", "deltalake", "lancedb", "duckdb")
THREADS = 2
DIMENSION, CLUSTERS, FOLDERS = 768, 2_000, 100
K, BATCH = 10, 64
QUERIES, TUNING, PROBES = 200, 128, 56  # the first half like images, the second like texts; all probes like texts
TURN = 20  # queries that an engine answers before it is the other's turn
PATIENCE = 60.0  # seconds that a rival and we take turns for; a turn that has begun is ended
BLOCK = 50_000
BYTES_A_VECTOR = 12_000  # of disk: the lake, an index, and another or a rival's table
RECALL = 0.98
RIVALS = {"numpy": "NumPy", "faiss": "FAISS IndexFlatIP", "lance_flat": "LanceDB, no index", "lance_ivf": "LanceDB, IVF_PQ", "duckdb": "DuckDB"}  # fmt: skip
GOAL = "Goals, on two cores: exact at most 10 ms a query of 10^5 vectors; at most 5 ms of 10^6 with recall@10 of 0.98 or more."
CHANGED = "farm_05/plot_05"
CONDITIONS: dict[str, dict[str, Any]] = {
    "a folder": {"folder": "farm_03/plot_07"},
    "a folder of folders": {"folder": "farm_03"},
    "a part of the name": {"name": "7.jpg"},
    "a condition in SQL": {"where": "width > 2500"},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--vectors", default="100000,1000000", help="how many, several with commas (default 100000,1000000)"
    )
    parser.add_argument(
        "--exact-vectors", type=int, help="of more an approximate index is made (default the package's)"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="measure just this part")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/search.md")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, *rest = arguments.child
        with _anonymous_peak() as peak:
            figures = STEPS[step](*rest)
        measure.answer(figures | {"anonymous_mb": peak[0]})
        return
    _two_cores()
    most = _exact_vectors() if arguments.exact_vectors is None else arguments.exact_vectors
    lines = []
    for number in (int(text.replace("_", "")) for text in arguments.vectors.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            lines += _measure(Path(scratch), number, most, arguments.only or PARTS)
    report = "\n".join(["# Search", "", GOAL, "", *lines, *measure.circumstances(MODULE, PACKAGES)])
    print(report)
    if arguments.save:
        measure.save(report, "search")


def _two_cores() -> None:
    """This process and those that it starts use the same two cores, whatever library starts their threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    os.environ.update(
        dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "LANCE_CPU_THREADS"), str(THREADS)
        )
    )


def _exact_vectors() -> int:
    from curation_assets.settings import Settings

    return int(Settings.model_fields["search_exact_vectors"].default)


# --- the lake: ``home`` holds its tables, the queries and the indexes ---


class World:
    """Where vectors come from: heavy-tailed clusters around a common direction, energy 1 / (i + 10) of the i-th axis, turned."""

    def __init__(self) -> None:
        import numpy as np

        rng = np.random.default_rng(7)
        energy = 1 / (np.arange(DIMENSION) + 10)
        self.scale = np.sqrt(energy / energy.sum()).astype(np.float32)
        self.turn = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)
        self.centres, self.common, self.texts = (_unit(self.noise(rng, n)) for n in (CLUSTERS, 1, 1))
        weights = np.exp(1.3 * rng.standard_normal(CLUSTERS))
        self.weights = weights / weights.sum()
        self.tightness = rng.uniform(0.6, 0.8, CLUSTERS).astype(np.float32)

    def noise(self, rng: Any, number: int) -> Any:
        import numpy as np

        return rng.standard_normal((number, DIMENSION), np.float32) * self.scale

    def images(self, rng: Any, number: int) -> Any:
        """(number, dimension) unit vectors."""
        return _unit(self._drawn(rng, number, None) @ self.turn)

    def like_texts(self, rng: Any, number: int) -> Any:
        """The same for texts: looser, and all of them off in one direction."""
        return _unit((0.5 * self.texts + _unit(self._drawn(rng, number, 0.5))) @ self.turn)

    def _drawn(self, rng: Any, number: int, tightness: float | None) -> Any:
        import numpy as np

        cluster = rng.choice(CLUSTERS, number, p=self.weights)
        tight = self.tightness[cluster, None] if tightness is None else np.float32(tightness)
        near = np.sqrt(tight - np.float32(0.3)) * self.centres[cluster]
        return near + np.sqrt(1 - tight) * self.noise(rng, number) + np.sqrt(np.float32(0.3)) * self.common


def _unit(vectors: Any) -> Any:
    import numpy as np

    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lake(home: str, vectors: str) -> Figures:
    """Write the tables and the queries."""
    import numpy as np

    world, rng = World(), np.random.default_rng(1)
    started = time.perf_counter()
    for name, number in (("queries", QUERIES), ("tuning", TUNING)):
        both = [world.images(rng, number // 2), world.like_texts(rng, number // 2)]
        np.save(Path(home) / f"{name}.npy", np.concatenate(both))
    np.save(Path(home) / "probes.npy", world.like_texts(rng, PROBES))
    for table in _tables(home):
        table.create()
    for place in range(FOLDERS):
        _put(home, f"farm_{place // 10:02}/plot_{place % 10:02}", int(vectors) // FOLDERS, world, seed=place)
    return {"seconds": time.perf_counter() - started}


def change(home: str, vectors: str) -> Figures:
    """New images in place of those of one folder of 100."""
    _put(home, CHANGED, int(vectors) // FOLDERS, World(), seed=FOLDERS)
    return {}


def _tables(home: str) -> tuple[Any, Any]:
    from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS
    from curation_assets.lake.table import LakeTable

    return LakeTable(Path(home) / "lake" / "images", DIRECTORY), LakeTable(
        Path(home) / "lake" / "embeddings", EMBEDDINGS
    )


def _put(home: str, folder: str, number: int, world: World, seed: int) -> None:
    """Make a folder's images new ones, in both tables."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    rng, model, moment = np.random.default_rng([2, seed]), _model(), datetime(2026, 5, 1, tzinfo=UTC)
    rows = pl.DataFrame({"file_name": [f"IMG_{i:06}.jpg" for i in range(number)]}).with_columns(
        relative_path=folder + "/" + pl.col("file_name"),
        file_path="/data/photographs/" + folder + "/" + pl.col("file_name"),
        content_sha256=pl.Series([hashlib.sha256(f"{seed} {i}".encode()).hexdigest() for i in range(number)]),
        size_bytes=pl.Series(rng.integers(50_000, 5_000_000, number)),
        width=pl.Series(rng.integers(1_000, 4_000, number, np.int32)),
        height=pl.Series(rng.integers(1_000, 4_000, number, np.int32)),
        mtime_ns=pl.Series(rng.integers(0, 2**60, number)),
        latitude=pl.Series(rng.uniform(50, 53, number)),
        longitude=pl.Series(rng.uniform(9, 14, number)),
        **{name: pl.lit(moment, pl.Datetime("us", "UTC")) for name in ("created_at", "modified_at", "captured_at", "embedded_at")},
        **{name: pl.lit(value) for name, value in {"format": "JPEG", "mode": "RGB", "camera": "Canon EOS 90D", "status": "ok"}.items()},
        model_name=pl.lit(model.name), model_version=pl.lit(model.version), model_fingerprint=pl.lit(model.fingerprint),
    )  # fmt: skip
    floats = pa.array(world.images(rng, number).ravel())
    vectors = pa.ListArray.from_arrays(pa.array(np.arange(number + 1, dtype=np.int32) * DIMENSION), floats)
    known = rows.to_arrow().append_column("embeddings", vectors)
    for table in _tables(home):
        schema = table.spec.file_schema
        columns = [
            known[f.name].cast(f.type) if f.name in known.column_names else pa.nulls(number, f.type) for f in schema
        ]
        with table.writer(folder) as writer:
            before = table.snapshot()
            with writer.file() as stage:
                for batch in pa.table(columns, schema=schema).to_batches(max_chunksize=2048):
                    stage.write(batch)
            table.replace(folder, before, add=stage.files, remove=before.files(folder))


def _model() -> Any:
    from curation_assets.clip.versions import RegisteredModel

    return RegisteredModel(
        name="c.s.model", version="1", run_id="run", source="benchmark", fingerprint="f" * 32, dimension=DIMENSION,
        image_size=224, parameters=1, demonstration=False,
    )  # fmt: skip


class OneModel:
    """A registry of nothing but that model."""

    def champion(self) -> Any:
        return _model()


def _searcher(home: str, indexes: str = "indexes", most: int = 0) -> Any:
    from curation_assets.search.searcher import Searcher

    registry: Any = OneModel()
    encoder: Any = None
    return Searcher(*_tables(home), registry, encoder, Path(home) / indexes, most)


def _open(home: str) -> Any:
    from curation_assets.search.index import SearchIndex

    return SearchIndex.open(_searcher(home).location_of(_model()))


def _load(home: str, name: str) -> Any:
    import numpy as np

    return np.load(Path(home) / f"{name}.npy")


# --- what is measured, each in a process of its own ---


def build(home: str, indexes: str, most: str) -> Figures:
    """``curation index`` without its model: anew, or what changed, or nothing."""
    from curation_assets.search.refresh import refresh

    path, stages = _searcher(home, indexes).location_of(_model()), Stages()
    before = _anonymous_mb()
    directory, embeddings = (table.snapshot() for table in _tables(home))
    done = refresh(
        path, directory, embeddings, _model(), stages, exact_vectors=int(most), probes=lambda: _load(home, "probes")
    )
    seconds = stages.ended()
    info = done.index.info
    return {
        "seconds": sum(seconds.values()), "stages": {stage: round(value, 2) for stage, value in seconds.items()},
        "rebuilt": done.rebuilt, "changed": done.changed, "added": len(done.added), "kind": info.kind, "recall": info.recall,
        "settings": info.approximate, "before_mb": before,
        "share": sum(file.stat().st_size for file in path.iterdir()) / (4 * DIMENSION * info.vectors),
    }  # fmt: skip


class Stages:
    """Progress that remembers how long each task took."""

    def __init__(self) -> None:
        self.began = [("tables", time.perf_counter())]
        self.last = 0.0

    def step(self, phase: str, index: int, total: int) -> None: ...

    def note(self, message: str) -> None: ...

    def start(self, task: str, total: int) -> None:  # noqa: ARG002
        self.began.append(({"index": "vectors"}.get(task, task.removeprefix("index: ")), time.perf_counter()))

    def advance(self, images: int) -> None:  # noqa: ARG002
        self.last = time.perf_counter()

    def ended(self) -> dict[str, float]:
        """Seconds of each stage; the last is what follows the last image: measuring, writing, opening."""
        self.began.append(("measure and write", max(self.last, self.began[-1][1])))
        moments = [moment for _, moment in self.began] + [time.perf_counter()]
        return {name: moments[i + 1] - moments[i] for i, (name, _) in enumerate(self.began)}


def truth(home: str) -> Figures:
    """Positions of the exact nearest, by nothing but NumPy."""
    import numpy as np

    vectors = _vectors(home)
    for name in ("queries", "tuning"):
        queries, found = _load(home, name), []
        for start in range(0, len(vectors), BLOCK):
            cosines = queries @ vectors[start : start + BLOCK].T
            best = np.argpartition(cosines, -K, axis=1)[:, -K:]
            found.append((np.take_along_axis(cosines, best, axis=1), best + start))
        cosines, positions = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        order = np.argsort(-cosines, axis=1)[:, :K]
        np.save(Path(home) / f"{name}-truth.npy", np.take_along_axis(positions, order, axis=1))
    return {}


def ours(home: str) -> Figures:
    """Opening, single queries, batches and filters."""
    from curation_assets.search.index import SearchIndex
    from curation_assets.search.query import Picture, Query

    searcher, queries = _searcher(home), _load(home, "queries")
    path = searcher.location_of(_model())
    opening = [_ms(lambda: SearchIndex.open(path)) for _ in range(5)]
    index = _open(home)
    first = [_ms(lambda: index.nearest(queries[:1], K)) for _ in range(2)]
    times, answers = _in_turn(_ours(index), queries)
    batches, _ = _in_turn(_ours(index), queries, BATCH)
    asked = [Query((Picture(query, _model().fingerprint),)) for query in queries]
    searcher.search(asked[0], K)
    whole = [_ms(lambda query=query: searcher.search(query, K)) for query in asked[:100]]
    conditions = {}
    for name, condition in CONDITIONS.items():
        chosen, figures = _filter(condition), []
        for query, vector in zip(asked[::4], queries[::4], strict=True):
            started = time.perf_counter()
            rows = searcher.matching(index, chosen)
            between = time.perf_counter()
            index.nearest(vector[None], K, rows)
            ended = time.perf_counter()
            searcher.search(query, K, filter=chosen)
            figures.append([between - started, ended - between, time.perf_counter() - ended])
        conditions[name] = [len(rows), *(1e3 * statistics.median(column) for column in zip(*figures, strict=True))]
    return {
        "kind": index.info.kind, "open": [opening[0], statistics.median(opening)], "first": first[0],
        "single": {name: [statistics.median(ms), min(ms)] for name, ms in times.items()},
        "batch": {name: statistics.median(ms) for name, ms in batches.items()},
        "recall": {name: _recall(home, found) for name, found in answers.items()},
        "search": statistics.median(whole), "conditions": conditions, "mb": _anonymous_mb(),
    }  # fmt: skip


def rival(home: str, name: str) -> Figures:
    """A rival and our index in turn."""
    queries = _load(home, "queries")
    started = time.perf_counter()
    try:
        candidates = ENGINES[name](_vectors(home), Path(home))
    except ImportError as error:
        return {"missing": str(error)}
    seconds = time.perf_counter() - started
    said, engine = _fastest(home, candidates)
    engine(queries[:1])
    figures: Figures = {"build": seconds, "said": said, "mb": _anonymous_mb()}
    engines = {"rival": engine} | _ours(_open(home))
    times, answers = _in_turn(engines, queries)
    batches, _ = _in_turn(engines, queries, BATCH)
    return figures | {
        "queries": len(times["rival"]),
        "single": {engine: statistics.median(ms) for engine, ms in times.items()},
        "batch": {engine: statistics.median(ms) for engine, ms in batches.items()},
        "recall": _recall(home, answers["rival"]),
    }


def _filter(condition: dict[str, Any]) -> Any:
    from curation_assets.search.filters import make_filter

    return make_filter(**condition)


Engine = Callable[[Any], Any]  # (q, dimension) → positions (q, k)
Candidates = dict[str, Engine]  # an engine with some settings, by what they are


def _ours(index: Any) -> dict[str, Engine]:
    positions = index.rows["position"].to_numpy()
    engines: dict[str, Engine] = {"exact": lambda queries: positions[index.nearest(queries, K, approximate=False)[0]]}
    if index.info.kind == "approximate":
        engines["approximate"] = lambda queries: positions[index.nearest(queries, K)[0]]
    return engines


def _numpy(vectors: Any, home: Path) -> Candidates:  # noqa: ARG001
    import numpy as np

    held = np.array(vectors)

    def search(queries: Any) -> Any:
        cosines = (held @ queries[0])[None] if len(queries) == 1 else queries @ held.T
        best = np.argpartition(cosines, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(cosines, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    return {"": search}


def _faiss(vectors: Any, home: Path) -> Candidates:  # noqa: ARG001
    import faiss

    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(vectors)

    def search(queries: Any) -> Any:
        faiss.omp_set_num_threads(THREADS)  # our index sets it too
        return index.search(queries, K)[1]

    return {"": search}


def _duckdb(vectors: Any, home: Path) -> Candidates:  # noqa: ARG001
    import duckdb
    import numpy as np
    import pyarrow as pa

    database = duckdb.connect(config={"threads": THREADS})
    database.execute(f"CREATE TABLE images (id INTEGER, vector FLOAT[{DIMENSION}])")
    for part in _arrow(vectors):
        database.register("part", pa.Table.from_batches([part]))
        database.execute("INSERT INTO images SELECT * FROM part")
    one = f"SELECT id FROM images ORDER BY array_inner_product(vector, ?::FLOAT[{DIMENSION}]) DESC LIMIT {K}"
    several = f"SELECT q.id, max_by(i.id, array_inner_product(i.vector, q.vector), {K}) FROM images i, queries q GROUP BY q.id ORDER BY q.id"

    def search(queries: Any) -> Any:
        if len(queries) == 1:
            return np.array([[row[0] for row in database.execute(one, [queries[0].tolist()]).fetchall()]])
        database.register("queries", pa.Table.from_batches(list(_arrow(queries))))
        return np.array(
            [
                row[1]
                for row in database.execute(several.replace("q.vector", f"q.vector::FLOAT[{DIMENSION}]")).fetchall()
            ]
        )

    return {"": search}


def _lance_flat(vectors: Any, home: Path) -> Candidates:
    table = _lance_table(vectors, home)
    return {"": _lance_search(lambda queries: table.search(queries).distance_type("dot").bypass_vector_index())}


def _lance_ivf(vectors: Any, home: Path) -> Candidates:
    from lancedb.index import IvfPq

    table = _lance_table(vectors, home)
    table.create_index("vector", config=IvfPq(distance_type="dot", num_sub_vectors=DIMENSION // 8))

    def candidate(probes: int, refine: int) -> Engine:
        return _lance_search(
            lambda queries: table.search(queries).distance_type("dot").nprobes(probes).refine_factor(refine)
        )

    return {f"nprobes {p}, refine_factor {r}": candidate(p, r) for r in (10, 30, 100, 300) for p in (20, 50, 100, 200)}


def _lance_table(vectors: Any, home: Path) -> Any:
    import lancedb
    import pyarrow as pa

    parts = _arrow(vectors)
    schema = pa.schema([("id", pa.int32()), ("vector", pa.list_(pa.float32(), DIMENSION))])
    return lancedb.connect(home / "rival").create_table("images", parts, schema=schema)


def _lance_search(query: Callable[[Any], Any]) -> Engine:
    import numpy as np

    def search(queries: Any) -> Any:
        one = len(queries) == 1
        found = query(queries[0] if one else queries).limit(K).select(["id", "_distance"]).to_arrow()
        ids = found["id"].to_numpy()
        if one:
            return ids[None]
        return ids[np.lexsort((found["_distance"].to_numpy(), found["query_index"].to_numpy()))].reshape(
            len(queries), K
        )

    return search


ENGINES: dict[str, Callable[[Any, Path], Candidates]] = {
    "numpy": _numpy, "faiss": _faiss, "lance_flat": _lance_flat, "lance_ivf": _lance_ivf, "duckdb": _duckdb,
}  # fmt: skip


def _fastest(home: str, candidates: Candidates) -> tuple[str, Engine]:
    """The fastest of those that find enough for queries of their own, or whichever finds most."""
    if len(candidates) == 1:
        return next(iter(candidates.items()))
    tuning, right = _load(home, "tuning"), _load(home, "tuning-truth")
    tried = []
    for said, engine in candidates.items():
        found, times = [], []
        for query in tuning:
            begun = time.perf_counter()
            found.append(engine(query[None])[0])
            times.append(time.perf_counter() - begun)
        recall = _hits(found, right)
        tried.append((recall < RECALL, statistics.median(times) if recall >= RECALL else -recall, said))
    said = min(tried)[2]
    return said, candidates[said]


def _arrow(vectors: Any) -> Iterator[Any]:
    """Positions and vectors as record batches."""
    import numpy as np
    import pyarrow as pa

    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(part).ravel()), DIMENSION)
        yield pa.record_batch({"id": pa.array(np.arange(start, start + len(part), dtype=np.int32)), "vector": lists})


def _vectors(home: str) -> Any:
    (segment,) = _open(home).segments
    return segment


def _in_turn(
    engines: dict[str, Engine], queries: Any, batch: int = 1
) -> tuple[dict[str, list[float]], dict[str, dict[int, Any]]]:
    """Milliseconds of each engine's calls, and what it answered to which query."""
    import numpy as np

    order = np.arange(len(queries)).reshape(2, -1).T.ravel()  # like an image, like a text, …
    calls = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)]
    turn = TURN if batch == 1 else 1
    times: dict[str, list[float]] = {name: [] for name in engines}
    answers: dict[str, dict[int, Any]] = {name: {} for name in engines}
    started = time.perf_counter()
    for start in range(0, len(calls), turn):
        if start and time.perf_counter() - started > PATIENCE:
            break
        for name, engine in engines.items():
            if batch == 1 or not start:
                engine(queries[calls[start - 1]][:2])  # wakes its threads
            for call in calls[start : start + turn]:
                asked = queries[call]
                begun = time.perf_counter()
                found = engine(asked)
                times[name].append(1e3 * (time.perf_counter() - begun))
                answers[name] |= dict(zip(call.tolist(), found, strict=True))
    return times, answers


def _recall(home: str, answers: dict[int, Any]) -> list[float]:
    """Of queries like images, and of those like texts."""
    right = _load(home, "queries-truth")
    sides = ([n for n in answers if n < QUERIES // 2], [n for n in answers if n >= QUERIES // 2])
    return [_hits([answers[n] for n in side], right[side]) for side in sides]


def _hits(found: list[Any], right: Any) -> float:
    return sum(len({*a.tolist()} & {*b.tolist()}) for a, b in zip(found, right, strict=True)) / right.size


def _ms(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)


def _anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def _anonymous_peak() -> Iterator[list[float]]:
    """The largest RssAnon while the block runs, looked at every 10 ms: the system keeps no peak of it."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], _anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


STEPS: dict[str, Callable[..., Figures]] = {step.__name__: step for step in (lake, change, build, truth, ours, rival)}


# --- which of them, on what, and what is said of it ---


def _measure(home: Path, number: int, most: int, parts: Any) -> list[str]:
    number -= number % FOLDERS
    if shutil.disk_usage(home).free < BYTES_A_VECTOR * number:
        sys.exit(f"{home} has no room for {BYTES_A_VECTOR * number / 1e9:.0f} GB; set TMPDIR")
    _run("lake", home, number)
    built = _run("build", home, "indexes", most)
    _run("truth", home)
    lines = [f"## {number:,} vectors", "", _built("Index", built), ""]
    if "ours" in parts:
        lines += _of_ours(_run("ours", home), number)
    if "rivals" in parts:
        lines += _of_rivals(home, number > most)
    if "changes" in parts:
        lines += _of_changes(home, number, most)
    return lines


def _built(name: str, run: Figures) -> str:
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in run["stages"].items())
    how = (
        f", recall when made {run['recall']:.3f} ({', '.join(f'{k} {v}' for k, v in run['settings'].items() if k in ('probes', 'shortlist'))})"
        if run["settings"]
        else ""
    )
    return (
        f"{name}: {run['kind']}{how}; **{run['seconds']:.1f} s** ({stages}); peak memory {run['anonymous_mb']:,.0f} MB, of which "
        f"{run['before_mb']:,.0f} before it began ({run['peak_mb']:,.0f} MB with mapped files); on disk {run['share']:.2f} of the vectors as float32."
    )


def _of_ours(run: Figures, number: int) -> list[str]:
    lines = [
        f"Opened in {run['open'][1]:.1f} ms ({run['open'][0]:.1f} the first time), first query {run['first']:.1f} ms; "
        f"the process holds {run['mb']:,.0f} MB. A whole search ({run['kind']}, with the images' rows) takes {run['search']:.1f} ms.",
        "",
        "| ours | one query, ms | fastest | 64 queries, ms | recall@10, like images | like texts |",
        "|---|---|---|---|---|---|",
    ]
    for name, (median, fastest) in run["single"].items():
        images, texts = run["recall"][name]
        lines.append(
            f"| {name} | **{median:.1f}** | {fastest:.1f} | {run['batch'][name]:.0f} | {images:.3f} | {texts:.3f} |"
        )
    lines += [
        "",
        "| filter | images let through | finding them, ms | ranking them, ms | whole search, ms |",
        "|---|---|---|---|---|",
    ]
    for name, (rows, matching, ranking, whole) in run["conditions"].items():
        said = ", ".join(f"{key}={value!r}" for key, value in CONDITIONS[name].items())
        lines.append(
            f"| {name}, `{said}` | {rows:,} ({rows / number:.0%}) | {matching:.1f} | {ranking:.1f} | {whole:.1f} |"
        )
    return [*lines, ""]


def _of_rivals(home: Path, approximate: bool) -> list[str]:
    ours = ["exact", *(["approximate"] if approximate else [])]
    of_ours = " | ".join(f"one, ours {name} = 1 | 64, ours {name} = 1" for name in ours)
    lines = [
        f"| rival | build, s | peak MB | held MB | one query, ms | 64 queries, ms | {of_ours} | recall@10, like images | like texts |",
        "|---" * (8 + 2 * len(ours)) + "|",
    ]
    for name, title in RIVALS.items():
        if name == "lance_ivf" and not approximate:
            continue
        run = _run("rival", home, name)
        shutil.rmtree(home / "rival", ignore_errors=True)
        if "missing" in run:
            lines.append(f"| {title} | not installed |" + " |" * (6 + 2 * len(ours)))
            continue
        ratios = " | ".join(
            f"**{run['single']['rival'] / run['single'][engine]:.1f}** | {run['batch']['rival'] / run['batch'][engine]:.1f}"
            if engine in run["single"] else " | "
            for engine in ours
        )  # fmt: skip
        images, texts = run["recall"]
        title = f"{title} ({run['said']})" if run["said"] else title
        lines.append(
            f"| {title} | {run['build']:.1f} | {run['anonymous_mb']:,.0f} | {run['mb']:,.0f} | {run['single']['rival']:.1f} | "
            f"{run['batch']['rival']:,.0f} | {ratios} | {images:.3f} | {texts:.3f} |"
        )
    return [*lines, ""]


def _of_changes(home: Path, number: int, most: int) -> list[str]:
    _run("change", home, number)
    followed = _run("build", home, "indexes", most)
    nothing = _run("build", home, "indexes", most)
    then = _run("ours", home)
    queries = " and ".join(f"{median:.1f} ms {name}" for name, (median, _) in then["single"].items())
    anew = _run("build", home, "anew", most)
    shutil.rmtree(home / "anew")
    return [
        f"One folder of {FOLDERS} is made of new images ({followed['added']:,}): the index follows in **{followed['seconds']:.2f} s**, "
        f"{followed['seconds'] / anew['seconds']:.2f} of building it anew; with nothing changed it takes {nothing['seconds']:.3f} s. One query then takes {queries}.",
        "",
        f"- {_built('Followed', followed)}",
        f"- {_built('Anew', anew)}",
        "",
    ]


def _run(step: str, home: Path, *rest: object) -> Figures:
    print(f"{step} {' '.join(map(str, rest))} …", file=sys.stderr)
    os.sync()  # what the last step wrote isn't written while this one is timed
    return measure.in_a_process(MODULE, step, home, *rest)


if __name__ == "__main__":
    main()
