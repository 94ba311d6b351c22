"""Why an image came, went, moved or was relabelled: by two recipes and the tables as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from curation_assets.curate.problems import judged, thresholds
from curation_assets.datasets.changes.causes import WHY
from curation_assets.datasets.changes.moments import Moment, keys_of
from curation_assets.datasets.changes.reasons import by_reason, explained
from curation_assets.datasets.comparing import as_changes, changes
from curation_assets.datasets.reading import parse_recipe
from curation_assets.decisions.standing import SCHEMA
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import (
    ANNOTATIONS,
    DIRECTORY,
    PAIRS,
    PREDICTIONS,
    QUALITY,
    ZERO_SHOT_LABELS,
    TableSpec,
)

LABELS: dict[str, Any] = {"labels": {"field": "class"}}
ROWS = {
    "relative_path": pl.String, "content_sha256": pl.String, "kept": pl.Boolean, "reason": pl.String,
    "witness": pl.String, "similarity": pl.Float32, "label": pl.String, "split": pl.String,
}  # fmt: skip


@dataclass
class Table:
    """A table of rows in memory, at some version; ``gone``: its history was vacuumed."""

    spec: TableSpec
    rows: list[dict[str, Any]] = field(default_factory=list)
    gone: bool = False

    def exists(self) -> bool:
        return True

    def newest_version(self) -> int:
        return 4

    def latest(self) -> Table:
        if self.gone:
            raise CurationError("table x: files of version 4 were vacuumed; version 9 is there")
        return self

    def read(self, columns: list[str], where: pl.Expr | None = None) -> pl.DataFrame:
        frame = pl.DataFrame(self.rows, schema=pl.Schema(self.spec.arrow_schema))
        return (frame if where is None else frame.filter(where)).select(*columns, _file=pl.lit("part-0"))


def rows(**images: str | tuple[str, ...]) -> pl.DataFrame:
    """``a="train"`` or ``a="train rust"`` is kept; ``a=("near", "b")`` is left out for b.jpg."""
    found = []
    for name, told in images.items():
        row: dict[str, Any] = {"relative_path": f"{name}.jpg", "content_sha256": name, "kept": isinstance(told, str)}
        if isinstance(told, str):
            split, _, label = told.partition(" ")
            row |= {"split": split, "label": label or None}
        else:
            row |= {"reason": told[0], "witness": f"{told[1]}.jpg" if len(told) > 1 else None}
        found.append(row)
    return pl.DataFrame(found, schema=ROWS)


def moment(recipe: dict[str, Any] | None = None, *, line: int = 1, **tables: Table | list[dict[str, Any]]) -> Moment:
    specs = {
        "directory": DIRECTORY, "annotations": ANNOTATIONS, "pairs": PAIRS, "predictions": PREDICTIONS,
        "zero_shot_labels": ZERO_SHOT_LABELS, "quality": QUALITY,
    }  # fmt: skip
    there: dict[str, Any] = {name: Table(spec) for name, spec in specs.items()}
    there["decisions"] = DecisionRows([])
    for name, given in tables.items():
        there[name] = given if not isinstance(given, list) else type(there[name])(*_of(name, specs, given))
    keys = keys_of(parse_recipe({"name": "leaves"} | (recipe or {}), "leaves.toml"))
    own = {kind: value for kind in ("blurry", "dark") if isinstance(value := keys[f"leave_out.{kind}"], float)}

    def verdicts(limits: Mapping[str, float]) -> pl.DataFrame:
        frame = there["quality"].latest().read([column.name for column in QUALITY.columns]).drop("_file")
        return judged(frame, thresholds(limits)).with_columns(decided=pl.lit(None, pl.String))

    tables_then: Any = SimpleNamespace(**there)
    return Moment("leaves", line, keys, tables_then, ("m", "1"), (), own, verdicts)


def _of(name: str, specs: Mapping[str, TableSpec], given: list[dict[str, Any]]) -> tuple[Any, ...]:
    return (given,) if name == "decisions" else (specs[name], given)


class DecisionRows(Table):
    def __init__(self, said: list[dict[str, Any]]) -> None:
        at = datetime(2026, 11, 20, tzinfo=UTC)
        super().__init__(
            QUALITY, [{"decided_by": "ana", "decided_at": at.replace(day=20 + n)} | one for n, one in enumerate(said)]
        )

    def read(self, columns: list[str], where: pl.Expr | None = None) -> pl.DataFrame:
        assert where is None
        return pl.DataFrame(self.rows, schema=SCHEMA).select(*columns, _file=pl.lit("part-0"))


def image(name: str, content: str | None = None, **facts: Any) -> dict[str, Any]:
    return {"relative_path": f"{name}.jpg", "content_sha256": content or name} | facts


def here(*names: str) -> list[dict[str, Any]]:
    return [image(name, status="ok") for name in names]


def told(one: pl.DataFrame, other: pl.DataFrame, was: Moment, now: Moment) -> dict[str, str]:
    found = as_changes(explained(changes(one, other), was, now), WHY)
    return {f"{row['change']} {row['relative_path'][:-4]}": row["why"] for row in found.to_dicts()}


def test_files_that_come_go_are_renamed_or_break() -> None:
    one, other = rows(a="train", b="train", c="train"), rows(b2="train", d="test").with_columns(
        content_sha256=pl.Series(["b", "d"])
    )  # fmt: skip
    was = moment(directory=here("a", "b", "c"))
    now = moment(directory=[image("b2", "b", status="ok"), *here("d"), image("c", status="corrupt", error="cut off")])
    assert told(one, other, was, now) == {
        "came b2": "directory: renamed from b.jpg",
        "came d": "directory: new since its version 4",
        "went a": "directory: file is gone",
        "went b": "directory: renamed to b2.jpg",
        "went c": "directory: corrupt: cut off",
    }
    wide, narrow = moment(directory=here("a")), moment({"images": {"where": "width > 9"}}, directory=here("a"))
    kept, nothing = rows(a="train"), rows(b=("blurry",))
    assert told(kept, nothing, wide, narrow) == {"went a": "recipe images.where none → width > 9"}
    assert told(nothing, kept, narrow, narrow) == {"came a": "recipe images.where: it meets it now"}


def test_thresholds_scores_and_words_that_count_more() -> None:
    def at(limit: float, sharpness: float, *said: dict[str, Any]) -> Moment:
        measured = [image(name, folder="f", sharpness=sharpness) for name in ("a", "b")]
        return moment({"leave_out": {"blurry": limit}}, quality=measured, decisions=[*said])

    out, kept = rows(a=("blurry",)), rows(a="train")
    assert told(out, kept, at(0.3, 0.25), at(0.2, 0.25)) == {
        "came a": "recipe leave_out.blurry 0.3 → 0.2 (its sharpness 0.25)"
    }
    assert told(kept, out, at(0.3, 0.5), at(0.3, 0.12)) == {"went a": "quality: blurry, sharpness 0.12 below 0.3"}
    assert told(out, kept, at(0.3, 0.12), at(0.3, 0.5)) == {
        "came a": "quality: blurry no more, sharpness 0.5, was 0.12"
    }
    keep = {"decision_id": "0123456789abcdef", "kind": "keep", "field": "quality", "content_sha256": "a"}
    assert told(out, kept, at(0.3, 0.25), at(0.3, 0.25, keep | {"reason": "fine"})) == {
        "came a": "decision 0123456789ab… keep by ana, 2026-11-20: fine"
    }
    structured = explained(changes(out, kept), at(0.3, 0.25), at(0.2, 0.25))
    assert structured.select("recipe_key", "threshold", "table").rows() == [("leave_out.blurry", 0.2, None)]


def test_what_people_said_and_took_back() -> None:
    kept, out = rows(a="train"), rows(a=("decided",))
    remove = {"decision_id": "r", "kind": "remove", "field": "quality", "content_sha256": "a", "relative_path": "x.jpg"}
    before, after = moment(), moment(decisions=[remove | {"reason": "not a leaf"}])
    assert told(kept, out, before, after) == {"went a": "decision r… remove by ana, 2026-11-20: not a leaf"}
    undo = remove | {"decision_id": "u", "undoes": "r", "decided_by": "ben", "reason": None}
    assert told(out, kept, after, moment(decisions=[remove, undo])) == {
        "came a": "decision r… remove taken back by ben, 2026-11-21"
    }
    word = remove | {"decision_id": "k", "kind": "keep"}
    assert told(out, kept, after, moment(decisions=[remove, word])) == {"came a": "decision k… keep by ana, 2026-11-21"}


def test_whom_an_image_is_left_out_for() -> None:
    both, one = rows(a="train", b="train"), rows(a="train", b=("near", "a"))
    alike = one.with_columns(similarity=pl.Series([None, 0.973], dtype=pl.Float32))
    plain, never = moment(), moment({"leave_out": {"near": False}})
    assert told(both, alike, plain, plain) == {"went b": "near a.jpg 0.973 (pairs)"}
    assert told(rows(b="train"), alike, plain, plain)["went b"] == "near a.jpg 0.973 (pairs), which came"
    assert told(one, both, plain, never) == {"came b": "recipe leave_out.near true → false"}
    assert told(one, both, plain, plain) == {"came b": "near no more: a.jpg (pairs)"}
    gone = told(one, rows(b="train", a=("blurry",)), plain, moment({"leave_out": {"blurry": True}}))
    assert gone["came b"] == "groups: its keeper a.jpg went (blurry)"
    assert told(one, rows(b="train", a=("near", "b")), plain, plain)["came b"] == "groups: it stands for a.jpg now"
    apart = {"decision_id": "d", "kind": "different", "content_sha256": "b", "other_sha256": "a"}
    now = moment(directory=here("a", "b"), decisions=[apart])
    assert told(one, both, plain, now) == {"came b": "decision d… different by ana, 2026-11-20"}


def test_where_another_label_comes_from() -> None:
    def at(label: str | None, recipe: dict[str, Any] | None = None, **tables: Any) -> Moment:
        said = [image("a", folder="", field="class", source="csv", values=[label])] if label else []
        return moment(recipe or LABELS, directory=here("a"), annotations=said, **tables)

    rust, miner, out = rows(a="train rust"), rows(a="train miner"), rows(a=("no label",))
    assert told(rust, miner, at("rust"), at("miner")) == {"relabelled a": "annotations: labelled miner by csv"}
    word = {"decision_id": "l", "kind": "relabel", "field": "class", "value": "miner", "content_sha256": "a"}
    assert told(rust, miner, at("rust"), at("rust", decisions=[word])) == {
        "relabelled a": "decision l… relabel miner by ana, 2026-11-20"
    }
    merged = {"labels": {"field": "class", "merge": {"miner": ["rust"]}}}
    assert told(rust, miner, at("rust"), at("rust", merged)) == {
        "relabelled a": "recipe labels.merge none → miner = rust"
    }
    assert told(out, rust, at(None), at("rust")) == {"came a": "annotations: labelled rust by csv"}
    assert told(rust, out, at("rust"), at(None)) == {"went a": "annotations: not labelled rust any more by csv"}
    guess = [image("a", model_name="m", model_version="1", field="class", predicted="rust", confidence=0.85)]
    sure, surer = ({"labels": {"field": "class", "predictions": least}} for least in (0.8, 0.9))
    assert told(out, rust, at(None, surer, predictions=guess), at(None, sure, predictions=guess)) == {
        "came a": "recipe labels.predictions 0.9 → 0.8 (its confidence 0.85)"
    }
    assert told(out, rust, at(None, sure), at(None, sure, predictions=guess)) == {
        "came a": "predictions: labelled rust, 0.85"
    }


def test_sides_change_by_a_new_line_or_the_recipe() -> None:
    one, other = rows(a="train"), rows(a="test")
    assert told(one, other, moment(), moment(line=2)) == {"moved a": "--fresh: a new line began with version 2"}
    halves, thirds = ({"split": {"train": share, "test": 1 - share}} for share in (0.5, 0.7))
    assert told(one, other, moment(halves), moment(thirds)) == {"moved a": "recipe split.train 0.5 → 0.7"}


def test_a_history_that_is_vacuumed_stands_in_place_of_the_reason() -> None:
    gone = moment(directory=Table(DIRECTORY, gone=True))
    one, other = rows(a="train"), rows(a="train", b="train", c="train")
    found = explained(changes(one, other), gone, moment())
    assert found["why"].to_list() == ["history: table x: files of version 4 were vacuumed; version 9 is there"] * 2
    assert by_reason(found).rows() == [("came", "history", 2)]


@pytest.mark.parametrize("reason", ["exact", "burst", "not examined", "subset", "buffer", "joins test", "blurry"])
def test_every_reason_is_told(reason: str) -> None:
    plain = moment(directory=here("a", "b"), quality=[image("a", sharpness=0.1), image("b", sharpness=0.9)])
    kept, out = rows(a="train", b="train"), rows(a=(reason, "b"), b="train")
    for one, other in ((kept, out), (out, kept)):
        (why,) = told(one, other, plain, plain).values()
        assert why != "not told by the tables"
