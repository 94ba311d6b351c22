"""The same photograph twice: planted copies found again, crowds, what is new beside all; and what rivals find.

    python -m benchmarks.duplicates [--photographs DIR] [--only STEP …] [--planted N] [--drawn N] [--frames N]
        [--many N] [--new N] [--rival-python PYTHON] [--save]

- ``planted``: N photographs of each source of ``photographs`` are edited in each way of ``EDITS``; the copies are
  planted among all originals and N drawn photographs, and everything is scanned, embedded and compared as ever, with
  the embedded model and, again, without any. An edit is found if copy and original are a near pair. Every other near
  pair is false, but for those that ``natural_pairs.toml`` names: the photographs hold them, and they were looked at.
- ``drift``: a camera that moves by a pixel or two a frame: the least agreement of any two in one group.
- ``still``: frames of a camera that stands: time and memory.
- ``follow``: what is new beside all.
- ``rival``: imagehash's perceptual hash of whole pictures, equal or within some bits (which is what a BK-tree or
  FAISS's binary index would find of it), CleanVision and fastdup, each on the same files. ``--rival-python`` is a Python
  that has ``imagehash``, ``cleanvision`` and ``fastdup``; what it lacks is said.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from benchmarks import measure
from benchmarks.quality import PHOTOGRAPHS
from curation_assets.demo.render import render
from curation_assets.demo.scenes import SCENES

MODULE = "benchmarks.duplicates"
NATURAL = Path(__file__).parent / "natural_pairs.toml"
STEPS = ("planted", "drift", "still", "follow", "rival")
LEAST_SIDE = 48  # pixels: of a smaller photograph a quarter shows nothing
Edit = Callable[[Image.Image, random.Random], Image.Image]
# Each reads paths and writes what it takes for copies, by a setting of it: pairs of numbers of those paths.
RIVALS = {
    "imagehash": """
import imagehash, numpy as np
from PIL import Image
hashes = np.array([imagehash.phash(Image.open(file)).hash.reshape(-1) for file in files])
for most in (0, 4, 8, 12):
    pairs = []
    for number, value in enumerate(hashes):
        near = np.flatnonzero((hashes[number + 1 :] != value).sum(axis=1) <= most) + number + 1
        pairs += [(number, int(other)) for other in near]
    found[f"perceptual hash, within {most} bits"] = pairs
""",
    "cleanvision": """
import itertools
from cleanvision import Imagelab
lab = Imagelab(filepaths=files)
lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, verbose=False)
place = {file: number for number, file in enumerate(files)}
sets = [some for kind in ("exact_duplicates", "near_duplicates") for some in lab.info[kind]["sets"]]
found["defaults"] = [(place[a], place[b]) for some in sets for a, b in itertools.combinations(some, 2)]
""",
    "fastdup": """
import tempfile, fastdup
work = fastdup.create(work_dir=tempfile.mkdtemp())
work.run(files, overwrite=True, threshold=0.85, nearest_neighbors_k=20, verbose=False, print_summary=False)
place = {file: number for number, file in enumerate(files)}
rows = work.similarity(data=True)
for least in (0.9, 0.96, 0.98):
    some = rows[rows["distance"] >= least]
    found[f"20 nearest, cosine from {least} on"] = [
        (place[a], place[b]) for a, b in zip(some["filename_from"], some["filename_to"])
    ]
""",
}
RIVAL = """
import contextlib, json, sys, time
from importlib.metadata import version
asked = json.load(sys.stdin)
files, found, started = asked["files"], {}, time.perf_counter()
with contextlib.redirect_stdout(sys.stderr):
    exec(asked["script"])
said = {"seconds": time.perf_counter() - started, "found": found, "version": version(asked["name"])}
with open(asked["answer"], "w") as answer:
    json.dump(said, answer)
