"""Names of an export fit every disk, never collide, and lead back."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation_assets.errors import CurationError
from curation_assets.export.names import MOST_BYTES, OWN, file_names, folded, folder_names, safe_part

TEXTS = st.text(min_size=1, max_size=12).filter(lambda text: not any(ord(char) >= 0x10FF80 for char in text))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rust", "rust"),
        ("leaf/miner", "leaf%2Fminer"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("__pycache__", "%5F_pycache__"),
        ("con", "%63on"),
        ("LPT1.txt", "%4CPT1.txt"),
        ("ends.", "ends%2E"),
        ("100 %", "100 %25"),
        ("$HOME", "%24HOME"),
        ("a\0b\n", "a%00b%0A"),
        ("manifest.json", "%6Danifest.json"),
        ("ü", "ü"),
    ],
)
def test_what_a_disk_or_reader_can_not_take_is_written_as_bytes(text: str, name: str) -> None:
    if text == "..":
        assert safe_part(text) not in (".", "..")
    else:
        assert safe_part(text) == name
    assert unquote(safe_part(text)) == text


def test_a_byte_that_is_no_text_leads_back_too() -> None:
    from urllib.parse import unquote_to_bytes

    from curation_assets.images.names import text_from_path

    text = text_from_path(b"a\xff.jpg".decode(errors="surrogateescape"))
    assert unquote_to_bytes(safe_part(text)) == b"a\xff.jpg"


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8, unique=True))
def test_folders_of_any_labels_differ_on_every_disk_and_lead_back(labels: list[str]) -> None:
    names = folder_names([*labels, "Rust", "rust", "RUST", "e\u0301", "\u00e9"], "label")
    assert all(unquote(name) == label for label, name in names.items())
    assert len({folded(name) for name in names.values()}) == len(names)
    assert not any(name.lower() in OWN or "/" in name or name in (".", "..") for name in names.values())


def test_a_folder_that_can_not_be_called_so_is_told() -> None:
    with pytest.raises(CurationError, match="a label is empty"):
        folder_names([""], "label")
    with pytest.raises(CurationError, match=r"the side 'üü.* is too long for a folder's name: 600 bytes"):
        folder_names(["ü" * 300], "side")


def test_files_of_one_name_get_a_mark_each_and_others_keep_theirs() -> None:
    paths = ["a/001.jpg", "b/001.JPG", "a/002.jpg", "c/001.jpg", "x" * 400 + ".jpeg", "d/001~0e9c3f2c.jpg"]
    names = file_names(["t"] * 3 + ["other"] + ["t"] * 2, paths, ["JPEG"] * 6)
    assert names[2:4] == ["t/002.jpg", "other/001.jpg"]
    assert names[0].startswith("t/001~")
    assert names[0].endswith(".jpg")
    assert names[1].startswith("t/001~")
    assert names[1].endswith(".JPG")
    assert len({folded(name) for name in names}) == 6
    assert len(names[4].encode()) < 255
    mark = names[0].removeprefix("t/")
    again = file_names(["t"] * 3, ["a/001.jpg", "b/001.jpg", f"c/{mark}"], ["JPEG"] * 3)
    assert len({folded(name) for name in again}) == 3
    assert again[2] == f"t/{mark}"


def test_a_file_ends_as_readers_expect_it() -> None:
    formats = ["JPEG", "JPEG", "PNG", "PNG", "JPEG", None, "MPO"]
    names = ["a.jpg", "b", "c.jpg", "d.heic", "e.jpg_large", "f", "g.JPG"]
    assert file_names([""] * 7, names, formats) == [
        "a.jpg", "b.jpg", "c.jpg", "d.heic.png", "e.jpg_large.jpg", "f", "g.JPG",
    ]  # fmt: skip
    assert MOST_BYTES < 255
