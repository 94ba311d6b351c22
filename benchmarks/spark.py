"""The Spark engine on one core and on two, beside ``mlflow.pyfunc.spark_udf`` and the notebooks' one-image UDF.

    python -m benchmarks.spark [--images N] [--only PART]... [--save]

Local mode, every figure in a process (and JVM) of its own; a first small job starts the workers and loads the model,
the second is timed. All embed the same photographs from the same directory table with a model of ViT-B/32's shape and
random weights; the UDFs read it with Spark and write Parquet with Spark. ``memory`` embeds one folder and one of eight
times as many photographs with the embedded demo model, and gives the peak of the driver's Python and of the JVM.
``--save`` writes ``benchmarks/results/spark.md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Figures

MODULE = "benchmarks.spark"
PARTS = ("cores", "rivals", "memory")
ROUNDS = 2
FACTOR = 8
WARM = 48


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=960, help="photographs to embed (default 960)")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure just this part")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/spark.md")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, home, *rest = arguments.child
        measure.answer(STEPS[step](Path(home), *rest))
        return
    with tempfile.TemporaryDirectory() as scratch:
        sections = [MEASURE[part](Path(scratch), arguments.images) for part in arguments.only or PARTS]
    packages = ("pyspark", "torch", "transformers", "mlflow", "deltalake", "pyarrow", "polars")
    lines = [line for section in sections for line in [*section, ""]]
    report = "\n".join(["# Spark", "", *lines, *measure.circumstances(MODULE, packages)])
    print(report)
    if arguments.save:
        measure.save(report, "spark")


# --- what is measured, each in a process of its own; ``home`` holds images, lake and model ---


def prepare_home(home: Path) -> Figures:
    """Scan and register, once for all that follow."""
    from curation_assets.ingest import scan_changed
    from curation_assets.progress import LogProgress

    pipeline = _pipeline(home)
    scan_changed(pipeline, pipeline.source.list_folders(), LogProgress())
    pipeline.selection.choose()
    return {}


def engine(home: Path, cores: str) -> Figures:
    """Our engine on some cores."""
    from curation_assets.progress import LogProgress
    from curation_assets.spark.session import open_session

    settings = _settings(home, engine="spark", spark_master=f"local[{cores},4]")
    session = open_session(settings)
    pipeline, progress = _pipeline(home, settings, lambda: session), LogProgress()
    model = pipeline.registry.champion()
    shutil.rmtree(pipeline.tables.embeddings.path, ignore_errors=True)
    pipeline.embed("warm", model, progress)
    result = pipeline.embed("field", model, progress)
    shares = {stage: round(share, 3) for stage, share in result.stages.shares().items()}
    return {"seconds": result.seconds, "images": result.encoded, "shares": shares, "jvm_mb": _jvm_peak(session)}


def here(home: Path) -> Figures:
    """The local engine on all cores."""
    from curation_assets.progress import LogProgress

    pipeline, progress = _pipeline(home), LogProgress()
    model = pipeline.registry.champion()
    shutil.rmtree(pipeline.tables.embeddings.path, ignore_errors=True)
    pipeline.embed("warm", model, progress)
    result = pipeline.embed("field", model, progress)
    return {"seconds": result.seconds, "images": result.encoded}


def spark_udf(home: Path) -> Figures:
    """MLflow's own way to a registered model on Spark: a pandas UDF of batches."""
    import mlflow

    from curation_assets.spark.session import open_session

    session = open_session(_settings(home, engine="spark", spark_master=f"local[{_cores()}]"))
    pipeline = _pipeline(home)
    champion = pipeline.registry.champion()
    mlflow.set_tracking_uri(f"sqlite:///{pipeline.settings.mlflow_dir}/mlflow.db")
    embed = mlflow.pyfunc.spark_udf(session, champion.uri, env_manager="local", result_type="array<float>")
    return _udf(home, session, lambda column: embed(column))


def one_image_udf(home: Path) -> Figures:
    """The notebooks' way: a UDF that calls processor and model for each row, loaded once a worker."""
    from pyspark.sql.functions import udf
    from pyspark.sql.types import ArrayType, FloatType

    from curation_assets.spark.session import open_session

    session = open_session(_settings(home, engine="spark", spark_master=f"local[{_cores()}]"))
    folder = str(home / "model")

    def embed(text: str) -> list[float]:
        import base64
        import sys
        from io import BytesIO

        import torch
        import transformers
        from PIL import Image

        kept = sys.__dict__  # of the worker process
        if "_clip" not in kept:
            torch.set_num_threads(1)
            model = transformers.CLIPVisionModelWithProjection.from_pretrained(folder).eval()
            kept["_clip"] = model, transformers.CLIPImageProcessor.from_pretrained(folder)
        model, processor = kept["_clip"]
        image = Image.open(BytesIO(base64.b64decode(text))).convert("RGB")
        with torch.no_grad():
            features = model(**processor(images=image, return_tensors="pt")).image_embeds
        vector: list[float] = (features / features.norm(dim=-1, keepdim=True))[0].tolist()
        return vector

    return _udf(home, session, udf(embed, ArrayType(FloatType())), share=4)


STEPS: dict[str, Callable[..., Figures]] = {
    step.__name__: step for step in (prepare_home, engine, here, spark_udf, one_image_udf)
}


