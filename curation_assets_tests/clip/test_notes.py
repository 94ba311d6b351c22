"""What is noted of a registry and its files, and that every change is noticed all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from curation_assets.clip import manifest, notes
from curation_assets.clip.connection import Connection
from curation_assets.clip.registry import Registry
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets_tests.clip.test_registry import NAME, artifacts_of, other_weights, with_source

__all__ = ["other_weights"]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes are kept at once, though the files are new."""
    monkeypatch.setattr(notes, "_SETTLED_NS", 0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each time that MLflow is asked for a client."""
    seen: list[str] = []
    client = Connection.client

    def counted(self: Connection) -> Any:
        seen.append("client")
        return client(self)

    monkeypatch.setattr(Connection, "client", counted)
    return seen


def anew(pipeline: Pipeline) -> Registry:
    return Pipeline(pipeline.settings).registry


def test_the_champion_is_asked_for_once_while_the_database_is_untouched(ready: Pipeline, asked: list[str]) -> None:
    anew(ready).champion()  # which brings the copied database up to date
    first = anew(ready).champion()
    asked.clear()
    assert anew(ready).champion() == first
    assert asked == []


@pytest.mark.parametrize("change", ["promote", "alias moved by hand", "alias taken away"])
def test_a_change_of_the_registry_is_seen_at_once(change: str, ready: Pipeline, other_weights: Path) -> None:
    with_source(ready, other_weights).selection.choose()
    assert [anew(ready).champion().version for _ in range(3)] == ["2"] * 3
    client = mlflow.MlflowClient(ready.registry.tracking_uri, ready.registry.tracking_uri)
    if change == "promote":
        ready.registry.promote("1")
    elif change == "alias moved by hand":
        client.set_registered_model_alias(NAME, "champion", "1")
    else:
        client.delete_registered_model_alias(NAME, "champion")
        with pytest.raises(CurationError, match="no CLIP model is registered"):
            anew(ready).champion()
        return
    assert [anew(ready).champion().version for _ in range(3)] == ["1"] * 3


def test_a_database_that_was_replaced_is_not_answered_for_by_a_process_that_has_the_old_one_open(
    ready: Pipeline, other_weights: Path, tmp_path: Path
) -> None:
    database = ready.settings.mlflow_dir / "mlflow.db"
    before = Path(shutil.copy(database, tmp_path / "before.db"))
    with_source(ready, other_weights).selection.choose()
    before.replace(database)  # a backup, say
    for _ in range(2):
        anew(ready).champion()  # as SQLite has the old file, whatever this says
    script = """
import sys
from pathlib import Path
from curation_assets.clip.registry import Registry
print(Registry(sys.argv[1], Path(sys.argv[2]), own=True).champion().version)
"""
    said = subprocess.check_output([sys.executable, "-c", script, NAME, str(ready.settings.mlflow_dir)], text=True)
    assert said == "1\n"


def test_a_database_that_is_gone_or_broken_is_not_answered_for(ready: Pipeline) -> None:
    database = ready.settings.mlflow_dir / "mlflow.db"
    assert [anew(ready).champion().version for _ in range(3)] == ["1"] * 3
    database.write_bytes(b"garbage" * 999)
    with pytest.raises(CurationError, match=r"mlflow\.db can't be used"):
        anew(ready).champion()
    database.unlink()
    with pytest.raises(CurationError, match="no CLIP model is registered"):
        anew(ready).champion()


def test_notes_of_two_models_in_one_registry_are_two(ready: Pipeline, other_weights: Path) -> None:
    other = Pipeline(ready.settings.model_copy(update={"model_name": "other_clip", "model_source": str(other_weights)}))
    other.selection.choose()
    for _ in range(3):
        assert anew(ready).champion().name == NAME
        assert anew(other).champion().name == other.settings.registered_model


@pytest.mark.parametrize("content", ["", "{]", "[]", "{}", '{"database": null, "champion": {}}', "other fields"])
def test_a_note_that_does_not_hold_is_passed_over(content: str, ready: Pipeline) -> None:
    first = anew(ready).champion()
    assert anew(ready).champion() == first
    (note,) = (ready.settings.mlflow_dir / "notes").glob("*.champion.json")
    if content == "other fields":
        whole = json.loads(note.read_text())
        content = json.dumps(whole | {"champion": whole["champion"] | {"of_the_future": 1}})
    note.write_text(content)
    assert anew(ready).champion() == first


def test_a_registry_that_is_no_file_here_is_always_asked(
    ready: Pipeline, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ready.registry.tracking_uri)
    for _ in range(3):
        anew(ready).champion()
    assert len(asked) == 3


def test_a_database_changed_a_moment_ago_is_not_vouched_for(
    ready: Pipeline, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    anew(ready).champion()
    monkeypatch.setattr(notes, "_SETTLED_NS", 3600 * 10**9)
    shutil.rmtree(ready.settings.mlflow_dir / "notes", ignore_errors=True)
    asked.clear()
    for _ in range(2):
        anew(ready).champion()
    assert len(asked) == 2


@pytest.fixture
def own(ready: Pipeline, other_weights: Path) -> tuple[Pipeline, Path]:
    """A pipeline whose champion has artifacts of its own, free to be changed; and the folder of its weights."""
    pipeline = with_source(ready, other_weights)
    model = pipeline.selection.choose().model
    return pipeline, artifacts_of(pipeline, model)


def load(pipeline: Pipeline) -> Any:
    return anew(pipeline).load_encoder(pipeline.registry.champion(), "cpu", "float32")


def test_files_found_to_be_the_registered_ones_are_not_read_again(
    own: tuple[Pipeline, Path], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, folder = own
    pipeline.registry.champion()
    first = load(pipeline)
    asked.clear()

    def read_again(*_: Any) -> None:
        raise AssertionError("the files were read again")

    monkeypatch.setattr(manifest, "file_digests", read_again)
    assert load(pipeline).folder == first.folder == folder
    assert asked == []


def in_place(folder: Path) -> None:
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"abcd")


def with_its_time(folder: Path) -> None:
    weights = folder / "model.safetensors"
    before = weights.stat()
    in_place(folder)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def swapped(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    (folder / "swap").write_bytes(data)
    (folder / "swap").replace(weights)


@pytest.mark.parametrize(
    "change",
    [
        in_place,
        with_its_time,
        swapped,
        lambda folder: (folder / "special_tokens_map.json").write_text("{}"),
        lambda folder: (folder / "vocab.json").unlink(),
    ],
    ids=["edited", "edited, its time put back", "swapped", "added", "deleted"],
)
def test_a_change_of_the_files_is_noticed(change: Callable[[Path], object], own: tuple[Pipeline, Path]) -> None:
    pipeline, folder = own
    load(pipeline)
    load(pipeline)
    time.sleep(0.02)  # a tick of the file system's clock, which a real note waits for
    change(folder)
    with pytest.raises(CurationError, match="are not the registered model's"):
        load(pipeline)


def test_a_folder_of_notes_that_cannot_be_made_costs_only_time(own: tuple[Pipeline, Path]) -> None:
    pipeline, folder = own
    where = pipeline.settings.mlflow_dir / "notes"
    shutil.rmtree(where, ignore_errors=True)
    where.write_text("a file where the folder should be")
    for _ in range(2):
        assert load(pipeline).folder == folder
        assert load(pipeline).embed_texts(["maize"]).shape == (1, 128)
