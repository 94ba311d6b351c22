"""Verdicts on image quality, on real photographs of which one in eight is degraded by code, beside CleanVision's.

    python -m benchmarks.quality [--photographs DIR] [--most N] [--skip N] [--rounds N] [--rival-python PYTHON] [--save]

The photographs are those of ``photographs`` with a shorter side of at least 200 pixels, exact copies once, at most N of
a source (the uppermost folder). In each round other ones are degraded, each kind in turn; the rest stays as it is. Both
judge the same files with their defaults. Those that are blurred, dark or bright by nature stand in ``natural.toml`` and
count neither way for that kind. The thresholds that two sources would choose judge the other two, and the other way
round. ``--skip`` leaves out the first N of a source, to judge those that had no part in anything before; ``natural.toml``
doesn't know these. ``--rival-python`` is a Python that has ``cleanvision``. ``--save`` writes ``benchmarks/results/quality.md``,
or ``quality_others.md`` where some were left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
from PIL import Image, ImageFilter

from benchmarks import measure
from curation_assets.curate.problems import KINDS, Thresholds, judged, thresholds
from curation_assets.curate.tones import tones
from curation_assets.images import record
from curation_assets.images.listing import ListedFile
from curation_assets.images.record import ImageRecord, ReadLimits, read_record
from curation_assets.images.source import LocalTree

MODULE = "benchmarks.quality"
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "crop_photos"
NATURAL = Path(__file__).parent / "natural.toml"
TUNING, JUDGING = ("coffee", "fruit"), ("cauliflower_weed", "rice")
LEAST_SIDE, ONE_IN, QUALITY = 200, 8, 90
LEAST_CLIPPED = 0.1  # share of what was not clipped before, of a photograph that is made too bright
RIVALS = {"blurry": "blurry", "dark": "dark", "bright": "light", "low_information": "low_information"}
RIVALS |= {"odd_aspect": "odd_aspect_ratio", "odd_size": "odd_size", "grayscale": "grayscale"}
RIVAL = """
import json, sys, time, logging
from cleanvision import Imagelab
asked = json.load(sys.stdin)
started = time.perf_counter()
lab = Imagelab(filepaths=asked["files"], verbose=False)
lab.find_issues({name: {} for name in asked["issues"]}, verbose=False)
seconds = time.perf_counter() - started
found = {name: [bool(lab.issues.loc[path, f"is_{name}_issue"]) for path in asked["files"]] for name in asked["issues"]}
from importlib.metadata import version
json.dump({"seconds": seconds, "found": found, "version": version("cleanvision")}, open(asked["answer"], "w"))
"""
Degrade = Callable[[Image.Image, random.Random], Image.Image]


def _blur(share: float, image: Image.Image, rng: random.Random) -> Image.Image:  # noqa: ARG001
    return image.filter(ImageFilter.GaussianBlur(share * max(image.size)))


def _gain(least: float, most: float, image: Image.Image, rng: random.Random) -> Image.Image:
    gain = rng.uniform(least, most)
    return image.point([min(255, round(value * gain)) for value in range(256)] * 3)


def _offset(image: Image.Image, rng: random.Random) -> Image.Image:
    added = rng.randint(80, 140)
    return image.point([min(255, value + added) for value in range(256)] * 3)


def _noise(image: Image.Image, rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 20, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image, np.float32) + noise).clip(0, 255).astype(np.uint8))


# What is done, and which kind of problem it makes: JPEG and noise none.
DEGRADED: dict[str, tuple[Degrade, str | None]] = {
    "blur 0.5 %": (partial(_blur, 0.005), "blurry"),
    "gain 0.15-0.3": (partial(_gain, 0.15, 0.3), "dark"),
    "blur 1 %": (partial(_blur, 0.01), "blurry"),
    "gain 2.5-4": (partial(_gain, 2.5, 4.0), "bright"),
    "blur 2 %": (partial(_blur, 0.02), "blurry"),
    "added 80-140": (_offset, "bright"),
    "JPEG 5": (lambda image, _: image, None),
    "noise 20": (_noise, None),
}
SUBTLE = "blur 0.5 %"  # told by its AUC; counts neither way in F1


@dataclass(frozen=True)
class Photograph:
    """A file under the photographs: its path, and its source, the uppermost folder."""

    path: str
    source: str


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="(default ../shared/data/crop_photos)")
    parser.add_argument("--most", type=int, default=250, help="photographs of a source (default 250)")
    parser.add_argument("--skip", type=int, default=0, help="photographs of a source left out before them (default 0)")
    parser.add_argument("--rounds", type=int, default=8, help="each with others degraded (default 8)")
    parser.add_argument("--rival-python", default=sys.executable, help="a Python that has cleanvision")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/quality.md")
    arguments = parser.parse_args()
    if not arguments.photographs.is_dir():
        sys.exit(f"there are no photographs at {arguments.photographs}; nothing is measured")
    with tempfile.TemporaryDirectory() as directory:
        rows = measured(arguments.photographs, Path(directory), arguments.most, arguments.rounds, arguments.skip)
        report = _report(rows, Path(directory), arguments.rounds, arguments.rival_python)
    print(report)
    if arguments.save:
        measure.save(report, "quality_others" if arguments.skip else "quality")


def measured(photographs: Path, directory: Path, most: int, rounds: int, skip: int = 0) -> pl.DataFrame:
    """A row for each photograph in each round: as the quality table has it, and ``round``, ``source``, ``degraded``
    (null for one that is as it was), ``file`` and ``natural`` (kinds it is by nature).

    Args:
        directory: gets ``whole/``, the photographs as they are in the first round, and ``round_N/``, those degraded.
    """
    chosen = list(_chosen(photographs, most, skip))
    untouched = {row["relative_path"]: row for row in _rows(photographs, [photo.path for photo in chosen])}
    natural: dict[str, list[str]] = {}
    for entry in tomllib.loads(NATURAL.read_text())["photograph"] if NATURAL.exists() else []:
        natural.setdefault(entry["path"], []).append(entry["kind"])
    everything = []
    for number in range(rounds):
        planted = _planted(photographs, chosen, number)
        tree = directory / f"round_{number}"
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda item: _write(photographs, tree, *item), planted.items()))  # noqa: B023
        degraded = {row["relative_path"]: row for row in _rows(tree, list(planted))}
        for photo in chosen:
            row = degraded.get(photo.path) or untouched[photo.path]
            told = {"round": number, "source": photo.source, "degraded": None, "natural": natural.get(photo.path, [])}
            if photo.path in planted:
                told["degraded"] = planted[photo.path][0]
            everything.append(row | told)
    whole = directory / "whole"
    for row in everything[: len(chosen)]:
        target = whole / row["relative_path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(row["file"]).read_bytes())
    return pl.DataFrame(everything, infer_schema_length=None)


def _chosen(photographs: Path, most: int, skip: int = 0) -> Iterator[Photograph]:
    """In an order that more of them would not change."""
    seen: set[str] = set()
    counts: dict[str, int] = {}
    tree = LocalTree(str(photographs))
    paths = (str(path.relative_to(photographs)) for path in photographs.rglob("*") if path.suffix.lower() == ".jpg")
    for path in sorted(paths, key=lambda path: hashlib.sha256(path.encode()).hexdigest()):
        source = path.partition("/")[0]
        if counts.get(source, 0) >= skip + most:
            continue
        data = tree.read(path)
        content = hashlib.sha256(data).hexdigest()
        with Image.open(photographs / path) as image:
            if content in seen or min(image.size) < LEAST_SIDE:
                continue
        seen.add(content)
        counts[source] = counts.get(source, 0) + 1
        if counts[source] > skip:
            yield Photograph(path, source)


def _planted(photographs: Path, chosen: Sequence[Photograph], number: int) -> dict[str, tuple[str, int]]:
    """Path → what is done to it, and a seed; of each source one in eight, each kind in turn."""
    planted = {}
    for source in sorted({photo.source for photo in chosen}):
        rng = random.Random(f"{source} {number}")
        paths = [photo.path for photo in chosen if photo.source == source]
        wanted, others = len(paths) // ONE_IN, iter(rng.sample(paths, len(paths)))
        for index in range(wanted):
            name = list(DEGRADED)[(index + number) % len(DEGRADED)]
            seed = rng.getrandbits(32)
            planted[next(path for path in others if _fits(photographs / path, name, seed))] = (name, seed)
    return planted


def _fits(path: Path, name: str, seed: int) -> bool:
    """Whether what should make it too bright clips a part of it: a dark photograph may only be put right by that."""
    if DEGRADED[name][1] != "bright":
        return True
    with Image.open(path) as image:
        before = np.asarray(image.convert("RGB"))
        after = np.asarray(DEGRADED[name][0](Image.fromarray(before), random.Random(seed)))
    open_before = before.max(axis=2) < 250
    return bool((after.max(axis=2)[open_before] == 255).mean() >= LEAST_CLIPPED)


def _write(photographs: Path, tree: Path, path: str, how: tuple[str, int]) -> None:
    name, seed = how
    with Image.open(photographs / path) as image:
        changed = DEGRADED[name][0](image.convert("RGB"), random.Random(seed))
    target = tree / path
    target.parent.mkdir(parents=True, exist_ok=True)
    changed.save(target, "JPEG", quality=5 if name == "JPEG 5" else QUALITY)


def _rows(root: Path, paths: Sequence[str]) -> list[dict[str, Any]]:
    """What the scan and the quality job make of files, on two threads."""
    tree = LocalTree(str(root))
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda path: _row(_read(tree, path)), paths))


def _read(tree: LocalTree, path: str) -> ImageRecord:
    return read_record(tree, ListedFile(path, None, None, None), ReadLimits())


def _row(read: ImageRecord) -> dict[str, Any]:
    assert read.preview is not None, read.error
    assert read.width, read.error
    assert read.height, read.error
    folder = read.relative_path.rpartition("/")[0]
    row = {"relative_path": read.relative_path, "folder": folder, "camera": read.camera, "file": read.file_path}
    row |= {"width": read.width, "height": read.height, "aspect_ratio": read.width / read.height}
    return row | {"sharpness": read.scan_sharpness} | asdict(tones(read.preview))


def with_verdicts(rows: pl.DataFrame, limits: Thresholds) -> pl.DataFrame:
    """Each round is a lake of its own."""
    return pl.concat([judged(rows.filter(round=number), limits) for number in rows["round"].unique().sort()])


def f1(rows: pl.DataFrame, kind: str) -> float:
    """Of a kind, over all that don't count neither way."""
    counted = rows.filter(~pl.col("natural").list.contains(kind), pl.col("degraded").fill_null("") != SUBTLE)
    wanted = counted["degraded"].is_in(_making(kind)).fill_null(value=False)
    found = counted[kind]
    return 2 * (wanted & found).sum() / max(1, wanted.sum() + found.sum())


