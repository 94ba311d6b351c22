"""The one exception a user is meant to read: the command line prints it as one line, without a traceback."""

from __future__ import annotations


class CurationError(Exception):
    """Something the user can put right; the message says what was wrong, where, and what to do next."""
