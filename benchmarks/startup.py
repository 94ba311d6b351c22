"""How long a new shell waits for a command, beside what it could not do without.

    python -m benchmarks.startup [--rounds N] [--save]

Every command is a process of its own over a lake of drawn photographs, embedded with the model that comes along; files
are in the page cache. In each round all of them run one after the other, so that whatever else the machine does hits
them alike. ``--save`` writes ``benchmarks/results/startup.md``. The goal: a search by words in 1.3 times the time that
importing torch and transformers takes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure

MODULE = "benchmarks.startup"
PACKAGES = ("torch", "transformers", "mlflow", "polars", "deltalake", "typer")
GOAL = 1.3
IMAGES, FOLDERS = 240, 4
CURATION = str(Path(sys.executable).with_name("curation"))
PYTHON = [sys.executable, "-c"]
LIBRARIES, BARE = "python -c 'import torch, transformers'", "python -c pass"
CLASS = "python -c 'from transformers import CLIPVisionModelWithProjection'"
SEARCH, FIRST_SEARCH = "curation search", "curation search, the first of a registry"
PICTURE_SEARCH = "curation search --image FILE, which embeds a picture"
# What runs, beside what, and how it is called.
COMMANDS: dict[str, tuple[str, list[str]]] = {
    LIBRARIES: (LIBRARIES, [*PYTHON, "import torch, transformers"]),
    SEARCH: (LIBRARIES, [CURATION, "search", "rust on a coffee leaf"]),
    FIRST_SEARCH: (LIBRARIES, [CURATION, "search", "rust on a coffee leaf"]),
    CLASS: (CLASS, [*PYTHON, "from transformers import CLIPVisionModelWithProjection"]),
    PICTURE_SEARCH: (CLASS, [CURATION, "search", "--image", "{images}/field_0000/IMG_000000_00.jpg"]),
    BARE: (BARE, [*PYTHON, "pass"]),
    "curation --help": (BARE, [CURATION, "--help"]),
    "curation status": (BARE, [CURATION, "status"]),
    "curation show": (BARE, [CURATION, "show", "field_0000/IMG_000000_00.jpg"]),
}
Taken = tuple[float, float]  # seconds on the clock, and of the processor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="how often each command runs (default 11)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/startup.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        taken = _measure(Path(scratch), arguments.rounds)
    report = _report(taken, arguments.rounds)
    print(report)
    if arguments.save:
        measure.save(report, "startup")


def _measure(home: Path, rounds: int) -> dict[str, list[Taken]]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CURATION_", "MLFLOW_"))}
    environment |= {
        "CURATION_IMAGES_ROOT": str(measure.write_photographs(home / "images", measure.SMALL, IMAGES, FOLDERS)),
        "CURATION_LAKE_ROOT": str(home / "lake"),
        "CURATION_MODEL_SOURCE": "demo",
    }
    _run([CURATION, "run"], environment)
    taken: dict[str, list[Taken]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, (_, command) in COMMANDS.items():
            if name == FIRST_SEARCH:
                shutil.rmtree(home / "mlflow" / "notes", ignore_errors=True)
            seconds = _run([part.format(images=home / "images") for part in command], environment)
            if number:  # the first fills the page cache
                taken[name].append(seconds)
            print(f"round {number}: {name} {seconds[0]:.2f} s", file=sys.stderr)
    return taken


def _run(command: Sequence[str], environment: dict[str, str]) -> Taken:
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds, after = time.perf_counter() - started, os.times()
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return seconds, spent


def _report(taken: dict[str, list[Taken]], rounds: int) -> str:
    clock, processor = (
        {name: statistics.median(one[which] for one in found) for name, found in taken.items()} for which in (0, 1)
    )
    rows = [
        f"| `{name}` | {clock[name]:.2f} | {min(one[0] for one in taken[name]):.2f} | {processor[name]:.2f} "
        f"| **{clock[name] / clock[beside]:.2f}** | {processor[name] / processor[beside]:.2f} | `{beside}` |"
        for name, (beside, _) in COMMANDS.items()
        if name != beside
    ]
    rivals = [
        f"| `{name}` | {clock[name]:.2f} | {min(one[0] for one in taken[name]):.2f} | {processor[name]:.2f} | | | |"
        for name in (LIBRARIES, CLASS, BARE)
    ]
    return "\n".join(
        [
            "# How long a new shell waits",
            "",
            f"{IMAGES} photographs in {FOLDERS} folders, the embedded model, files in the page cache; medians of {rounds} "
            "processes each, in turn. The first search of a registry asks MLflow who the champion is, reads every byte "
            "of its files and has transformers read its tokenizer; the next ones find that noted.",
            "",
            "| command | median s | fastest s | processor s | times as long as | processor | beside |",
            "|---|---|---|---|---|---|---|",
            *rivals,
            *rows,
            "",
            f"Goal: a search in {GOAL} times; it is {clock[SEARCH] / clock[LIBRARIES]:.2f}.",
            "",
            *measure.circumstances(MODULE, PACKAGES),
        ]
    )


if __name__ == "__main__":
    main()
