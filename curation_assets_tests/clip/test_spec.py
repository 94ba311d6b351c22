"""What is kept of what transformers reads in a model's files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.spec import Spec

TEXTS = ["a photo of maize rust", "", "maize " * 100]


def test_with_a_note_of_the_files_nothing_of_transformers_is_imported_to_embed(tmp_path: Path) -> None:
    note = tmp_path / "notes" / "config.json"
    encoder = Encoder(DEMO_FOLDER, "cpu", "float32", note)
    side = encoder.preprocessing.crop
    images = encoder.embed_images(np.full((1, side, side, 3), 90, np.uint8))
    script = """
import json, sys
from pathlib import Path
import numpy as np
from curation_assets.clip.encoder import Encoder
folder, note, texts, side = sys.argv[1:]
encoder = Encoder(Path(folder), "cpu", "float32", Path(note))
images = encoder.embed_images(np.full((1, int(side), int(side), 3), 90, np.uint8))
vectors = encoder.embed_texts(json.loads(texts))
print(json.dumps([images.tolist(), vectors.tolist(), "transformers" in sys.modules]))
"""
    asked = [sys.executable, "-c", script, str(DEMO_FOLDER), str(note), json.dumps(TEXTS), str(side)]
    *found, imported = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    for vectors, expected in zip(found, (images, encoder.embed_texts(TEXTS)), strict=True):
        assert np.allclose(np.array(vectors, np.float32), expected, atol=1e-6)
    assert not imported


@pytest.mark.parametrize("kind", ["other libraries", "cut off", "not JSON", "another shape"])
def test_a_note_that_does_not_hold_is_written_anew(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "config.json"
    first = Spec.kept_or_read(DEMO_FOLDER, note)
    whole = note.read_text()
    with monkeypatch.context() as unread:
        unread.setattr(Spec, "read", None)
        assert Spec.kept_or_read(DEMO_FOLDER, note) == first
    content = json.loads(whole)
    damaged = {
        "other libraries": json.dumps(content | {"libraries": {"transformers": "5.0.0"}, "tokenizer": "stale"}),
        "cut off": whole[:100],
        "not JSON": "{]",
        "another shape": json.dumps([1]),
    }
    note.write_text(damaged[kind])
    assert Spec.kept_or_read(DEMO_FOLDER, note) == first
    assert note.read_text() == whole


def test_a_note_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("a file where the folder should be")
    spec = Spec.kept_or_read(DEMO_FOLDER, tmp_path / "notes" / "config.json")
    assert spec == Spec.read(DEMO_FOLDER)
