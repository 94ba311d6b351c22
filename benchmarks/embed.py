"""Embedding end to end beside its encoder alone and beside rivals; how fast a twelve-megapixel photograph is prepared.

    python -m benchmarks.embed [--images N] [--only PART]... [--save]

End to end is ``Pipeline.embed``: from the directory table's Parquet files to the commit. The encoder alone is given
pixels that lie ready in memory, once in the lanes that the engine uses and once the plain way (one stream of batches
on all threads); the limit is the faster of the two. The rivals embed the same images from the same table and write
their vectors to a Delta table: the loop of the original notebooks (processor and model called once an image), a plain
transformers + DataLoader loop in the same batches, sentence-transformers' CLIP and Daft. The models
have the published shapes of ViT-B/32 and ViT-L/14 and random weights. Every figure is of a process of its own, model
loaded and warm (but Daft's, which loads it within); ours and the limit take turns, ratios are medians of the rounds.
``--save`` writes ``benchmarks/results/embed.md``. The rivals come with ``pip install -e '.[benchmark]'``.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Figures, Photographs
from curation_assets.images.guard import DecodeOptions

MODULE = "benchmarks.embed"
PARTS = ("limit", "rivals", "prepare")
ROUNDS = 3
CASES = (
    ("ViT-B/32", measure.SMALL, 1.0),
    ("ViT-B/32", measure.TYPICAL, 1.0),
    ("ViT-L/14", measure.SMALL, 1 / 8),
)
RIVALS = {
    "notebooks' loop, one image a call, float32": ("notebook", 1 / 6),
    "transformers + DataLoader, batches of 32, float32": ("dataloader", 1 / 3),
    "the same in bfloat16": ("dataloader_bf16", 1.0),
    "sentence-transformers, batches of 32, float32": ("sentence_transformers", 1 / 3),
    "Daft, a batch function of 32, float32": ("daft", 1 / 3),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=480, help="photographs for ViT-B/32 (default 480)")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure just this part")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/embed.md")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, *rest = arguments.child
        measure.answer(STEPS[step](*map(Path, rest)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        sections = [MEASURE[part](Path(scratch), arguments.images) for part in arguments.only or PARTS]
    packages = ("torch", "transformers", "pillow", "deltalake", "pyarrow", "polars", "sentence-transformers", "daft")
    lines = [line for section in sections for line in [*section, ""]]
    report = "\n".join(["# Embedding", "", *lines, *measure.circumstances(MODULE, packages)])
    print(report)
    if arguments.save:
        measure.save(report, "embed")


# --- what is measured, each in a process of its own; ``home`` holds images, lake and model ---


def prepare_home(home: Path) -> Figures:
    """Scan and register, once for all that follow."""
    from curation_assets.ingest import scan_changed
    from curation_assets.progress import LogProgress

    pipeline = _pipeline(home)
    scan_changed(pipeline, pipeline.source.list_folders(), LogProgress())
    pipeline.selection.choose()
    return {}


def ours(home: Path) -> Figures:
    """The embedding of a folder, from planning to the last commit."""
    from curation_assets.progress import LogProgress

    pipeline, encoder = _warm(home)
    shutil.rmtree(pipeline.tables.embeddings.path, ignore_errors=True)
    started = time.perf_counter()
    result = pipeline.embed("field_0000", pipeline.registry.champion(), LogProgress())
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "images": result.encoded,
        "shares": {stage: round(share, 3) for stage, share in result.stages.shares().items()},
        "mfu": result.mfu,
        "precision": encoder.precision,
    }


def encoder_in_lanes(home: Path) -> Figures:
    """The encoder alone, in the engine's lanes."""
    from curation_assets.embed.lanes import in_lanes
    from curation_assets.embed.local import _CPU_BATCH, cpu_lanes

    pipeline, encoder = _warm(home)
    pixels, threads = _pixels(home, encoder), pipeline.settings.worker_threads
    parts = iter([pixels[at : at + _CPU_BATCH] for at in range(0, len(pixels), _CPU_BATCH)])
    started = time.perf_counter()
    work: Any = encoder.embed_images
    with cpu_lanes(threads) as limited, in_lanes(parts, [limited(work)] * threads, len(pixels)) as done:
        images = sum(len(vectors) for vectors in done)
    return {"seconds": time.perf_counter() - started, "images": images}


