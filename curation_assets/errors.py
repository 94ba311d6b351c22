"""The one exception a user is meant to read, and the one way to make it of what a library raises."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class CurationError(Exception):
    """Something the user can put right; the message says what was wrong, where, and what to do next.

    The command line prints it as one line, without a traceback.
    """


@contextmanager
def explained(
    kinds: type[BaseException] | tuple[type[BaseException], ...],
    sentence: Callable[[str], str],
    reason: Callable[[BaseException], str] | None = None,
) -> Iterator[None]:
    """Turn what libraries raise in the block into one line for the user.

    Args:
        kinds: of exceptions; any other passes through, but for the panics of libraries written in Rust.
        sentence: makes the line of the reason, saying what was being done and what to do next.
        reason: why, instead of :func:`reason_of`.

    Raises:
        CurationError: in the place of one of those.
    """
    try:
        yield
    except kinds as error:
        raise CurationError(sentence((reason or reason_of)(error))) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise CurationError(sentence(first_line(error))) from error


def attempted(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """What some work gives, and None; or None, and why it could not be done, where others can go on without it."""
    try:
        return work(), None
    except CurationError as error:
        return None, str(error)


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust gave up: its ``PanicException`` is no ``Exception``."""
    return type(error).__module__ == "pyo3_runtime"


def reason_of(error: BaseException) -> str:
    """Why something failed, in a few words: what the system says, else what the library says first.

    A full disk is told whatever it led to: a library that fails at something else in consequence says little.
    """
    if (full := disk_full(error)) is not None:
        place = full.filename2 or full.filename
        return f"{os.strerror(full.errno or 0)}{f': {place}' if place else ''}"
    if not isinstance(error, OSError):
        return first_line(error)
    if error.errno is not None:
        return error.strerror or str(error)
    # A library in Rust gives no number: its reason stands at the end, in colours.
    lines = re.sub(r"\x1b\[\d*m|↳", "", str(error)).strip().splitlines() or [type(error).__name__]
    return re.sub(r" \(set POLARS_VERBOSE.*", "", lines[-1].strip())


def disk_full(error: BaseException) -> OSError | None:
    """The error of a full disk (or quota) that another error came of, or is."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        if isinstance(at, OSError) and at.errno in (errno.ENOSPC, errno.EDQUOT):
            return at
        seen.add(id(at))
        at = at.__cause__ or at.__context__
    return None


def first_line(error: BaseException) -> str:
    """What an error says first; a line that only introduces the next one is not enough."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    if len(lines) > 1 and lines[0].startswith("An error occurred while calling"):  # py4j; what Java said comes next
        return lines[1].lstrip(": ")
    told = next((index for index, line in enumerate(lines) if not line.endswith(":")), 0)
    return " ".join(lines[: told + 1])
