"""Credentials and settings of stores: ``CURATION_STORAGE_OPTIONS``, whose values nothing prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_OF = {"aws_": ("s3",), "google_": ("gs",), "azure_": ("az", "abfss")}
_SECRET = ("key", "secret", "token", "sas", "password", "account")  # in names of options
_EXAMPLE = '{"aws_region": "eu-central-1", "aws_endpoint_url": "https://…"}'


@dataclass(frozen=True)
class StorageOptions:
    """Names and values as ``deltalake`` and ``obstore`` know them. It can be pickled, and shows no value.

    Attributes:
        items: name in small letters, value; sorted by name.
    """

    items: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, value: Any) -> StorageOptions:
        """Read what a setting says.

        Raises:
            ValueError: it is no JSON object of texts. No value is repeated.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise ValueError(f"this is not JSON; write for example {_EXAMPLE}") from None
        if not isinstance(value, Mapping):
            raise ValueError(f"give a JSON object, for example {_EXAMPLE}")
        items = {}
        for name, one in value.items():
            if not isinstance(one, str | int | float | bool):
                raise ValueError(f"{name!r} has no text for a value; write for example {_EXAMPLE}")
            items[str(name).lower()] = json.dumps(one) if isinstance(one, bool) else str(one)
        return cls(tuple(sorted(items.items())))

    def of(self, scheme: str) -> dict[str, str]:
        """What is meant for stores of a scheme: ``aws_…``, ``google_…``, ``azure_…`` for theirs, the rest for all."""
        return {name: value for name, value in self.items if scheme in _schemes(name)}

    def hidden(self, text: str) -> str:
        """A text without any of the values that may be secret."""
        for name, value in self.items:
            if len(value) >= 4 and any(word in name for word in _SECRET):
                text = text.replace(value, "…")
        return text


def _schemes(name: str) -> tuple[str, ...]:
    for start, schemes in _OF.items():
        if name.startswith(start):
            return schemes
    return ("s3", "gs", "az", "abfss")
