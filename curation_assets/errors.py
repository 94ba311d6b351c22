"""The one exception a user is meant to read: the command line prints it as one line, without a traceback."""

from __future__ import annotations


class CurationError(Exception):
    """Something the user can put right; the message says what was wrong, where, and what to do next."""


def first_line(error: Exception) -> str:
    """What an error says first; a line that only introduces the next one is not enough."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    if len(lines) > 1 and lines[0].startswith("An error occurred while calling"):  # py4j; what Java said comes next
        return lines[1].lstrip(": ")
    told = next((index for index, line in enumerate(lines) if not line.endswith(":")), 0)
    return " ".join(lines[: told + 1])
