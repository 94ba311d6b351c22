"""What a request may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a request may cost, and how many there may be.

    Attributes:
        max_body_bytes: of a request.
        max_rows: of a request.
        max_requests: at work at once in a worker; more are refused with 429.
        timeout_seconds: from a request's headers to its answer.
    """

    max_body_bytes: int
    max_rows: int
    max_requests: int
    timeout_seconds: float
