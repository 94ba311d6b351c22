"""One partition for each image folder, and the folder's name as a partition key.

Dagster doesn't check dynamic keys, but commas, brackets, stars and ``...`` mean something in its partition picker and
in ranges, and control characters break its pages. Those are percent-encoded, and ``%`` with them, so the way back is
exact. A folder of an ordinary name is its own key.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import dagster as dg

FOLDERS = dg.DynamicPartitionsDefinition(name="image_folders")
_SPECIAL = re.compile(r'[%,"\[\]*\x00-\x1f\x7f\x85\u2028\u2029]|\.{3,}|^\s+|\s+$')


def key_of(folder: str) -> str:
    """Partition key of a value of the tables' ``folder`` column."""
    return _SPECIAL.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), folder)


def folder_of_key(key: str) -> str:
    """Undo :func:`key_of`."""
    return unquote(key)
