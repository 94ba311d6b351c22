"""``curation run``: what of a tree is read, what is asked about, what a table keeps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from curation_assets.pipeline import Pipeline
from curation_assets_tests.commands.conftest import Curation
from curation_assets_tests.conftest import jpeg

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(ready: Pipeline) -> Path:
    """Two folders of two photographs."""
    root = ready.settings.images_root
    for folder, seed in (("a", 100), ("b/c", 200)):
        (root / folder).mkdir(parents=True)
        for index in range(2):
            (root / folder / f"photo {index}.jpg").write_bytes(jpeg(seed + index))
    return root


def told(curation: Curation, *arguments: str) -> dict[str, Any]:
    code, text, error = curation("run", "--no-curate", "--json", *arguments)
    assert code == 0, error
    facts: dict[str, Any] = json.loads(text)
    return facts


def assert_one_line(done: tuple[int, str, str], *fragments: str) -> None:
    code, text, error = done
    assert (code, text) == (2, ""), error
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert error.endswith(line + "\n"), error
    for fragment in fragments:
        assert fragment in line


def test_another_tree_is_refused_unless_told_to_prune(
    tree: Path, tmp_path: Path, curation: Curation, ready: Pipeline
) -> None:
    told(curation)
    (tmp_path / "other" / "z").mkdir(parents=True)
    (tmp_path / "other" / "z" / "photo.jpg").write_bytes(jpeg(1))
    other = ("--images", str(tmp_path / "other"))
    assert_one_line(curation("run", "--no-curate", *other), "only 0 of the table's", "CURATION_LAKE_ROOT", "--prune")
    directory, embeddings = ready.tables.directory, ready.tables.embeddings
    assert directory.snapshot().folders == ["a", "b/c"]
    told(curation, *other, "--prune")
    assert directory.snapshot().folders == embeddings.snapshot().folders == ["z"]


def test_two_disks_that_went_are_asked_about_and_all_else_is_done(
    tree: Path, tmp_path: Path, curation: Curation, ready: Pipeline
) -> None:
    for disk in ("disk1", "disk2", "disk3"):
        (tree / disk).mkdir()
        for index in range(4):
            (tree / disk / f"{index}.jpg").write_bytes(jpeg(int(disk[-1]) * 10 + index))
    told(curation)
    for disk in ("disk2", "disk3"):
        (tree / disk).rename(tmp_path / disk)
        (tree / disk).mkdir()
    (tree / "a" / "new.jpg").write_bytes(jpeg(999))
    asked = "8 of the table's 16 images are gone from 'disk2', 'disk3', still there but empty"
    assert_one_line(curation("run", "--no-curate", "--json"), asked, "all else is done", "--prune")
    assert ready.tables.directory.snapshot().rows() == ready.tables.embeddings.snapshot().rows() == 17
    assert told(curation, "--prune")["scan"]["vanished"] == 8
    for disk in ("disk2", "disk3"):
        (tree / disk).rmdir()
        (tmp_path / disk).rename(tree / disk)
    facts = told(curation)
    assert (facts["embed"]["encoded"], facts["embed"]["copied"], facts["total"]["stale"]) == (0, 8, 0)


def test_a_folder_that_cannot_be_listed_is_one_line_and_exit_code_1(
    tree: Path, curation: Curation, ready: Pipeline
) -> None:
    here = os.open(tree, os.O_RDONLY)
    for _ in range(20):  # a path that is too long to open, as root may list every folder
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    code, text, error = curation("run", "--no-curate")
    assert code == 1, error
    assert "not listed: File name too long; what the table has of it stays" in " ".join(text.split())
    code, text, _ = curation("run", "--no-curate", "--json")
    assert code == 1
    (unlisted,) = json.loads(text)["unlisted"]
    assert unlisted["error"] == "File name too long"
    assert ready.tables.directory.snapshot().folders == ["a", "b/c"]


def test_what_is_left_out_is_a_setting_and_links_are_called_links(
    tree: Path, tmp_path: Path, curation: Curation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("@eaDir", "lake/golden", "rejected"):
        (tree / name).mkdir(parents=True)
        (tree / name / "1.jpg").write_bytes(jpeg(5))
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "2.jpg").write_bytes(jpeg(6))
    (tree / "disk").symlink_to(tmp_path / "disk")

    def folders(**env: str) -> list[str]:
        with monkeypatch.context() as given:
            for name, value in env.items():
                given.setenv(name, value)
            facts = told(curation, "--prune", "--lake", str(tree / "lake"))
        passed.update(facts["passed_over"])
        return [row["folder"] for row in facts["folders"]]

    passed: dict[str, int] = {}
    assert folders() == ["a", "b/c", "rejected"]
    assert passed == {"folder left out by CURATION_LEAVE_OUT": 1, "folder of this program": 1, "link to a folder": 1}
    assert folders(CURATION_LEAVE_OUT="REJ*") == ["@eaDir", "a", "b/c"]
    assert folders(CURATION_LEAVE_OUT='["b/*"]', CURATION_FOLLOW_LINKS="true") == ["@eaDir", "a", "disk", "rejected"]
    assert folders(CURATION_LEAVE_OUT="") == ["@eaDir", "a", "b/c", "rejected"]
    assert_one_line(curation("run", "--folders", "disk"), "'disk' is a link to", "CURATION_FOLLOW_LINKS")
    assert_one_line(curation("run", "--folders", "@eaDir"), "'@eaDir' is left out by CURATION_LEAVE_OUT")


def test_folders_takes_a_parent_in_every_way_of_writing_it(
    tree: Path, curation: Curation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    for given in ("b", "b/", "./b", "b/c", str(tree / "b")):
        assert [row["folder"] for row in told(curation, "--folders", given)["folders"]] == ["b/c"]


def test_an_edit_that_keeps_size_and_time_is_told_and_read(tree: Path, curation: Curation) -> None:
    path = tree / "a" / "photo 0.jpg"
    path.write_bytes(jpeg(1) + b"\0one")
    told(curation)
    times = path.stat().st_mtime_ns
    path.write_bytes(jpeg(1) + b"\0two")
    os.utime(path, ns=(times, times))
    code, text, error = curation("run", "--no-curate")
    assert code == 0, error
    assert "1 changed" in text
    assert "1 files whose ctime alone changed: 1 compared by their hash" in " ".join(text.split())
