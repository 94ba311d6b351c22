"""What went wrong with a store, in one line without secrets: of one object ``OSError``, of the whole store the end."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from curation_assets.errors import CurationError, is_panic
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.options import StorageOptions

_CODE = re.compile(r"<Code>(.*?)</Code>", re.DOTALL)
_STATUS = re.compile(r"\b([45]\d\d) [A-Z][A-Za-z ]*[a-z]")
_QUERY = re.compile(r"(https?://[^\s?]*)\?\S*")
_COLOURS = re.compile(r"\x1b\[\d*m|↳")
_TOOK = re.compile(r" in [\d.]+[mµn]?s\b")
# What a store says to whoever has no valid credentials, whatever object is asked for.
_NOT_LET_IN = frozenset((
    *("ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch"),
    *("TokenRefreshRequired", "AuthenticationFailed", "InvalidAuthenticationInfo", "NoSuchBucket", "ContainerNotFound"),
))  # fmt: skip


@contextmanager
def explained_store(place: StoreAddress, options: StorageOptions) -> Iterator[None]:
    """What ``obstore`` raises in the block, after all its attempts, as :func:`failure` has it.

    Args:
        place: of what is asked for.

    Raises:
        OSError: it is about this object; or of this machine's own disk, as it came.
        CurationError: nothing more can be had of the store for now.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseException as error:
        is_of_store = isinstance(error, BaseError | ValueError) or (isinstance(error, OSError) and error.errno is None)
        if not is_of_store and not is_panic(error):
            raise
        raise failure(error, place, options) from None


def failure(error: BaseException, address: StoreAddress, options: StorageOptions) -> OSError | CurationError:
    """An error of ``obstore``, after all its attempts.

    Args:
        address: of the object.

    Returns:
        ``OSError`` where it is about this object: it isn't there, or may not be read. Else nothing more can be had of
        the store for now: ``CurationError``.
    """
    said, status = reason(error, options), _status(error)
    code = _CODE.search(str(error))
    if code is not None and code[1].strip() in _NOT_LET_IN:
        return CurationError(f"{address.root} refuses its credentials or isn't there ({said}): what was done stays")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such object", str(address))
    if status == 401 or status is None or status >= 500:
        return CurationError(f"{address.root} can't be read from ({said}): what was done stays; run it again")
    number = errno.EACCES if status == 403 else errno.EIO
    return OSError(number, f"the store refuses it ({said})", str(address))


def reason(error: BaseException, options: StorageOptions) -> str:
    """Why, for people: the store's own words where it gave some, else what the library says first.

    Args:
        error: of ``obstore`` (a line, and more behind it), ``deltalake`` (a line a level, in colours) or ``polars``.
    """
    code, status, head = _CODE.search(str(error)), _STATUS.search(_head(error)), _head(error)
    said = [] if status is None else [status[0]]
    said += [] if code is None else [code[1].strip()]
    return options.hidden(", ".join(said) or _TOOK.sub("", _QUERY.sub(r"\1", head)).strip())


def _status(error: BaseException) -> int | None:
    """Of the last answer; None where there was none."""
    found = _STATUS.search(_head(error))
    return None if found is None else int(found[1])


def _head(error: BaseException) -> str:
    """What a library says before the answer's body and its own details."""
    whole = _COLOURS.sub("", str(error))
    return " ".join(re.split(r"<|\n\nDebug", whole, maxsplit=1)[0].split())
