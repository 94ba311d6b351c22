"""Addresses in object stores, as the clouds' own tools write them: nothing in them is percent-encoded."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote

_SCHEMES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "azure": "az",
    "adl": "az",
    "abfss": "abfss",
    "abfs": "abfss",
    "memory": "memory",
}
_SAID = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or abfss://container@account/prefix"
UNMOUNTED = "dbfs:/Volumes/"  # what Databricks' own tools write before a volume's path
_NAME = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")
_AZURE_HOST = ".dfs.core.windows.net"


@dataclass(frozen=True)
class StoreAddress:
    """A place in an object store: what lies below a prefix of a bucket. It is text wherever text is asked for.

    Attributes:
        scheme: ``s3``, ``gs``, ``az`` or ``abfss``; ``memory`` is a store of this process alone.
        bucket: or container.
        host: of Azure's account, where the address says it; ``""`` where the credentials do.
        prefix: without slashes at its ends; ``""`` is all of the bucket.
    """

    scheme: str
    bucket: str
    host: str = ""
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> StoreAddress:
        """Read an address.

        Raises:
            ValueError: it is none, in one line that holds nothing secret.
        """
        if text.startswith(UNMOUNTED):
            raise ValueError(
                "of a volume that isn't mounted only images and exports can be had: mount it and write /Volumes/…, or "
                "write the address of its external location (s3://…, abfss://…, gs://…)"
            )
        scheme, separator, rest = text.partition("://")
        if not separator or scheme.lower() not in _SCHEMES:
            raise ValueError(f"not an address of an object store that is known; write {_SAID}")
        scheme = _SCHEMES[scheme.lower()]
        place, _, prefix = rest.partition("/")
        bucket, at, host = place.partition("@")
        if "?" in place or ":" in place or (at and scheme != "abfss"):
            raise ValueError(
                f"credentials and ports don't belong into an address: write {_SAID}, and the rest into "
                "CURATION_STORAGE_OPTIONS"
            )
        if not _NAME.fullmatch(bucket) or (host and not _NAME.fullmatch(host)):
            what = "container" if scheme in ("az", "abfss") else "bucket"
            raise ValueError(f"{what} {bucket!r} is no name of one; write {_SAID}")
        if host and "." not in host:
            host += _AZURE_HOST
        if "?" in prefix and "=" in prefix.partition("?")[2]:
            raise ValueError("credentials don't belong into an address: write them into CURATION_STORAGE_OPTIONS")
        prefix = prefix.strip("/")
        if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
            raise ValueError(f"the prefix {prefix!r} has an empty part, '.' or '..', which no key can have")
        return cls(scheme, bucket, host, prefix)

    def __str__(self) -> str:
        place = f"{self.bucket}@{self.host}" if self.host else self.bucket
        return f"{self.scheme}://{place}/{self.prefix}".rstrip("/")

    def __truediv__(self, below: str) -> StoreAddress:
        return replace(self, prefix=self.key(below))

    @property
    def written(self) -> str:
        """As a setting says it."""
        return str(self)

    @property
    def name(self) -> str:
        """Last part of the prefix, or the bucket's name."""
        return self.prefix.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> StoreAddress:
        """What lies above; a bucket is its own."""
        return replace(self, prefix=self.prefix.rpartition("/")[0])

    @property
    def root(self) -> StoreAddress:
        """All of the bucket."""
        return replace(self, prefix="")

    def as_uri(self) -> str:
        """For libraries that read an address as a URL."""
        return f"{self.root}/{quote(self.prefix)}".rstrip("/")

    def key(self, below: str) -> str:
        """Key in the bucket of what is called so below this address."""
        return f"{self.prefix}/{below}" if self.prefix and below else self.prefix or below

    def below(self, text: str) -> str | None:
        """What another address, as text, is called below this one; None where it lies elsewhere."""
        start = f"{self}/"
        return text.removeprefix(start) if text.startswith(start) else None


def is_address(text: str) -> bool:
    """Whether a text names something in a store, rather than a file."""
    return text.startswith(UNMOUNTED) or (text.partition("://")[0].lower() in _SCHEMES and "://" in text)
