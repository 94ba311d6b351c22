"""WebDataset's own reader finds every image of its side, with its bytes and its class."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import pytest

from curation_assets.export import shards
from curation_assets_tests.export.conftest import IMAGES, Export, turned


def test_the_reader_has_every_image_with_its_bytes_and_class(home: Path, made: Path, export: Export) -> None:
    import webdataset

    done = export("webdataset")
    assert done.notes == ["images that EXIF turns: 1, which readers show as they are stored; --upright turns them"]
    about = json.loads((home / "out/classes.json").read_text())
    assert about["classes"] == ["Rust", "leaf/miner", "rust"]
    seen = {}
    for side, files in about["shards"].items():
        assert len(files) == 1
        for sample in webdataset.WebDataset([str(home / "out" / file) for file in files], shardshuffle=False):
            facts = json.loads(sample["json"])
            (ending,) = set(sample).intersection({"jpg", "png"})
            assert sample[ending] == (made / "images" / facts["relative_path"]).read_bytes()
            seen[facts["relative_path"]] = (about["classes"][int(sample["cls"])], side)
            assert facts["orientation"] == (6 if "turned" in facts["relative_path"] else 1)
    assert seen == IMAGES
    assert {path for path in seen if path.endswith(".png")} == {"farm_b/x.png"}


def test_shards_are_the_same_each_time_and_turned_images_are_upright_if_asked_for(
    home: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    import webdataset

    small = partial(shards.in_shards, most_bytes=len(turned()))
    monkeypatch.setattr("curation_assets.export.webdataset.in_shards", small)
    for out in ("one", "two"):
        export("webdataset", out, upright=True)
    tars = sorted(path.name for path in (home / "one").glob("*.tar"))
    assert len(tars) > 2
    for name in tars:
        hashes = [hashlib.sha256((home / out / name).read_bytes()).hexdigest() for out in ("one", "two")]
        assert hashes[0] == hashes[1]
    pictures = webdataset.WebDataset([str(home / "one" / name) for name in tars], shardshuffle=False).decode("pil")
    sizes = {facts["relative_path"]: picture.size for picture, facts in pictures.to_tuple("jpg;png", "json")}
    assert len(sizes) == len(IMAGES)
    assert sizes["farm_a/turned.jpg"] == (48, 64)
