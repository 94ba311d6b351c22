"""``curation decisions``, and that problems follow what people said."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.decisions.record import append, read_decisions, read_rows
from curation_assets.ingest import run
from curation_assets.maintain import maintain
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.repair import repair
from curation_assets_tests.commands.conftest import Curation, copied, pipeline_of
from curation_assets_tests.conftest import jpeg

FIRST, SECOND, COPY = "a/photo_0000.jpg", "a/photo_0001.jpg", "a/copy.jpg"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """Three photographs, a copy of the first, and a file that is none; and a lake of them."""
    home = tmp_path_factory.mktemp("decided")
    folder = home / "images" / "a"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"photo_{number:04}.jpg").write_bytes(jpeg(number))
    (folder / "copy.jpg").write_bytes(jpeg(0))
    (folder / "cut.jpg").write_bytes(b"")
    run(pipeline_of(home, registered_model), LogProgress())
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return copied(ready, made)


def content(lake: Pipeline, path: str) -> str:
    found = lake.tables.contents([path])[path]
    assert found is not None
    return found


def said(curation: Curation, *arguments: str) -> dict[str, Any]:
    """What a subcommand prints as JSON."""
    code, text, error = curation("decisions", *arguments, "--json")
    assert code == 0, error
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_decision_is_kept_with_who_when_why_and_what_was_shown(
    curation: Curation, lake: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "berta")
    row = said(curation, "add", "remove", FIRST, "--reason", "a finger, mine")["decision"]
    assert (row["kind"], row["field"], row["relative_path"]) == ("remove", "quality", FIRST)
    assert (row["decided_by"], row["reason"], row["content_sha256"]) == (
        "berta",
        "a finger, mine",
        content(lake, FIRST),
    )
    assert 0 <= json.loads(row["shown"])["quality"]["brightness"] <= 1
    assert abs((datetime.now(UTC) - read_rows(lake.tables.decisions)["decided_at"].item()).total_seconds()) < 60
    on_disk = str(lake.settings.images_root / SECOND)
    pair = said(curation, "add", "same", on_disk, FIRST, "--by", "carl")["decision"]
    assert (pair["relative_path"], pair["other_sha256"], pair["decided_by"]) == (SECOND, content(lake, FIRST), "carl")
    code, text, _ = curation("decisions", "list")
    assert (code, len(text.splitlines())) == (0, 2)
    assert "remove quality  a/photo_0000.jpg  berta: a finger, mine" in text
    assert [d["kind"] for d in said(curation, "list", "--path", COPY)["decisions"]] == ["remove", "same"]
    assert [d["kind"] for d in said(curation, "list", "--kind", "same")["decisions"]] == ["same"]
    rows = list(csv.DictReader(io.StringIO(curation("decisions", "list", "--csv")[1])))
    assert [row["decided_by"] for row in rows] == ["berta", "carl"]
    shown = json.loads(curation("show", COPY, "--json")[1])["decisions"]
    assert [row["kind"] for row in shown] == ["remove", "same"], "a copy has the same content"
    assert "remove quality, by berta: a finger, mine" in curation("show", FIRST)[1]


def test_undo_takes_back_the_last_of_ones_own_or_one_by_its_id_and_itself(curation: Curation, lake: Pipeline) -> None:
    kept = said(curation, "add", "keep", FIRST, "--by", "ann")["decision"]
    said(curation, "add", "remove", FIRST, "--by", "ann")
    said(curation, "add", "keep", SECOND, "--by", "bob")
    undone = said(curation, "undo", "--last", "--by", "ann")
    assert undone["undone"]["kind"] == "remove"
    assert undone["decision"]["undoes"] == undone["undone"]["decision_id"]
    assert content(lake, FIRST) in read_decisions(lake.tables.decisions).kept()["content_sha256"]
    assert said(curation, "undo", "--last", "--by", "ann")["undone"]["decision_id"] == kept["decision_id"]
    code, _, error = curation("decisions", "undo", "--last", "--by", "ann")
    assert (code, error) == (2, "error: ann has no decision to take back; `curation decisions list` shows all\n")
    code, _, error = curation("decisions", "undo", kept["decision_id"])
    assert code == 2
    assert "was taken back before; `curation decisions undo " in error
    again = said(curation, "undo", error.split("decisions undo ")[1].split("`")[0])
    assert again["undone"]["undoes"] == kept["decision_id"]
    assert len(read_decisions(lake.tables.decisions).kept()) == 2
    assert said(curation, "list")["total"] == 2
    assert said(curation, "list", "--all")["total"] == 6


WRONG: dict[str, tuple[list[str], str]] = {
    "an unknown image": (["add", "keep", "a/none.jpg"], "no image 'a/none.jpg' in "),
    "an unknown other": (["add", "same", FIRST, "a/none.jpg"], "no image 'a/none.jpg' in "),
    "a kind with a slip": (["add", "remov", FIRST], "no kind of decision is called 'remov'; did you mean remove?"),
    "an unknown kind": (["add", "zzz", FIRST], "there are keep, remove, keeper, relabel, same, different, unsure, tag"),
    "no tag": (["add", "tag", FIRST], "a tag needs a value: its name"),
    "a copy": (["add", "same", FIRST, COPY], "both images have the same content"),
    "one of two": (["add", "different", FIRST], "different is about two images, and one is given"),
    "two of one": (["add", "keep", FIRST, SECOND], "keep is about one image, and two are given"),
    "no value": (["add", "relabel", FIRST, "--field", "class"], "relabel needs a value: the label"),
    "no field": (["add", "relabel", FIRST, "--value", "rust"], "relabel needs the field of labels"),
    "an odd field": (["add", "remove", FIRST, "--field", "taste"], "remove is about quality or duplicate"),
    "nothing to undo": (["undo", "123"], "there are no decisions in "),
    "neither": (["undo"], "name one decision by its id, or give --last"),
    "two ways": (["list", "--json", "--csv"], "--json and --csv are two ways to print: choose one"),
    "a format": (["export", "decisions.xml"], "decisions.xml: a file of decisions ends in .csv, .jsonl, .parquet"),
    "no file": (["import", "none.csv"], "none.csv: No such file or directory"),
    "no Parquet file": (["import", "none.parquet"], "none.parquet: No such file or directory"),
    "a folder": (["export", "{tmp_path}/a.csv"], "a.csv is a folder; name the file to write"),
    "damaged Parquet": (["import", "{tmp_path}/b.parquet"], "b.parquet can't be read as parquet"),
    "a cut table": (["import", "{tmp_path}/cut.csv"], "cut.csv can't be read as csv"),
    "bytes": (["import", "{tmp_path}/bytes.jsonl"], "bytes.jsonl can't be read as jsonl"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line(name: str, curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "b.parquet").write_bytes(b"torn")
    (tmp_path / "cut.csv").write_text('kind,reason\nkeep,"x')
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    arguments, expected = WRONG[name]
    code, text, error = curation("decisions", *(each.format(tmp_path=tmp_path) for each in arguments))
    assert (code, text) == (2, "")
    assert error.count("\n") == 1
    assert expected in error
    assert not lake.tables.decisions.exists(), "wrong input makes no table"


def test_a_file_without_a_content_can_not_be_decided_on(curation: Curation, lake: Pipeline, images: Path) -> None:
    (images / "a" / "gone.jpg").symlink_to(images / "nowhere")
    run(lake, LogProgress())
    code, _, error = curation("decisions", "add", "keep", "a/gone.jpg")
    assert code == 2
    assert error.startswith("error: 'a/gone.jpg' could not be read")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_an_export_is_imported_once_here_and_whole_elsewhere(
    ending: str, curation: Curation, lake: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(curation, "add", "remove", FIRST, "--reason", 'a "finger",\nmine; ü', "--by", "ann")
    said(curation, "add", "keeper", COPY)
    said(curation, "add", "same", FIRST, SECOND)
    said(curation, "add", "relabel", FIRST, "--field", "class", "--value", "rust")
    said(curation, "undo", "--last", "--by", "ann")
    file = tmp_path / "out" / f"decisions.{ending}"
    assert said(curation, "export", str(file)) == {"file": str(file), "decisions": 5}
    version = lake.tables.decisions.latest().version
    assert said(curation, "import", str(file)) == {"file": str(file), "added": 0, "already_there": 5}
    assert Pipeline(lake.settings).tables.decisions.latest().version == version
    before = read_rows(lake.tables.decisions)
    monkeypatch.setenv("CURATION_LAKE_ROOT", str(tmp_path / "other"))
    assert said(curation, "import", str(file))["added"] == 5
    other = Pipeline(lake.settings.model_copy(update={"lake_root": tmp_path / "other"}))
    assert read_rows(other.tables.decisions).equals(before)


def test_rows_by_hand_need_no_id_and_a_path_or_a_content(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    known = content(lake, SECOND)
    file.write_text(
        f"kind,relative_path,content_sha256,field,value\nremove,{FIRST},,,\nkeep,moved/away.jpg,{known},,\n"
        f"keep,,{'e' * 64},,\nrelabel,,{known},class,rust\n",
        encoding="utf-8-sig",
    )
    assert said(curation, "import", str(file), "--by", "dora")["added"] == 4
    rows = read_rows(lake.tables.decisions)
    assert rows["decided_by"].to_list() == ["dora"] * 4
    assert rows["decision_id"].n_unique() == 4
    assert rows["kind"].to_list() == ["remove", "keep", "keep", "relabel"], "ids keep the order of the file"
    assert rows["content_sha256"][0] == content(lake, FIRST)


def test_a_file_without_rows_or_with_faults_makes_no_table(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    for text, code in (("", 0), ("kind,relative_path\n", 0), ("kind,relative_path\nkeep,a/none.jpg\n", 2)):
        file.write_text(text)
        assert curation("decisions", "import", str(file))[0] == code
    assert not lake.tables.decisions.exists()


def test_a_faulty_file_is_told_of_line_by_line_and_nothing_of_it_is_imported(
    curation: Curation, lake: Pipeline, tmp_path: Path
) -> None:
    row = said(curation, "add", "keep", FIRST)["decision"]
    file = tmp_path / "wrong.jsonl"
    lines: list[Any] = [
        {"kind": "keep", "relative_path": SECOND},
        {"kind": "kept", "relative_path": SECOND},
        {"kind": "keep", "relative_path": "a/none.jpg"},
        {"kind": "keep", "relative_path": SECOND, "colour": "red"},
        {"kind": "keep", "relative_path": SECOND, "decided_at": "yesterday"},
        {"kind": "keep", "relative_path": SECOND, "decided_at": "2999-01-01T00:00:00Z"},
        {"kind": "keep", "relative_path": SECOND, "reason": 7},
        {"decision_id": row["decision_id"], "kind": "remove", "relative_path": FIRST},
        {"decision_id": "x", "kind": "keep", "relative_path": SECOND, "undoes": "y", "decided_at": "2026-01-01"},
        {"decision_id": "x", "kind": "keep", "relative_path": SECOND},
        {"decision_id": "z", "kind": "keep", "relative_path": SECOND, "undoes": "z", "decided_at": "2026-01-01"},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n")
    code, text, error = curation("decisions", "import", str(file))
    assert (code, text) == (2, "")
    told = error.splitlines()
    assert sorted({line.split(":")[0] for line in told[:-1]}) == sorted(f"line {n}" for n in range(2, 13))
    assert told[-1].startswith(f"error: {file}: 11 faults, nothing was imported")
    assert len(read_rows(lake.tables.decisions)) == 1
    file = tmp_path / "short.csv"
    file.write_text("kind,relative_path\nkeep\n")
    code, _, error = curation("decisions", "import", str(file))
    assert (code, error.splitlines()[0]) == (2, "line 2: 1 cells below 2 columns")
    file.write_text("kind,path\nkeep,x\n")
    code, _, error = curation("decisions", "import", str(file))
    assert (code, error.count("\n"), "column 'path' is none of" in error) == (2, 1, True)


# --------------------------------------------------------------- problems


def test_what_is_kept_is_no_problem_until_that_is_taken_back(curation: Curation, lake: Pipeline) -> None:
    everything = ("--threshold", "blurry=9", "--json")
    before = json.loads(curation("problems", "blurry", *everything)[1])
    assert (before["total"], before["kept"]) == (4, 0)
    said(curation, "add", "keep", FIRST)
    said(curation, "add", "remove", SECOND)
    facts = json.loads(curation("problems", "blurry", *everything)[1])
    assert (facts["total"], facts["kept"], facts["images"]) == (2, 2, 4), "its copy is kept too"
    assert {row["relative_path"]: row["decided"] for row in facts["found"]} == {
        SECOND: "remove",
        "a/photo_0002.jpg": None,
    }
    facts = json.loads(curation("problems", "blurry", *everything, "--decided")[1])
    assert (facts["total"], [row["decided"] for row in facts["found"]].count("keep")) == (4, 2)
    overview = json.loads(curation("problems", *everything)[1])
    assert (overview["with_problem"], overview["decided"]) == (2, {"keep": 2, "remove": 1})
    assert {kind["kind"]: kind["kept"] for kind in overview["kinds"]}["blurry"] == 2
    assert json.loads(curation("problems", *everything, "--decided")[1])["with_problem"] == 4
    text = curation("problems", "--threshold", "blurry=9")[1]
    assert "2 with a problem were decided to be kept: `--decided` counts and shows them too" in text
    assert "1 were decided to be removed" in text
    _, text, error = curation("problems", "blurry", "--threshold", "blurry=9")
    assert f"{SECOND}  (decided: remove)" in text
    assert "2 more are decided to be kept; --decided shows them too" in error
    said(curation, "undo", "--last")
    said(curation, "undo", "--last")
    assert json.loads(curation("problems", "blurry", *everything)[1]) == before


def test_a_tag_gathers_images_wherever_they_lie_until_it_is_taken_off(curation: Curation, lake: Pipeline) -> None:
    for path, tag in ((FIRST, "hard"), (SECOND, "hard"), (SECOND, "at night")):
        said(curation, "add", "tag", path, "--value", tag)

    def found(*conditions: str) -> set[str]:
        code, text, error = curation("search", "--json", *conditions)
        assert code == 0, error
        return {image["relative_path"] for image in json.loads(text)["images"]}

    assert found("--tag", "hard") == {COPY, FIRST, SECOND}
    assert found("--tag", "har", "--tag", "at night") == {SECOND}
    assert found("--where", "tags = 'at night, hard'") == {SECOND}
    said(curation, "add", "untag", COPY, "--value", "hard")
    assert found("--tag", "hard") == {SECOND}
    assert found("--tag", "nothing") == set()


def test_a_removed_duplicate_says_nothing_of_the_picture(curation: Curation, lake: Pipeline) -> None:
    said(curation, "add", "remove", COPY, "--field", "duplicate")
    facts = json.loads(curation("problems", "--threshold", "blurry=9", "--json")[1])
    assert facts["decided"] == {"keep": 0, "remove": 0}


def test_the_column_of_problems_follows_in_an_index_that_is_open(
    lake: Pipeline, curation: Curation, images: Path
) -> None:
    settings = lake.settings.model_copy(update={"problem_thresholds": {"blurry": 9.0}})
    pipeline = Pipeline(settings)

    def blurry() -> set[str]:
        found = pipeline.searcher.search((), 10, filter=None, where="problems LIKE '%blurry%'")
        return set(found.rows["relative_path"])

    assert blurry() == {FIRST, SECOND, COPY, "a/photo_0002.jpg"}
    said(curation, "add", "keep", FIRST)
    assert blurry() == {SECOND, "a/photo_0002.jpg"}
    said(curation, "undo", "--last")
    assert blurry() == {FIRST, SECOND, COPY, "a/photo_0002.jpg"}


# --------------------------------------------------------------- the table


def test_decisions_outlive_their_images_and_come_back_with_them(
    curation: Curation, lake: Pipeline, images: Path
) -> None:
    said(curation, "add", "keep", SECOND)
    data = (images / SECOND).read_bytes()
    (images / SECOND).unlink()
    assert curation("run")[0] == 1  # of the file that is none
    facts = json.loads(curation("problems", "--threshold", "blurry=9", "--json")[1])
    assert facts["decided"]["keep"] == 0
    (images / "b").mkdir()
    (images / "b" / "renamed.jpg").write_bytes(data)
    curation("run")
    facts = json.loads(curation("problems", "--threshold", "blurry=9", "--json")[1])
    assert facts["decided"]["keep"] == 1


def test_commands_on_the_whole_lake_cope_with_the_table(curation: Curation, lake: Pipeline, images: Path) -> None:
    for _ in range(9):
        said(curation, "add", "keep", FIRST)
    table = Pipeline(lake.settings).tables.decisions
    assert len(table.latest().files()) < 9, "small files are joined on the way"
    assert table.latest().folders == [], "it is of no image folder"
    assert curation("status")[0] == 0
    code, text, error = curation("curate", "--folders", "a", "--json")
    assert code == 0, error
    assert json.loads(text)["quality"]["measured"] == 0
    before = read_rows(table)
    report = maintain(Pipeline(lake.settings), LogProgress(), retention_hours=168)
    assert table.path.name in [each.table for each in report.tables]
    assert len(Pipeline(lake.settings).tables.decisions.latest().files()) == 1
    assert read_rows(table).equals(before)
    assert repair(Pipeline(lake.settings), LogProgress()).found == []


def test_a_repair_says_that_what_people_said_is_lost_and_an_import_brings_it_back(
    curation: Curation, lake: Pipeline, tmp_path: Path
) -> None:
    said(curation, "add", "keep", FIRST)
    said(curation, "add", "remove", SECOND)
    said(curation, "export", str(tmp_path / "all.parquet"))
    before = read_rows(lake.tables.decisions)
    table = lake.tables.decisions
    (table.path / table.latest().files()[0].path).write_bytes(b"torn")
    code, text, _ = curation("repair")
    assert code == 1
    assert "1 decisions of people are lost; `curation decisions import` brings them back" in text
    assert said(curation, "import", str(tmp_path / "all.parquet"))["added"] == 1
    assert read_rows(table).equals(before)
    assert curation("repair")[0] == 0


def test_a_column_of_ones_own_survives(lake: Pipeline, curation: Curation) -> None:
    import pyarrow as pa
    from deltalake import DeltaTable, Schema

    said(curation, "add", "keep", FIRST)
    path = lake.tables.decisions.path
    DeltaTable(str(path)).alter.add_columns(Schema.from_arrow(pa.schema([pa.field("note", pa.string())])).fields)
    DeltaTable(str(path)).update(updates={"note": "'mine'"})
    for _ in range(9):
        said(curation, "add", "keep", SECOND)
    notes = pl.scan_delta(str(path)).filter(pl.col("note") == "mine").collect()
    assert notes["relative_path"].to_list() == [FIRST]


def test_a_plan_is_made_anew_on_what_others_added(lake: Pipeline) -> None:
    """Another process that asks for no lock adds a row between plan and commit."""
    table, other = lake.tables.decisions, Pipeline(lake.settings).tables.decisions
    row = {"kind": "keep", "field": "quality", "content_sha256": "a" * 64, "decided_by": "ann"}
    seen: list[int] = []

    def plan(rows: Callable[[], pl.DataFrame]) -> list[dict[str, Any]]:
        seen.append(len(rows()))
        if len(seen) == 1:
            foreign = pl.DataFrame([row | {"decision_id": "0", "decided_at": datetime(2026, 1, 1, tzinfo=UTC)}])
            foreign.write_delta(str(other.path), mode="append", delta_write_options={"schema_mode": "merge"})
        return [row]

    append(table, plan)
    assert seen == [0, 1]
    assert len(read_rows(other)) == 2


@pytest.mark.parametrize("kind", ["relabel", "unsure"])
def test_a_field_is_called_as_annotations_call_it(
    kind: str, curation: Curation, lake: Pipeline, tmp_path: Path
) -> None:
    value = ["--value", "rust"] if kind == "relabel" else []
    for field in ("my field", "issues"):
        code, _, error = curation("decisions", "add", kind, FIRST, "--field", field, *value)
        assert (code, len(error.splitlines())) == (2, 1)
        assert f"a field can't be called {field!r}" in error
    row = {"kind": kind, "relative_path": FIRST, "field": "my field", "value": "".join(value[1:])}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    code, _, error = curation("decisions", "import", str(tmp_path / "d.jsonl"))
    assert code == 2
    assert "line 1: a field can't be called 'my field'" in error
    assert not lake.tables.decisions.exists()


def test_what_is_in_the_table_already_is_no_fault_of_a_file(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    word = {"decided_by": "me", "kind": "relabel", "content_sha256": content(lake, FIRST), "value": "x"}
    append(lake.tables.decisions, lambda _: [word | {"field": field} for field in ("my field", "issues")])
    file = tmp_path / "all.csv"
    assert said(curation, "export", str(file))["decisions"] == 2
    assert said(curation, "import", str(file))["already_there"] == 2
    assert curation("search", "--where", "\"label_my field\" = 'x' AND label_issues IS NULL")[0] == 0