"""


def _resized(image: Image.Image, scale: float) -> Image.Image:
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, quality: int) -> Image.Image:
    out = BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def _cropped(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    width, height = max(1, round(image.width * share)), max(1, round(image.height * share))
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _turned(image: Image.Image, rng: random.Random) -> Image.Image:
    ways = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    return image.transpose(rng.choice(ways))


def _written_on(image: Image.Image, rng: random.Random) -> Image.Image:
    image = image.copy()
    draw, high = ImageDraw.Draw(image), max(1, round(image.height * 0.1))
    if rng.random() < 0.5:
        draw.rectangle((0, image.height - high, *image.size), fill=rng.choice([(0, 0, 0), (255, 255, 255)]))
    colour = rng.choice([(255, 255, 0), (255, 0, 0), (128, 128, 128)])
    draw.text((image.width * 0.03, image.height - high), "Plot 12-B  2026-06-03", colour, font_size=max(6, high * 0.8))
    return image


EDITS: dict[str, Edit] = {
    "re-encoded at quality 40": lambda image, _: _encoded(image, 40),
    "a quarter of the size": lambda image, _: _resized(image, 0.25),
    "four times the size": lambda image, _: _resized(image, min(4, 3000 / max(image.size))),
    "turned": _turned,
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "mirrored and turned": lambda image, rng: _turned(ImageOps.mirror(image), rng),
    "brighter (1.3)": lambda image, _: ImageEnhance.Brightness(image).enhance(1.3),
    "darker (0.6)": lambda image, _: ImageEnhance.Brightness(image).enhance(0.6),
    "more contrast (1.5)": lambda image, _: ImageEnhance.Contrast(image).enhance(1.5),
    "gamma 0.6": lambda image, _: image.point([round(255 * (v / 255) ** 0.6) for v in range(256)] * 3),
    "grey": lambda image, _: ImageOps.grayscale(image).convert("RGB"),
    "text": _written_on,
    "border of 5 %": lambda image, rng: ImageOps.expand(
        image, max(1, round(0.05 * max(image.size))), rng.choice([(255, 255, 255), (0, 0, 0), (200, 30, 30)])
    ),
    "cropped to 90 %": lambda image, rng: _cropped(image, 0.9, rng),
    "cropped to 80 %": lambda image, rng: _cropped(image, 0.8, rng),
    "cropped to 80 %, mirrored, half the size": lambda image, rng: _resized(
        ImageOps.mirror(_cropped(image, 0.8, rng)), 0.5
    ),
}
GOALS = dict.fromkeys(EDITS, 0.99) | {"text": 0.97, "border of 5 %": 0.97, "cropped to 90 %": 0.97}
GOALS |= {"cropped to 80 %": 0.9, "cropped to 80 %, mirrored, half the size": 0.9}


def main() -> None:
    """Run the steps and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--planted", type=int, default=100, help="photographs of a source")
    parser.add_argument("--drawn", type=int, default=20_000)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--new", type=int, default=1_000)
    parser.add_argument("--rival-python", help="a Python that has what is compared with")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, *rest = arguments.child
        measure.answer(CHILDREN[step](*rest))
        return
    report = ["# The same photograph twice\n"]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if {"planted", "rival"} & set(arguments.only):
            truth = plant(arguments.photographs, root / "images", arguments.planted, arguments.drawn)
            if "planted" in arguments.only:
                report += _planted(root, truth)
            if "rival" in arguments.only and arguments.rival_python:
                report += _rivals(arguments.rival_python, root / "images", truth)
        for step, number in (("drift", 1000), ("still", arguments.frames)):
            if step in arguments.only:
                report += _TOLD[step](measure.in_a_process(MODULE, step, root / step, number))
        if "follow" in arguments.only:
            figures = measure.in_a_process(MODULE, "follow", root / "follow", arguments.many, arguments.new)
            report += _tell_follow(figures)
    report += measure.circumstances(MODULE, ("numpy", "polars", "pillow", "faiss-cpu"))
    text = "\n".join(report) + "\n"
    print(text)
    if arguments.save:
        measure.save(text, "duplicates")


