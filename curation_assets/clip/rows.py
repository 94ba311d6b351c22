"""Whatever a client sends → rows that are each an image or a text; every row that isn't is named with its reason.

Three contracts, in the columns of a frame, the keys of records, or a dict of lists:

- ``image`` (base64 of an image file, a data URL of one, or bytes in process) or ``text``, one of them in each row;
- ``input_data``, with the parameter ``input_type`` saying whether it is ``image`` or ``text``;
- one column without a name, as of a list of strings or an SQL function's only argument; ``input_type`` as before.

Without ``input_type`` the last two are texts, except for bytes and data URLs, which are images: a base64 string can't
be told from a word for certain. A blank string counts as not given, as tables without nulls are full of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

Kind = Literal["image", "text"]
UNNAMED = ""
COLUMNS = ("image", "text", "input_data", UNNAMED)
_NOT_NAMES = (None, 0, "0", "")  # how frames, series and arrays call the only column that has no name
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[^,]*)?,")
_WANTED = "give either `image` or `text` (or `input_data`, or one column without a name)"
# Such a dict and a record whose value is a list reach the model as the same frame, and a record is one row.
_ONE_ROW_HINT = " (of a dict of lists MLflow makes one row: give it a frame)"


class RowError(ValueError):
    """A request that can't be used.

    Attributes:
        row: counted from 0; None where it isn't one row's fault.
    """

    def __init__(self, row: int | None, reason: str) -> None:
        super().__init__(reason if row is None else f"row {row}: {reason}")
        self.row = row


@dataclass(frozen=True)
class Row:
    """One thing to embed.

    Attributes:
        kind: ``image`` or ``text``.
        value: a text; or of an image its base64, a data URL, or its bytes.
    """

    kind: Kind
    value: str | bytes


def rows_of(model_input: Any, input_type: str | None = None) -> list[Row]:
    """Read a request.

    Args:
        model_input: pandas frame or series, records (list of dicts), dict of lists, list or array of strings, a string.
        input_type: ``image`` or ``text``, for ``input_data`` and unnamed columns; empty or None: see the module.

    Raises:
        RowError: it can't be read, or a row of it.
    """
    if input_type not in (None, "", "image", "text"):
        raise RowError(None, f"`input_type` must be `image` or `text`, not {input_type!r}")
    kind = cast(Kind | None, input_type or None)
    columns = _columns(model_input)
    known = {name: columns[name] for name in COLUMNS if name in columns}
    if not known:
        names = ", ".join(f"`{name}`" for name in list(columns)[:5])
        raise RowError(None, f"{_WANTED}; there is {f'only {names}' if names else 'no such column'}")
    lengths = {len(values) for values in known.values()}
    if len(lengths) > 1:
        raise RowError(None, f"columns of different lengths: {', '.join(map(str, sorted(lengths)))} rows")
    return [_row(index, known, kind) for index in range(lengths.pop())]


def _row(index: int, columns: Mapping[str, Sequence[Any]], input_type: Kind | None) -> Row:
    filled = [(name, values[index]) for name, values in columns.items() if not _is_blank(values[index])]
    if len(filled) != 1:
        given = " and ".join(f"`{name}`" if name else "the unnamed column" for name, _ in filled)
        raise RowError(index, f"{_WANTED}; {given + ' are both given' if given else 'nothing is given'}")
    ((name, value),) = filled
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    is_image = isinstance(value, bytes) or (isinstance(value, str) and _DATA_URL.match(value) is not None)
    kind = cast(Kind, name) if name in ("image", "text") else input_type or ("image" if is_image else "text")
    called = f"`{name}`" if name else "the value"
    found = type(value).__name__ + (_ONE_ROW_HINT if isinstance(value, list | tuple | np.ndarray) else "")
    if kind == "image":
        if not isinstance(value, str | bytes):
            raise RowError(index, f"{called} must be a string (base64 or a data URL), not {found}")
    elif not isinstance(value, str):
        raise RowError(index, f"{called} must be a string, not {found}")
    elif not _is_unicode(value):
        raise RowError(index, f"{called} is no valid Unicode text: it holds half of a surrogate pair")
    return Row(kind, value)


def _columns(data: Any) -> dict[str, list[Any]]:
    """Values by column name, ``UNNAMED`` for the one without."""
    if isinstance(data, str | bytes | bytearray | memoryview):
        return {UNNAMED: [data]}
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if hasattr(data, "iloc"):  # pandas, which a server without it doesn't load
        return _of_pandas(data)
    if isinstance(data, np.ndarray):
        data = data.reshape(-1).tolist() if data.ndim == 0 or data.shape[1:] == (1,) else data.tolist()
    if not isinstance(data, list | tuple):
        raise RowError(None, f"an input of type {type(data).__name__} can't be read: {_WANTED}")
    if data and all(isinstance(record, Mapping) for record in data):
        names = {_name(name): None for record in data for name in record}
        records = [{_name(name): _scalar(value) for name, value in record.items()} for record in data]
        return {name: [record.get(name) for record in records] for name in names}
    return {UNNAMED: list(data)}


def _of_pandas(data: Any) -> dict[str, list[Any]]:
    if data.ndim == 1:
        return {_name(data.name): data.tolist()}
    names = [_name(name) for name in data.columns]
    if double := {name for name in names if names.count(name) > 1}:
        raise RowError(None, f"columns of the same name: {', '.join(f'`{name}`' for name in sorted(double))}")
    return {name: data.iloc[:, position].tolist() for position, name in enumerate(names)}


def _of_mapping(data: Mapping[Any, Any]) -> dict[str, list[Any]]:
    columns = {}
    for name, values in data.items():
        is_many = isinstance(values, list | tuple | np.ndarray) or hasattr(values, "iloc")
        columns[_name(name)] = (
            np.atleast_1d(values).tolist()
            if isinstance(values, np.ndarray)
            else (list(values) if is_many else [values])
        )
    return columns


def _scalar(value: Any) -> Any:
    """MLflow's ``inputs`` format wraps each value of a record in an array without a dimension."""
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _name(name: Any) -> str:
    return UNNAMED if any(name is other or name == other for other in _NOT_NAMES) else str(name)


def _is_blank(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str | bytes) and not value.strip()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
