"""When a photograph was taken, out of what cameras and programs write of it; never when a file was changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

# (time, its fraction of a second, its UTC offset): of the original, of its digitising.
_TIMES = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012))
_CHANGED, _CHANGED_FRACTION, _CHANGED_OFFSET = 0x0132, 0x9290, 0x9010
MAKE, MODEL = 0x010F, 0x0110
_EDITORS = (0x0131, 0x000B)  # Software, ProcessingSoftware
BASE_TAGS = (
    *(MAKE, MODEL, _CHANGED, _CHANGED_FRACTION, _CHANGED_OFFSET),
    *(*_EDITORS, *(tag for tags in _TIMES for tag in tags)),
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = r"""
    (?P<hour>\d{1,2}) [:.h\s] \s?(?P<minute>\d{1,2})
    (?: [:.m\s] \s?(?P<second>\d{1,2}) s? (?: [.,:] (?P<fraction>\d+) )? )?
    \s* (?P<half> [ap]\.?m\.? | 上午 | 下午 | 오전 | 오후 )?
    \s* (?P<offset> Z | UTC | GMT | [+-]\d{1,2} (?: :?\d{2} )? )?
"""
_DATE = r"(?P<year>\d{4}) [:/.\s-] \s?(?P<month>\d{1,2}) [:/.\s-] \s?(?P<day>\d{1,2})"
_HALF_BEFORE = r"(?P<half_before> [ap]\.?m\.? | 上午 | 下午 | 오전 | 오후 )? \s*"
_WEEKDAY, _NAMED_MONTH = r"(?: [a-z]{3,9},? \s+ )?", r"(?P<name>[a-z]{3})[a-z]*"
_FORMS = [
    re.compile(pattern, re.VERBOSE | re.IGNORECASE | re.ASCII)
    for pattern in (
        rf"{_DATE} (?: T | [\s,:_-]+ ) {_HALF_BEFORE}{_CLOCK}",
        rf"{_DATE} [T\s_-]+ (?P<hour>\d\d)-(?P<minute>\d\d)-(?P<second>\d\d)",
        rf"(?P<year>\d{{4}}) 年 (?P<month>\d{{1,2}}) 月 (?P<day>\d{{1,2}}) 日 \s* {_HALF_BEFORE}{_CLOCK}",
        r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d) [T\s_-]? (?P<hour>\d\d):?(?P<minute>\d\d):?(?P<second>\d\d)"
        r"(?: [.,] (?P<fraction>\d+) )? \s* (?P<offset> Z | UTC | GMT | [+-]\d{1,2} (?: :?\d{2} )? )?",
        rf"{_WEEKDAY} {_NAMED_MONTH} \s+ (?P<day>\d{{1,2}}),? \s+ {_CLOCK} \s+ (?P<year>\d{{4}})",
        rf"{_WEEKDAY} (?P<day>\d{{1,2}}) \s+ {_NAMED_MONTH} \s+ (?P<year>\d{{4}}),? \s+ {_CLOCK}",
        rf"{_WEEKDAY} {_NAMED_MONTH} \s+ (?P<day>\d{{1,2}}),? \s+ (?P<year>\d{{4}}),? \s+ {_CLOCK}",
    )
]


def captured_at(tags: Mapping[int, Any]) -> datetime | None:
    """The capture time of an EXIF block.

    The original's time, else that of digitising. The time of the last change (``DateTime``) counts only where a camera
    wrote it, no program says that it had a hand in the file, and there is no other: early cameras write just that.

    Args:
        tags: by number, of the block and its EXIF part.

    Returns:
        UTC; a clock without an offset is taken as UTC. None where nothing readable says it.
    """
    for time, fraction, offset in _TIMES:
        found = parsed(text(tags.get(time)), text(tags.get(fraction)), text(tags.get(offset)))
        if found is not None:
            return found
    if any(text(tags.get(time)) for time, _, _ in _TIMES) or any(text(tags.get(tag)) for tag in _EDITORS):
        return None
    if not text(tags.get(MAKE)) and not text(tags.get(MODEL)):
        return None
    return parsed(text(tags.get(_CHANGED)), text(tags.get(_CHANGED_FRACTION)), text(tags.get(_CHANGED_OFFSET)))


def parsed(written: str, fraction: str = "", offset: str = "") -> datetime | None:
    """A time as cameras write it: EXIF's own form, ISO 8601, other separators, with a fraction or offset or without.

    A date without a time of day, or one whose day and month could be each other's, is none.

    Args:
        written: the time.
        fraction: digits of a second, from a tag of their own.
        offset: from UTC, from a tag of its own; one in ``written`` goes before it.
    """
    for form in _FORMS:
        match = form.fullmatch(written.strip())
        if match is None:
            continue
        found = {name: value for name, value in match.groupdict().items() if value}
        try:
            return _moment(found, fraction, offset)
        except (ValueError, OverflowError, KeyError):
            return None
    return None


def _moment(found: dict[str, str], fraction: str, offset: str) -> datetime | None:
    month = _MONTHS.index(found["name"].lower()) + 1 if "name" in found else int(found["month"])
    hour = int(found["hour"])
    half = (found.get("half") or found.get("half_before") or "").lower().replace(".", "")
    if half:
        if not 1 <= hour <= 12:
            half = ""  # some phones write both
        else:
            hour = hour % 12 + (12 if half in ("pm", "下午", "오후") else 0)
    second = int(found.get("second", "0"))
    digits = found.get("fraction") or (fraction.strip() if fraction.strip().isdecimal() else "")
    micro = int((digits + "000000")[:6]) if digits and digits.isascii() else 0
    zone = _zone(found.get("offset", "")) or _zone(offset) or UTC
    leap = second == 60
    local = datetime(int(found["year"]), month, int(found["day"]), hour, int(found["minute"]), second - leap, micro)
    try:
        return local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:  # in the first or last hours of the calendar
        return local.replace(tzinfo=UTC)


def _zone(offset: str) -> timezone | None:
    offset = offset.strip()
    if offset.upper() in ("Z", "UTC", "GMT"):
        return UTC
    match = re.fullmatch(r"([+-])(\d{1,2})(?::?(\d{2}))?", offset, re.ASCII)
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    if minutes > 14 * 60 or int(match[3] or 0) > 59:
        return None
    return timezone(timedelta(minutes=minutes if match[1] == "+" else -minutes))


def text(value: Any) -> str:
    """A tag's value as text up to its first NUL; empty where it is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    cut = value.split("\0")[0].strip()
    return cut.encode("utf-8", "replace").decode()
