"""Croissant: JSON-LD that says of an export which files it has and what records they make (MLCommons, version 1.0).

Images that are files are joined with the list by their path; rows of Parquet are read as they are; of tar files the
members are, beside the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from curation_assets.export.names import ENDINGS
from curation_assets.export.protocol import Content, Format
from curation_assets.images.names import printable

FILE = "croissant.json"
_SPECIFICATION = "http://mlcommons.org/croissant/1.0"
_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
_KINDS = {".csv": "text/csv", ".jsonl": "application/jsonlines", ".parquet": "application/x-parquet"}
_MEDIA = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "tif": "image/tiff", "tiff": "image/tiff"}
_TYPES = {"width": "sc:Integer", "height": "sc:Integer"}


def croissant(content: Content, format: Format, listed: str, digest: str) -> str:
    """The document of an export.

    Args:
        content: its rows have ``PLACES`` and ``WRITTEN``, but of a format without images.
        listed: name of the list of images, beside it.
        digest: SHA-256 of that.
    """
    label = "labels" if content.is_several else "label"
    about: dict[str, Any] = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "name": re.sub(r"[^A-Za-z0-9_-]", "-", content.name),
        "description": _description(content),
        "conformsTo": _SPECIFICATION,
        "url": str(content.card.get("url") or f"urn:sha256:{content.manifest.get('content_id')}"),
        "version": f"{content.version}.0.0",
    }
    if content.card.get("licence"):
        about["license"] = content.card["licence"]
    if content.card.get("citation"):
        about["citeAs"] = content.card["citation"]
    the_list = _file("list", listed, _KINDS[f".{listed.rpartition('.')[2]}"], digest)
    columns = ["relative_path", "content_sha256", label, "split", "width", "height"]
    if not format.has_images:
        about |= {"distribution": [the_list], "recordSet": [_records([_column(name) for name in columns])]}
    elif not format.is_sharded:
        about |= {"distribution": [the_list, _files_of(content)], "recordSet": [_joined(columns)]}
    else:
        about |= _sharded(content, the_list, columns)
    return json.dumps(about, indent=2, ensure_ascii=False) + "\n"


def _sharded(content: Content, the_list: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    shards = content.rows.select("file", "sha256").unique(maintain_order=True)
    is_parquet = shards["file"][0].endswith(".parquet")
    kind = "application/x-parquet" if is_parquet else "application/x-tar"
    files = [_file(f"shard-{at}", name, kind, digest) for at, (name, digest) in enumerate(shards.iter_rows())]
    within: dict[str, Any] = {"@type": "cr:FileSet", "@id": "shards", "name": "shards"}
    if is_parquet:
        folder = shards["file"][0].rpartition("/")[0]
        within |= {"encodingFormat": kind, "includes": f"{folder}/*.parquet" if folder else "*.parquet"}
        side = _of_files("filename", "shards") | {"transform": {"regex": "^(.*)-[0-9]+-of-[0-9]+[.]parquet$"}}
        fields = [_column(name, {"fileSet": {"@id": "shards"}}) for name in columns if name != "split"]
        fields.append(_field("images", "split", "sc:Text", side))
        for field in fields:
            if field["name"] in ("label", "labels"):
                field["dataType"] = "sc:Integer"  # the number of a class, whose names the schema's metadata has
        image = {"fileSet": {"@id": "shards"}, "extract": {"column": "image"}, "transform": {"jsonPath": "bytes"}}
        return {
            "distribution": [*files, within, the_list],
            "recordSet": [_records([_field("images", "image", "sc:ImageObject", image), *fields])],
        }
    endings = sorted({ENDINGS[kind][0] for kind in content.rows["format"].drop_nulls().unique()})
    within["containedIn"] = [{"@id": file["@id"]} for file in files]
    within["encodingFormat"] = [_MEDIA.get(ending, f"image/{ending}") for ending in endings]
    within["includes"] = [f"*.{ending}" for ending in endings]
    return {
        "distribution": [*files, within, the_list],
        "recordSet": [
            _records([_column(name) for name in columns]),
            _records(
                [
                    _field("samples", "key", "sc:Text", _of_files("filename", "shards")),
                    _field("samples", "image", "sc:ImageObject", _of_files("content", "shards")),
                ],
                "samples",
            ),
        ],
    }


def _files_of(content: Content) -> dict[str, Any]:
    """Where the images lie, by their folders and endings: other files lie beside them."""
    names = content.rows["file"].to_list()
    patterns = {(name.partition("/")[0] if "/" in name else "", name.rpartition(".")[2]) for name in names}
    kinds = sorted({_MEDIA.get(ending.lower(), f"image/{ending.lower()}") for _, ending in patterns})
    includes = sorted(f"{folder}/**/*.{ending}" if folder else f"*.{ending}" for folder, ending in patterns)
    return {"@type": "cr:FileSet", "@id": "files", "name": "files", "encodingFormat": kinds, "includes": includes}


def _joined(columns: list[str]) -> dict[str, Any]:
    path = _of_files("fullpath", "files")
    # Readers have it as a path; the expression makes it a text, which the list has too.
    path["transform"] = {"regex": "^(.*)$"}
    by = _field("images", "file", "sc:Text", path)
    by["references"] = {"fileObject": {"@id": "list"}, "extract": {"column": "file"}}
    image = _field("images", "image", "sc:ImageObject", _of_files("content", "files"))
    return _records([by, image, *(_column(name) for name in columns)])


def _records(fields: list[dict[str, Any]], name: str = "images") -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


def _column(name: str, source: Mapping[str, Any] | None = None) -> dict[str, Any]:
    of = source or {"fileObject": {"@id": "list"}}
    return _field("images", name, _TYPES.get(name, "sc:Text"), {**of, "extract": {"column": name}})


def _of_files(what: str, files: str) -> dict[str, Any]:
    return {"fileSet": {"@id": files}, "extract": {"fileProperty": what}}


def _field(records: str, name: str, kind: str, source: dict[str, Any]) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": f"{records}/{name}", "name": name, "dataType": kind, "source": source}


def _file(name: str, url: str, kind: str, digest: str) -> dict[str, Any]:
    told = {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": url}
    return told | {"encodingFormat": kind, "sha256": digest}


def _description(content: Content) -> str:
    said = (content.manifest.get("recipe") or {}).get("description") or ""
    told = f"{content.name}: {len(content.rows):,} images"
    told += f" of {len(content.classes):,} classes" if content.classes else ""
    return printable(f"{said} ({told})" if said else told)


def _context() -> dict[str, Any]:
    """What the words of a document stand for, as the specification gives them."""
    own: dict[str, Any] = {term: f"cr:{term}" for term in _TERMS}
    own["rai"] = "http://mlcommons.org/croissant/RAI/"
    own |= {"conformsTo": "dct:conformsTo", "dataType": {"@id": "cr:dataType", "@type": "@vocab"}}
    own |= {name: {"@id": f"cr:{name}", "@type": "@json"} for name in ("data", "examples")}
    places = {"cr": "http://mlcommons.org/croissant/", "dct": "http://purl.org/dc/terms/", "sc": "https://schema.org/"}
    return {"@language": "en", "@vocab": "https://schema.org/", **places, **own}