def _making(kind: str) -> list[str]:
    return [name for name, (_, makes) in DEGRADED.items() if makes == kind]


def false_alarms(rows: pl.DataFrame, kind: str) -> float:
    """Share of the untouched that aren't of the kind by nature."""
    untouched = rows.filter(pl.col("degraded").is_null(), ~pl.col("natural").list.contains(kind))
    return float(untouched[kind].mean())  # type: ignore[arg-type]


def found(rows: pl.DataFrame, degraded: str, kind: str) -> float:
    """Share of what was degraded in a way that is taken for a kind."""
    return float(rows.filter(degraded=degraded)[kind].mean() or 0)  # type: ignore[arg-type]


def auc(rows: pl.DataFrame, degraded: str, kind: str) -> float:
    """How often one that was degraded is rated worse than an untouched one of its round."""
    from scipy.stats import rankdata

    untouched = rows.filter(pl.col("degraded").is_null(), ~pl.col("natural").list.contains(kind))
    bad, good = (
        part[f"{kind}_severity"].drop_nulls().to_numpy() for part in (rows.filter(degraded=degraded), untouched)
    )
    ranks = rankdata(np.concatenate([bad, good]))[: len(bad)]
    return float((ranks.sum() - len(bad) * (len(bad) + 1) / 2) / (len(bad) * len(good)))


