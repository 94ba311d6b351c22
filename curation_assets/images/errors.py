"""Why a file can't be used as an image."""

from __future__ import annotations


class ImageError(Exception):
    """A file that can't be used as an image.

    Attributes:
        status: ``corrupt``, ``unsupported``, ``too_large`` or ``unreadable``, as in the directory table.
        size: (width, height) as the header claims it, of an image refused for its pixels; else None.
    """

    def __init__(self, status: str, reason: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.size = size

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str, tuple[int, int] | None]]:
        return type(self), (self.status, str(self), self.size)
