"""A small lake in a store that something goes wrong with, or whose writers are killed: what is left is counted.

Photographs come, change and go on a disk. Each round a run meets faults or is killed; at the end one without must find
all that is on the disk, once. ``benchmarks/reliability.py`` does so for long, a test for a moment.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import Settings, load_settings
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.processes import FORKED
from curation_assets_tests.stores.s3_server import S3, Chaos

FOLDERS = ("maize", "rye", "wheat")
_IN_A_ROW = 5  # kills, before a run that nothing happens to


@dataclass
class Told:
    """What became of it all.

    Attributes:
        faults: by kind.
        kills: of processes that were at work.
        ended: runs that ended in a line for the user.
        wrong: what was lost, doubled or a traceback; each in words.
    """

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    ended: int = 0
    wrong: list[str] = field(default_factory=list)


class Photographs:
    """Files on a disk that change by chance."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root, self.chance, self.made = root, chance, 0
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)
            self.add(folder)
            self.add(folder)

    def add(self, folder: str) -> None:
        self.made += 1
        (self.root / folder / f"{self.made:04}.jpg").write_bytes(jpeg(self.made))

    def change(self) -> None:
        for folder in FOLDERS:
            self.add(folder)
            files = sorted((self.root / folder).iterdir())
            if len(files) > 4:
                self.chance.choice(files).unlink()
            self.made += 1
            self.chance.choice(sorted((self.root / folder).iterdir())).write_bytes(jpeg(self.made))

    def contents(self) -> dict[str, str]:
        """What is there: path, SHA-256."""
        return {
            path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.root.rglob("*.jpg")
        }


def small_lake(store: S3, home: Path) -> Settings:
    """Settings of photographs on a disk and a lake in the store's bucket."""
    return load_settings(
        images_root=home / "photographs",
        lake_root=f"s3://{store.bucket}/lake",
        cache_root=home / "cache",
        mlflow_root=home / "mlflow",
        model_source="demo",
        settle_seconds=0,
        storage_options=store.options,
    )


def meet_faults(settings: Settings, store: S3, seed: int, faults: int, rate: float = 0.05) -> Told:
    """Run again and again while something goes wrong, until so much did."""
    chance, told = random.Random(seed), Told()
    photographs = Photographs(Path(str(settings.images_root)), chance)
    while told.faults.total() < faults:
        told.rounds += 1
        photographs.change()
        store.go_wrong(Chaos(chance.getrandbits(32), rate))
        _attempt(settings, told)
        store.go_wrong(None)
        told.faults = store.went_wrong()
        _finish(settings, photographs, told)
    return told


def meet_kills(settings: Settings, seed: int, kills: int, told: Callable[[Told], object] = lambda _: None) -> Told:
    """Kill processes at a moment of their run, each time another."""
    chance, said = random.Random(seed), Told()
    photographs = Photographs(Path(str(settings.images_root)), chance)
    _finish(settings, photographs, said)
    photographs.change()
    began = time.monotonic()
    _run_apart(settings)  # as those to come, when all is there
    takes = time.monotonic() - began
    while said.kills < kills:
        said.rounds += 1
        photographs.change()
        for _ in range(_IN_A_ROW):  # what the first one left, the second one meets
            process = FORKED.Process(target=_run_apart, args=(settings,))
            process.start()
            process.join(chance.uniform(0.1, 0.9) * takes)
            said.kills += process.exitcode is None
            process.kill()
            process.join()
        _finish(settings, photographs, said)
        told(said)
    return said


def _run_apart(settings: Settings) -> None:
    pipeline = Pipeline(settings)
    run(pipeline, LogProgress(), curate=False)
    pipeline.searcher.refresh()


def _attempt(settings: Settings, told: Told) -> None:
    try:
        _run_apart(settings)
    except CurationError as error:
        told.ended += 1
        if "\n" in str(error):
            told.wrong.append(f"more than a line: {error}")
    except Exception as error:
        told.wrong.append(f"a traceback: {type(error).__name__}: {error}")


def _finish(settings: Settings, photographs: Photographs, told: Told) -> None:
    """A run that nothing happens to; then the tables have to hold what the disk holds."""
    _run_apart(settings)
    index = dict(Pipeline(settings).searcher.open().rows.select("relative_path", "content_sha256").iter_rows())
    tables, wanted = Pipeline(settings).tables, photographs.contents()
    if index != wanted:
        told.wrong.append(f"round {told.rounds}: the search index is another")
    for table in (tables.directory, tables.embeddings):
        rows = table.latest().read(["relative_path", "content_sha256"])
        keys = Counter(rows["relative_path"])
        found = dict(rows.select("relative_path", "content_sha256").iter_rows())
        where = f"round {told.rounds}: {table.path.name}"
        told.wrong += [f"{where} has {key} {count} times" for key, count in keys.items() if count > 1]
        told.wrong += [f"{where} lacks {key}" for key in wanted.keys() - found.keys()]
        told.wrong += [f"{where} still has {key}" for key in found.keys() - wanted.keys()]
        told.wrong += [f"{where} has an old {key}" for key in wanted if found.get(key, wanted[key]) != wanted[key]]
