"""How an asset goes through the folders of its run, and how the library's progress reaches Dagster's log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import dagster as dg

from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.partition_keys import folder_of_key
from curation_assets.progress import LogProgress

Result = TypeVar("Result")


def progress(context: dg.AssetExecutionContext) -> LogProgress:
    """Progress as lines of the run's log."""
    return LogProgress(cast("logging.Logger", context.log))


@contextmanager
def failing_for_good() -> Iterator[None]:
    """An error that a user can put right fails the step without retries: it doesn't mend itself."""
    try:
        yield
    except CurationError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def each_folder(context: dg.AssetExecutionContext, work: Callable[[str], Result]) -> list[tuple[str, Result]]:
    """Do ``work`` for every folder of the run; a folder that fails doesn't keep the others from theirs.

    Returns:
        Partition key and result of each.

    Raises:
        Failure: at the end, if any folder failed; names them. What the others committed stays.
    """
    done: list[tuple[str, Result]] = []
    failed: dict[str, Exception] = {}
    for key in context.partition_keys:
        try:
            done.append((key, work(folder_of_key(key))))
        except Exception as error:
            context.log.exception("folder %s failed", key)
            failed[key] = error
    if failed:
        reasons = "; ".join(f"{printable(key)}: {printable(str(error))}" for key, error in failed.items())
        kept = f" ({len(done)} other folders of this run are done and committed)" if done else ""
        # A wrong setting or a broken table doesn't mend itself; anything else may pass.
        may_pass = not all(isinstance(error, CurationError) for error in failed.values())
        raise dg.Failure(f"{reasons}{kept}", allow_retries=may_pass) from next(iter(failed.values()))
    return done
