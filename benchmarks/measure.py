"""What the benchmarks share: photographs, a process for each figure, and the lines that say where it was measured."""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

SCENES = ("maize_rust", "coffee_cercospora", "tomato", "wheat_field")
Figures = dict[str, Any]


@dataclass(frozen=True)
class Photographs:
    """A kind of photograph: its name, (width, height), and how strong the noise of its sensor is."""

    name: str
    size: tuple[int, int]
    noise: float


SMALL = Photographs("256 x 192", (256, 192), 4)
TYPICAL = Photographs("1280 x 960", (1280, 960), 4)
LARGE = Photographs("4000 x 3000", (4000, 3000), 5)


@cache
def photograph(kind: Photographs, seed: int) -> bytes:
    """A drawn scene with a camera's noise and EXIF, as JPEG."""
    import numpy as np
    from PIL import Image

    from curation_assets.demo.render import render

    drawn = render(SCENES[seed % len(SCENES)], random.Random(seed), (1280, 960)).resize(kind.size)
    pixels = np.asarray(drawn, dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal(pixels.shape, dtype=np.float32)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Canon", "Canon EOS 90D", 1
    exif.get_ifd(0x8769).update({0x9003: "2024:06:01 10:20:30", 0x9011: "+02:00", 0x829A: 0.004})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 1.5), 3: "E", 4: (13.0, 24.0, 2.5)})
    out = BytesIO()
    image = Image.fromarray((pixels + kind.noise * noise).clip(0, 255).astype(np.uint8))
    image.save(out, "JPEG", quality=92, exif=exif)
    return out.getvalue()


def write_photographs(root: Path, kind: Photographs, number: int, folders: int = 1, copies: int = 1) -> Path:
    """A tree of photographs, each with a content of its own but for the copies, which are links."""
    originals = [photograph(kind, index) for index in range(min(24, number))]
    for index in range(number):
        data = originals[index % len(originals)] + index.to_bytes(8, "big")
        for copy in range(copies):
            path = root / f"field_{index * folders // number:04}" / f"IMG_{index:06}_{copy:02}.jpg"
            if copy:
                os.link(path.with_name(f"IMG_{index:06}_00.jpg"), path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return root


def in_a_process(module: str, step: str, *arguments: object) -> Figures:
    """Figures of a step that runs in a process of its own: ``module`` is called with ``--child step arguments``."""
    command = [sys.executable, "-m", module, "--child", step, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    print(f"{step} {' '.join(Path(str(a)).name for a in arguments)}: {figures}", file=sys.stderr)
    return figures


def answer(figures: Figures) -> None:
    """Print a child's figures, with its peak memory unless they hold one."""
    figures.setdefault("peak_mb", peak_mb())
    print(json.dumps(figures))


def peak_mb(process: int | str = "self") -> float:
    """Peak resident memory of a process; getrusage's figure is at least that of whoever started it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def circumstances(module: str, packages: tuple[str, ...]) -> list[str]:
    """Command, machine and versions, as lines of a report."""
    return [
        f"- Command: `python -m {module} {' '.join(sys.argv[1:])}`",
        f"- Machine: {platform.machine()}, {os.cpu_count()} cores, {cpu_name()}, Python {platform.python_version()}",
        f"- Versions: {', '.join(f'{name} {version_of(name)}' for name in packages)}",
        "- Times are of a shared machine with files in the page cache; the ratios are what to trust.",
        "",
    ]


def save(report: str, name: str) -> None:
    """Write a report to ``benchmarks/results``."""
    target = Path(__file__).parent / "results" / f"{name}.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(report)


def version_of(package: str) -> str:
    """Installed version, or ``absent``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def cpu_name() -> str:
    """As the operating system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
