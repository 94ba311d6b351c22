"""Weights of a tower, read from a model's files without the other tower's; and what they have to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from curation_assets.errors import CurationError

if TYPE_CHECKING:
    from torch import Tensor

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"  # of weights in several files


def read_weights(folder: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of some names and shapes; what else the files hold is not read.

    Args:
        folder: model in Hugging Face layout.
        wanted: shape of each by its name.

    Raises:
        CurationError: one is not there or has another shape; the message names some of those.
    """
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for file, names in _names_by_file(folder).items():
        with safe_open(folder / file, framework="pt") as stored:
            for name in wanted.keys() & (stored.keys() if names is None else names):
                found[name] = stored.get_tensor(name)
    mismatched = [name for name, tensor in found.items() if tuple(tensor.shape) != wanted[name]]
    missing = [name for name in wanted if name not in found]
    for wrong, what in ((sorted(missing), "has no weights"), (sorted(mismatched), "has weights of another size")):
        if wrong:
            named = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            raise CurationError(f"{folder} {what} for {named}: they don't fit its config.json")
    return found


def _names_by_file(folder: Path) -> dict[str, set[str] | None]:
    """Names of the tensors in each file; None where a file holds all."""
    if (folder / _WHOLE).exists() or not (folder / _INDEX).exists():
        return {_WHOLE: None}
    files: dict[str, set[str] | None] = {}
    for name, file in json.loads((folder / _INDEX).read_text())["weight_map"].items():
        names = files.setdefault(file, set())
        if names is not None:
            names.add(name)
    return files
