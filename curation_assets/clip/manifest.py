"""What files a registered model is made of, stored beside them, so that a changed or broken copy is noticed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from curation_assets.clip.source import CODE_REVISION, combine, file_digests
from curation_assets.errors import CurationError

FOLDER = "manifest"
WEIGHTS = "clip"  # the artifact that holds the files
FILE = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """A registered model's identity.

    Attributes:
        fingerprint: of weights, configuration, tokenizer, preprocessing and code revision.
        code_revision: of the code that registered it.
        is_stored: the manifest was there; the first revision's models have none.
    """

    fingerprint: str
    code_revision: int
    is_stored: bool


def write(folder: Path, files: Path, fingerprint: str) -> None:
    """Store digests of a model's files.

    Args:
        folder: to be made.
        files: the model's folder, as it goes to the registry.
        fingerprint: that it must have.

    Raises:
        CurationError: the files are no longer those that the fingerprint was computed of.
    """
    digests = file_digests(files)
    if (found := combine(digests)) != fingerprint:
        raise CurationError(f"the model's files changed while it was registered ({fingerprint} → {found}): try again")
    folder.mkdir()
    content = {"fingerprint": fingerprint, "code_revision": CODE_REVISION, "sha256": digests}
    (folder / FILE).write_text(json.dumps(content, indent=1))


def check(artifacts: Path, fingerprint: str | None = None) -> Manifest:
    """Compare a registered model's files with its fingerprint; reads every byte (about a second for each 1.5 GB).

    Args:
        artifacts: of the model version; holds the folders ``clip`` and ``manifest``.
        fingerprint: that the registry has for it; None takes the stored one.

    Raises:
        CurationError: they don't match; the message names the files.
    """
    digests = file_digests(artifacts / WEIGHTS)
    path = artifacts / FOLDER / FILE
    try:
        content = json.loads(path.read_text())
        expected, revision, stored = str(content["fingerprint"]), int(content["code_revision"]), content["sha256"]
        names = sorted(name for name in stored.keys() | digests.keys() if stored.get(name) != digests.get(name))
        is_stored = True
    except FileNotFoundError:  # revision 1 stored none
        expected, revision, stored, names, is_stored = fingerprint or "", 1, {}, [], False
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CurationError(f"{path} can't be read: {error!r}; {_WAY_OUT}") from None
    expected = fingerprint or expected
    actual = combine(digests, revision)
    if actual == expected:
        return Manifest(actual, revision, is_stored)
    what = ", ".join(f"{name} {_state(name, stored, digests)}" for name in names) or "no file is known to have changed"
    raise CurationError(
        f"the files in {artifacts / WEIGHTS} are not the registered model's: {what}; "
        f"fingerprint {actual} instead of {expected}; {_WAY_OUT}"
    )


_WAY_OUT = "fetch the version from the registry again, or register the model anew"


def _state(name: str, stored: dict[str, str], found: dict[str, str]) -> str:
    if name not in found:
        return "is missing"
    return "differs" if name in stored else "was added"
