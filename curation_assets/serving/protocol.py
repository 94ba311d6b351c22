"""MLflow's scoring protocol: body of a request → rows, vectors → body of the answer, errors in MLflow's format.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/ describes it. JSON goes past pandas: building and
checking a frame costs more than the forward pass of a small model.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from curation_assets.clip.rows import Row, RowError, rows_of

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
JSON, CSV = "application/json", "text/csv"
_FORMATS_HINT = f"the body must be a JSON object with exactly one of {', '.join(FORMATS)}"


class RefusedError(Exception):
    """An answer other than 200.

    Attributes:
        status: HTTP's.
        code: MLflow's ``error_code``.
        message: what is wrong, for a person.
        reason: in the metric of refused requests.
        headers: further headers of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.reason = reason
        self.headers = headers

    def body(self) -> bytes:
        """As MLflow's ``MlflowException.serialize_as_json``."""
        return orjson.dumps({"error_code": self.code, "message": self.message})


def bad_request(message: str, code: str = "BAD_REQUEST") -> RefusedError:
    """The body can't be read, or a row of it can't be used."""
    return RefusedError(400, code, message, "input")


def parse(body: bytes | bytearray, content_type: str | None, max_rows: int) -> list[Row]:
    """Read the body of a request to ``/invocations``.

    Args:
        body: as received.
        content_type: the header's value; None counts as JSON.
        max_rows: more are refused.

    Raises:
        RefusedError: the content type isn't known (415), or the body can't be used (400).
    """
    kind = _media_type(content_type)
    model_input, params = _from_csv(body) if kind == CSV else _from_json(body)
    input_type = params.get("input_type")
    if input_type is not None and not isinstance(input_type, str):
        raise bad_request("`params.input_type` must be a string", "INVALID_PARAMETER_VALUE")
    try:
        rows = rows_of(model_input, input_type)
    except RowError as error:
        raise bad_request(str(error), "INVALID_PARAMETER_VALUE") from None
    if not rows:
        raise bad_request("there are no rows", "INVALID_PARAMETER_VALUE")
    if len(rows) > max_rows:
        raise RefusedError(
            413, "REQUEST_LIMIT_EXCEEDED", f"{len(rows):,} rows in one request; the limit is {max_rows:,}", "rows"
        )
    return rows


def answer(vectors: NDArray[np.float32]) -> bytes:
    """``{"predictions": [[…], …]}``; a float32 is written with the fewest digits that give it back."""
    return orjson.dumps({"predictions": vectors}, option=orjson.OPT_SERIALIZE_NUMPY)


def _media_type(content_type: str | None) -> str:
    kind, *parameters = (part.strip() for part in (content_type or JSON).split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.lower() != "charset" or value.strip('"').lower() != "utf-8":
            raise _unsupported(f"content type parameter {parameter!r} is not understood: bodies are UTF-8")
    if kind.lower() not in (JSON, CSV):
        raise _unsupported(f"content type {kind!r} is not understood: send {JSON} or {CSV}")
    return kind.lower()


def _unsupported(message: str) -> RefusedError:
    return RefusedError(415, "BAD_REQUEST", message, "content_type")


def _from_json(body: bytes | bytearray) -> tuple[Any, dict[str, Any]]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise bad_request(f"{_FORMATS_HINT}; it is a JSON {_name(document)}")
    given = [name for name in FORMATS if name in document]
    if len(given) != 1:
        raise bad_request(f"{_FORMATS_HINT}; it has {', '.join(map(repr, document)) or 'no fields'}")
    params = document.get("params")
    if params is not None and not isinstance(params, dict):
        raise bad_request(f"`params` must be an object, not {_name(params)}", "INVALID_PARAMETER_VALUE")
    value = document[given[0]]
    if given[0] == "dataframe_split":
        value = _records_of_split(value)
    elif given[0] == "dataframe_records" and not _all(value, dict):
        raise bad_request("`dataframe_records` must be a list of objects, one a row")
    return value, params or {}


def _records_of_split(value: Any) -> list[dict[str, Any]]:
    """``{"columns": […], "data": [[…], …]}`` → a dict a row."""
    if not isinstance(value, dict) or not _all(value.get("columns"), str) or not _all(value.get("data"), list):
        raise bad_request("`dataframe_split` must be an object with `columns`, names, and `data`, a list a row")
    columns, data = value["columns"], value["data"]
    if len(set(columns)) != len(columns):
        raise bad_request("`dataframe_split` names a column twice")
    for row, values in enumerate(data):
        if len(values) != len(columns):
            raise bad_request(f"row {row}: {len(values)} values for {len(columns)} columns", "INVALID_PARAMETER_VALUE")
    return [dict(zip(columns, values, strict=True)) for values in data]


def _from_csv(body: bytes | bytearray) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A header and a line a row; an empty field is no value."""
    try:
        text = body.decode("utf-8-sig")
        csv.field_size_limit(max(len(text), 131_072))
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header, *lines = [line for line in reader if line] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad_request(f"the body is not valid CSV: {error}") from None
    rows = []
    for row, line in enumerate(lines):
        if len(line) != len(header):
            raise bad_request(f"row {row}: {len(line)} values for {len(header)} columns", "INVALID_PARAMETER_VALUE")
        rows.append({name: value or None for name, value in zip(header, line, strict=True)})
    return rows, {}


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _name(value: Any) -> str:
    names = {list: "list", str: "string", dict: "object", type(None): "null", bool: "boolean"}
    return names.get(type(value), "number")
