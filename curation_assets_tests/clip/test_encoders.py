"""The cache of loaded encoders, and its copies in other processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.registry import Registry
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Version and device of each time that weights were loaded."""
    seen: list[tuple[str, str]] = []

    def load(_: Registry, model: RegisteredModel, device: str, precision: str) -> Encoder:
        seen.append((model.version, device))
        return Encoder(DEMO_FOLDER, "cpu", precision)

    monkeypatch.setattr(Registry, "load_encoder", load)
    return seen


def test_a_version_is_loaded_once_however_many_threads_ask(ready: Pipeline, loaded: list[tuple[str, str]]) -> None:
    model, found = ready.registry.champion(), []
    threads = [threading.Thread(target=lambda: found.append(ready.encoders.load(model))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(encoder) for encoder in found}) == 1
    assert ready.encoders.load_all(model) == [found[0]]
    assert loaded == [("1", "auto")]


def test_the_encoders_of_one_version_are_held_at_a_time(ready: Pipeline, loaded: list[tuple[str, str]]) -> None:
    first = ready.registry.champion()
    second = replace(first, version="2")
    ready.encoders.load_all(first, ["0", "1"])
    ready.encoders.load_all(first, ["1", "0"])
    assert loaded == [("1", "cuda:0"), ("1", "cuda:1")]
    ready.encoders.load(second)
    ready.encoders.load(second)
    ready.encoders.load_all(first, ["0"])
    assert loaded[2:] == [("2", "auto"), ("1", "cuda:0")]


def test_weights_registered_anew_under_the_same_number_are_loaded_anew(
    ready: Pipeline, loaded: list[tuple[str, str]]
) -> None:
    model = ready.registry.champion()
    ready.encoders.load(model)
    ready.encoders.load(replace(model, fingerprint="0" * 32))
    assert len(loaded) == 2


def test_a_pickled_copy_takes_no_weights_along_and_is_one_with_the_others_of_its_process(
    ready: Pipeline, tmp_path: Path
) -> None:
    model = ready.registry.champion()
    ready.encoders.load(model).embed_texts(["maize"])
    data = pickle.dumps((ready.encoders, model))
    assert len(data) < 2000
    (tmp_path / "task").write_bytes(data)
    script = """
import pickle, sys
from pathlib import Path
data = Path(sys.argv[1]).read_bytes()
(one, model), (two, _) = pickle.loads(data), pickle.loads(data)
assert one is two
assert one.load(model) is pickle.loads(data)[0].load(model)
print(one.device, one.decode.max_pixels, one.load(model).embed_texts(["maize"]).shape)
"""
    asked = [sys.executable, "-c", script, str(tmp_path / "task")]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert said == f"auto {ready.settings.max_pixels} (1, 128)\n"


def test_a_version_that_could_not_be_loaded_is_tried_again(ready: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ready.registry.champion()

    def fail(*_: object) -> Encoder:
        raise CurationError("the registry is on its way")

    with monkeypatch.context() as broken:
        broken.setattr(Registry, "load_encoder", fail)
        with pytest.raises(CurationError, match="on its way"):
            ready.encoders.load(model)
    assert ready.encoders.load(model).embed_texts(["maize"]).shape == (1, 128)