def best_threshold(rows: pl.DataFrame, kind: str) -> float:
    """The one with the best F1, in the middle of those as good."""
    default = KINDS[kind].default
    tried = [default * (0.7 + 0.02 * step) for step in range(31)]
    scores = [f1(with_verdicts(rows, thresholds({kind: value})), kind) for value in tried]
    best = [value for value, score in zip(tried, scores, strict=True) if score >= max(scores) - 1e-9]
    return best[len(best) // 2]


def rival(python: str, files: Sequence[str], kinds: Mapping[str, str], directory: Path) -> dict[str, Any]:
    """CleanVision's verdicts on files by our kinds, its seconds from nothing to verdicts, and its version."""
    answer = directory / "rival.json"
    asked = {"files": list(files), "issues": list(kinds.values()), "answer": str(answer)}
    done = subprocess.run([python, "-c", RIVAL], input=json.dumps(asked), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"CleanVision failed with {python}:\n{done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(answer.read_text())
    return told | {"found": {kind: told["found"][theirs] for kind, theirs in kinds.items()}}


def _speed(directory: Path, python: str, rounds: int = 3) -> tuple[int, float, float]:
    """Files, and images a second of ours and the rival's, in turn; medians."""
    whole = directory / "whole"
    paths = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
    ours, theirs = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        judged(pl.DataFrame(_rows(whole, paths), infer_schema_length=None), thresholds())
        ours.append(len(paths) / (time.perf_counter() - started))
        told = rival(python, [str(whole / path) for path in paths], RIVALS, directory)
        theirs.append(len(paths) / told["seconds"])
    return len(paths), statistics.median(ours), statistics.median(theirs)


def _price(directory: Path) -> list[tuple[str, float, float]]:
    """Milliseconds of the scan's reading without and with sharpness, of three sizes of photograph."""
    prices = []
    for kind in (measure.Photographs("256 x 256", (256, 256), 4), measure.TYPICAL, measure.LARGE):
        root = measure.write_photographs(directory / "price" / kind.name.replace(" ", ""), kind, 8)
        tree = LocalTree(str(root))
        paths = [str(path.relative_to(root)) for path in root.rglob("*.jpg")]
        without, with_it = [], []
        for turn in range(8):
            with patch.object(record, "sharpness", lambda _: 0.5):
                without.append(_milliseconds(tree, paths))
            with_it.append(_milliseconds(tree, paths))
            if not turn:  # fills caches
                without.clear(), with_it.clear()
        prices.append((kind.name, statistics.median(without), statistics.median(with_it)))
    return prices


def _milliseconds(tree: LocalTree, paths: Sequence[str]) -> float:
    started = time.process_time()
    for path in paths:
        _read(tree, path)
    return (time.process_time() - started) * 1000 / len(paths)


def _report(rows: pl.DataFrame, directory: Path, rounds: int, python: str) -> str:
    ours = with_verdicts(rows, thresholds())
    files = rows["file"].unique().sort()
    told = rival(python, files.to_list(), RIVALS, directory)
    theirs = rows.join(pl.DataFrame({"file": files} | told["found"]), on="file", maintain_order="left")
    of_judging, of_tuning = (pl.col("source").is_in(sources) for sources in (JUDGING, TUNING))
    parts = [("judging", of_judging), ("tuning", of_tuning)]
    parts += [(source, pl.col("source") == source) for source in sorted(rows["source"].unique())]
    lines = [
        "# Verdicts on image quality",
        "",
        f"{len(rows) // rounds} photographs of {rows['source'].n_unique()} sources, one in {ONE_IN} degraded by code in each of "
        f"{rounds} rounds, others each time ({rows['degraded'].is_not_null().sum()} in all); saved as JPEG {QUALITY}. Default "
        f"thresholds, which were chosen on {' and '.join(TUNING)} and are judged on {' and '.join(JUDGING)}. "
        f"Beside it CleanVision {told['version']} with its defaults on the same files.",
        "",
        "## F1",
        "",
        f"`blurry`: {' and '.join(_making('blurry')[1:])} of the longer side, among all but {SUBTLE}. `dark`: {_making('dark')[0]}. "
        f"`bright`: {' and '.join(_making('bright'))} of 255. All else, also JPEG 5 and noise, is what must not be found.",
        "",
        "| | " + " | ".join(f"{kind} | CleanVision" for kind in ("blurry", "dark", "bright")) + f" | AUC of {SUBTLE} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, part in parts:
        cells = [
            f"**{f1(ours.filter(part), kind):.3f}** | {f1(theirs.filter(part), kind):.3f}"
            for kind in ("blurry", "dark", "bright")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {auc(ours.filter(part), SUBTLE, 'blurry'):.3f} |")
    lines += [
        "",
        "Thresholds with the best F1 on two sources, and what they come to on the other two:",
        "",
        "| kind | default | chosen on tuning | F1 on judging | chosen on judging | F1 on tuning |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("blurry", "dark", "bright"):
        cells = []
        for chosen_on, judged_on in ((of_tuning, of_judging), (of_judging, of_tuning)):
            limit = best_threshold(rows.filter(chosen_on), kind)
            score = f1(with_verdicts(rows.filter(judged_on), thresholds({kind: limit})), kind)
            cells.append(f"{limit:.2f} | {score:.3f}")
        lines.append(f"| {kind} | {KINDS[kind].default} | {' | '.join(cells)} |")
    kinds = [name for name, kind in KINDS.items() if kind.told_by == "quality"]
    lines += [
        "",
        "## False alarms",
        "",
        "Of the untouched photographs, in percent, but for those that are of the kind by nature "
        f"(`{NATURAL.name}`); CleanVision's in brackets.",
        "",
        "| | " + " | ".join(kinds) + " |",
        "|---|" + "---|" * len(kinds),
    ]
    for name, part in parts:
        cells = [
            f"**{100 * false_alarms(ours.filter(part), kind):.1f}** ({100 * false_alarms(theirs.filter(part), kind):.1f})"
            for kind in kinds
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "## What each degradation is taken for",
        "",
        "Share that is taken for a kind, in percent, all sources; CleanVision's in brackets.",
        "",
        "| | images | blurry | dark | bright | low_information |",
        "|---|---|---|---|---|---|",
    ]
    for name in DEGRADED:
        cells = [
            f"**{100 * found(ours, name, kind):.0f}** ({100 * found(theirs, name, kind):.0f})"
            for kind in ("blurry", "dark", "bright", "low_information")
        ]
        lines.append(f"| {name} | {len(rows.filter(degraded=name))} | {' | '.join(cells)} |")
    number, fast, slow = _speed(directory, python)
    lines += [
        "",
        "## Speed",
        "",
        f"{number} files of the first round, {_megapixels(rows):.2f} megapixels in the middle. Ours: all that the scan and the quality "
        "job do for it (reading, hash, EXIF, decoding, preview, sharpness, tones, verdicts) on two threads; CleanVision's from the "
        "list of files to its table, the same seven kinds, without its imports. Medians of three runs in turn.",
        "",
        "| | images a second |",
        "|---|---|",
        f"| ours | {fast:.0f} |",
        f"| CleanVision | {slow:.0f} |",
        f"| times as fast | **{fast / slow:.1f}** |",
        "",
        "What sharpness adds to the scan's reading of one file, CPU time, medians of 7:",
        "",
        "| photograph | without, ms | with, ms | times as long |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {less:.1f} | {more:.1f} | **{more / less:.2f}** |" for name, less, more in _price(directory)]
    lines += ["", *measure.circumstances(MODULE, ("pillow", "numpy", "scipy", "polars"))]
    return "\n".join(lines).replace(python, "python")


def _megapixels(rows: pl.DataFrame) -> float:
    return float((rows["width"].cast(pl.Int64) * rows["height"]).median() or 0) / 1e6  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
