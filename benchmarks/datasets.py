"""Splits of real photographs in numbered series with planted copies and bursts, beside a random split; and a million rows.

    python -m benchmarks.datasets [--photographs DIR] [--images N] [--rows N] [--save]

``--images`` photographs are drawn from all sources, put into folders of a class each under the numbers of a camera, and one
in ten lies there twice more: re-encoded and mirrored. The lake grows in ten steps, with a version of the dataset after each;
every version is asked for leaks over every pair of the tables, for numbers within the distance on two sides, for class
shares, for witnesses, and for images that changed sides. Beside it stands a random split of the same images, stratified by
class, as is often drawn. ``--rows`` drawn rows with pairs are built, and built again on top of that. ``--save`` writes
``benchmarks/results/datasets.md``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageOps

from benchmarks import measure
from curation_assets.curate.duplicates.groups import Words
from curation_assets.curate.leakage import leaks
from curation_assets.datasets.building import build
from curation_assets.datasets.gate import judge
from curation_assets.datasets.gathering import Gathered
from curation_assets.datasets.reading import parse_recipe
from curation_assets.datasets.recipe import Recipe
from curation_assets.datasets.versions import content_id, read_version
from curation_assets.decisions.standing import SCHEMA, Decisions
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings

MODULE = "benchmarks.datasets"
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "crop_photos"
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
VERSIONS, DISTANCE = 10, 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="(default ../shared/data/crop_photos)")
    parser.add_argument("--images", type=int, default=1000, help="photographs (default 1000)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="drawn rows (default 1000000)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/datasets.md")
    arguments = parser.parse_args()
    if arguments.child:
        measure.answer(many(int(arguments.child[1]), apart=arguments.child[2] == "True"))
        return
    parts = ["# Datasets", ""]
    if arguments.photographs.is_dir():
        with tempfile.TemporaryDirectory() as directory:
            parts += real(arguments.photographs, arguments.images, Path(directory))
    else:
        print(f"there are no photographs at {arguments.photographs}", file=sys.stderr)
    figures = {
        (rows, apart): measure.in_a_process(MODULE, "many", rows, apart)
        for rows in (50_000, arguments.rows)
        for apart in (False, True)
    }
    parts += ["", *drawn(figures), "", *measure.circumstances(MODULE, ("polars", "scipy", "numpy"))]
    report = "\n".join(parts)
    print(report)
    if arguments.save:
        measure.save(report, "datasets")


# ------------------------------------------------------------------------ real


def real(photographs: Path, number: int, home: Path) -> list[str]:
    """Ten versions over a lake of real photographs that grows, and a random split of the last."""
    series = _written(photographs, number, home / "all")
    pipeline = Pipeline(load_settings(images_root=home / "images", lake_root=home / "lake", model_source="demo"), True)
    recipe = parse_recipe(
        {
            "name": "grown",
            "labels": {"path": "{class}/*"},
            "leave_out": {"near": False},  # so that copies have to be kept together
            "split": SHARES | {"apart": {"numbering": DISTANCE}},
        },
        "recipe",
    )
    sides: dict[str, str] = {}
    changed, worst, leaked, lacking = 0, 0.0, 0, 0
    built = None
    for step in range(VERSIONS):
        for path in series[step::VERSIONS] if step % 2 else series[step::VERSIONS][::-1]:
            target = home / "images" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(home / "all" / path, target)
        run(pipeline, LogProgress())
        outcome = pipeline.build_dataset(recipe, LogProgress())
        built = outcome.built
        assert built.leakage is not None
        leaked += built.leakage.pairs
        worst = max(worst, built.worst)
        for path, side in built.kept.select("relative_path", "split").iter_rows():
            changed += sides.setdefault(path, side) != side
        reasons = dict(built.rows.select("relative_path", "reason").iter_rows())
        witnessed = built.rows.filter(pl.col("reason").is_in(["exact", "near", "burst", "buffer"]))
        lacking += sum(reasons.get(by) not in (None, "subset") for by in witnessed["witness"])
    assert built is not None
    rows = read_version(pipeline.tables.datasets, "grown")
    kept = rows.filter("kept")
    fresh = pipeline.build_dataset(recipe, LogProgress(), dry_run=True, fresh=True).built
    chance = _at_random(kept)
    found = leaks(chance, *_pairs(pipeline))
    ours = leaks(kept.select("relative_path", "content_sha256", "split", "label"), *_pairs(pipeline))
    of_test = chance.filter(pl.col("split") == "test")["relative_path"]
    share = len(found.images.filter(pl.col("relative_path").is_in(of_test.implode()))) / len(of_test)
    (relation,) = [one for one in built.relations if one.used]
    return [
        f"{len(series):,} real photographs of {kept['label'].n_unique()} classes in numbered series, one in ten re-encoded and "
        f"mirrored beside it; {VERSIONS} versions over a lake that grows; numbers within {DISTANCE} are kept apart.",
        "",
        "| | ours | random, stratified |",
        "|---|---|---|",
        f"| pairs of the same bytes, photograph or scene on two sides | {ours.pairs} | {found.pairs:,} |",
        f"| share of test that has one on another side | 0 % | {share:.0%} |",
        f"| pairs over all {VERSIONS} versions | {leaked} | |",
        f"| images that ever changed sides | {changed} | |",
        f"| images left out without a witness that is kept | {lacking} | |",
        f"| images near to another side by number | {_near(relation.across)} | |",
        f"| left out as too near to a cut, of {len(rows):,}, in the last | {relation.left_out} | |",
        f"| the same built anew | {sum(one.left_out for one in fresh.relations)} | |",
        f"| worst class share, points off, of all versions | {worst:.2f} | |",
        f"| the last, built anew | {fresh.worst:.2f} | |",
    ]


def _near(across: dict[str, float]) -> str:
    return f"{max(across.values()):.0%}"


def _written(photographs: Path, number: int, root: Path) -> list[str]:
    """Photographs under numbers of a camera, by class; relative paths in the order in which they come to the lake."""
    rng = random.Random(11)
    files = sorted(path for path in photographs.rglob("*.jp*g") if "licenses" not in path.parts)
    rng.shuffle(files)
    by_class: dict[str, list[Path]] = {}
    for file in files:
        by_class.setdefault(_class_of(file.relative_to(photographs)), []).append(file)
    names = sorted(
        (name for name in by_class if len(by_class[name]) >= number // 10), key=lambda name: -len(by_class[name])
    )
    names = names[:8]
    paths = []
    for name in names:
        at = 100
        for file in by_class[name][: number // len(names)]:
            paths.append(f"{name}/DSC_{at:04}.jpg")
            (root / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / paths[-1])
            at += 1 + (rng.random() < 0.02) * 40  # now and then a walk to the next field
            if rng.random() < 0.1:
                with Image.open(file) as photo:
                    picture = ImageOps.exif_transpose(photo).convert("RGB")
                for edited, quality in ((picture, 60), (ImageOps.mirror(picture), 85)):
                    out = BytesIO()
                    edited.save(out, "JPEG", quality=quality)
                    paths.append(f"{name}/DSC_{at + 400:04}.jpg")
                    (root / paths[-1]).write_bytes(out.getvalue())
                    at += 1
    return paths


def _class_of(path: Path) -> str:
    """A class of each source: a folder, or what a file is called."""
    parts = path.parts
    if parts[0] == "fruit":
        return f"fruit_{path.name.split('_')[0]}"
    return f"{parts[0]}_{parts[-2]}".replace(" ", "_")


def _at_random(kept: pl.DataFrame) -> pl.DataFrame:
    """A random split, stratified by class."""
    rng = np.random.default_rng(5)
    place = pl.Series(rng.random(len(kept))).alias("_place")
    shuffled = kept.select("relative_path", "content_sha256", "label").with_columns(place).sort("_place")
    share = (pl.int_range(pl.len()).over("label") + 0.5) / pl.len().over("label")
    side = pl.when(share < 0.7).then(pl.lit("train")).when(share < 0.85).then(pl.lit("val")).otherwise(pl.lit("test"))
    return (
        shuffled.with_columns(split=side)
        .select("relative_path", "content_sha256", "split", "label")
        .sort("relative_path")
    )


def _pairs(pipeline: Pipeline) -> tuple[pl.DataFrame, pl.DataFrame, Words]:
    groups = pipeline.tables.groups.latest().read(["kind", "group_id", "content_sha256", "similarity"]).drop("_file")
    pairs = pipeline.tables.pairs.latest().read(["first", "second", "kind", "similarity"]).drop("_file")
    return groups, pairs, Words.none()


# ----------------------------------------------------------------------- drawn


def many(number: int, *, apart: bool) -> dict[str, float]:
    """Drawn rows: farms of 2,000 numbered photographs, twenty classes, one in ten in a pair."""
    lake = _drawn(number)
    base = measure.peak_mb()
    recipe = _recipe(apart=apart)
    started = time.perf_counter()
    built = build(recipe, lake, None)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    judge(built, {}, None)
    gate = time.perf_counter() - started
    before = built.kept.select("relative_path", "content_sha256", "split", last=pl.lit(value=True))
    started = time.perf_counter()
    again = build(recipe, lake, before)
    anew = time.perf_counter() - started
    assert built.leakage is not None
    return {
        "seconds": seconds,
        "gate": gate,
        "again": anew,
        "same": float(content_id(built.rows) == content_id(again.rows)),
        "pairs": float(built.leakage.pairs),
        "worst": built.worst,
        "left_out": float(sum(relation.left_out for relation in built.relations)),
        "peak_mb": measure.peak_mb(),
        "base_mb": base,
    }


def _recipe(*, apart: bool) -> Recipe:
    split: dict[str, Any] = {"train": 0.8, "val": 0.1, "test": 0.1}
    if apart:
        split["apart"] = {"numbering": DISTANCE}
    gate = {"images_per_class": 5, "share_flagged": 0.5, "missing": 0}
    return parse_recipe({"name": "many", "labels": {"field": "class"}, "split": split, "gate": gate}, "recipe")


def _drawn(number: int) -> Gathered:
    rng = np.random.default_rng(0)
    at = pl.int_range(number, eager=True)
    name = pl.format("IMG_{}.jpg", (pl.col("at") % 2000).cast(pl.String).str.zfill(5))
    mixed = rng.permutation(number).astype(np.uint64) * np.uint64(11400714819323198485)
    images = pl.DataFrame(
        {"at": at, "content_sha256": [f"{one:016x}{'0' * 48}" for one in mixed.tolist()]}
    ).with_columns(folder=pl.format("farm{}", pl.col("at") // 2000), file_name=name)
    nothing: dict[str, Any] = {
        "captured_at": pl.Datetime("us", "UTC"),
        "taken_at": pl.Datetime("us", "UTC"),
        "camera": pl.String,
    }
    nothing |= {"latitude": pl.Float64, "longitude": pl.Float64}
    images = images.select(
        pl.concat_str("folder", "file_name", separator="/").alias("relative_path"),
        "content_sha256",
        "folder",
        "file_name",
        *(pl.lit(None, dtype).alias(column) for column, dtype in nothing.items()),
        size_bytes=pl.lit(1000),
        _file=pl.lit("part-0"),
        sharpness=pl.lit(0.5),
        decided=pl.lit(0, pl.Int32),
        annotated=pl.lit(1),
        pixels=pl.lit(100),
        bytes_a_pixel=pl.lit(1.0),
        values=pl.concat_list(pl.Series(rng.integers(0, 20, number)).cast(pl.String)),
        against=pl.lit(value=False),
        unsure=pl.lit(value=False),
        examined=pl.lit(value=True),
        problem=pl.when(pl.Series(rng.random(number) < 0.03)).then(pl.lit("blurry")),
        flagged=pl.lit(value=False),
        doubted=pl.lit(value=False),
        given_split=pl.lit(None, pl.String),
        must_have=pl.lit(value=False),
    ).sort("relative_path")
    content, first = images["content_sha256"], rng.integers(0, number, number // 10)
    second = np.clip(first + rng.integers(1, 4, len(first)), 0, number - 1)
    pairs = pl.DataFrame({"one": content[first], "other": content[second]}).select(
        first=pl.min_horizontal("one", "other"),
        second=pl.max_horizontal("one", "other"),
        kind=pl.lit("near"),
        similarity=pl.lit(0.95, pl.Float32),
    )
    pairs = pairs.filter(pl.col("first") < pl.col("second")).unique(["first", "second"], maintain_order=True)
    members = pairs.with_row_index("group_id").unpivot(
        ["first", "second"], index="group_id", value_name="content_sha256"
    )
    members = members.unique("content_sha256", keep="first").join(
        images.select("relative_path", "content_sha256"), on="content_sha256"
    )
    groups = members.select(
        kind=pl.lit("near"),
        group_id=pl.col("group_id").cast(pl.String),
        relative_path="relative_path",
        content_sha256="content_sha256",
        similarity=pl.lit(0.95, pl.Float32),
    )
    return Gathered(images, groups, pairs, Decisions(pl.DataFrame(schema=SCHEMA)))


def drawn(figures: dict[tuple[int, bool], dict[str, float]]) -> list[str]:
    """The table of drawn rows."""
    lines = [
        "Drawn rows in memory: 20 classes, farms of 2,000 numbered photographs, one in ten in a near pair; from what was "
        "gathered to judged rows.",
        "",
        "| rows | numbers kept apart | first, s | on top of it, s | gate, s | worst class, points | left out near cuts | leaks | same again | peak, GB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (rows, apart), found in figures.items():
        same = "yes" if found["same"] else "no"
        lines.append(
            f"| {rows:,} | {'yes' if apart else 'no'} | {found['seconds']:.1f} | {found['again']:.1f} | {found['gate']:.2f} "
            f"| {found['worst']:.3f} | {found['left_out']:.0f} | {found['pairs']:.0f} | {same} "
            f"| {found['peak_mb'] / 1000:.2f} ({found['base_mb'] / 1000:.2f} before) |"
        )
    return lines


if __name__ == "__main__":
    main()