def _udf(home: Path, session: Any, embed: Callable[[Any], Any], share: int = 1) -> Figures:
    pipeline = _pipeline(home)
    snapshot, seconds, images = pipeline.tables.directory.snapshot(), 0.0, 0
    for folder, part in (("warm", 1), ("field", share)):
        files = [snapshot.storage.uri(file.path) for file in snapshot.files(folder)]
        number = snapshot.rows(folder) // part
        out = str(home / f"udf-{folder}")
        shutil.rmtree(out, ignore_errors=True)
        started = time.perf_counter()
        frame = session.read.parquet(*files).select("relative_path", "image_base64").limit(number)
        frame = frame.repartition(6 * _cores())  # a row group would be one task
        frame.withColumn("embeddings", embed(frame["image_base64"])).drop("image_base64").write.parquet(out)
        seconds, images = time.perf_counter() - started, session.read.parquet(out).count()
    return {"seconds": seconds, "images": images, "jvm_mb": _jvm_peak(session)}


def _settings(home: Path, **more: Any) -> Any:
    from curation_assets.settings import load_settings

    source = home / "model"
    return load_settings(
        images_root=str(home / "images"),
        lake_root=str(home / "lake"),
        model_source=str(source) if source.exists() else "demo",
        **more,
    )


def _pipeline(home: Path, settings: Any = None, spark: Any = None) -> Any:
    from curation_assets.pipeline import Pipeline

    return Pipeline(settings or _settings(home), own_registry=True, spark=spark)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _jvm_peak(session: Any) -> float:
    return measure.peak_mb(session.sparkContext._gateway.proc.pid)


# --- which of them, on what, and what is said of it ---


def _home(scratch: Path, images: int, model: str | None) -> Path:
    from benchmarks.models import write_model

    home = scratch / f"{model or 'demo'}-{images}".replace("/", "")
    if not home.exists():
        for folder, number in (("warm", WARM), ("field", images)):
            measure.write_photographs(home / "drawn", measure.SMALL, number)
            (home / "images").mkdir(exist_ok=True)
            (home / "drawn" / "field_0000").rename(home / "images" / folder)
        for file in (home / "images" / "warm").iterdir():
            file.write_bytes(file.read_bytes() + b"warm")
        if model is not None:
            write_model(model, home / "model")
        measure.in_a_process(MODULE, "prepare_home", home)
    return home


def _speed(run: Figures) -> float:
    return float(run["images"] / run["seconds"])


def _on_cores(scratch: Path, images: int) -> list[str]:
    home = _home(scratch, images, "ViT-B/32")
    rounds = [
        [measure.in_a_process(MODULE, "engine", home, cores) for cores in (1, 2)]
        + [measure.in_a_process(MODULE, "here", home)]
        for _ in range(ROUNDS)
    ]
    one, two, local = (statistics.median(_speed(each[i]) for each in rounds) for i in range(3))
    ratio = statistics.median(_speed(each[1]) / _speed(each[0]) for each in rounds)
    beside = statistics.median(_speed(each[1]) / _speed(each[2]) for each in rounds)
    return [
        f"## One core and two: {images} photographs of {measure.SMALL.name}, medians of {ROUNDS} rounds",
        "",
        "| engine | images/s |",
        "|---|---|",
        f"| Spark, local[1] | {one:.1f} |",
        f"| Spark, local[2] | {two:.1f} |",
        f"| local engine, 2 threads | {local:.1f} |",
        "",
        f"Two cores are **{ratio:.2f}** times as fast as one, and {beside:.2f} times the local engine (medians).",
    ]


def _rivals(scratch: Path, images: int) -> list[str]:
    home = _home(scratch, images, "ViT-B/32")
    own = [measure.in_a_process(MODULE, "engine", home, _cores())]
    lines = [
        "## Rivals, on all cores",
        "",
        "| | images | images/s | ours / it | JVM's peak MB |",
        "|---|---|---|---|---|",
    ]
    runs = {}
    for name, step in (("mlflow.pyfunc.spark_udf", "spark_udf"), ("one-image UDF, float32", "one_image_udf")):
        runs[name] = measure.in_a_process(MODULE, step, home)
        own.append(measure.in_a_process(MODULE, "engine", home, _cores()))
    speed = statistics.median(_speed(run) for run in own)
    lines.append(f"| our engine | {own[0]['images']} | {speed:.1f} | | {own[0]['jvm_mb']:,.0f} |")
    lines += [
        f"| {name} | {run['images']} | {_speed(run):.1f} | **{speed / _speed(run):.2f}** | {run['jvm_mb']:,.0f} |"
        for name, run in runs.items()
    ]
    return lines


def _memory(scratch: Path, images: int) -> list[str]:
    sizes = (images, FACTOR * images)
    runs = [measure.in_a_process(MODULE, "engine", _home(scratch, size, None), _cores()) for size in sizes]
    return [
        "## Memory of the driver, demo model",
        "",
        "| photographs | Python's peak MB | JVM's peak MB |",
        "|---|---|---|",
        *(
            f"| {size:,} | {run['peak_mb']:,.0f} | {run['jvm_mb']:,.0f} |"
            for size, run in zip(sizes, runs, strict=True)
        ),
        f"| ratio | {runs[1]['peak_mb'] / runs[0]['peak_mb']:.2f} | {runs[1]['jvm_mb'] / runs[0]['jvm_mb']:.2f} |",
    ]


MEASURE = {"cores": _on_cores, "rivals": _rivals, "memory": _memory}

if __name__ == "__main__":
    main()
