"""``curation dataset export``, as people and scripts call it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from curation_assets.commands.datasets import FORMATS, LINKS
from curation_assets.export import formats, protocol
from curation_assets_tests.export.conftest import Command, Export
from curation_assets_tests.processes import run_script


def test_the_help_names_the_formats_and_links_there_are() -> None:
    assert (FORMATS, LINKS) == (formats.NAMES, protocol.LINKS)


def test_the_command_says_what_it_wrote(home: Path, command: Command) -> None:
    (home / "recipes").mkdir()
    (home / "recipes/leaves.toml").write_text('[card]\nlicence = "CC0-1.0"\n')
    code, text, _ = command("leaves@1", "--to", "folders", "--out", "out")
    assert code == 0
    assert text.splitlines()[0].startswith("leaves@1  6 images  6 files  ")
    assert "note      1 images came out of the table: their files are gone, or others by now" in text
    assert "note      folders holds no boxes: those of 1 image are not in it" in text
    assert "Licence: CC0-1.0" in (home / "out/card.md").read_text()
    code, text, _ = command("leaves", "--to", "csv", "--out", "list.csv", "--json")
    told = json.loads(text)
    assert code == 0
    assert told.pop("content_id")
    assert told == {
        "dataset": "leaves", "version": 1, "format": "csv", "out": str(home / "list.csv"), "images": 6, "files": 0,
        "bytes": 0, "from_table": 0, "resumed": 0, "notes": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("leafs", "--to", "csv", "--out", "x"), "error: there is no dataset 'leafs'; there are leaves"),
        (("leaves@3", "--to", "csv", "--out", "x"), "error: leaves has no version 3; it has 1"),
        (("leaves@x", "--to", "csv", "--out", "x"), "error: 'leaves@x': write NAME@VERSION, for example leaves@2"),
        (("leaves", "--to", "foldres", "--out", "x"), "there is no such format; did you mean folders?"),
        (("leaves", "--to", "folders", "--out", "x", "--link", "soft"), "--link soft: choose copy, hard, symlink"),
        (("leaves", "--to", "folders", "--out", "images"), "would take its images for new ones"),
        (("leaves", "--to", "csv", "--out", "x", "--upright"), "--to csv is a list: --link, --upright and"),
    ],
)
def test_what_is_wrong_is_one_line(command: Command, arguments: tuple[str, ...], said: str) -> None:
    code, text, told = command(*arguments)
    assert (code, text) == (2, "")
    assert said in told
    assert told.count("\n") == 1


_KILLED = """
import os, signal, sys
from pathlib import Path
from curation_assets.export import staging
from curation_assets.export.protocol import Options
from curation_assets.progress import LogProgress
from curation_assets_tests.export.conftest import pipeline_at

home, place = Path(sys.argv[1]), sys.argv[2]
really = getattr(staging.Stage, place)

def killed(*arguments):
    if place == "note":
        really(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(staging.Stage, place, killed)
pipeline_at(home).export_dataset("leaves", None, "folders", home / "out", Options(), LogProgress())
"""


@pytest.mark.parametrize("place", ["note", "publish"])
def test_a_killed_process_leaves_nothing_under_the_final_name_and_the_next_one_goes_on(
    home: Path, export: Export, place: str
) -> None:
    killed = run_script(_KILLED, str(home), place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (home / "out").exists()
    done = export("folders")
    assert done.resumed >= 1 if place == "note" else done.resumed == 6
    assert not [path for path in home.iterdir() if "curation-export" in path.name]
