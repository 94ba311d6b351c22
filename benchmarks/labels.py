"""Labels flipped by code, and which score finds them; beside cleanlab. And what a classifier says of the rest.

    python -m benchmarks.labels [--photographs DIR] [--rounds N] [--many N] [--rival PYTHON] [--save]

Sets are the labelled sources of ``photographs`` (folder names; of the fruit, file names), all of them as one, and forty
of each class of the first. Of each, 5 or 10 % of the labels are flipped: to any other class, or to the one whose mean
vector lies nearest. Every candidate gives each image a quality; its average precision is how well the flipped ones come
first. Vectors are the embedded model's. The method and its threshold were chosen on coffee; the other sets judge.

``--rival`` is a Python that has cleanlab and datasets: its Datalab sees the same vectors, or the same probabilities out of
fold. ``--many`` drawn vectors of 768 floats and 200 classes are fitted; 0 leaves that out. ``--save`` writes
``benchmarks/results/labels.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import measure
from curation_assets.curate.labels import classifier
from curation_assets.curate.labels.classifier import LEAST, Judged, calibration_error, classes_with_enough, judge
from curation_assets.curate.labels.examples import linked_contents
from curation_assets.curate.labels.overview import LIKELY_WRONG
from curation_assets.curate.neighbours.vectors import NodeVectors
from curation_assets.progress import LogProgress

MODULE = "benchmarks.labels"
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "crop_photos"
SHARES, WAYS = (0.05, 0.1), ("any class", "the nearest class")
CHOSEN_ON = ("coffee", "coffee, 40 a class")
OURS = "ours: two rounds, calibrated probability of the label"
FIRST, MARGIN, RAW = "one round, the same", "one round, margin", "two rounds, at the temperature of the first"
BY_NEIGHBOURS = "share of the 20 nearest with the label"
LIMITS = (0.01, 0.02, LIKELY_WRONG, 0.1, 0.2, 0.5)
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Set:
    """Distinct images with one label each, in the order of their SHA-256."""

    vectors: Floats
    labels: Ids
    groups: Ids
    names: list[str]
    paths: list[str]


@dataclass(frozen=True, eq=False)
class Case:
    """A set with labels flipped: which, to what, and what cross-validation says then."""

    name: str
    share: float
    way: str
    truth: Set
    labels: Ids
    flipped: NDArray[np.bool_]
    found: Judged
    qualities: dict[str, NDArray[np.floating]]
    first: NDArray[np.float64]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="(default ../shared/data/crop_photos)")
    parser.add_argument("--rounds", type=int, default=3, help="each with other labels flipped (default 3)")
    parser.add_argument("--many", type=int, default=100_000, help="drawn vectors (default 100000)")
    parser.add_argument("--rival", type=Path, help="a Python with cleanlab and datasets; without it they are left out")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/labels.md")
    arguments = parser.parse_args()
    if arguments.child:
        measure.answer(many(int(arguments.child[1])))
        return
    if not arguments.photographs.is_dir():
        sys.exit(f"there are no photographs at {arguments.photographs}; nothing is measured")
    figures = measure.in_a_process(MODULE, "many", arguments.many) if arguments.many else None
    with tempfile.TemporaryDirectory() as directory:
        sets = read_sets(arguments.photographs, Path(directory))
        report = _report(sets, arguments.rounds, arguments.rival, Path(directory), figures, arguments.many)
    print(report)
    if arguments.save:
        measure.save(report, "labels")


def read_sets(photographs: Path, directory: Path) -> dict[str, Set]:
    """The sets, embedded and compared by a pipeline of their own."""
    from curation_assets.ingest import run
    from curation_assets.pipeline import Pipeline
    from curation_assets.settings import load_settings

    pipeline = Pipeline(load_settings(images_root=photographs, lake_root=directory / "lake", model_source="demo"), True)
    run(pipeline, LogProgress())
    found = pipeline.champion_index()
    assert found is not None
    _, index = found
    rows = index.rows.filter(pl.col("position").is_not_null()).with_columns(
        source=pl.col("relative_path").str.split("/").list.first(),
        label=pl.col("relative_path").map_elements(_label, pl.String),
    )
    single = rows.filter(pl.col("label").n_unique().over("content_sha256") == 1)
    single = single.sort("content_sha256", "relative_path").unique("content_sha256", keep="first", maintain_order=True)
    links = linked_contents(pipeline.tables.pairs, pipeline.tables.decisions)
    groups = _groups(single["content_sha256"], links)
    vectors = index.take(single["position"].to_numpy())
    sources = [str(source) for source in single["source"].unique().sort() if source != "cauliflower_weed"]
    sets = {source: _set(single, vectors, groups, (single["source"] == source).to_numpy()) for source in sources}
    first = single.with_row_index("at").filter(pl.col("source") == "coffee")
    few = first.group_by("label", maintain_order=True).head(40)["at"].to_numpy()
    sets[CHOSEN_ON[1]] = _set(single, vectors, groups, np.isin(np.arange(len(single)), few))
    sets["all"] = _set(single, vectors, groups, np.ones(len(single), bool))
    order = [*CHOSEN_ON, *(name for name in sets if name not in CHOSEN_ON)]
    return {name: sets[name] for name in order}


def _label(path: str) -> str:
    parts = path.split("/")
    named = {"coffee": 2, "rice": 1}
    if parts[0] == "fruit":
        return parts[-1].split("_")[0]
    return parts[named.get(parts[0], 0)]


def _groups(contents: pl.Series, links: pl.DataFrame) -> Ids:
    from curation_assets.curate.labels.examples import _groups as of_links

    return np.asarray(of_links(contents, links).to_numpy(), np.int64)


def _set(rows: pl.DataFrame, vectors: Floats, groups: Ids, chosen: NDArray[np.bool_]) -> Set:
    at = np.flatnonzero(chosen)
    names, labels = np.unique(rows["label"].to_numpy().astype(str)[at], return_inverse=True)
    at = at[classes_with_enough(labels, groups[at], len(names))[labels]]
    names, labels = np.unique(rows["label"].to_numpy().astype(str)[at], return_inverse=True)
    own = np.unique(groups[at], return_inverse=True)[1].astype(np.int64)
    return Set(vectors[at], labels.astype(np.int64), own, names.tolist(), rows["relative_path"].gather(at).to_list())


def flipped(of: Set, share: float, way: str, seed: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Labels, some of them flipped, and which."""
    rng, labels, number = np.random.default_rng(seed), of.labels.copy(), len(of.names)
    some = rng.choice(len(labels), max(1, round(share * len(labels))), replace=False)
    means = np.stack([of.vectors[of.labels == one].mean(axis=0) for one in range(number)])
    means -= means.mean(axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    likeness = means @ means.T
    np.fill_diagonal(likeness, -2)
    other = (labels + rng.integers(1, number, len(labels))) % number
    labels[some] = other[some] if way == WAYS[0] else likeness.argmax(axis=1)[labels[some]]
    return labels, np.isin(np.arange(len(labels)), some)


def cases(sets: dict[str, Set], rounds: int) -> Iterator[Case]:
    """Every set with every way and share of flips, and the candidates' qualities."""
    for name, of in sets.items():
        for share in SHARES:
            for way in WAYS:
                for seed in range(rounds):
                    labels, is_flipped = flipped(of, share, way, seed)
                    found, first, second = judged(of, labels)
                    own = np.arange(len(labels))
                    best = first.copy()
                    best[own, labels] = -1
                    qualities: dict[str, NDArray[np.floating]] = {
                        OURS: found.quality,
                        RAW: second[own, labels],
                        FIRST: first[own, labels],
                        MARGIN: first[own, labels] - best.max(axis=1),
                        BY_NEIGHBOURS: by_neighbours(of, labels),
                    }
                    qualities = {key: np.nan_to_num(value, nan=1.0) for key, value in qualities.items()}
                    yield Case(name, share, way, of, labels, is_flipped, found, qualities, first)


def judged(of: Set, labels: Ids) -> tuple[Judged, NDArray[np.float64], NDArray[np.float64]]:
    """What the package says, and the probabilities of both rounds: of the second as the first round's temperature has it."""
    said: list[tuple[NDArray[np.float64], float]] = []
    of_package = classifier._temperature

    def temperature(logits: NDArray[np.float64], of_labels: Ids) -> float:
        found = of_package(logits, of_labels)
        said.append((logits, found))
        return found

    with mock.patch.object(classifier, "_temperature", temperature):
        nodes = NodeVectors([of.vectors], np.arange(len(labels)))
        found = judge(nodes, labels, of.groups, np.ones(len(labels), bool), len(of.names), LogProgress())
    (first, warmth), (second, _) = said
    return found, classifier.softmax(first / warmth), classifier.softmax(second / warmth)


def by_neighbours(of: Set, labels: Ids) -> NDArray[np.float64]:
    """Share of the 20 nearest images of other groups that have the label."""
    cosines = of.vectors @ of.vectors.T
    cosines[of.groups[:, None] == of.groups[None]] = -2
    nearest = np.argpartition(-cosines, 20, axis=1)[:, :20]
    return np.asarray((labels[nearest] == labels[:, None]).mean(axis=1))


def average_precision(found: NDArray[np.bool_], quality: NDArray[np.floating]) -> float:
    """Mean precision at each flipped label, the lowest quality first; of equal ones as by chance."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(found, -quality))


RIVAL = """
import contextlib, io, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from cleanlab import Datalab
from cleanlab.rank import get_label_quality_scores
case = np.load(sys.argv[1])
found = {}
for name, more in (("Datalab, vectors", {"features": case["vectors"]}), ("Datalab, our probabilities", {"pred_probs": case["first"]})):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lab = Datalab({"at": list(range(len(case["labels"]))), "y": case["labels"]}, label_name="y", task="classification")
        lab.find_issues(**more, issue_types={"label": {}})
    found[name] = lab.get_issues("label")["label_score"].to_numpy()
for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
    found[method + ", our probabilities"] = get_label_quality_scores(case["labels"], case["first"], method=method)
np.savez(sys.argv[2], **found)
"""


def of_rival(rival: Path, case: Case, directory: Path) -> dict[str, NDArray[np.floating]]:
    """The same of cleanlab."""
    told, answer = directory / "case.npz", directory / "answer.npz"
    np.savez(told, vectors=case.truth.vectors, labels=case.labels, first=case.first)
    subprocess.run([str(rival), "-c", RIVAL, str(told), str(answer)], check=True, capture_output=True)
    with np.load(answer) as found:
        return {f"cleanlab {name}": found[name] for name in found.files}


def many(number: int) -> measure.Figures:
    """Seconds and memory of so many drawn vectors of 200 classes."""
    classes, dimension = 200, 768
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(classes, dimension)).astype(np.float32)
    labels = rng.integers(0, classes, number)
    vectors = np.empty((number, dimension), np.float32)
    for start in range(0, number, 10_000):
        some = slice(start, min(start + 10_000, number))
        drawn = 0.35 * kinds[labels[some]] + rng.normal(size=vectors[some].shape)
        vectors[some] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    wrong = rng.random(number) < 0.05
    labels = np.where(wrong, rng.integers(0, classes, number), labels)
    before = _memory("VmHWM")
    started = time.perf_counter()
    nodes = NodeVectors([vectors], np.arange(number))
    groups = np.arange(number)
    found = judge(nodes, labels.astype(np.int64), groups, classifier.sampled(labels), classes, LogProgress())
    figures: measure.Figures = {"seconds": time.perf_counter() - started, "peak_mb": _memory("VmHWM") - before}
    figures["right"] = float((found.predicted[~wrong] == labels[~wrong]).mean())
    started = time.perf_counter()
    for start in range(0, number, 4096):
        found.classifier.probabilities(vectors[start : start + 4096])
    return figures | {"predicting": time.perf_counter() - started}


def _memory(name: str) -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))


def _report(
    sets: dict[str, Set], rounds: int, rival: Path | None, directory: Path, figures: measure.Figures | None, number: int
) -> str:
    precisions: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    ways: dict[str, dict[tuple[float, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    limits: dict[tuple[str, float], list[tuple[float, float, float]]] = defaultdict(list)
    for case in cases(sets, rounds):
        told = case.qualities | ({} if rival is None else of_rival(rival, case, directory))
        for name, quality in told.items():
            found = average_precision(case.flipped, quality)
            precisions[name][case.name].append(found)
            ways[name][case.share, case.way].append(found)
        for limit in LIMITS:
            limits[case.name, limit].append(_caught(case, limit))
    lines = ["# Labels\n", _told(sets, rounds), *_table(precisions, sets), *_of_ways(ways)]
    lines += [*_of_limits(limits, sets), *_alarms(sets), *_of_classifiers(sets)]
    if figures is not None:
        lines += _of_many(figures, number)
    packages = ("numpy", "scikit-learn")
    circumstances = measure.circumstances(MODULE, packages)
    if rival is not None:
        code = "import cleanlab; print(cleanlab.__version__)"
        version = subprocess.run([str(rival), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        circumstances = [line.replace(str(rival), "PYTHON").rstrip("\n") for line in circumstances]
        circumstances.append(f"- cleanlab {version} in an environment of its own")
    return "\n".join([*lines, "", *circumstances]) + "\n"


def _caught(case: Case, limit: float) -> tuple[float, float, float]:
    said = (case.found.quality < limit) & (case.found.suggested >= 0)
    right = case.found.suggested[said & case.flipped] == case.truth.labels[said & case.flipped]
    precision = float(case.flipped[said].mean()) if said.any() else float("nan")
    return precision, float(said[case.flipped].mean()), float(right.mean()) if len(right) else float("nan")


def _told(sets: dict[str, Set], rounds: int) -> str:
    numbers = ", ".join(
        f"{name} {len(of.labels):,} ({len(of.names)} classes, {int(of.groups.max()) + 1:,} scenes)"
        for name, of in sets.items()
    )
    return (
        f"Distinct photographs of each set: {numbers}; classes with {LEAST} and more. The embedded model's vectors, which "
        "was trained on many of these photographs (not on flipped labels). 5 and 10 % of the labels are flipped, to any "
        f"other class or to the one whose mean is nearest, {rounds} rounds of each. The sets' own labels are taken to be "
        f"right, which some are not. The method and the threshold were chosen on {' and '.join(CHOSEN_ON)}."
    )


def _table(precisions: dict[str, dict[str, list[float]]], sets: dict[str, Set]) -> list[str]:
    lines = [
        "\n## Average precision\n",
        "How well the flipped labels come first; `others` is the mean over the sets that nothing was chosen on.\n",
    ]
    lines += [f"| quality | {' | '.join(sets)} | others |", f"|---|{'---|' * (len(sets) + 1)}"]
    others = [name for name in sets if name not in CHOSEN_ON]
    rows = []
    for name, found in precisions.items():
        means = [float(np.mean(found[one])) for one in sets]
        rows.append((float(np.mean([np.mean(found[one]) for one in others])), name, means))
    for mean, name, means in sorted(rows, reverse=True):
        bold = "**" if name == OURS else ""
        told = " | ".join(f"{bold}{value:.3f}{bold}" for value in [*means, mean])
        lines.append(f"| {bold}{name}{bold} | {told} |")
    return lines


def _of_ways(ways: dict[str, dict[tuple[float, str], list[float]]]) -> list[str]:
    keys = [(share, way) for share in SHARES for way in WAYS]
    lines = ["\nThe same by how labels are flipped, mean over all sets.\n"]
    lines += [
        f"| quality | {' | '.join(f'{share:.0%} to {way}' for share, way in keys)} |",
        f"|---|{'---|' * len(keys)}",
    ]
    for name, found in sorted(ways.items(), key=lambda one: -float(np.mean([np.mean(one[1][key]) for key in keys]))):
        bold = "**" if name == OURS else ""
        told = " | ".join(f"{bold}{np.mean(found[key]):.3f}{bold}" for key in keys)
        lines.append(f"| {bold}{name}{bold} | {told} |")
    return lines


def _of_limits(limits: dict[tuple[str, float], list[tuple[float, float, float]]], sets: dict[str, Set]) -> list[str]:
    lines = [
        "\n## The threshold\n",
        f"Labels of a quality below it, with another class suggested: precision / recall of the flips; default "
        f"{LIKELY_WRONG:g}. `right class`: how often the suggested class is the one before the flip, at the default. "
        "Labels of the sets that are wrong themselves count as false.\n",
    ]
    lines += [
        f"| | {' | '.join(f'{limit:g}' for limit in LIMITS)} | right class |",
        f"|---|{'---|' * (len(LIMITS) + 1)}",
    ]
    for name in sets:
        means = {limit: np.nanmean(np.array(limits[name, limit]), axis=0) for limit in LIMITS}
        cells = [f"{means[limit][0]:.2f} / {means[limit][1]:.2f}" for limit in LIMITS]
        lines.append(f"| {name} | {' | '.join(cells)} | {means[LIKELY_WRONG][2]:.2f} |")
    return lines


def _alarms(sets: dict[str, Set]) -> list[str]:
    lines = [
        "\n## Labels as they are\n",
        "Share below the threshold where nothing is flipped, and the first at the default.\n",
    ]
    lines += [f"| | {' | '.join(f'{limit:g}' for limit in LIMITS)} | first |", f"|---|{'---|' * (len(LIMITS) + 1)}"]
    for name, of in sets.items():
        found, *_ = judged(of, of.labels)
        shares = [f"{((found.quality < limit) & (found.suggested >= 0)).mean():.1%}" for limit in LIMITS]
        order = np.argsort(np.nan_to_num(found.quality, nan=1.0))[:3]
        first = "; ".join(
            f"`{of.paths[at]}` → {of.names[found.suggested[at]]}" for at in order if found.suggested[at] >= 0
        )
        lines.append(f"| {name} | {' | '.join(shares)} | {first} |")
    return lines


def _of_classifiers(sets: dict[str, Set]) -> list[str]:
    lines = [
        "\n## The classifier\n",
        "Out of fold, no scene on both sides; `new` is of a third of the scenes that nothing was fitted on.\n",
        "| | accuracy | balanced | calibration error | new: accuracy | new: mean confidence | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of in sets.items():
        started = time.perf_counter()
        found, *_ = judged(of, of.labels)
        seconds = time.perf_counter() - started
        right = found.predicted == of.labels
        recalls = [right[of.labels == one].mean() for one in range(len(of.names))]
        held = of.groups % 3 == 0
        at = np.flatnonzero(~held)
        groups = np.unique(of.groups[at], return_inverse=True)[1].astype(np.int64)
        enough = classes_with_enough(of.labels[at], groups, len(of.names))
        kept = enough[of.labels]
        at = np.flatnonzero(~held & kept)
        part = Set(of.vectors[at], of.labels[at], np.unique(of.groups[at], return_inverse=True)[1], of.names, [])
        made, *_ = judged(part, of.labels[at])
        told = made.classifier.probabilities(of.vectors[held & kept])
        new = told.argmax(axis=1) == of.labels[held & kept]
        error = calibration_error(found.confidence, right)
        lines.append(
            f"| {name} | {right.mean():.3f} | {np.mean(recalls):.3f} | {error:.3f} | {new.mean():.3f} | "
            f"{told.max(axis=1).mean():.3f} | {seconds:.1f} |"
        )
    return lines


def _of_many(figures: measure.Figures, number: int) -> list[str]:
    return [
        "\n## Many\n",
        f"{number:,} drawn vectors of 768 floats, 200 classes, 5 % of the labels wrong; at most {classifier.MOST:,} of them "
        "are fitted on, and all are judged.\n",
        "| | |",
        "|---|---|",
        f"| eleven fits and all judgements | {figures['seconds']:.0f} s |",
        f"| memory beside the vectors ({number * 768 * 4 / 2**20:.0f} MB) | {figures['peak_mb']:.0f} MB |",
        f"| right, of the right labels | {figures['right']:.3f} |",
        f"| predicting as many by the kept classifier | {figures['predicting']:.1f} s, "
        f"**{figures['predicting'] / figures['seconds']:.4f}** of it |",
    ]


if __name__ == "__main__":
    main()
