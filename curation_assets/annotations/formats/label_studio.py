"""Label Studio's JSON export: choices and rectangles; all else of a result is kept apart, as it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from curation_assets.annotations.fields import check_field
from curation_assets.annotations.formats.documents import json_text, number_of, read_json
from curation_assets.annotations.said import Faults, Said, said_frame
from curation_assets.errors import CurationError

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(.+)$")  # what an upload puts before a file's name
_SIDES = ("x", "y", "width", "height")


def read_label_studio(path: Path, fields: Sequence[str], default: str, annotator: str | None = None) -> Said:
    """What an export says: a field for every control that labels images, of one control ``default``.

    Args:
        fields: what the labels are of, where there is one control.
        annotator: whose words, where several people labelled an image: an id or an e-mail address.

    Raises:
        CurationError: it can't be read, is no such export, or has controls that can't be told apart.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise CurationError(f"{path} is no JSON export of Label Studio: it is a list of tasks with data")
    faults = Faults(str(path))
    chosen: list[tuple[Any, str, list[dict[str, Any]]]] = []
    skipped = 0
    for at, task in enumerate(tasks):
        key = task.get("id", at)
        result, fault = _result(task, annotator)
        if fault is not None:
            faults.add(f"task {key!r}: {fault}")
        elif result is None:
            skipped += 1
        elif (name := _image(task["data"], result)) is None:
            faults.add(f"task {key!r}: its data names no one image")
        else:
            chosen.append((key, name, result))
    controls: dict[str, bool] = {}  # whether one of places, where none is as telling as one
    for _, _, result in chosen:
        for one in filter(_is_label, result):
            controls[str(one.get("from_name"))] = one["type"] != "choices"
    if len(controls) > 1 and fields:
        raise CurationError(f"{path} has the controls {', '.join(controls)}: each is a field, so leave --field out")
    of = {name: check_field(name) for name in controls} if len(controls) > 1 else dict.fromkeys(controls, default)
    said = _Rows({of[name] for name, has_places in controls.items() if has_places})
    for key, name, result in chosen:
        _add(said, key, name, result, of, default, faults)
    places = said.places
    notes = [f"{said.apart:,} results are neither choices nor upright rectangles: kept apart"] if said.apart else []
    notes += [f"{skipped:,} tasks are not annotated, or skipped"] if skipped else []
    return Said(said_frame(said.columns), lambda row: f"task {places[row]!r}", faults, "shares", notes=notes)


class _Rows:
    def __init__(self, of_places: set[str]) -> None:
        self.of_places = of_places
        names = ("name", "other_name", "field", "values", "boxes", "kept_apart", "stated_width", "stated_height")
        self.columns: dict[str, list[Any]] = {name: [] for name in names}
        self.places: list[Any] = []
        self.apart = 0


def _result(task: dict[str, Any], annotator: str | None) -> tuple[list[dict[str, Any]] | None, str | None]:
    """The one result of a task that counts, None without one; or what is wrong."""
    given = task.get("annotations")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        return None, "it has no list of annotations; export as JSON, not JSON-MIN"
    done = [one for one in given if not one.get("was_cancelled")]
    if annotator is not None:
        done = [one for one in done if annotator in _people(one)]
    if len(done) > 1:
        done = [one for one in done if one.get("ground_truth")] or done
    if len(done) > 1:
        who = ", ".join(sorted({_people(one)[-1] for one in done}))
        return (
            None,
            f"{len(done)} annotations of it count (by {who}): choose with --annotator, or mark one as ground truth",
        )
    if not done:
        return None, None
    result = done[0].get("result")
    if not isinstance(result, list) or not all(isinstance(one, dict) for one in result):
        return None, "its annotation has no result"
    return result, None


def _people(annotation: dict[str, Any]) -> list[str]:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        return [str(by[name]) for name in ("id", "email") if by.get(name) is not None] or ["?"]
    return [str(by)]


def _image(data: Any, result: list[dict[str, Any]]) -> str | None:
    """What a task's data calls the image: what the results point at, else what is called image, else the one text."""
    if not isinstance(data, dict):
        return None
    texts = {name: value for name, value in data.items() if isinstance(value, str) and value}
    pointed = {str(one.get("to_name")) for one in result} & texts.keys()
    for name in (*(pointed if len(pointed) == 1 else ()), "image", "img", "image_url", "url"):
        if name in texts:
            return texts[name]
    return next(iter(texts.values())) if len(texts) == 1 else None


def _names(told: str) -> tuple[str, str | None]:
    """A URL or path → the name of the image, and another one to try."""
    parts = urlsplit(told)
    if parts.query and (inner := parse_qs(parts.query).get("d")):
        return inner[0], None
    path = unquote(parts.path) if parts.scheme or told.startswith("/data/") else told
    path = path.lstrip("/") if parts.scheme else path
    last = path.rpartition("/")[2]
    if told.startswith("/data/upload/") or "/data/upload/" in told:
        found = _UPLOAD.match(last)
        return last, found[1] if found else None
    return path, last if parts.scheme else None


def _is_label(one: dict[str, Any]) -> bool:
    kind = one.get("type")
    return kind == "choices" or (isinstance(kind, str) and kind.endswith("labels"))


def _add(
    said: _Rows,
    key: Any,
    told: str,
    result: list[dict[str, Any]],
    of: dict[str, str],
    default: str,
    faults: Faults,
) -> None:
    """Rows of a task: one a field."""
    values: dict[str, dict[str, None]] = {field: {} for field in of.values()} or {default: {}}
    boxes: dict[str, list[dict[str, Any]]] = {}
    apart: list[dict[str, Any]] = []
    ids: dict[str, list[Any]] = {}
    sizes: set[tuple[int, int]] = set()
    for one in result:
        value = one.get("value") if isinstance(one.get("value"), dict) else {}
        assert isinstance(value, dict)
        size = one.get("original_width"), one.get("original_height")
        if isinstance(size[0], int) and isinstance(size[1], int):
            sizes.add((size[0], size[1]))
        field = of.get(str(one.get("from_name")), default)
        labels = value.get(str(one.get("type")))
        if not _is_label(one) or not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
            apart.append(one)
            continue
        values[field] |= dict.fromkeys(labels)
        if one["type"] == "choices":
            continue
        if one["type"] != "rectanglelabels" or value.get("rotation") or len(labels) != 1:
            apart.append(one)
            continue
        if not all(number_of(value.get(side)) for side in _SIDES):
            faults.add(f"task {key!r}: a rectangle {labels[0]!r} lacks one of {', '.join(_SIDES)}")
            continue
        shares = {side: value[side] / 100 for side in _SIDES}
        boxes.setdefault(field, []).append({"label": labels[0]} | shares)
        ids.setdefault(field, []).append(one.get("id"))
    if len(sizes) > 1:
        faults.add(f"task {key!r}: its results are of pictures of several sizes")
    width, height = next(iter(sizes), (None, None))
    name, other = _names(told)
    said.apart += len(apart)
    for field, labels in values.items():
        kept = {"format": "label-studio", "task": key, "ids": ids.get(field, []), "results": apart}
        for column, content in {
            "name": name,
            "other_name": other,
            "field": field,
            "values": list(labels) if labels or field in said.of_places else None,
            "boxes": boxes.get(field, [] if field in said.of_places else None),
            "kept_apart": json_text(kept),
            "stated_width": width,
            "stated_height": height,
        }.items():
            said.columns[column].append(content)
        said.places.append(key)
        apart = []  # with the first field alone
