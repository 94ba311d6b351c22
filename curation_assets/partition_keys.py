"""Image folders ↔ Dagster's partition keys; the gallery's links name them too, and know no Dagster."""

from __future__ import annotations

import re
from urllib.parse import unquote

# Dagster doesn't check dynamic keys, but commas, brackets, stars and `...` mean something in its partition picker and
# in ranges, and control characters break its pages.
_SPECIAL = re.compile(r'[%,"\[\]*\x00-\x1f\x7f\x85\u2028\u2029]|\.{3,}|^\s+|\s+$')


def key_of(folder: str) -> str:
    """Dagster's partition key of a folder: the same text, with what Dagster can't hold percent-encoded."""
    return _SPECIAL.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), folder)


def folder_of_key(key: str) -> str:
    """Undo :func:`key_of`."""
    return unquote(key)