def encoder_plain(home: Path) -> Figures:
    """The encoder alone, batch after batch on all threads."""
    _, encoder = _warm(home)
    pixels = _pixels(home, encoder)
    started = time.perf_counter()
    images = sum(len(encoder.embed_images(pixels[at : at + 32])) for at in range(0, len(pixels), 32))
    return {"seconds": time.perf_counter() - started, "images": images}


def notebook(home: Path) -> Figures:
    """Processor and model once an image."""
    import torch
    from PIL import Image

    model, processor = _transformers(home, torch.float32)

    def embed(rows: list[str]) -> Iterator[Any]:
        for text in rows:
            image = Image.open(BytesIO(base64.b64decode(text))).convert("RGB")
            with torch.no_grad():
                features = model(**processor(images=image, return_tensors="pt")).image_embeds
            yield (features / features.norm(dim=-1, keepdim=True))[0].tolist()

    return _timed(home, embed, ROWS_OF["notebook"])


def dataloader(home: Path) -> Figures:
    """Batches of 32 through a DataLoader with a process a core, in float32."""
    import torch

    return _dataloader(home, torch.float32, "dataloader")


def dataloader_bf16(home: Path) -> Figures:
    """The same in bfloat16."""
    import torch

    return _dataloader(home, torch.bfloat16, "dataloader_bf16")


def sentence_transformers(home: Path) -> Figures:
    """``SentenceTransformer.encode`` of images."""
    from PIL import Image
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import CLIPModel

    model = SentenceTransformer(modules=[CLIPModel(str(home / "model"))])

    def embed(rows: list[str]) -> Iterator[Any]:
        images = [Image.open(BytesIO(base64.b64decode(text))).convert("RGB") for text in rows]
        yield from model.encode(images, batch_size=32, normalize_embeddings=True).tolist()

    return _timed(home, embed, ROWS_OF["sentence_transformers"])


def daft(home: Path) -> Figures:
    """A dataframe engine: read, decode, a batch function of the model, write.

    Its own ``embed_image`` (0.6.14) fails with transformers 5, which returns more than the vectors.
    """
    import daft as engine
    from daft.functions import decode, decode_image

    pipeline, out = _pipeline(home), home / "daft"
    shutil.rmtree(out, ignore_errors=True)
    files = [str(pipeline.tables.directory.path / file.path) for file in pipeline.tables.directory.snapshot().files()]
    number = round(pipeline.tables.directory.snapshot().rows() * ROWS_OF["daft"])

    @engine.cls
    class Clip:
        def __init__(self) -> None:
            import torch

            self.model, self.processor = _transformers(home, torch.float32)

        @engine.method.batch(return_dtype=engine.DataType.list(engine.DataType.float32()), batch_size=32)
        def embed(self, images: Any) -> Any:
            import torch

            pixels = self.processor(images=images.to_pylist(), return_tensors="pt")
            with torch.inference_mode():
                features = self.model(**pixels).image_embeds
            return (features / features.norm(dim=-1, keepdim=True)).tolist()

    started = time.perf_counter()
    frame = engine.read_parquet(files).select("relative_path", "image_base64").limit(number)
    data = decode(engine.col("image_base64").cast(engine.DataType.binary()), "base64")
    vectors = Clip().embed(decode_image(data).convert_image("RGB"))  # type: ignore[arg-type]
    written = frame.with_column("embeddings", vectors).select("relative_path", "embeddings").write_parquet(str(out))
    images = engine.read_parquet(written.to_pydict()["path"]).count_rows()
    return {"seconds": time.perf_counter() - started, "images": images}


