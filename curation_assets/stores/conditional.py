"""Puts that depend on what is there: nothing, or one certain object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore import PutResult, UpdateVersion
    from obstore.store import ObjectStore


def tag_of(text: str | None) -> str | None:
    """A tag written the same way in listings, in answers and by every store."""
    return None if text is None else text.removeprefix("W/").strip('"') or None


def create(store: ObjectStore, key: str, data: bytes) -> str | None:
    """Write an object where there is none.

    Returns:
        Its tag, as :func:`tag_of` writes it; None where there is one.

    Raises:
        obstore.exceptions.BaseError, OSError: the store refuses it.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    try:
        return _tag(obstore.put(store, key, data, mode="create"))
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

    mode: UpdateVersion = {"e_tag": f'"{tag}"'}
    try:
        if isinstance(store, GCSStore):  # which compares generations, and no tags
            meta = obstore.head(store, key)
            if tag_of(meta["e_tag"]) != tag:
                return None
            mode["version"] = meta["version"]
        return _tag(obstore.put(store, key, data, mode=mode))
    except (AlreadyExistsError, PreconditionError, FileNotFoundError):
        return None


def _tag(answer: PutResult) -> str:
    return tag_of(answer["e_tag"]) or ""