def plant(photographs: Path, images: Path, of_each: int, drawn: int) -> dict[str, tuple[str, str]]:
    """All photographs, copies of some of them, and drawn ones, as files.

    Returns:
        Relative path of a copy → edit, and relative path of its original.
    """
    paths = sorted(p for p in photographs.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for path in paths:
        target = images / "original" / path.relative_to(photographs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.resolve())
    by_source: dict[str, list[Path]] = {}
    for path in paths:
        with Image.open(path) as image:
            if min(image.size) >= LEAST_SIDE:
                by_source.setdefault(path.relative_to(photographs).parts[0], []).append(path)
    chosen = [p for some in by_source.values() for p in random.Random(5).sample(some, min(of_each, len(some)))]
    jobs = [(path, images, number, edit) for number, path in enumerate(chosen) for edit in EDITS]
    truth = {}
    with ProcessPoolExecutor() as pool:
        for (path, _, _, edit), target in zip(jobs, pool.map(_plant_one, jobs, chunksize=16), strict=True):
            truth[target] = edit, f"original/{path.relative_to(photographs)}"
        list(pool.map(_draw_one, [(images, number) for number in range(drawn)], chunksize=64))
    return truth


def _plant_one(job: tuple[Path, Path, int, str]) -> str:
    path, images, number, edit = job
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    made = EDITS[edit](upright, random.Random(f"{number} {edit}"))
    target = images / "planted" / f"{list(EDITS).index(edit):02}" / f"{number:04}_{edit[:4].strip()}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    made.save(target, "JPEG", quality=85)
    return str(target.relative_to(images))


def _draw_one(job: tuple[Path, int]) -> None:
    images, number = job
    scenes = sorted(SCENES)
    target = images / f"drawn/{number % 20:02}" / f"{number * 7919 % 100_003:06}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    render(scenes[number % len(scenes)], random.Random(number), (256, 192)).save(target, "JPEG", quality=85)


def _planted(root: Path, truth: dict[str, tuple[str, str]]) -> list[str]:
    lines = ["## Planted copies\n"]
    (root / "truth.json").write_text(json.dumps(truth))
    figures = {
        model: measure.in_a_process(
            MODULE, "compare", root / "images", root / f"lake_{model}", root / "truth.json", model
        )
        for model in ("embedded", "none")
    }
    lines += ["| edit | goal | with the embedded model | without a model |", "|---|---|---|---|"]
    for edit, goal in GOALS.items():
        found = [f"**{of['recall'][edit]:.4f}**" for of in figures.values()]
        lines.append(f"| {edit} | {goal} | {' | '.join(found)} |")
    for model, of in figures.items():
        lines.append(
            f"\n{model} model: {of['contents']:,} pictures, {of['near']:,} near pairs, of which **{of['false']}** false: "
            f"precision **{of['precision']:.4f}** ({', '.join(of['which']) or 'none'}); {of['burst']:,} burst pairs; "
            f"{of['verified'] / of['contents']:.1f} pairs verified a picture; {of['seconds']:.0f} s, "
            f"{of['contents'] / of['seconds']:.0f} pictures/s; peak {of['peak_mb']:,.0f} MB."
        )
    lines += ["\nWhat is brought together, by how many a picture may name, with the embedded model:\n"]
    lines += ["| of hashes, of neighbours | all edits | cropped to 80 % | text |", "|---|---|---|---|"]
    for row in measure.in_a_process(MODULE, "budget", root / "images", root / "lake_embedded", root / "truth.json")[
        "rows"
    ]:
        lines.append(f"| {row[0]}, {row[1]} | {' | '.join(f'{share:.4f}' for share in row[2:])} |")
    return [*lines, ""]


def budget(images: str, lake: str, truth_file: str) -> measure.Figures:
    """Share of planted copies that candidates bring together with their originals, by how many a picture names."""
    from curation_assets.curate.duplicates.candidates import Nodes, likeness_of
    from curation_assets.curate.duplicates.comparison import contents_of
    from curation_assets.curate.duplicates.hash_search import WindowHashes
    from curation_assets.curate.duplicates.pictures import open_pictures
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress
    from curation_assets.settings import load_settings

    pipeline = Pipeline(load_settings(images_root=Path(images), lake_root=Path(lake), model_source="demo"))
    truth: dict[str, list[str]] = json.loads(Path(truth_file).read_text())
    pictures = open_pictures(pipeline.settings.pictures_dir)
    keys = pictures.keys.with_row_index("picture")
    rows = contents_of(pipeline.tables.directory.latest()).join(keys, on="content_sha256", how="inner")
    rows = rows.sort("content_sha256")
    nodes = Nodes(rows, rows["picture"].to_numpy().astype(np.int64))
    every = np.arange(len(rows), dtype=np.int32)
    table = WindowHashes(pictures.hashes(nodes.pictures), every)
    named = pl.concat(table.matches(pictures.asked(nodes.pictures), every, 30))
    named = named.with_columns(rank=pl.int_range(pl.len()).over("asked"))
    lists = pipeline._neighbour_lists(LogProgress())
    assert lists is not None
    content = dict(
        pipeline.tables.directory.latest().read(["relative_path", "content_sha256"]).drop("_file").iter_rows()
    )
    place = {value: number for number, value in enumerate(rows["content_sha256"])}
    wanted = {
        copy: tuple(sorted((place[content[copy]], place[content[original]])))
        for copy, (_, original) in truth.items()
        if content[copy] != content[original]
    }
    found = []
    for of_hashes, of_neighbours in ((2, 0), (4, 0), (8, 0), (16, 0), (30, 0), (0, 5), (0, 10), (8, 5), (16, 10)):
        some = named.filter(pl.col("rank") < of_hashes).select("asked", "found").iter_rows()
        pairs = {(min(a, b), max(a, b)) for a, b in some}
        if of_neighbours:
            cut = dataclasses.replace(
                lists, lists=lists.lists[:, :of_neighbours], cosines=lists.cosines[:, :of_neighbours]
            )
            pairs |= set(likeness_of(cut, nodes).select("first", "second").iter_rows())
        shares = []
        for chosen in (None, "cropped to 80 %", "text"):
            hits = [pair in pairs for copy, pair in wanted.items() if chosen in (None, truth[copy][0])]
            shares.append(float(np.mean(hits)))
        found.append([of_hashes, of_neighbours, *shares])
    return {"rows": found}


def compare(images: str, lake: str, truth_file: str, model: str) -> measure.Figures:
    """Scan, embed and compare; what was found of the truth."""
    from curation_assets.ingest import run
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress
    from curation_assets.settings import load_settings

    pipeline = Pipeline(
        load_settings(images_root=Path(images), lake_root=Path(lake), model_source="demo", follow_links=True)
    )
    progress = LogProgress()
    if model == "none":
        pipeline.scan(sorted(pipeline.source.list_folders().folders), progress)
    else:
        run(pipeline, progress, curate=False)
    started = time.perf_counter()
    done = pipeline.compare_all(progress)
    seconds = time.perf_counter() - started
    truth: dict[str, list[str]] = json.loads(Path(truth_file).read_text())
    near = _pairs(pipeline, "near")
    hits: dict[str, list[bool]] = {edit: [] for edit in EDITS}
    content = dict(
        pipeline.tables.directory.latest().read(["relative_path", "content_sha256"]).drop("_file").iter_rows()
    )
    for copy, (edit, original) in truth.items():
        key = tuple(sorted((content[copy], content[original])))
        hits[edit].append(key in near or content[copy] == content[original])
    origin = _origins(content, truth)
    wrong = [pair for pair in near if not origin[pair[0]] & origin[pair[1]]]
    of_content = {value: path for path, value in sorted(content.items(), reverse=True)}
    return {
        "recall": {edit: float(np.mean(found)) for edit, found in hits.items()},
        "near": len(near),
        "false": len(wrong),
        "precision": 1 - len(wrong) / max(1, len(near)),
        "which": [f"{of_content[a]} and {of_content[b]}" for a, b in sorted(wrong)[:6]],
        "burst": len(_pairs(pipeline, "burst")),
        "verified": done.comparison.verified,
        "contents": done.comparison.contents,
        "seconds": seconds,
    }


def _pairs(pipeline: Any, kind: str) -> set[tuple[str, str]]:
    rows = pipeline.tables.pairs.latest().read(["first", "second", "kind"])
    return set(rows.filter(pl.col("kind") == kind).select("first", "second").iter_rows())


def _origins(content: dict[str, str], truth: dict[str, list[str]]) -> dict[str, set[str]]:
    """Content → the photographs that it shows: originals that are one by nature count as one."""
    one: dict[str, set[str]] = {path: {content[path]} for path in content}
    for paths in tomllib.loads(NATURAL.read_text())["same"]:
        known = [f"original/{path}" for path in paths if f"original/{path}" in content]
        shown = set().union(*(one[path] for path in known)) if known else set()
        for path in known:
            one[path] = shown
    origin: dict[str, set[str]] = {}
    for path, shown in one.items():
        really = one[truth[path][1]] if path in truth else shown
        origin.setdefault(content[path], set()).update(really)
    return origin


def drift(place: str, number: str) -> measure.Figures:
    """Frames of a moving camera; the least agreement of any two in one group."""
    from curation_assets.curate.duplicates.crowds import frame_agreement
    from curation_assets.curate.duplicates.pictures import open_pictures
    from curation_assets.curate.duplicates.verification import verify

    images = Path(place) / "images" / "cam"
    images.mkdir(parents=True)
    wide = render("wheat_field", random.Random(3), (1400, 600))
    rng = np.random.default_rng(0)
    for frame in range(int(number)):
        left = round(frame * 900 / int(number))
        seen = np.asarray(wide.crop((left, 60, left + 480, 420)), np.float32) + rng.normal(0, 2, (360, 480, 1))
        Image.fromarray(seen.clip(0, 255).astype(np.uint8)).save(images / f"frame_{frame:05}.jpg", quality=88)
    pipeline, seconds = _compared(Path(place))
    rows = pipeline.tables.groups.latest().read(["kind", "group_id", "content_sha256"])
    store = open_pictures(pipeline.settings.pictures_dir)
    place_of = dict(zip(store.keys["content_sha256"], range(len(store.keys)), strict=True))
    least, sizes = 1.0, []
    for _, group in rows.filter(pl.col("kind") == "near").group_by("group_id"):
        numbers = np.array([place_of[content] for content in group["content_sha256"].unique()])
        sizes.append(len(numbers))
        pairs = np.array(list(itertools.combinations(numbers, 2)))
        a, b = store.squares(pairs[:, 0]), store.squares(pairs[:, 1])
        pixels = np.tile(np.array([[480, 360]], np.float32), (len(pairs), 1))
        agree = np.maximum(verify(a, b, pixels, pixels).agreement, frame_agreement(a, b))
        least = min(least, float(agree.min()))
    return {
        "frames": int(number),
        "groups": len(sizes),
        "largest": max(sizes, default=0),
        "least": least,
        "seconds": seconds,
    }


def still(place: str, number: str) -> measure.Figures:
    """Frames of a camera that stands still, some hours of light."""
    images = Path(place) / "images" / "cam"
    images.mkdir(parents=True)
    scene = np.asarray(render("wheat_field", random.Random(3), (480, 360)), np.float32)
    with ProcessPoolExecutor() as pool:
        some = np.array_split(np.arange(int(number)), 64)
        list(pool.map(_still_frames, [(images, scene, part) for part in some]))
    pipeline, seconds = _compared(Path(place))
    rows = pipeline.tables.groups.latest().read(["kind", "group_id"])
    sizes = rows.filter(pl.col("kind") == "near")["group_id"].value_counts()["count"].to_list()
    return {
        "frames": int(number),
        "groups": len(sizes),
        "in_groups": sum(sizes),
        "largest": max(sizes, default=0),
        "seconds": seconds,
    }


def _still_frames(job: tuple[Path, Any, Any]) -> None:
    images, scene, numbers = job
    for frame in numbers.tolist():
        rng = np.random.default_rng(frame)
        light = 0.9 + 0.2 * np.sin(frame / 2000)
        seen = scene * light + rng.normal(0, 2, (*scene.shape[:2], 1))
        Image.fromarray(seen.clip(0, 255).astype(np.uint8)).save(images / f"frame_{frame:05}.jpg", quality=88)


def _compared(place: Path) -> tuple[Any, float]:
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress
    from curation_assets.settings import load_settings

    pipeline = Pipeline(load_settings(images_root=place / "images", lake_root=place / "lake", model_source="demo"))
    pipeline.scan(sorted(pipeline.source.list_folders().folders), LogProgress())
    started = time.perf_counter()
    pipeline.compare_all(LogProgress())
    return pipeline, time.perf_counter() - started


def follow(place: str, many: str, new: str) -> measure.Figures:
    """All, then what is new, then nothing."""
    root = Path(place)
    with ProcessPoolExecutor() as pool:
        list(pool.map(_draw_one, [(root / "images", number) for number in range(int(many))], chunksize=64))
    pipeline, all_seconds = _compared(root)
    with ProcessPoolExecutor() as pool:
        numbers = range(int(many), int(many) + int(new))
        list(pool.map(_draw_one, [(root / "images", number) for number in numbers], chunksize=64))
    _, new_seconds = _compared(root)
    _, nothing = _compared(root)
    del pipeline
    return {"many": int(many), "new": int(new), "all": all_seconds, "of_new": new_seconds, "nothing": nothing}


def _tell_drift(of: measure.Figures) -> list[str]:
    return [
        f"## {of['frames']:,} drifting frames\n",
        f"{of['groups']:,} near groups, the largest of {of['largest']}; the least agreement of any two members of a group "
        f"is **{of['least']:.3f}**; {of['seconds']:.0f} s, peak {of['peak_mb']:,.0f} MB.\n",
    ]


def _tell_still(of: measure.Figures) -> list[str]:
    return [
        f"## {of['frames']:,} frames of a camera that stands still\n",
        f"**{of['seconds']:.0f} s**, peak **{of['peak_mb']:,.0f} MB** (scan included); {of['in_groups']:,} of them in "
        f"{of['groups']:,} near groups, the largest of {of['largest']:,}.\n",
    ]


def _tell_follow(of: measure.Figures) -> list[str]:
    return [
        f"## {of['new']:,} new beside {of['many']:,}\n",
        f"**{of['of_new'] / of['all']:.3f}** of the time of all ({of['of_new']:.1f} s of {of['all']:.1f} s); with nothing "
        f"new {of['nothing']:.1f} s. Peak {of['peak_mb']:,.0f} MB.\n",
    ]


_TOLD: dict[str, Callable[[measure.Figures], list[str]]] = {"drift": _tell_drift, "still": _tell_still}
CHILDREN: dict[str, Callable[..., measure.Figures]] = {
    "budget": budget,
    "compare": compare,
    "drift": drift,
    "still": still,
    "follow": follow,
}


def _rivals(python: str, images: Path, truth: dict[str, tuple[str, str]]) -> list[str]:
    files = sorted(
        str(p.relative_to(images)) for p in images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    files = [file for file in files if not file.startswith("drawn/")]
    place = {file: number for number, file in enumerate(files)}
    origin = _origins({file: str(n) for file, n in place.items()}, {copy: list(told) for copy, told in truth.items()})
    shown = ("turned", "mirrored", "cropped to 90 %", "text")
    lines = ["## Others, on the same files without the drawn\n"]
    lines += [f"| | recall, all edits | {' | '.join(shown)} | precision |", "|---|---|---|---|---|---|---|"]
    times = []
    for name, script in RIVALS.items():
        answer = images.parent / f"{name}.json"
        asked = {"files": [str(images / file) for file in files], "script": script, "name": name, "answer": str(answer)}
        done = subprocess.run([python, "-c", RIVAL], input=json.dumps(asked), capture_output=True, text=True)
        if done.returncode:
            times.append(f"{name} did not run ({done.stderr.strip().splitlines()[-1]})")
            continue
        said = json.loads(answer.read_text())
        times.append(f"{name} {said['version']} took {said['seconds']:.0f} s")
        for setting, told in said["found"].items():
            pairs = {(min(a, b), max(a, b)) for a, b in told if a != b}
            hit: dict[str, list[bool]] = {edit: [] for edit in EDITS}
            for copy, (edit, original) in truth.items():
                hit[edit].append(tuple(sorted((place[copy], place[original]))) in pairs)
            right = sum(bool(origin[str(a)] & origin[str(b)]) for a, b in pairs)
            every = np.mean([found for some in hit.values() for found in some])
            chosen = [f"{np.mean(hit[edit]):.3f}" for edit in shown]
            precision = right / max(1, len(pairs))
            lines.append(f"| {name}: {setting} | {every:.3f} | {' | '.join(chosen)} | {precision:.3f} |")
    lines.append(f"\nOf {len(files):,} files {', '.join(times)}.\n")
    return lines


if __name__ == "__main__":
    main()
