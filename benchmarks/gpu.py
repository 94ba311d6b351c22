"""Everything that only a GPU can tell, in one command of at most eight minutes.

    python -m benchmarks.gpu [--save] [--minutes M] [--dry]

ViT-L/14's shapes with random weights. First that the vectors are right: the GPU's beside the CPU's in float32. Then
the forward pass alone, as shipped and varied one thing at a time: batch sizes, precision, attention, memory layout of
the patches, CUDA graphs, a compiled tower. Then end to end, from the directory table's Parquet files to the commit,
with more and more decoding threads, beside the same with pixels that lie ready: whether decoding is what bounds it,
and how many cores keep the GPU busy. Images a second, share of the arithmetic limit of the device's data sheet, peak
memory.

A section that no time is left for is skipped and named. The report is written after every section, so that a machine
that is taken away leaves what was measured: with ``--save`` to ``benchmarks/results/gpu.md``, else printed at the end.
``--dry`` runs all of it on whatever is here, a CPU too, with the demo model's shapes and a few images: figures that mean
nothing, which a test looks at.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import measure
from benchmarks.measure import Photographs
from benchmarks.models import write_model

GOALS = {"forward": 0.75, "end to end": 0.70}  # of the data sheet's limit
AGREEMENT = 0.999  # cosine with the CPU's vectors in float32
BATCHES = (32, 64, 128, 256, 512, 1024)
PHOTOGRAPHS = (measure.SMALL, measure.TYPICAL)
_SECONDS = 1.5  # of a figure of the forward pass
_CHECKED = 64  # images whose vectors are compared


@dataclass
class Plan:
    """What is measured with what.

    Attributes:
        device: as torch names it.
        dry: whether the figures don't matter.
        deadline: ``time.monotonic()`` from which on nothing new is begun.
        limit: operations a second of the device, by its data sheet; None where that is unknown.
    """

    device: str
    dry: bool
    model: Path
    home: Path
    deadline: float
    flops: float = 0.0
    limit: float | None = None

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes to try."""
        return (2, 4) if self.dry else BATCHES

    def share(self, images_per_second: float) -> str:
        """Of the limit, for a table."""
        if self.limit is None:
            return "unknown"
        return f"{images_per_second * self.flops / self.limit:.3f}"


@dataclass
class Report:
    """Lines that are written as they come."""

    target: Path | None
    lines: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        """Add lines, and write all there are."""
        self.lines += lines
        if self.target is not None:
            self.target.parent.mkdir(exist_ok=True)
            self.target.write_text("\n".join(self.lines) + "\n")


