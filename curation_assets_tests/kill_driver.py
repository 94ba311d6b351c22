"""What test_kill kills: a process of its own that does one job, slowly where a kill hurts most."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from curation_assets.annotations.sources import Source
from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.versions import RegisteredModel
from curation_assets.curate import measuring
from curation_assets.decisions.record import append
from curation_assets.embed import local
from curation_assets.embed.job import embed_folder
from curation_assets.embed.result import EmbedResult
from curation_assets.lake.staging import StagedFile
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.scan import plan
from curation_assets.scan import rows as scan_rows
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import GivenEncoders

MODEL = RegisteredModel("c.s.m", "1", "f", 128, 128, 1, "demo", True, "run")


@dataclass(frozen=True)
class Job:
    """``scan``, ``embed`` or ``quality`` of some folders, ``decide`` (twenty batches of three decisions), or
    ``annotate`` (ten imports of a source that says one thing of every image, another each time).

    ``slow``: seconds that each slowed step takes longer.
    """

    kind: str
    folders: Sequence[str]
    slow: float
    images: Path
    lake: Path


def drive(job: Job, parent: Connection) -> None:
    """Say ``ready``, wait to be told to begin, do the job and say what was done in how many commits."""
    _slow_down(scan_rows, "read_record", job.slow)
    _slow_down(measuring, "_measure_one", job.slow)
    _slow_down(StagedFile, "validate", job.slow)  # before a commit
    _slow_down(StagedFile, "committed", job.slow)  # after it
    plan.UNIT_FILES, local.CHUNK_IMAGES = 4, 2  # with much uncommitted work
    pipeline = Pipeline(load_settings(images_root=job.images, lake_root=job.lake, model_source="demo"))
    if job.kind == "embed":
        work = partial(_embed, pipeline, job, _warm_encoder(job))
    else:
        work = partial(
            {"scan": _scan, "quality": _measure, "decide": _decide, "annotate": _annotate}[job.kind], pipeline, job
        )
    parent.send("ready")
    parent.recv()
    parent.send(work())


def _slow_down(owner: Any, name: str, seconds: float) -> None:
    work = getattr(owner, name)

    def slowed(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return work(*args, **kwargs)

    setattr(owner, name, slowed)


def _warm_encoder(job: Job) -> Encoder:
    encoder = Encoder(DEMO_FOLDER, "cpu", "float32")
    encoder.embed_images(np.zeros((2, 128, 128, 3), np.uint8))  # loads the weights and warms up
    _slow_down(Encoder, "embed_images", job.slow)
    return encoder


def _scan(pipeline: Pipeline, job: Job) -> dict[str, int]:
    results = pipeline.scan(job.folders, LogProgress())
    return {"done": sum(result.read for result in results), "commits": sum(result.commits for result in results)}


def _measure(pipeline: Pipeline, job: Job) -> dict[str, int]:
    results = pipeline.measure(job.folders, LogProgress())
    return {"done": sum(result.measured for result in results), "commits": sum(result.commits for result in results)}


def _decide(pipeline: Pipeline, job: Job) -> dict[str, int]:
    row = {"decided_by": "ann", "kind": "keep", "field": "quality", "content_sha256": "a" * 64}
    for batch in range(20):
        rows = [row | {"reason": f"{os.getpid()} {batch}"}] * 3
        append(pipeline.tables.decisions, lambda _, rows=rows: rows)  # type: ignore[misc]
    return {"done": 60, "commits": 20}


def _annotate(pipeline: Pipeline, job: Job) -> dict[str, int]:
    paths = pipeline.tables.known_paths()["relative_path"]
    file = job.lake.parent / f"labels {os.getpid()}.csv"
    for turn in range(10):
        file.write_text("path,class\n" + "".join(f"{path},{os.getpid()} {turn}\n" for path in paths))
        pipeline.annotate(Source(source="ann", format="csv", path=file), LogProgress())
    return {"done": len(paths), "commits": 10}


def _embed(pipeline: Pipeline, job: Job, encoder: Encoder) -> dict[str, int]:
    def embed(folder: str) -> EmbedResult:
        pipeline.tables.embeddings.create()
        engine = local.LocalEngine(GivenEncoders(given=lambda: [encoder]), pipeline.source, threads=2)
        return embed_folder(pipeline.tables.directory, pipeline.tables.embeddings, folder, MODEL, engine, LogProgress())

    results = [embed(folder) for folder in job.folders]
    return {"done": sum(result.encoded for result in results), "commits": sum(result.commits for result in results)}
