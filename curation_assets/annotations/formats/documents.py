"""JSON and YAML documents, read whole, and what is asked of their values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from curation_assets.errors import CurationError, first_line


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        CurationError: it is none.
        OSError: the system says so.
    """
    import orjson

    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise CurationError(f"{path} can't be read as JSON: {first_line(error)}") from error


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        CurationError: it is none.
        OSError: the system says so.
    """
    import yaml

    try:
        return yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        said = getattr(error, "problem", None) or first_line(error)
        raise CurationError(f"{path}{place} can't be read as YAML: {said}") from error


def json_text(value: Any) -> str:
    """A value as JSON, in one line."""
    import orjson

    return orjson.dumps(value).decode()


def number_of(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