def prepared(home: Path) -> Figures:
    """A twelve-megapixel JPEG made ready for the encoder, beside Pillow decoding every pixel of it."""
    import numpy as np
    from PIL import Image

    from curation_assets.clip.preprocessing import Preprocessing

    preprocessing = Preprocessing.from_folder(home / "model")
    photographs = [measure.photograph(measure.LARGE, seed) for seed in range(4)]
    ratios, cosines, milliseconds = [], [], []
    for _ in range(ROUNDS):
        for data in photographs:
            started = time.perf_counter()
            small = preprocessing.load(data, DecodeOptions(10**9))
            between = time.perf_counter()
            whole = Image.open(BytesIO(data)).convert("RGB")
            ended = time.perf_counter()
            ratios.append((between - started) / (ended - between))
            milliseconds.append(((between - started) * 1e3, (ended - between) * 1e3))
            a, b = small.astype(np.float64).ravel(), preprocessing.pixels(whole).astype(np.float64).ravel()
            cosines.append(a @ b / np.sqrt((a @ a) * (b @ b)))
    ms = [statistics.median(pair[side] for pair in milliseconds) for side in (0, 1)]
    return {"ratio": statistics.median(ratios), "cosine": min(cosines), "prepare_ms": ms[0], "decode_ms": ms[1]}


STEPS: dict[str, Callable[..., Figures]] = {
    step.__name__: step
    for step in (
        prepare_home, ours, encoder_in_lanes, encoder_plain, notebook, dataloader, dataloader_bf16,
        sentence_transformers, daft, prepared,
    )
}  # fmt: skip
ROWS_OF = dict(RIVALS.values())


def _pipeline(home: Path) -> Any:
    from curation_assets.pipeline import Pipeline
    from curation_assets.settings import load_settings

    settings = load_settings(
        images_root=str(home / "images"), lake_root=str(home / "lake"), model_source=str(home / "model")
    )
    return Pipeline(settings, own_registry=True)


def _warm(home: Path) -> tuple[Any, Any]:
    import numpy as np

    pipeline = _pipeline(home)
    (encoder,) = pipeline.encoders.load_all(pipeline.registry.champion())
    side = encoder.preprocessing.crop
    encoder.embed_images(np.zeros((8, side, side, 3), np.uint8))
    return pipeline, encoder


def _pixels(home: Path, encoder: Any) -> Any:
    import numpy as np

    files = sorted((home / "images").rglob("*.jpg"))
    return np.stack([encoder.preprocessing.load(file.read_bytes(), DecodeOptions(10**9)) for file in files])


def _transformers(home: Path, dtype: Any) -> tuple[Any, Any]:
    import torch
    import transformers

    model = transformers.CLIPVisionModelWithProjection.from_pretrained(home / "model", dtype=dtype).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(home / "model")
    with torch.no_grad():
        model(pixel_values=torch.zeros(2, 3, 224, 224, dtype=dtype))
    return model, processor


class Base64Images:
    """A dataset of the rows' images, as a plain loop would have it."""

    def __init__(self, rows: list[str], processor: Any) -> None:
        self.rows, self.processor = rows, processor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        image = Image.open(BytesIO(base64.b64decode(self.rows[index]))).convert("RGB")
        return self.processor(images=image, return_tensors="pt")["pixel_values"][0]


def _dataloader(home: Path, dtype: Any, name: str) -> Figures:
    import torch

    model, processor = _transformers(home, dtype)

    def embed(rows: list[str]) -> Iterator[Any]:
        images: Any = Base64Images(rows, processor)
        for batch in torch.utils.data.DataLoader(images, batch_size=32, num_workers=torch.get_num_threads()):
            with torch.inference_mode():
                features = model(pixel_values=batch.to(dtype)).image_embeds.float()
                yield from (features / features.norm(dim=-1, keepdim=True)).tolist()

    return _timed(home, embed, ROWS_OF[name])


def _timed(home: Path, embed: Callable[[list[str]], Iterator[Any]], share: float) -> Figures:
    """A rival's way: the table's images in memory, vectors in a list, one write."""
    import polars as pl
    from deltalake import DeltaTable, write_deltalake

    table, out = _pipeline(home).tables.directory.path, home / "rival"
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    rows = pl.DataFrame(DeltaTable(str(table)).to_pyarrow_table(columns=["relative_path", "image_base64"]))
    rows = rows.head(round(len(rows) * share))
    vectors = list(embed(rows["image_base64"].to_list()))
    made = rows.select("relative_path").with_columns(embeddings=pl.Series(vectors, dtype=pl.List(pl.Float32)))
    write_deltalake(str(out), made.to_arrow())
    return {"seconds": time.perf_counter() - started, "images": len(rows)}


