"""How the library's progress reaches Dagster's log, and its errors Dagster's retries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import dagster as dg
from dagster import DagsterError

from curation_assets.defs.tags import RETRIES
from curation_assets.errors import CurationError
from curation_assets.progress import LogProgress

Context = dg.AssetExecutionContext | dg.OpExecutionContext


def progress(context: Context) -> LogProgress:
    """Progress as lines of the run's log."""
    return LogProgress(cast("logging.Logger", context.log))


@contextmanager
def failing_for_good() -> Iterator[None]:
    """An error that a user can put right fails the step without retries: it doesn't mend itself."""
    try:
        yield
    except CurationError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


@contextmanager
def trying_again(context: Context) -> Iterator[None]:
    """What may pass is tried again, as a retry policy would; what a person asked to stop is not.

    In the run's own process a policy takes a cancelled step for a failed one, and starts it again.
    """
    try:
        yield
    except DagsterError:
        raise
    except Exception as error:
        if isinstance(error, dg.RetryRequested) or (isinstance(error, dg.Failure) and not error.allow_retries):
            raise
        seconds = RETRIES.calculate_delay(context.retry_number + 1)
        raise dg.RetryRequested(RETRIES.max_retries, seconds) from error
