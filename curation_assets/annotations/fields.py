"""What a field of labels may be called. Imports nothing heavy: the command's help needs it too."""

from __future__ import annotations

import re

from curation_assets.errors import CurationError

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_OF_FIELD = ("label_", "predicted_", "confidence_")  # what columns of a field begin with
_TAKEN = frozenset(("label_issues",))  # columns that begin so and join an index too, of whatever fields there are


def check_field(name: str) -> str:
    """The name of a field.

    Raises:
        CurationError: conditions could not name it as ``label_<field>``, or would mean another column.
    """
    if fault := fault_of_field(name):
        raise CurationError(fault)
    return name


def fault_of_field(name: str) -> str | None:
    """Why a field can't be called so, in words; None where it can."""
    if not _FIELD.fullmatch(name):
        return f"a field can't be called {name!r}; use a letter, then letters, digits and _"
    taken = next((column for of in _OF_FIELD if (column := of + name.lower()) in _TAKEN), None)
    return taken and f"a field can't be called {name!r}: {taken} is another column; choose another name"
