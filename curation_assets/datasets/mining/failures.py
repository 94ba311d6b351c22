"""What a model failed on: paths, or a CSV file with a loss for each, as images of the lake or files beside it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation_assets.annotations.formats.tables import NAMES, rows_of_csv
from curation_assets.datasets.mining.outside import Outside
from curation_assets.errors import CurationError, reason_of
from curation_assets.images.names import printable
from curation_assets.progress import Progress
from curation_assets.search.index import SearchIndex

_LOSS = "loss"
_CSV = ".csv"


@dataclass(frozen=True)
class Failure:
    """An image on which a model failed.

    Attributes:
        name: as it was given.
        loss: 0 or more; how much it weighs.
        place: where it is named: ``failed.csv line 3: ``; empty on the command line.
        folder: of the file that names it, which a path may be relative to.
    """

    name: str
    loss: float = 1.0
    place: str = ""
    folder: Path = Path()


@dataclass(frozen=True, eq=False)
class Placed:
    """Failures with what is known of them, each content once with its largest loss.

    Attributes:
        names, losses: of each.
        contents: (failures,) SHA-256 of their bytes.
        vectors: (failures, dimension) float32, unit length.
        outside: those that are in no lake.
    """

    names: list[str]
    losses: NDArray[np.float64]
    contents: list[str]
    vectors: NDArray[np.float32]
    outside: list[Outside]


def read_failures(given: Sequence[str]) -> list[Failure]:
    """What was given: paths of images, and CSV files with a column that names images and perhaps ``loss``.

    Raises:
        CurationError: a file can't be read, lacks its column, or a row of it can't be used: with its line.
    """
    found: list[Failure] = []
    for text in given:
        found += _of_csv(Path(text)) if text.lower().endswith(_CSV) else [Failure(text)]
    if not any(failure.loss for failure in found):
        raise CurationError("--failed: no image has a loss above 0" if found else "--failed names no image")
    return found


def _of_csv(path: Path) -> list[Failure]:
    try:
        rows, faults, place = rows_of_csv(path)
    except OSError as error:
        raise CurationError(f"--failed {path}: {reason_of(error)}") from None
    column = next((name for name in NAMES if name in rows.columns), None)
    if column is None:
        raise CurationError(
            f"{path}: no column names the image; call it {', '.join(NAMES[:-1])} or {NAMES[-1]}, and that of its loss "
            f"{_LOSS}"
        )
    found = []
    losses = rows[_LOSS] if _LOSS in rows.columns else ["1"] * len(rows)
    for number, (name, text) in enumerate(zip(rows[column], losses, strict=True)):
        loss = _number(text)
        if name is None:
            faults.add(f"{place(number)}: no image is named")
        elif loss is None:
            faults.add(f"{place(number)}: the loss of {printable(name)} is a number, 0 or more, not {text!r}")
        else:
            found.append(Failure(name, loss, f"{path} {place(number)}: ", path.parent))
    if faults.number:
        more = f" and {faults.number - len(faults.first):,} more" if faults.number > len(faults.first) else ""
        raise CurationError(f"{path} {'; '.join(faults.first)}{more}")
    return found


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def placed(
    failures: Sequence[Failure],
    index: SearchIndex,
    keys_of: Callable[[str], Sequence[str]],
    looked_at: Callable[[bytes, str], Outside],
    progress: Progress,
) -> Placed:
    """Find what failed: an image of the lake by its relative path or its path on disk, or any other image file.

    Args:
        keys_of: relative paths that a name may mean.
        looked_at: what is known of an image's bytes; the name is for what can't be used.

    Raises:
        CurationError: there is no such image, or it has no vector and can't be given one.
    """
    by_content: dict[str, tuple[Failure, NDArray[np.float32]]] = {}
    position_of = index.rows.select("content_sha256", "position").drop_nulls().unique("content_sha256", keep="first")
    stored = dict(position_of.iter_rows())
    outside: dict[str, Outside] = {}
    progress.start("failures", len(failures))
    for failure in failures:
        progress.advance(1)
        number = next((row for key in keys_of(failure.name) if (row := index.row_number(key)) is not None), None)
        if number is not None:
            content, status = index.rows["content_sha256"][number], index.rows["status"][number]
            if content not in stored:
                why = "it is not embedded yet" if status == "ok" else f"it is {status}: {index.rows['error'][number]}"
                raise CurationError(f"{failure.place}{printable(failure.name)} has no vector: {why}")
            vector = index.vector(stored[content])
        else:
            data = _bytes_of(failure)
            content = hashlib.sha256(data).hexdigest()
            if content in stored:
                vector = index.vector(stored[content])
            else:
                if content not in outside:
                    outside[content] = looked_at(data, f"{failure.place}{printable(failure.name)}")
                vector = outside[content].vector
        before = by_content.get(content)
        if before is None or before[0].loss < failure.loss:
            by_content[content] = failure, vector
    contents = sorted(by_content)
    return Placed(
        [by_content[content][0].name for content in contents],
        np.array([by_content[content][0].loss for content in contents]),
        contents,
        np.array([by_content[content][1] for content in contents], np.float32),
        [*outside.values()],
    )


def _bytes_of(failure: Failure) -> bytes:
    for path in dict.fromkeys((Path(failure.name), failure.folder / failure.name)):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            why = reason_of(error) if isinstance(error, OSError) else str(error)
            raise CurationError(f"{failure.place}{printable(failure.name)}: {why}") from None
    raise CurationError(
        f"{failure.place}{printable(failure.name)}: there is no such image, neither in the lake nor as a file"
    )
