"""``MODEL_SOURCE`` → a folder of weights, configuration and tokenizer in Hugging Face layout, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod
from pathlib import Path

from curation_assets.clip.preprocessing import FILE_NAME, PROCESSOR_FILE_NAME, Preprocessing
from curation_assets.errors import CurationError, first_line

# Part of the fingerprint. Raise it with every change to what a registered model computes or accepts (preprocessing,
# encoder, MLflow model): a new version is then registered, and every vector computed anew.
CODE_REVISION = 2

DEMO = "demo"
DEMO_FOLDER = Path(__file__).with_name("demo_model")  # the small trained CLIP that ships with the package
_INDEX = "model.safetensors.index.json"  # of weights in several files
_FILES = (
    "config.json",
    FILE_NAME,
    PROCESSOR_FILE_NAME,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "model*.safetensors",
    _INDEX,
)


@dataclass(frozen=True)
class ModelSource:
    """A model on disk.

    Attributes:
        name: the setting's value.
        folder: its files.
        fingerprint: 32 hex digits over weights, configuration, tokenizer, preprocessing and ``CODE_REVISION``.
        dimension: length of the vectors.
        image_size: pixels of the square the model sees.
        parameters: number of weights.
        demonstration: the small model that ships with the package; whoever shows results of it says so.
        hub_commit: of a snapshot of the Hugging Face hub; empty for another folder.
    """

    name: str
    folder: Path
    fingerprint: str
    dimension: int
    image_size: int
    parameters: int
    demonstration: bool
    hub_commit: str = ""

    @property
    def files(self) -> list[Path]:
        """The files that make up the model."""
        return model_files(self.folder)


def resolve(source: str, download: bool = True) -> ModelSource:
    """Find or download the model.

    Args:
        source: hub id, folder, or ``demo``.
        download: ask the hub; False takes only what is on this machine.

    Raises:
        CurationError: it can't be had, or isn't a CLIP; the message says what to set instead.
    """
    if source == DEMO:
        return describe(source, DEMO_FOLDER)
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(source, only_cached=not download)
    return describe(source, folder)


def model_files(folder: Path) -> list[Path]:
    """Files of a model folder that count, sorted by name; ``processor_config.json`` only where it is read."""
    files = sorted(p for p in folder.iterdir() if any(fnmatch(p.name, pattern) for pattern in _FILES))
    unread = PROCESSOR_FILE_NAME if any(p.name == FILE_NAME for p in files) else None
    return [p for p in files if p.name != unread]


def describe(name: str, folder: Path) -> ModelSource:
    """Check a folder and compute its facts; reads every byte once.

    Raises:
        CurationError: naming the file that is missing or wrong.
    """
    files = {path.name: path for path in model_files(folder)}
    weights = [path for file, path in files.items() if file.endswith(".safetensors")]
    tokenizer = "tokenizer.json" in files or {"vocab.json", "merges.txt"} <= files.keys()
    for present, what in (
        ("config.json" in files, "config.json"),
        (FILE_NAME in files or _has_image_processor(files.get(PROCESSOR_FILE_NAME)), FILE_NAME),
        (tokenizer, "tokenizer.json (or vocab.json and merges.txt)"),
        (weights, "model.safetensors"),
    ):
        if not present:
            raise CurationError(f"CURATION_MODEL_SOURCE={name}: {folder} has no {what}")
    try:
        config = json.loads(files["config.json"].read_text())
        if config.get("model_type") != "clip":
            raise ValueError(f"model_type is {config.get('model_type')!r}")
        dimension = int(config["projection_dim"])
        shards = set(json.loads(files[_INDEX].read_text())["weight_map"].values()) if _INDEX in files else set()
        if absent := sorted(shards - files.keys()):
            raise CurationError(f"CURATION_MODEL_SOURCE={name}: {folder} has no {', '.join(absent)}")
        parameters = sum(_parameters(path) for path in weights)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, struct.error) as error:
        raise CurationError(f"CURATION_MODEL_SOURCE={name}: {folder} holds no CLIP model: {error}") from None
    preprocessing = Preprocessing.from_folder(folder)
    return ModelSource(
        name=name,
        folder=folder,
        fingerprint=fingerprint(folder),
        dimension=dimension,
        image_size=preprocessing.crop,
        parameters=parameters,
        demonstration=bool(config.get("curation_demonstration", False)),
        hub_commit=folder.name if _is_hub_snapshot(folder) else "",
    )


def fingerprint(folder: Path) -> str:
    """32 hex digits over the names and bytes of a model's files and ``CODE_REVISION``."""
    return combine(file_digests(folder))


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each of a model's files by name; reads every byte."""
    digests = {}
    for path in model_files(folder):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def combine(digests: Mapping[str, str], revision: int = CODE_REVISION) -> str:
    """Fingerprint of a model whose files have these digests, under a revision of the code."""
    whole = hashlib.sha256(f"revision {revision}".encode())
    for name, digest in sorted(digests.items()):
        whole.update(f"\0{name}\0".encode() + bytes.fromhex(digest))
    return whole.hexdigest()[:32]


def _download(hub_id: str, only_cached: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    ways_out = "set CURATION_MODEL_SOURCE to a local folder in Hugging Face layout, or to `demo`"
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_FILES), local_files_only=only_cached))
    except HFValidationError:
        reason = "is neither a folder nor a model id of the Hugging Face hub"
    except RepositoryNotFoundError:
        reason = "is no folder, and the Hugging Face hub has no such model"
    except LocalEntryNotFoundError:
        reason = "the Hugging Face hub can't be reached and no copy is cached"
    except Exception as error:  # the HTTP client's own errors: a proxy's refusal, a certificate, a broken transfer
        reason = f"download failed: {first_line(error)}"
    raise CurationError(f"CURATION_MODEL_SOURCE={hub_id}: {reason}; {ways_out}")


def _is_hub_snapshot(folder: Path) -> bool:
    """Whether the folder lies where the hub's cache keeps a commit's files: ``…/snapshots/<commit>``."""
    return folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", folder.name) is not None


def _has_image_processor(processor_file: Path | None) -> bool:
    """Whether transformers 5 wrote the preprocessing here; its earlier versions have the file without it."""
    try:
        return processor_file is not None and "image_processor" in json.loads(processor_file.read_text())
    except (ValueError, TypeError, OSError):
        return True  # whoever reads it says what is wrong with it


def _parameters(path: Path) -> int:
    """Number of weights in a safetensors file, from its header alone.

    Raises:
        ValueError: it is shorter than its header says, as after an interrupted copy, or no such file at all.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(min(length, 2**27)))
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    whole = 8 + length + max((entry["data_offsets"][1] for entry in tensors), default=0)
    if path.stat().st_size != whole:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes where its header says {whole:,}")
    return sum(prod(entry["shape"]) for entry in tensors)
