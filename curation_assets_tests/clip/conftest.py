"""Models to be changed, and transformers' own of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation_assets.clip.source import DEMO_FOLDER


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model in a local folder, free to be changed."""
    return Path(shutil.copytree(DEMO_FOLDER, tmp_path / "model"))


def change_config(folder: Path, side: str, **changes: Any) -> None:
    """Change the configuration of a side, ``text`` or ``vision``, as the file has it."""
    config = json.loads((folder / "config.json").read_text())
    config[f"{side}_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))


def tower_of_transformers(kind: Any, folder: Path, side: str, **how: Any) -> Any:
    """Transformers' own tower.

    Args:
        kind: its class.
        side: ``text`` or ``vision``.
        how: ``dtype`` and ``attn_implementation``.
    """
    import transformers

    whole = transformers.CLIPConfig.from_pretrained(folder)
    config = getattr(whole, f"{side}_config")
    config.projection_dim = whole.projection_dim
    return kind.from_pretrained(folder, config=config, **how).eval()
