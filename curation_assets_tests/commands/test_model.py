from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation


@pytest.fixture
def other(ready: Pipeline, tmp_path: Path) -> Pipeline:
    """The same lake with other weights as MODEL_SOURCE, not yet registered."""
    folder = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "other_model"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-4] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    return Pipeline(ready.settings.model_copy(update={"model_source": str(folder)}))


def test_going_back_to_a_version_whose_vectors_are_there_encodes_nothing(
    ready: Pipeline, other: Pipeline, curation: Curation, fill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATION_MODEL_SOURCE", other.settings.model_source)
    fill("maize", 3)
    assert sum(done.encoded for done in run(ready, LogProgress(), curate=False).embeds) == 3
    assert sum(done.encoded for done in run(other, LogProgress(), curate=False).embeds) == 3
    fill("maize", 1, first=3)  # one more, embedded with version 2 only
    assert sum(done.encoded for done in run(other, LogProgress(), curate=False).embeds) == 1

    code, text, _ = curation("model", "list", "--json")
    listed = json.loads(text)
    assert (code, listed["images"]) == (0, 4)
    assert [(v["version"], v["champion"], v["of_model_source"], v["embedded"]) for v in listed["versions"]] == [
        ("1", False, False, 3),
        ("2", True, True, 4),
    ]
    code, text, _ = curation("model", "rollback", "--json")
    said = json.loads(text)
    assert (code, said["version"], said["embedded"], said["to_embed"]) == (0, "1", 3, 1)

    summary = run(other, LogProgress(), curate=False)
    assert summary.chosen.model.version == "1"
    assert summary.chosen.overruled is not None
    assert summary.chosen.overruled.version == "2"
    assert sum(done.encoded for done in summary.embeds) == 1  # only the one it never saw
    assert sum(done.encoded for done in run(other, LogProgress(), curate=False).embeds) == 0
    vectors = ready.tables.vectors_of("maize/photo_0000.jpg")
    assert sorted(vectors["model_version"]) == ["1", "2"]

    assert curation("model", "promote", "2")[0] == 0
    summary = run(other, LogProgress(), curate=False)
    assert (summary.chosen.model.version, summary.chosen.overruled) == ("2", None)
    assert sum(done.encoded for done in summary.embeds) == 0


def test_list_and_promote_say_what_a_reader_needs(
    ready: Pipeline, other: Pipeline, curation: Curation, fill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATION_MODEL_SOURCE", other.settings.model_source)
    fill("maize", 2)
    run(ready, LogProgress(), curate=False)
    other.selection.choose()
    code, text, _ = curation("model", "list")
    first, second = (line for line in text.splitlines() if line.strip()[:1] in "12")
    assert code == 0
    assert "of 2 images" in text
    assert "champion" in second
    assert "champion" not in first
    assert first.endswith("2")
    assert second.endswith("0")
    code, text, _ = curation("model", "promote", "1")
    assert code == 0
    assert f"{ready.registry.name} version 1" in text
    assert "2 of 2 images have one of this version" in text
    assert "CURATION_MODEL_SOURCE was version 2" in text
    assert "0 of 2 images" in curation("model", "promote", "2")[1]


def test_a_promotion_holds_over_a_model_source_that_is_registered_only_later(
    ready: Pipeline, other: Pipeline, curation: Curation, fill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("maize", 2)
    run(ready, LogProgress(), curate=False)
    source = Path(other.settings.model_source)
    monkeypatch.setenv("CURATION_MODEL_SOURCE", str(source))
    assert curation("model", "promote", "1")[0] == 0
    code, text, _ = curation("run", "--no-curate", "--json")
    said = json.loads(text)["model"]
    assert (code, said["version"], said["new"], said["overrules"]) == (0, "1", True, "2")
    assert ready.registry.champion().version == "1"

    weights = bytearray((source / "model.safetensors").read_bytes())
    weights[-4] ^= 2
    (source / "model.safetensors").write_bytes(weights)
    said = json.loads(curation("run", "--no-curate", "--json")[1])["model"]
    assert (said["version"], said["new"], said["overrules"]) == ("3", True, None), "it really changed"


def test_a_champion_chosen_by_hand_is_used_on_when_model_source_is_gone(
    ready: Pipeline, other: Pipeline, curation: Curation, fill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("maize", 2)
    run(ready, LogProgress(), curate=False)
    run(other, LogProgress(), curate=False)
    source = other.settings.model_source
    monkeypatch.setenv("CURATION_MODEL_SOURCE", source)
    aside = Path(source).rename(source + " aside")
    code, _, said = curation("run", "--no-curate")
    assert code == 2
    assert said.splitlines()[-1].startswith(f"error: CURATION_MODEL_SOURCE={source}: ")

    assert curation("model", "rollback")[0] == 0
    code, text, _ = curation("run", "--no-curate")
    assert code == 0
    (line,) = (line for line in text.splitlines() if "chosen by hand" in line)
    assert f"CURATION_MODEL_SOURCE={source}: " in line
    chosen = json.loads(curation("run", "--no-curate", "--json")[1])["model"]
    assert (chosen["version"], chosen["new"]) == ("1", False)
    assert chosen["source_unavailable"].startswith(f"CURATION_MODEL_SOURCE={source}: ")

    aside.rename(source)
    chosen = json.loads(curation("run", "--no-curate", "--json")[1])["model"]
    assert (chosen["version"], chosen["overrules"], chosen["source_unavailable"]) == ("1", "2", None)
    monkeypatch.setenv("CURATION_MODEL_SOURCE", source + " too")
    code, _, said = curation("run", "--no-curate")
    assert code == 2, "whoever sets another source must hear that it can't be had"
    assert f"CURATION_MODEL_SOURCE={source} too: " in said


def test_a_promotion_over_a_model_source_that_never_could_be_had_holds_once_it_can(
    ready: Pipeline, other: Pipeline, curation: Curation, fill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("maize", 1)
    source = other.settings.model_source
    monkeypatch.setenv("CURATION_MODEL_SOURCE", source)
    aside = Path(source).rename(source + " aside")
    assert curation("model", "promote", "1")[0] == 0
    assert curation("run", "--no-curate")[0] == 0
    aside.rename(source)
    chosen = json.loads(curation("run", "--no-curate", "--json")[1])["model"]
    assert (chosen["version"], chosen["new"], chosen["overrules"]) == ("1", True, "2")


def test_a_version_that_is_not_there_and_a_rollback_too_far_are_clear_errors(curation: Curation) -> None:
    code, text, said = curation("model", "promote", "7")
    assert (code, text) == (2, "")
    assert said.startswith("error: ")
    assert "has no version '7'; it has 1" in said
    code, _, said = curation("model", "rollback")
    assert code == 2
    assert "no earlier champion" in said
    assert curation("model", "verify", "seven")[0] == 2


@pytest.mark.parametrize("command", [["list"], ["promote", "1"], ["rollback"], ["verify"]])
def test_without_a_registered_model_every_command_says_how_to_register_one(
    command: list[str], curation: Curation, ready: Pipeline
) -> None:
    shutil.rmtree(ready.settings.mlflow_dir)
    code, _, said = curation("model", *command)
    assert code == 2
    assert "`curation run`" in said
    assert not ready.settings.mlflow_dir.exists()


def test_verify_compares_with_what_was_stored_and_finds_another_answer(
    other: Pipeline, curation: Curation, tmp_path: Path
) -> None:
    model = other.selection.choose().model
    code, text, _ = curation("model", "verify", "--json")
    said = json.loads(text)
    assert (code, said["ok"], said["version"]) == (0, True, "2")
    assert set(said["cosines"]) == {"image 0", "image 1", "text 0", "text 1"}
    code, text, _ = curation("model", "verify", "1")
    assert code == 0
    assert "computes what it did when it was registered" in text

    encoder = other.encoders.load(model)
    stored = encoder.folder.parent / "golden" / "golden.json"
    golden = json.loads(stored.read_text())
    golden["texts"][0]["vector"] = [-x for x in golden["texts"][0]["vector"]]
    os.chmod(stored, 0o644)
    stored.write_text(json.dumps(golden))
    code, text, said_err = curation("model", "verify", "--json")
    assert code == 1, said_err
    assert not json.loads(text)["ok"]
