"""Decisions as files, out of a lake and into another or the same one: CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from curation_assets.decisions.kinds import fault_of, field_of
from curation_assets.decisions.record import Row
from curation_assets.decisions.standing import COLUMNS
from curation_assets.errors import CurationError, first_line
from curation_assets.files import write_whole

SUFFIXES = (".csv", ".jsonl", ".parquet")
_AHEAD = timedelta(days=1)  # of this clock: a decision of a later time would beat all that follow


class FaultyFileError(CurationError):
    """A file of decisions that is not imported.

    Attributes:
        faults: every one, with its line.
    """

    def __init__(self, file: Path, faults: list[str]) -> None:
        what = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
        super().__init__(f"{file}: {what}, nothing was imported; put the lines right and import it again")
        self.faults = faults


@dataclass
class DecisionFile:
    """What a file says, not yet compared with a table.

    Attributes:
        rows: the place of each (``line 3``), and its columns; empty texts are null.
        faults: what can't be read.
    """

    path: Path
    rows: list[tuple[str, Row]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def paths(self) -> set[str]:
        """Images that are named by path alone."""
        return {row["relative_path"] for _, row in self.rows if row["relative_path"] and not row["content_sha256"]}

    def new_rows(self, there: pl.DataFrame, contents: Mapping[str, str | None], by: str) -> list[Row]:
        """Rows that a table lacks, for :func:`~curation_assets.decisions.record.append`.

        Args:
            there: rows of the table.
            contents: SHA-256 by path, of :meth:`paths`.
            by: who decided, where the file doesn't say it.

        Raises:
            FaultyFileError: something of the file is wrong.
        """
        known = {row["decision_id"]: row for row in there.iter_rows(named=True)}
        faults, new, mine = list(self.faults), [], dict(known)
        latest = datetime.now(UTC) + _AHEAD
        for place, said in self.rows:
            row = said | {"field": field_of(str(said["kind"]), said["field"])}
            if row["content_sha256"] is None and row["relative_path"] is not None:
                row["content_sha256"] = contents.get(row["relative_path"])
                if row["content_sha256"] is None:
                    faults.append(f"{place}: there is no image {row['relative_path']!r} with a known content")
                    continue
            decision = row["decision_id"]
            is_known = decision in known and _is_same(row, known[decision])  # perhaps of rules that were others
            fault = None if is_known else fault_of(row)
            if fault is None and row["decided_at"] is not None and row["decided_at"] > latest:
                fault = f"decided_at {row['decided_at']:%Y-%m-%d} lies in the future"
            row["decided_by"] = row["decided_by"] or by
            if fault is None and decision in known:
                is_same = _is_same(row | {"decided_by": said["decided_by"]}, known[decision])
                fault = None if is_same else f"{decision} is in the table with other contents"
            elif fault is None and decision is not None and decision in mine:
                fault = f"{decision} stands twice in the file"
            elif fault is None:
                new.append((place, row))
                mine |= {} if decision is None else {decision: row}
            if fault is not None:
                faults.append(f"{place}: {fault}")
        faults += _faults_of_undoing(new, mine)
        if faults:
            raise FaultyFileError(self.path, faults)
        return [row for _, row in new]


def write_decisions(path: Path, rows: pl.DataFrame) -> None:
    """Write rows of the table as a file, whole; what there is is replaced.

    Raises:
        CurationError: the name's ending says no format, or it is a folder.
        OSError: it can't be written.
    """
    kind = _suffix(path)
    if path.is_dir():
        raise CurationError(f"{path} is a folder; name the file to write")
    out = io.BytesIO()
    if kind == ".parquet":
        rows.write_parquet(out)
    else:
        texts = rows.with_columns(pl.col("decided_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
        if kind == ".csv":
            texts.write_csv(out, quote_style="non_numeric")
        else:
            texts.write_ndjson(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, out.getvalue())


def read_file(path: Path) -> DecisionFile:
    """Read a file of decisions.

    Raises:
        CurationError: it is of no known format, or can't be read at all.
        OSError: the system says so.
    """
    read: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
        ".csv": _csv_rows,
        ".jsonl": _json_rows,
        ".parquet": _parquet_rows,
    }
    found = DecisionFile(path)
    rows_of = read[_suffix(path)]
    path.stat()  # polars doesn't name a file that isn't there
    try:
        for place, said in rows_of(path):
            row, fault = _typed(said)
            if fault is not None:
                found.faults.append(f"{place}: {fault}")
            else:
                found.rows.append((place, row))
    except (UnicodeDecodeError, csv.Error, pl.exceptions.PolarsError) as error:
        raise CurationError(f"{path} can't be read as {path.suffix[1:]}: {first_line(error)}") from error
    return found


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CurationError(f"{path}: a file of decisions ends in {', '.join(SUFFIXES)}")
    return suffix


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = next(lines, [])
        for name in (*(n for n in header if n not in COLUMNS), *({n for n in header if header.count(n) > 1})):
            raise CurationError(f"{path}: column {name!r} is none of {', '.join(COLUMNS)}, or stands twice")
        for cells in lines:
            place = f"line {lines.line_num}"
            if cells and len(cells) != len(header):
                yield place, f"{len(cells)} cells below {len(header)} columns"
            elif cells:
                yield place, dict(zip(header, cells, strict=True))


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                said = json.loads(line)
            except ValueError as error:
                said = f"no JSON: {first_line(error)}"
            yield f"line {number}", said if isinstance(said, dict | str) else "no JSON object"


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(pl.read_parquet(path).iter_rows(named=True), 1):
        yield f"row {number}", row


def _typed(said: Any) -> tuple[Row, str | None]:
    """A row of all columns of what a file says, or what is wrong with it."""
    if isinstance(said, str):
        return {}, said
    if strange := sorted(set(said).difference(COLUMNS)):
        return {}, f"{', '.join(map(repr, strange))} is none of {', '.join(COLUMNS)}"
    row: Row = dict.fromkeys(COLUMNS)
    for name, value in said.items():
        if value is None or value == "":
            continue
        if name == "decided_at":
            try:
                at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
            except (TypeError, ValueError):
                return {}, f"decided_at {value!r} is no time; write 2026-01-31T12:00:00Z"
            row[name] = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
        elif name == "shown" and not isinstance(value, str):
            row[name] = json.dumps(value, ensure_ascii=False)
        elif not isinstance(value, str):
            return {}, f"{name} {value!r} is no text"
        else:
            row[name] = value
    return row, None


def _is_same(row: Row, there: Row) -> bool:
    """Whether an imported row is one of the table; what it doesn't say is no difference."""
    return all(row[name] is None or row[name] == there[name] for name in COLUMNS)


def _faults_of_undoing(new: list[tuple[str, Row]], every: Mapping[str, Row]) -> Iterator[str]:
    """An undoing row takes back an earlier row that is there, so that nothing takes itself back by detours."""
    for place, row in new:
        if row["undoes"] is None:
            continue
        if row["decision_id"] is None or row["decided_at"] is None:
            yield f"{place}: a row that undoes needs decision_id and decided_at"
        elif (target := every.get(row["undoes"])) is None:
            yield f"{place}: it undoes {row['undoes']}, which is neither in the table nor in the file"
        elif target["decided_at"] is None or (target["decided_at"], row["undoes"]) >= (
            row["decided_at"],
            row["decision_id"],
        ):
            yield f"{place}: it undoes {row['undoes']}, which was decided later"
