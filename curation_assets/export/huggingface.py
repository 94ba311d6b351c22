"""Hugging Face ``datasets``: a folder of images with metadata, and Parquet with the images in it.

Both say the features of their columns as the library writes them itself: as JSON under ``huggingface`` in the metadata
of their Parquet schemas, and a ``README.md`` whose beginning names the files of each side. Its reader shows images
upright, so widths, heights and boxes (``[x, y, width, height]``, pixels) are of the upright image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any, ClassVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from curation_assets.export.card import as_markdown, card_of
from curation_assets.export.folders import in_folders, told_rare
from curation_assets.export.names import folder_names
from curation_assets.export.protocol import Content, Folder, Image
from curation_assets.export.shards import in_shards
from curation_assets.export.staging import new_file

_WITHOUT_SIDES = "data"  # folder of a version that has no sides; readers call it train
_GROUP_BYTES, _GROUP_IMAGES = 32 * 2**20, 256  # of a row group: what a reader has in memory for one image
_LICENCE = re.compile(r"[a-z0-9.-]+")


class _HuggingFace:
    """What both have in common."""

    suffix: ClassVar[str | None] = None
    has_images: ClassVar[bool] = True

    def check(self, content: Content) -> list[str]:
        folder_names(content.sides, "side")
        renamed = {side: name for side, name in side_names(content.sides).items() if side != name}
        told = ", ".join(f"{side} as {name}" for side, name in renamed.items())
        return [*([f"sides are called otherwise by the library: {told}"] if renamed else []), *told_rare(content)]


class ImageFolder(_HuggingFace):
    """``side/class/name.jpg``, and a ``metadata.parquet`` a side; classes are folders where an image has one label."""

    name: ClassVar[str] = "hf-imagefolder"
    is_sharded: ClassVar[bool] = False

    def check(self, content: Content) -> list[str]:  # noqa: D102
        if not content.is_several:
            folder_names(content.classes, "label")
        return super().check(content)

    def plan(self, content: Content) -> pl.DataFrame:  # noqa: D102
        return in_folders(content, by_class=not content.is_several, without_sides=_WITHOUT_SIDES)

    def shard(self, out: IO[bytes], content: Content, images: Iterator[Image]) -> None:  # noqa: D102
        raise NotImplementedError

    def finish(self, content: Content, folder: Folder) -> None:  # noqa: D102
        schema = _schema(content, pa.field("file_name", pa.string()), {"file_name": _value("string")})
        paths = {}
        for (split,), rows in content.rows.group_by("split", maintain_order=True):
            side = rows["file"][0].partition("/")[0]
            paths[split] = f"{side}/**"
            with (
                new_file(folder.path(f"{side}/metadata.parquet")) as out,
                pq.ParquetWriter(out, schema, compression="zstd") as writer,
            ):
                for part in rows.iter_slices(65_536):
                    names = [file.partition("/")[2] for file in part["file"]]
                    writer.write_table(_table(content, part.to_dicts(), {"file_name": names}, schema))
        _write_readme(content, folder, paths, _image_first(_features(content)))


class HuggingFaceParquet(_HuggingFace):
    """``data/train-00000-of-00004.parquet``: a row an image, with its bytes."""

    name: ClassVar[str] = "hf-parquet"
    is_sharded: ClassVar[bool] = True

    def plan(self, content: Content) -> pl.DataFrame:  # noqa: D102
        return in_shards(content, ".parquet", folder=_WITHOUT_SIDES)

    def shard(self, out: IO[bytes], content: Content, images: Iterator[Image]) -> None:  # noqa: D102
        stored = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        schema = _schema(content, pa.field("image", stored), {"image": {"_type": "Image"}})
        # Pictures don't shrink, and no reader asks for the least and the greatest of them.
        with pq.ParquetWriter(out, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
            group: list[Image] = []
            held = 0
            for image in images:
                if group and (held + len(image.data) > _GROUP_BYTES or len(group) == _GROUP_IMAGES):
                    writer.write_table(_with_bytes(content, group, schema))
                    group, held = [], 0
                group.append(image)
                held += len(image.data)
            if group:
                writer.write_table(_with_bytes(content, group, schema))

    def finish(self, content: Content, folder: Folder) -> None:  # noqa: D102
        paths = {}
        for split, file in content.rows.select("split", "file").unique(maintain_order=True).iter_rows():
            before, _, after = file.rpartition("-of-")
            paths[split] = f"{before[:-5]}?????-of-{after}"  # a side may be called as another and something after it
        _write_readme(content, folder, paths, _image_first(_features(content)))


def side_names(sides: list[str]) -> dict[str, str]:
    """What the library calls sides: letters, digits and ``_``, each once, and none ``all``, which is all of them."""
    found: dict[str, str] = {}
    for side in sides:
        name = plain = re.sub(r"\W", "_", side) or "_"
        number = 2
        while name == "all" or name in found.values():
            name, number = f"{plain}_{number}", number + 1
        found[side] = name
    return found


def _with_bytes(content: Content, group: list[Image], schema: pa.Schema) -> pa.Table:
    cells = [{"bytes": image.data, "path": image.row["relative_path"].rpartition("/")[2]} for image in group]
    return _table(content, [image.row for image in group], {"image": cells}, schema)


def _table(content: Content, rows: list[dict[str, Any]], first: dict[str, list[Any]], schema: pa.Schema) -> pa.Table:
    number = {label: place for place, label in enumerate(content.classes)}
    columns = dict(first)
    if content.is_several:
        columns["labels"] = [[number[label] for label in row["labels"]] for row in rows]
    elif number:
        columns["label"] = [number[row["labels"][0]] if row["labels"] else None for row in rows]
    if content.has_boxes:
        of_box = {label: place for place, label in enumerate(content.box_classes)}
        columns["objects"] = [
            {
                "bbox": [[box[name] for name in ("x", "y", "width", "height")] for box in row["boxes"]],
                "category": [of_box.get(box["label"]) for box in row["boxes"]],
            }
            for row in rows
        ]
    columns |= {name: [row[name] for row in rows] for name in ("relative_path", "content_sha256", "width", "height")}
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema)


def _features(content: Content) -> dict[str, Any]:
    """Columns beside the image, as the library says them in JSON."""
    found: dict[str, Any] = {}
    if content.is_several:
        found["labels"] = _list(_classes(content.classes))
    elif content.classes:
        found["label"] = _classes(content.classes)
    if content.has_boxes:
        boxes = {"bbox": _list(_list(_value("float64"))), "category": _list(_classes(content.box_classes))}
        found["objects"] = boxes
    texts = {name: _value("string") for name in ("relative_path", "content_sha256")}
    return found | texts | {name: _value("int32") for name in ("width", "height")}


def _schema(content: Content, first: pa.Field, feature: dict[str, Any]) -> pa.Schema:
    """Columns of a file, with their features in its metadata."""
    features = feature | _features(content)
    types = {
        "label": pa.int64(),
        "labels": pa.list_(pa.int64()),
        "objects": pa.struct({"bbox": pa.list_(pa.list_(pa.float64())), "category": pa.list_(pa.int64())}),
        "width": pa.int32(),
        "height": pa.int32(),
    }
    fields = [first, *(pa.field(name, types.get(name, pa.string())) for name in features if name != first.name)]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _image_first(features: dict[str, Any]) -> dict[str, Any]:
    return {"image": {"_type": "Image"}} | features


def _value(kind: str) -> dict[str, str]:
    return {"dtype": kind, "_type": "Value"}


def _list(of: Any) -> dict[str, Any]:
    return {"feature": of, "_type": "List"}


def _classes(names: list[str]) -> dict[str, Any]:
    return {"names": names, "_type": "ClassLabel"}


def _write_readme(content: Content, folder: Folder, paths: dict[Any, str], features: dict[str, Any]) -> None:
    """The card, after what the library and its hub read: files of each side, features, licence."""
    names = side_names(content.sides)
    order = [side for side in (*content.sides, None) if side in paths]
    files = [{"split": names[side] if side is not None else "train", "path": paths[side]} for side in order]
    head: dict[str, Any] = {"configs": [{"config_name": "default", "data_files": files}]}
    head["dataset_info"] = {"features": [_as_yaml(name, feature) for name, feature in features.items()]}
    if licence := content.card.get("licence"):
        known = _LICENCE.fullmatch(licence.lower()) is not None
        head |= {"license": licence.lower()} if known else {"license": "other", "license_name": licence}
    card = card_of(content.dataset, content.version, content.manifest, content.version_rows, content.card)
    own = content.rows.filter(pl.col("row").is_null())
    text = as_markdown(card, content.notes, dict(own.select("relative_path", "file").iter_rows()))
    with new_file(folder.path("README.md")) as out:
        out.write(f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n{text}".encode())


def _as_yaml(name: str, feature: dict[str, Any]) -> dict[str, Any]:
    """A feature as the library writes it at the beginning of a README."""
    kind = feature.get("_type")
    if kind == "List":
        inner = _as_yaml("", feature["feature"])
        return {"name": name, "list": inner["dtype"] if "dtype" in inner else {"list": inner["list"]}}
    if kind == "ClassLabel":
        names = {str(number): label for number, label in enumerate(feature["names"])}
        return {"name": name, "dtype": {"class_label": {"names": names}}}
    if kind is None:
        return {"name": name, "struct": [_as_yaml(each, inner) for each, inner in feature.items()]}
    return {"name": name, "dtype": "image" if kind == "Image" else feature["dtype"]}
