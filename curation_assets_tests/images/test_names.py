from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation_assets.images.names import (
    ROOT_FOLDER,
    file_path,
    folder_of,
    path_from_text,
    printable,
    text_from_path,
)
from curation_assets.lake.hive import hive_directory

NAMES = [
    b"plain.jpg",
    b"with space, comma.jpg",
    b"quotes ' \" `.jpg",
    b"052609%20Hartman%20Crabapple.JPG.jpg",
    b"%2320+Bacterial+Spot.jpg",
    b"IMG_1629.JPG?1507122477.jpg",
    b"show.asp?id=a&w2=420&clip=center,420=0.jpg",
    b"two\nlines\ttab.jpg",
    b"back\\slash [1] {a} *.jpg",
    " ma\u00efs \u679c\u6a39 \U0001f33d e\u0301.jpg".encode(),
    b"latin-1 ma\xefs.jpg",
    b"\xff\xfe\x80.jpg",
    b"cut \xe6\x9e.jpg",
    b"surrogate \xed\xb2\x80.jpg",  # U+DC80 written as if it were UTF-8
    "the block itself \U0010ff80 \U0010ffff.jpg".encode(),
    "below the block \U0010ff7f.jpg".encode(),
    "block \U0010ff80 and byte ".encode() + b"\x80.jpg",
    b"n" * 251 + b".jpg",
    b"\xff" * 251 + b".jpg",
    ("\u00e9" * 125).encode() + b"-.jpg",
]

_piece = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.text(min_size=1, max_size=4).filter(lambda t: t.isprintable()).map(str.encode),
    st.sampled_from(
        ["\U0010ff80".encode(), "\U0010ffff".encode(), b"\x80", b"\xf4\x8f", b"\xbf\xbf", b"%20", b"'", b"~"]
    ),
)


def _as_name(parts: list[bytes]) -> bytes:
    name = b"".join(parts).replace(b"/", b"").replace(b"\0", b"")[:255]
    return b"x" if name in (b"", b".", b"..") else name


byte_names = st.lists(_piece, min_size=1, max_size=40).map(_as_name)
folders = st.lists(byte_names.map(os.fsdecode).map(text_from_path), min_size=1, max_size=6).map("/".join)


@given(byte_names)
@settings(deadline=None)
def test_any_name_comes_back_from_its_text(name: bytes) -> None:
    text = text_from_path(os.fsdecode(name))
    assert text.encode("utf-8").decode("utf-8") == text
    assert os.fsencode(path_from_text(text)) == name


@given(byte_names, byte_names)
@settings(deadline=None)
def test_different_names_have_different_texts(one: bytes, other: bytes) -> None:
    assert (text_from_path(os.fsdecode(one)) == text_from_path(os.fsdecode(other))) == (one == other)


@given(st.lists(byte_names, min_size=2, max_size=5))
@settings(deadline=None)
def test_encoding_a_path_is_encoding_its_parts(parts: list[bytes]) -> None:
    whole = text_from_path(os.fsdecode(b"/".join(parts)))
    assert whole == "/".join(text_from_path(os.fsdecode(part)) for part in parts)
    assert path_from_text(whole) == "/".join(path_from_text(text_from_path(os.fsdecode(part))) for part in parts)


@pytest.mark.parametrize("name", ["maize", "ma\u00efs \u679c\U0001f33d", "a,b '\"=?%20\n", "\U0010ff7f", "\U000f0000"])
def test_a_valid_name_stands_in_the_table_unchanged(name: str) -> None:
    assert text_from_path(name) == name


def test_an_undecodable_byte_becomes_one_character_of_the_private_block() -> None:
    assert text_from_path(os.fsdecode(b"a\x80\xff")) == "a\U0010ff80\U0010ffff"


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:24]))
def test_a_file_of_this_name_is_opened_by_its_text(tmp_path: Path, name: bytes) -> None:
    _write_and_find(tmp_path, b"folder " + name[:200], name)


