"""Fitted classifiers beside the index, one file a field: what is new is predicted without a fit.

They can go at any time: then the next run fits anew. A file is replaced in one step.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from curation_assets.curate.labels.classifier import Classifier
from curation_assets.errors import CurationError
from curation_assets.files import write_whole

_SUFFIX = ".classifier.npz"


def location_of(index: Path) -> Path:
    """Where the classifiers of an index lie, from where that lies."""
    return index / "classifiers"


def write(index: Path, field: str, made_with: str, classes: list[str], classifier: Classifier) -> None:
    """Keep the classifier of a field, in place of what is there.

    Raises:
        CurationError: it can't be written.
    """
    content = io.BytesIO()
    said = json.dumps({"field": field, "made_with": made_with, "classes": classes})
    numbers = np.array([classifier.scale, classifier.temperature])
    weights, bias = classifier.weights, classifier.bias
    np.savez(content, weights=weights, bias=bias, numbers=numbers, said=np.frombuffer(said.encode(), np.uint8))
    place = location_of(index) / _name(field)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, content.getvalue())
    except OSError as error:
        raise CurationError(f"the classifier of {field} can't be kept at {place}: {error}") from error


def read(index: Path, field: str, made_with: str) -> tuple[list[str], Classifier] | None:
    """Classes and classifier of a field; None where there is none that was made with this, or it is damaged."""
    try:
        with np.load(location_of(index) / _name(field), allow_pickle=False) as file:
            said = json.loads(file["said"].tobytes())
            if (said["field"], said["made_with"]) != (field, made_with):
                return None
            scale, temperature = file["numbers"].tolist()
            found = Classifier(file["weights"], file["bias"], scale, temperature)
    except Exception:  # whatever a damaged archive makes the reader say: it is made anew
        return None
    return list(said["classes"]), found


def sweep(index: Path, fields: Iterable[str]) -> None:
    """Let go of classifiers of other fields than these."""
    kept = {_name(field) for field in fields}
    with suppress(OSError):
        for file in location_of(index).iterdir():
            if file.name.endswith(_SUFFIX) and file.name not in kept:
                file.unlink()


def _name(field: str) -> str:
    return f"{hashlib.sha256(field.encode()).hexdigest()[:16]}{_SUFFIX}"
