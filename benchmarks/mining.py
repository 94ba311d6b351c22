"""What ``curation mine`` finds for a model that fails on a class, beside plain nearest and chance.

    python -m benchmarks.mining [--photographs DIR] [--home DIR] [--rounds N] [--save]

Each class of the photographs in turn (of a source of five classes at least, with 40 images) is one that a model saw too
little of: of all images of its source half are unlabelled, a quarter is trained on, of that class only five, and a quarter is
validated on, half of which finds failures and the other half measures. A logistic regression on the embedded model's
vectors fails on some of the class; its loss there is the cross-entropy. Of the unlabelled ones 20 and 50 are mined, and
it is counted how many are of the class, or of one that it was taken for, how alike they are, and how much more of the class is told right, on images
that no part looked at, once they are labelled and trained on. ``--home`` keeps lake and index for the next time.
``--save`` writes ``benchmarks/results/mining.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks import measure
from benchmarks.subsets import PHOTOGRAPHS, class_of, curated
from curation_assets.curate.neighbours.vectors import NodeVectors
from curation_assets.datasets.mining.choosing import NEARNESS, SPREAD, mined

MODULE = "benchmarks.mining"
SIZES = (20, 50)
CLASSES, LEAST = 5, 40  # of a source; images of a class
SEEN = 5  # of the class in training
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Way = Callable[["Case", int], Ids]


@dataclass(frozen=True, eq=False)
class Case:
    """A class that a model saw too little of.

    Attributes:
        source: uppermost folder of the photographs.
        vectors, classes: of all images of its source.
        free, trained, failed, judged: which of them are unlabelled, trained on, failed on, and measure.
        losses: of what failed.
        seed: of chance.
        taken_for: classes that it was taken for.
    """

    source: str
    of: int
    vectors: Floats
    classes: Ids
    free: Ids
    trained: Ids
    failed: Ids
    losses: NDArray[np.float64]
    judged: Ids
    seed: int
    taken_for: Ids


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="(default ../shared/data/crop_photos)")
    parser.add_argument("--home", type=Path, help="of lake and index, which are kept (default: a temporary folder)")
    parser.add_argument("--rounds", type=int, default=5, help="each with another draw of the parts (default 5)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/mining.md")
    arguments = parser.parse_args()
    if not arguments.photographs.is_dir():
        sys.exit(f"there are no photographs at {arguments.photographs}; nothing is measured")
    with tempfile.TemporaryDirectory() as directory:
        images, vectors = curated(arguments.photographs, arguments.home or Path(directory))
    report = "\n".join(
        [
            "# Mining",
            "",
            *told(images, vectors, arguments.rounds),
            "",
            *measure.circumstances(MODULE, ("numpy", "scikit-learn")),
        ]
    )
    print(report)
    if arguments.save:
        measure.save(report, "mining")


def cases(images: pl.DataFrame, vectors: Floats, rounds: int) -> Iterator[Case]:
    """Each class of each source, each round."""
    source = images["relative_path"].str.split("/").list.first()
    for name in sorted(source.unique()):
        rows = np.flatnonzero((source == name).to_numpy())
        named = images["relative_path"].gather(rows).map_elements(class_of, pl.String)
        classes = named.rank("dense").cast(pl.Int64).to_numpy() - 1
        if len(np.unique(classes)) < CLASSES:
            continue
        for of in np.flatnonzero(np.bincount(classes) >= LEAST).tolist():
            for seed in range(rounds):
                case = _case(name, of, vectors[rows], classes, seed)
                if case is not None:
                    yield case


def _case(source: str, of: int, vectors: Floats, classes: Ids, seed: int) -> Case | None:
    order = np.random.default_rng(seed).permutation(len(classes))
    half, quarter = len(order) // 2, len(order) // 4
    free, trained, validated = order[:half], order[half : half + quarter], order[half + quarter :]
    own = trained[classes[trained] == of]
    trained = np.concatenate([trained[classes[trained] != of], own[:SEEN]])
    looked_at, judged = validated[::2], validated[1::2]
    if (classes[trained] == of).sum() < 2 or not (classes[judged] == of).any():
        return None
    model = fitted(vectors, classes, trained)
    mine = looked_at[classes[looked_at] == of]
    said = model.predict(vectors[mine])
    failed, taken_for = mine[said != of], np.unique(said[said != of])
    if not len(failed):
        return None
    sure = model.predict_proba(vectors[failed])[:, model.classes_.tolist().index(of)]
    losses = -np.log(np.maximum(sure, 1e-9))
    return Case(source, of, vectors, classes, free, trained, failed, losses, judged, seed, taken_for)


def fitted(vectors: Floats, classes: Ids, rows: Ids) -> LogisticRegression:
    """The model."""
    return LogisticRegression(C=30.0, max_iter=500).fit(vectors[rows], classes[rows])


# ------------------------------------------------------------------------ ways


def _ours(spread: float, nearness: float) -> Way:
    def way(case: Case, size: int) -> Ids:
        some = NodeVectors([case.vectors], case.free)
        found = mined(
            some, case.vectors[case.failed], case.losses, size, lambda _: (), spread=spread, nearness=nearness
        )
        return case.free[[candidate for candidate, _, _ in found]]

    return way


def _nearest(case: Case, size: int) -> Ids:
    nearest = (case.vectors[case.free] @ case.vectors[case.failed].T).max(axis=1)
    return case.free[np.argsort(-nearest, kind="stable")[:size]]


def _random(case: Case, size: int) -> Ids:
    return np.random.default_rng(case.seed + 1000).permutation(case.free)[:size]


WAYS: dict[str, Way] = {
    "ours": _ours(SPREAD, NEARNESS),
    "nearest": _nearest,
    "random": _random,
    "turns, nearest (spread 1)": _ours(1, 1),
    "spread 2, nearness 0.7": _ours(2, 0.7),
    "spread 4, nearness 0.5": _ours(4, 0.5),
}


def told(images: pl.DataFrame, vectors: Floats, rounds: int) -> list[str]:
    """The table of all sources, sizes and ways."""
    found: dict[tuple[str, int, str], list[tuple[float, ...]]] = defaultdict(list)
    before: dict[str, list[float]] = defaultdict(list)
    numbers: dict[str, set[int]] = defaultdict(set)
    for case in cases(images, vectors, rounds):
        numbers[case.source].add(case.of)
        own = case.judged[case.classes[case.judged] == case.of]
        model = fitted(case.vectors, case.classes, case.trained)
        before[case.source].append(float((model.predict(case.vectors[own]) == case.of).mean()))
        for size in SIZES:
            for name, way in WAYS.items():
                taken = way(case, size)
                model = fitted(case.vectors, case.classes, np.concatenate([case.trained, taken]))
                cosines = case.vectors[taken] @ case.vectors[taken].T
                np.fill_diagonal(cosines, -1)
                found[case.source, size, name].append(
                    (
                        float((case.classes[taken] == case.of).mean()),
                        float(np.isin(case.classes[taken], [case.of, *case.taken_for]).mean()),
                        float(cosines.max(axis=1).mean()),
                        float((model.predict(case.vectors[own]) == case.of).mean()),
                    )
                )
    lines = [
        "*Of the class*: share of what was mined that is of the class that the model fails on. *Or taken for*: or of one "
        "that images of it were taken for. *Alike*: mean cosine of "
        "each with the likest other one. *Recall*: share of the class that is told right, before and once what was mined "
        f"is labelled. Means over classes and {rounds} draws; *ours* is spread {SPREAD:g} and nearness {NEARNESS:g}.",
        "",
        "| source | mined | | of the class | or taken for | alike | recall before | recall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (source, size, name), of in found.items():
        hit, either, alike, recall = np.mean(of, axis=0)
        which = f"{source} ({len(numbers[source])} classes)" if name == "ours" else ""
        cells = [f"{hit:.0%}", f"{either:.0%}", f"{alike:.3f}", f"{np.mean(before[source]):.1%}", f"{recall:.1%}"]
        lines.append(f"| {which} | {size if name == 'ours' else ''} | {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
