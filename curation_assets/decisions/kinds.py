"""Kinds of decision: what each is about, and what a row of it has to say."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping

from curation_assets.annotations.fields import fault_of_field
from curation_assets.errors import CurationError

KEEP, REMOVE, KEEPER, RELABEL, SAME, DIFFERENT, UNSURE, TAG, UNTAG = (
    "keep",
    "remove",
    "keeper",
    "relabel",
    "same",
    "different",
    "unsure",
    "tag",
    "untag",
)
KINDS = (KEEP, REMOVE, KEEPER, RELABEL, SAME, DIFFERENT, UNSURE, TAG, UNTAG)
PAIRED = (SAME, DIFFERENT)  # of two images
TAGGING = (TAG, UNTAG)  # whose value is the tag: they gather images, and judge none

# What a keep or remove is about: the picture wherever it lies, or this path, as there are copies of it.
QUALITY, DUPLICATE = "quality", "duplicate"

MOST_TAG = 100  # characters
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_kind(name: str) -> str:
    """A kind's name.

    Raises:
        CurationError: there is no such kind; it names the nearest.
    """
    if name in KINDS:
        return name
    near = difflib.get_close_matches(name, KINDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
    raise CurationError(f"no kind of decision is called {name!r}; {hint}")


def field_of(kind: str, given: str | None) -> str | None:
    """What a decision is about, where nobody said it: the quality of the picture."""
    return QUALITY if given is None and kind in (KEEP, REMOVE, UNSURE) else given


def fault_of(row: Mapping[str, str | None]) -> str | None:
    """What is wrong with a decision, in words that go on after its name or line; None where nothing is.

    Args:
        row: the text columns of the table, ``field`` as :func:`field_of` has it.
    """
    kind, field = row["kind"], row["field"]
    if kind not in KINDS:
        return f"there is no kind {kind!r}: there are {', '.join(KINDS)}"
    for name in ("content_sha256", "other_sha256"):
        if row[name] is not None and not _SHA256.fullmatch(str(row[name])):
            return f"{name} {row[name]!r} is no SHA-256 of 64 lower-case hexadecimal digits"
    if row["content_sha256"] is None:
        return "content_sha256 is missing: what image is it about?"
    if (fault := _fault_of_pair(row)) is not None:
        return fault
    if kind in (KEEP, REMOVE) and field not in (QUALITY, DUPLICATE):
        return f"{kind} is about {QUALITY} or {DUPLICATE}, not {field!r}"
    if kind == UNSURE and field == DUPLICATE:
        return f"{kind} is about {QUALITY} or a field of labels, not {DUPLICATE}"
    if kind in (KEEPER, *PAIRED, *TAGGING) and field is not None:
        return f"{kind} takes no field"
    if (kind == KEEPER or field == DUPLICATE) and kind != RELABEL and row["relative_path"] is None:
        return f"{'keeper' if kind == KEEPER else f'{kind} of a duplicate'} is about one path, and none is given"
    if kind == RELABEL and (field is None or not (row["value"] or "").strip()):
        return f"relabel needs {'the field of labels' if field is None else 'a value: the label'}"
    is_of_labels = kind == RELABEL or (kind == UNSURE and field != QUALITY)
    if is_of_labels and (fault := fault_of_field(str(field))):
        return fault
    if kind in TAGGING:
        if (fault := fault_of_tag(row["value"])) is not None:
            return fault
    elif kind != RELABEL and row["value"] is not None:
        return f"{kind} takes no value"
    return _fault_of_shown(row["shown"])


def fault_of_tag(tag: str | None) -> str | None:
    """What is wrong with a tag, in words; None where nothing is."""
    if not tag:
        return "a tag needs a value: its name"
    if len(tag) > MOST_TAG:
        return f"a tag has at most {MOST_TAG} characters: {tag[:30]!r}…"
    if "," in tag or not tag.isprintable() or tag != tag.strip():
        return f"the tag {tag!r} has a comma, blanks at an end or what can't be printed in it"
    return None


def _fault_of_pair(row: Mapping[str, str | None]) -> str | None:
    other = row["other_sha256"]
    if row["kind"] not in PAIRED:
        return None if other is None else f"{row['kind']} is about one image, and two are given"
    if other is None:
        return f"{row['kind']} is about two images, and one is given"
    return "both images have the same content" if other == row["content_sha256"] else None


def _fault_of_shown(shown: str | None) -> str | None:
    try:
        json.loads(shown or "null")
    except ValueError:
        return "shown is not JSON"
    return None