def main() -> None:
    """Measure, and write as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/gpu.md")
    parser.add_argument("--minutes", type=float, default=7.5, help="begin nothing new after so long (default 7.5)")
    parser.add_argument("--dry", action="store_true", help="run it all on whatever is here, with a tiny model")
    arguments = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not arguments.dry:
        raise SystemExit("there is no CUDA device here; --dry runs it all on the CPU, with figures that mean nothing")
    report = Report(Path(__file__).parent / "results" / "gpu.md" if arguments.save else None)
    with tempfile.TemporaryDirectory() as scratch:
        run(report, Path(scratch), dry=arguments.dry, minutes=arguments.minutes)
    print("\n".join(report.lines))


def run(report: Report, home: Path, *, dry: bool, minutes: float) -> None:
    """All sections, as far as the time goes."""
    import torch

    from curation_assets.clip.compute import device_limit
    from curation_assets.clip.encoder import Encoder
    from curation_assets.clip.source import DEMO_FOLDER

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    model = DEMO_FOLDER
    deadline = time.monotonic() + 60 * minutes
    if not dry:
        model = home / "vit-l14"
        write_model("ViT-L/14", model)
    plan = Plan(device, dry, model, home, deadline)
    encoder = Encoder(model, device)
    encoder.load_vision()
    plan.flops = encoder.image_flops
    plan.limit = device_limit(device, encoder.precision)
    report.add("# On a GPU" + (" (a dry run: the figures mean nothing)" if dry else ""), "", *_machine(plan, encoder))
    for title, section in SECTIONS.items():
        if time.monotonic() > plan.deadline:
            report.add(f"## {title}", "", "not measured: no time was left", "")
            continue
        report.add(f"## {title}", "")
        started = time.monotonic()
        try:
            for line in section(plan):
                report.add(line)
        except Exception as error:  # one section's failure is a finding; the others' figures are wanted all the same
            report.add("", f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        report.add("", f"({time.monotonic() - started:.0f} s)", "")
    report.add(*measure.circumstances("benchmarks.gpu", ("torch", "transformers", "pillow", "deltalake")))


def _machine(plan: Plan, encoder: Any) -> list[str]:
    import torch

    name = torch.cuda.get_device_name(0) if plan.device != "cpu" else measure.cpu_name()
    limit = "unknown" if plan.limit is None else f"{plan.limit / 1e12:,.0f} TFLOP/s"
    reachable = "unknown" if plan.limit is None else f"{plan.limit / plan.flops:,.0f}"
    return [
        f"- Device: {name}, CUDA {torch.version.cuda}, {torch.cuda.device_count()} in all",
        f"- {plan.flops / 1e9:.1f} GFLOP an image; limit in {encoder.precision}: {limit}, so {reachable} images/s",
        f"- Goals: forward at least {GOALS['forward']:.2f} of the limit, end to end {GOALS['end to end']:.2f}",
        "",
    ]


def vectors_agree(plan: Plan) -> Iterator[str]:
    """The device's vectors beside the CPU's in float32, the same pixels; that comes before any speed."""
    from curation_assets.clip.encoder import Encoder

    number = 4 if plan.dry else _CHECKED
    pixels = _pixels(plan, number)
    truth = Encoder(plan.model, "cpu", "float32").embed_images(pixels)
    yield "| precision | smallest cosine with the CPU's float32 | |"
    yield "|---|---:|---|"
    for precision in ("float32", "bfloat16", "float16") if plan.device != "cpu" else ("float32", "bfloat16"):
        found = Encoder(plan.model, plan.device, precision).embed_images(pixels)
        cosine = float((truth * found).sum(axis=1).min())
        yield f"| {precision} | {cosine:.6f} | {'' if cosine >= AGREEMENT else f'**below {AGREEMENT}**'} |"


def forward_as_shipped(plan: Plan) -> Iterator[str]:
    """`Encoder.embed_images` from pixels in memory, copies to and from the device within."""
    from curation_assets.clip.encoder import Encoder

    yield "| images a pass | images/s | share of the limit | peak memory, MB |"
    yield "|---:|---:|---:|---:|"
    encoder = Encoder(plan.model, plan.device)
    for size in plan.batches:
        pixels = _pixels(plan, size)
        with _peak(plan) as peak:
            speed = _speed(plan, lambda pixels=pixels: encoder.embed_images(pixels), size)
        yield f"| {size} | {speed:,.0f} | {plan.share(speed)} | {peak()} |"


def forward_varied(plan: Plan) -> Iterator[str]:
    """The tower alone, pixels on the device already, one thing changed at a time."""
    import torch

    size = 2 if plan.dry else 256
    half = "bfloat16"
    variants: dict[str, Callable[[], Callable[[], Any]]] = {
        f"{half}, fused attention (sdpa)": lambda: _tower(plan, half, "sdpa", size),
        f"{half}, plain attention (eager)": lambda: _tower(plan, half, "eager", size),
        "float16, fused attention": lambda: _tower(plan, "float16", "sdpa", size),
        f"{half}, patches channels_last": lambda: _tower(plan, half, "sdpa", size, channels_last=True),
        f"{half}, CUDA graph": lambda: _graphed(_tower(plan, half, "sdpa", size)),
        f"{half}, compiled": lambda: torch.compile(_tower(plan, half, "sdpa", size)),
        f"{half}, compiled, max-autotune": lambda: torch.compile(
            _tower(plan, half, "sdpa", size), mode="max-autotune-no-cudagraphs"
        ),
    }
    if plan.device == "cpu":
        variants = {name: make for name, make in variants.items() if "CUDA" not in name and "compiled" not in name}
    yield f"Batches of {size}."
    yield ""
    yield "| variant | images/s | share of the limit | beside the first | made ready in |"
    yield "|---|---:|---:|---:|---:|"
    first = None
    for name, make in variants.items():
        if time.monotonic() > plan.deadline:
            yield f"| {name} | no time was left | | | |"
            continue
        started = time.monotonic()
        try:
            step = make()
            step()
            _wait(plan)
            ready = time.monotonic() - started
            speed = _speed(plan, step, size)
        except Exception as error:
            yield f"| {name} | failed: {type(error).__name__} {str(error)[:80]!r} | | | |"
            continue
        first = first or speed
        yield f"| {name} | {speed:,.0f} | {plan.share(speed)} | {speed / first:.2f} | {ready:.1f} s |"


def end_to_end(plan: Plan) -> Iterator[str]:
    """The embedding job: Parquet, base64, JPEG, resize, copy, forward, vectors, Parquet, commit."""
    from joblib import cpu_count

    from curation_assets.clip.encoder import Encoder
    from curation_assets.embed.lanes import in_lanes
    from curation_assets.embed.local import encoded
    from curation_assets.embed.reader import Batch
    from curation_assets.embed.result import StageSeconds

    cores = int(cpu_count())
    counts = sorted({max(1, cores // 4), max(1, cores // 2), cores})
    yield "| photographs | decoding threads | images/s | share of the limit | beside pixels that lie ready |"
    yield "|---|---:|---:|---:|---:|"
    encoder = Encoder(plan.model, plan.device)
    size = 4 if plan.dry else encoder.batch_size
    pixels = _pixels(plan, size)
    batches = 2 if plan.dry else 24

    def ready() -> None:
        names = [str(number) for number in range(size)]
        items = (Batch(names, pixels, {}, 0, StageSeconds()) for _ in range(batches))
        with in_lanes(items, [lambda batch: encoded(encoder, batch)] * 2, 8) as done:
            for _ in done:
                pass

    ready()
    started = time.perf_counter()
    ready()
    limit = batches * size / (time.perf_counter() - started)
    yield f"| pixels that lie ready | 0 | {limit:,.0f} | {plan.share(limit)} | 1.00 |"
    for kind in PHOTOGRAPHS[:1] if plan.dry else PHOTOGRAPHS:
        number = 8 if plan.dry else (16_384 if kind is measure.SMALL else 8192)
        tree = measure.write_photographs(plan.home / kind.name, kind, number)
        for threads in counts[:1] if plan.dry else counts:
            if time.monotonic() > plan.deadline:
                yield f"| {kind.name} | {threads} | no time was left | | |"
                continue
            speed, shares = _embedded(plan, tree, kind, threads)
            most = max(shares, key=lambda stage: shares[stage]) if shares else "nothing"
            bound = f" (most of the work: {most})"
            yield f"| {kind.name} | {threads} | {speed:,.0f} | {plan.share(speed)} | {speed / limit:.2f}{bound} |"


def _embedded(plan: Plan, tree: Path, kind: Photographs, threads: int) -> tuple[float, dict[str, float]]:
    """Images a second from the first one read to the last commit, and each stage's share of the work."""
    import shutil

    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress
    from curation_assets.settings import load_settings

    lake = plan.home / f"lake of {kind.name}"
    settings = load_settings(
        images_root=tree, lake_root=lake / "tables", model_source=str(plan.model), device=plan.device, threads=threads
    )
    pipeline = Pipeline(settings, own_registry=True)
    if not pipeline.tables.directory.exists():
        pipeline.scan(sorted(pipeline.source.list_folders().folders), LogProgress())
    if pipeline.tables.embeddings.exists():
        shutil.rmtree(pipeline.tables.embeddings.path)
    model = pipeline.selection.choose().model
    pipeline.encoders.load(model).embed_images(_pixels(plan, 2))
    done = pipeline.embed_all(sorted(pipeline.source.list_folders().folders), model, LogProgress())
    seconds = sum(result.encode_seconds for result in done)
    stages = done[0].stages
    for result in done[1:]:
        stages += result.stages
    return sum(result.encoded for result in done) / seconds, stages.shares()


