"""File names ↔ text, and image folders → the values of the tables' ``folder`` column.

A POSIX file name is bytes. Names that are valid UTF-8 (all but a few) stand in the tables unchanged. A byte that is
not part of valid UTF-8 becomes one character of a private block, U+10FF80 + (byte - 0x80): readable tables, valid
Unicode everywhere, and a way back that is exact, because a name that really contains characters of that block has
their bytes written the same way. Encoding works character by character, so it commutes with joining paths.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

ROOT_FOLDER = "."
_BLOCK = 0x10FF00  # byte b (0x80–0xFF) ↔ chr(_BLOCK + b)
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_MAX_HIVE_BYTES = 255 - len("folder=")  # NAME_MAX of common file systems, in Hive's layout of a table


def text_from_path(path: str) -> str:
    """Name or path as Python's ``os`` functions return it → valid Unicode for tables, keys and pages."""
    if path.isascii():
        return path
    out = []
    for char in path:
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: an undecodable byte
            out.append(chr(_BLOCK + code - 0xDC00))
        elif code >= _BLOCK + 0x80:
            out.extend(chr(_BLOCK + byte) for byte in char.encode())
        else:
            out.append(char)
    return "".join(out)


def path_from_text(text: str) -> str:
    """Undo :func:`text_from_path`: the string that ``open`` and ``os.stat`` take."""
    if text.isascii():
        return text
    data = bytearray()
    for char in text:
        code = ord(char)
        if code >= _BLOCK + 0x80:
            data.append(code - _BLOCK)
        else:
            data += char.encode()
    return os.fsdecode(bytes(data))


def printable(text: str) -> str:
    r"""One line for people: control characters and undecodable bytes as ``\n``, ``\xff``."""
    out = []
    for char in text:
        code = ord(char)
        if code >= _BLOCK + 0x80:
            out.append(f"\\x{code - _BLOCK:02x}")
        elif char.isprintable():
            out.append(char)
        else:
            out.append(char.encode("unicode_escape").decode())
    return "".join(out)


def file_path(root: Path, relative_path: str) -> str:
    """Path to open for a key of the directory table."""
    return os.path.join(root, path_from_text(relative_path))


def folder_of(relative_dir: str, depth: int | None) -> str:
    """Value of the ``folder`` column for images in ``relative_dir`` (``""`` is the root).

    The path itself wherever Delta can hold it. Delta lays a partition out as one directory ``folder=<encoded>``, so a
    value over 248 encoded bytes, or equal to Hive's word for null, is cut and marked with a hash of the whole;
    the way back is then the listing of the tree (or the table's ``relative_path``), not the value alone.

    Args:
        relative_dir: folder below the images root, as table text with ``/``.
        depth: how many levels name a partition; None takes the whole path.
    """
    if not relative_dir:
        return ROOT_FOLDER
    if depth is not None:
        relative_dir = "/".join(relative_dir.split("/")[:depth])
    encoded = quote(relative_dir, safe="")
    if len(encoded) <= _MAX_HIVE_BYTES and relative_dir != _HIVE_NULL:
        return relative_dir
    mark = "~" + hashlib.sha256(relative_dir.encode()).hexdigest()[:32]
    keep = relative_dir[:_MAX_HIVE_BYTES]
    while len(quote(keep, safe="")) + len(mark) > _MAX_HIVE_BYTES:
        keep = keep[:-1]
    return keep + mark