# --- which of them, on what, and what is said of it ---


def _home(scratch: Path, model: str, kind: Photographs, number: int) -> Path:
    from benchmarks.models import write_model

    home = scratch / f"{model.replace('/', '')}-{kind.size[0]}"
    if not home.exists():
        measure.write_photographs(home / "images", kind, number)
        write_model(model, home / "model")
        measure.in_a_process(MODULE, "prepare_home", home)
    return home


def _limit(scratch: Path, images: int) -> list[str]:
    lines = [
        f"## Beside the encoder alone, medians of {ROUNDS} rounds",
        "",
        "| model | photographs | number | end to end, images/s | encoder in lanes | encoder, plain | "
        "**end to end / faster of these** | read, decode, forward, write | of the CPU's measured limit | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, kind, share in CASES:
        number = max(16, round(images * share))
        home = _home(scratch, model, kind, number)
        rounds = [
            [measure.in_a_process(MODULE, step, home) for step in ("ours", "encoder_in_lanes", "encoder_plain")]
            for _ in range(ROUNDS)
        ]
        speeds = [[run["images"] / run["seconds"] for run in each] for each in rounds]
        medians = [statistics.median(each[i] for each in speeds) for i in range(3)]
        ratio = statistics.median(each[0] / max(each[1:]) for each in speeds)
        last = rounds[-1][0]
        shares = " / ".join(f"{share:.0%}" for share in last["shares"].values())
        peak = max(each[0]["peak_mb"] for each in rounds)
        limit = statistics.median(each[0]["mfu"] for each in rounds)
        lines.append(
            f"| {model}, {last['precision']} | {kind.name} | {number} | {medians[0]:.2f} | {medians[1]:.2f} | "
            f"{medians[2]:.2f} | **{ratio:.3f}** | {shares} | {limit:.2f} | {peak:,.0f} |"
        )
    return lines


def _rivals(scratch: Path, images: int) -> list[str]:
    home = _home(scratch, "ViT-B/32", measure.SMALL, images)
    lines = [
        f"## Rivals, ViT-B/32, photographs of {measure.SMALL.name}",
        "",
        "| | images | images/s | ours / it | peak MB |",
        "|---|---|---|---|---|",
    ]
    own = [measure.in_a_process(MODULE, "ours", home)]
    figures = {}
    for name, (step, _) in RIVALS.items():
        package = {"sentence_transformers": "sentence-transformers"}.get(step, step if step == "daft" else "torch")
        if measure.version_of(package) == "absent":
            lines.append(f"| {name} | {package} is not installed | | | |")
            continue
        figures[name] = measure.in_a_process(MODULE, step, home)
        own.append(measure.in_a_process(MODULE, "ours", home))
    speed = statistics.median(run["images"] / run["seconds"] for run in own)
    lines.append(f"| ours, {own[0]['precision']} | {own[0]['images']} | {speed:.1f} | | {own[0]['peak_mb']:,.0f} |")
    for name, run in figures.items():
        its = run["images"] / run["seconds"]
        lines.append(f"| {name} | {run['images']} | {its:.1f} | {speed / its:.2f} | {run['peak_mb']:,.0f} |")
    return lines


def _prepare(scratch: Path, images: int) -> list[str]:
    home = _home(scratch, "ViT-B/32", measure.SMALL, images)
    run = measure.in_a_process(MODULE, "prepared", home)
    return [
        f"## A JPEG of {measure.LARGE.name} made ready",
        "",
        f"Decoded at a scale, resized and cropped in {run['prepare_ms']:.1f} ms; Pillow's decode of every pixel alone takes "
        f"{run['decode_ms']:.1f} ms: **{run['ratio']:.2f}** of it (median). Pixels against those of the full decode: "
        f"cosine at least {run['cosine']:.6f}.",
    ]


MEASURE = {"limit": _limit, "rivals": _rivals, "prepare": _prepare}

if __name__ == "__main__":
    main()
