"""The formats there are, by the names that ``--to`` takes; a module is imported when its format is asked for."""

from __future__ import annotations

from importlib import import_module

from curation_assets.datasets.reading import nearest
from curation_assets.errors import CurationError
from curation_assets.export.protocol import Format

_FORMATS = {
    "folders": ("folders", "Folders"),
    "coco": ("coco", "Coco"),
    "yolo": ("yolo", "Yolo"),
    "webdataset": ("webdataset", "WebDataset"),
    "hf-imagefolder": ("huggingface", "ImageFolder"),
    "hf-parquet": ("huggingface", "HuggingFaceParquet"),
    "csv": ("lists", "CsvList"),
    "jsonl": ("lists", "JsonLinesList"),
    "parquet": ("lists", "ParquetList"),
}
NAMES = tuple(_FORMATS)
LISTS = tuple(name for name, (module, _) in _FORMATS.items() if module == "lists")  # one file, without images


def format_of(name: str) -> Format:
    """A format.

    Raises:
        CurationError: there is no such one; it names the nearest.
    """
    if name not in _FORMATS:
        raise CurationError(f"--to {name}: there is no such format{nearest(name, NAMES)}")
    module, owner = _FORMATS[name]
    found: Format = getattr(import_module(f"curation_assets.export.{module}"), owner)()
    return found
