"""Puts that depend on what is there: nothing, or one certain object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore


def create(store: ObjectStore, key: str, data: bytes) -> str | None:
    """Write an object where there is none.

    Returns:
        Its tag; None where there is one.

    Raises:
        obstore.exceptions.BaseError, OSError: the store refuses it.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    try:
        return str(obstore.put(store, key, data, mode="create")["e_tag"])
    except (AlreadyExistsError, PreconditionError):
        return None


def replace(store: ObjectStore, key: str, data: bytes, tag: str) -> str | None:
    """Write an object in the place of the one of a tag.

    Returns:
        Its tag; None where that one isn't there any more.

    Raises:
        obstore.exceptions.BaseError, OSError: as :func:`create`.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError
    from obstore.store import GCSStore

    mode: UpdateVersion = {"e_tag": tag}
    try:
        if isinstance(store, GCSStore):  # which compares generations, and no tags
            meta = obstore.head(store, key)
            if meta["e_tag"] != tag:
                return None
            mode["version"] = meta["version"]
        return str(obstore.put(store, key, data, mode=mode)["e_tag"])
    except (AlreadyExistsError, PreconditionError, FileNotFoundError):
        return None