@given(byte_names, byte_names)
@settings(max_examples=60, deadline=None)
def test_a_file_of_any_name_is_opened_by_its_text(folder: bytes, name: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        _write_and_find(Path(root), folder, name)


def _write_and_find(root: Path, folder: bytes, name: bytes) -> None:
    """Write a file, list it as Python lists, and open it through what a table would hold of it."""
    directory = os.path.join(os.fsencode(root), folder)
    try:
        os.mkdir(directory)
        Path(os.fsdecode(os.path.join(directory, name))).write_bytes(name)
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error.strerror}")
    (listed_folder,) = os.listdir(root)
    (listed,) = os.listdir(root / listed_folder)
    key = text_from_path(listed_folder) + "/" + text_from_path(listed)
    with open(file_path(root, key.encode().decode()), "rb") as file:
        assert file.read() == name


def test_a_root_of_bytes_leads_to_its_files(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff root")))
    try:
        root.mkdir()
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error.strerror}")
    (root / "a.jpg").write_bytes(b"x")
    assert Path(file_path(root, "a.jpg")).read_bytes() == b"x"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ma\u00efs/a.jpg", "ma\u00efs/a.jpg"),
        ("two\nlines", r"two\nlines"),
        ("\U0010ffff\U0010ff80", r"\xff\x80"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u2028", r"\u2028"),
    ],
)
def test_a_name_is_printed_on_one_harmless_line(text: str, line: str) -> None:
    assert printable(text) == line


@pytest.mark.parametrize("folder", ["maize", "a/b", "a b,c'd\"e%20f=g", "..", "new\nline", "x" * 248])
def test_an_ordinary_folder_is_its_own_partition(folder: str) -> None:
    assert folder_of(folder, None) == folder


@pytest.mark.parametrize(("depth", "folder"), [(None, "a/b/c"), (1, "a"), (2, "a/b"), (3, "a/b/c"), (9, "a/b/c")])
def test_the_depth_says_how_many_levels_name_a_partition(depth: int | None, folder: str) -> None:
    assert folder_of("a/b/c", depth) == folder


@pytest.mark.parametrize("depth", [None, 1])
def test_the_root_is_a_dot(depth: int | None) -> None:
    assert folder_of("", depth) == ROOT_FOLDER == "."


@given(folders, st.sampled_from([None, 1, 2]))
@settings(deadline=None)
def test_a_partition_always_fits_a_directory_name(folder: str, depth: int | None) -> None:
    value = folder_of(folder, depth)
    name = hive_directory("folder", value)
    assert len(os.fsencode(name)) <= 255
    assert "/" not in name
    assert value


@given(folders, folders)
@settings(deadline=None)
def test_different_folders_are_different_partitions(one: str, other: str) -> None:
    assert (folder_of(one, None) == folder_of(other, None)) == (one == other)


@pytest.mark.parametrize("start", ["x" * 248, "\u679c" * 200, "\U0010ffff" * 255, "a/" * 120, "%" * 90])
def test_long_folders_that_differ_at_the_end_are_different_partitions(start: str) -> None:
    values = {folder_of(f"{start}{end}", None) for end in range(50)}
    assert len(values) == 50
    assert all(len(hive_directory("folder", value)) <= 255 for value in values)


def test_the_word_that_hive_reads_as_null_is_not_a_partition() -> None:
    value = folder_of("__HIVE_DEFAULT_PARTITION__", None)
    assert value.startswith("__HIVE_DEFAULT_PARTITION__~")


@pytest.mark.parametrize("length", [247, 248, 249])
def test_a_folder_is_cut_only_where_delta_cannot_hold_it(length: int) -> None:
    folder = "x" * length
    assert (folder_of(folder, None) == folder) == (len("folder=" + quote(folder, safe="")) <= 255)


def test_hive_directories_are_real_directories(tmp_path: Path) -> None:
    for folder in (folder_of("\U0010ffff" * 255, None), "x" * 248, "a/b", "..", "new\nline"):
        (tmp_path / hive_directory("folder", folder)).mkdir()
    assert len(list(tmp_path.iterdir())) == 5
