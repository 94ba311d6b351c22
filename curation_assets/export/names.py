"""What files and folders of an export are called: names that every disk can hold, that never collide, and a way back.

Whatever a disk or a reader can't take becomes percent and two hexadecimal digits for each byte, as in addresses, so
``urllib.parse.unquote`` gives the name back. Which names are reserved is Windows's list (``Naming Files, Paths, and
Namespaces``); hidden files, and those that begin with two underscores, are passed over by readers.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from curation_assets.errors import CurationError
from curation_assets.images.names import path_from_text, printable

MOST_BYTES = 200  # of a name: common disks take 255, and some of them is for what is added
_REFUSED = frozenset('%/\\:*?"<>|[]{}$')  # the last five are patterns, or variables of the shell, to readers
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.DOTALL)
# Files of exports, which no folder may be called like.
OWN = frozenset(
    (
        "manifest.json", "export.json", "images.csv", "card.md", "card.html", "readme.md", "metadata.parquet",
        "croissant.json", "classes.json", "data.yaml",
    )
)  # fmt: skip
_MARK_DIGITS = (8, 16, 64)
# Endings that readers take for an image; what a file really is goes by its content.
ENDINGS = {
    "JPEG": ("jpg", "jpeg"), "MPO": ("jpg", "jpeg"), "PNG": ("png",), "WEBP": ("webp",), "TIFF": ("tif", "tiff"),
    "BMP": ("bmp",), "GIF": ("gif",), "AVIF": ("avif",), "HEIF": ("heic", "heif"), "JXL": ("jxl",),
}  # fmt: skip
_KNOWN = frozenset(ending for endings in ENDINGS.values() for ending in endings)


def safe_part(text: str, *, alike: bool = False) -> str:
    """A name of a file or folder, of any text; ``unquote`` of it gives the text back.

    Args:
        alike: write all but small letters of ASCII and digits as bytes: some disk takes another text for this one.
    """
    given = path_from_text(text)
    kept = _is_small if alike else str.isprintable
    if not alike and given.isprintable() and _REFUSED.isdisjoint(given):  # nearly all: at once
        out = list(given)
    else:
        out = [char if char not in _REFUSED and kept(char) else _escaped(char) for char in given]
    if out and given[-1] in ". ":
        out[-1] = _escaped(given[-1])
    if given.startswith((".", "__")) or _RESERVED.fullmatch(given) or given.lower() in OWN:
        out[0] = _escaped(given[0])
    return "".join(out)


def folder_names(texts: Iterable[str], what: str) -> dict[str, str]:
    """What the folders of labels or sides are called.

    Args:
        what: they are, for the message.

    Returns:
        Text → name. Texts that a disk which doesn't tell capitals or accents apart would take for one have both written
        as bytes.

    Raises:
        CurationError: one is empty or too long for a folder's name.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for text in sorted(set(texts)):
        if not text:
            raise CurationError(f"a {what} is empty: no folder can be called so")
        alike[folded(safe_part(text))].append(text)
    found = {}
    for those in alike.values():
        for text in those:
            name = safe_part(text, alike=len(those) > 1)
            if len(name.encode()) > MOST_BYTES:
                raise CurationError(
                    f"the {what} {printable(text)[:60]!r}… is too long for a folder's name: {len(name.encode())} bytes "
                    f"as one, and {MOST_BYTES} can be"
                )
            found[text] = name
    return found


def file_names(
    folders: Sequence[str], paths: Sequence[str], formats: Sequence[str | None], *, own_stem: bool = False
) -> list[str]:
    """What the images of an export are called: each in a folder, by the last part of its path.

    Args:
        folders: of the export, as :func:`folder_names` or :func:`safe_part` give their parts; ``""`` is the export
            itself.
        paths: ``relative_path`` of each image.
        formats: of the bytes, as the directory table has it; None: not known.
        own_stem: names are equal that differ by their endings alone: something of the same stem lies beside each.

    Returns:
        ``folder/name``. Of names that would be equal on some disk, and such as are too long, each gets ``~`` and the
        first eight digits of the SHA-256 of its path, before its ending.
    """
    plain = [
        _with_ending(safe_part(path.rpartition("/")[2]), format) for path, format in zip(paths, formats, strict=True)
    ]
    told_by = _stem if own_stem else folded
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for folder, name in zip(folders, plain, strict=True):
        seen[folder, told_by(name)] += 1
    taken = {key for key, number in seen.items() if number == 1}
    found = []
    for folder, name, path in zip(folders, plain, paths, strict=True):
        if seen[folder, told_by(name)] > 1 or len(name.encode()) > MOST_BYTES:
            name = _marked(name, path, folder, taken, told_by)
        found.append(f"{folder}/{name}" if folder else name)
    return found


def folded(name: str) -> str:
    """What disks that don't tell capitals or ways to write an accent apart take a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _stem(name: str) -> str:
    return folded(name.rpartition(".")[0] or name)


def _marked(name: str, path: str, folder: str, taken: set[tuple[str, str]], told_by: Callable[[str], str]) -> str:
    """A name of its own; most of the time eight digits do."""
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if dot and len(ending) < 10 else (name, "")
    stem = _cut(stem, MOST_BYTES - len(ending.encode()))
    digest = hashlib.sha256(path.encode()).hexdigest()
    for digits in _MARK_DIGITS:
        found = f"{_cut(stem, 240 - digits - len(ending))}~{digest[:digits]}{ending}"
        if (folder, told_by(found)) not in taken:
            break
    taken.add((folder, told_by(found)))
    return found


def _cut(name: str, most: int) -> str:
    """At most so many bytes, no character and no escape broken."""
    cut = name.encode()[:most].decode(errors="ignore")
    return re.sub("%[0-9A-F]?$", "", cut) if cut != name else name


def _with_ending(name: str, format: str | None) -> str:
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    fitting = ENDINGS.get(format or "", ())
    if ending in fitting or (ending in _KNOWN and format is None):
        return name
    # A picture with another picture's ending is opened by its content everywhere, and keeps its name.
    if ending in _KNOWN and ending not in ("heic", "heif", "avif", "jxl") and fitting[:1] not in (("heic",), ("jxl",)):
        return name
    return f"{name}.{fitting[0]}" if fitting else name


def _is_small(char: str) -> bool:
    return char.isascii() and char.isprintable() and not char.isupper()


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogateescape"))