SECTIONS: dict[str, Callable[[Plan], Iterator[str]]] = {
    "Vectors": vectors_agree,
    "Forward pass, as shipped": forward_as_shipped,
    "End to end": end_to_end,
    "Forward pass, varied": forward_varied,
}


def _tower(plan: Plan, precision: str, attention: str, size: int, *, channels_last: bool = False) -> Callable[[], Any]:
    """A step of the image tower on pixels that lie on the device."""
    import torch
    from transformers import CLIPConfig, CLIPVisionModelWithProjection

    dtype = getattr(torch, precision)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    whole = CLIPConfig.from_pretrained(plan.model)
    config = whole.vision_config
    config.projection_dim = whole.projection_dim
    tower = CLIPVisionModelWithProjection.from_pretrained(
        plan.model, config=config, dtype=dtype, attn_implementation=attention
    )
    tower = tower.eval().to(plan.device, memory_format=layout)
    side = tower.config.image_size
    values = torch.randn(size, 3, side, side, device=plan.device).to(dtype).to(memory_format=layout)

    def step() -> Any:
        with torch.inference_mode():
            return tower(pixel_values=values).image_embeds

    return step


def _graphed(step: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # as torch asks for: warm up beside the stream that is captured
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _speed(plan: Plan, step: Callable[[], Any], images: int) -> float:
    """Images a second: the median of rounds, after a warm-up."""
    for _ in range(1 if plan.dry else 3):
        step()
    _wait(plan)
    rounds: list[float] = []
    began = time.perf_counter()
    while len(rounds) < (1 if plan.dry else 3) or (not plan.dry and time.perf_counter() - began < _SECONDS):
        started = time.perf_counter()
        for _ in range(1 if plan.dry else 3):
            step()
        _wait(plan)
        rounds.append((time.perf_counter() - started) / (1 if plan.dry else 3))
    return images / statistics.median(rounds)


def _wait(plan: Plan) -> None:
    if plan.device != "cpu":
        import torch

        torch.cuda.synchronize()


@contextmanager
def _peak(plan: Plan) -> Iterator[Callable[[], str]]:
    """Most memory that torch held on the device within the block, in MB, for a table."""
    import torch

    if plan.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    yield lambda: "—" if plan.device == "cpu" else f"{torch.cuda.max_memory_allocated() / 2**20:,.0f}"


def _pixels(plan: Plan, number: int) -> NDArray[np.uint8]:
    from curation_assets.clip.preprocessing import Preprocessing

    side = Preprocessing.from_folder(plan.model).crop
    return np.random.default_rng(0).integers(0, 256, (number, side, side, 3), np.uint8)


if __name__ == "__main__":
    main()
