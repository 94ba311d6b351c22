"""From a version of a dataset to files of a format: check, plan, read, write beside the final place, give the name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from curation_assets import __version__
from curation_assets.datasets.versions import as_manifest
from curation_assets.errors import CurationError, reason_of
from curation_assets.export.archive import ArchiveTarget
from curation_assets.export.card import Card, as_html, as_markdown, card_of
from curation_assets.export.croissant import FILE as CROISSANT
from curation_assets.export.croissant import croissant
from curation_assets.export.lists import write_csv_list
from curation_assets.export.protocol import WRITTEN, Content, Format, Image, Options
from curation_assets.export.reading import ImageReader, Read
from curation_assets.export.rewriting import check_rewriting, rewritten
from curation_assets.export.staging import ONLY_FILE, Stage, Written, new_file
from curation_assets.export.store_staging import StoreTarget
from curation_assets.export.targets import Target, stage_of
from curation_assets.files import hash_of, write_whole
from curation_assets.images.guard import DecodeOptions
from curation_assets.images.names import printable
from curation_assets.progress import Progress

_LAYOUT = 1  # of what is written: a killed export of another one is begun anew
LIST, MANIFEST, EXPORT, CARD = "images.csv", "manifest.json", "export.json", "card"
Previews = Callable[[pl.DataFrame], Mapping[str, bytes]]


@dataclass(kw_only=True)
class ImagesWritten:
    """Images that were written as files.

    Attributes:
        images: in the export.
        files: that hold them.
        bytes: of those.
        from_table: images whose file was gone or changed, and whose bytes came out of the table.
        resumed: files that an earlier run had written.
    """

    images: int = 0
    files: int = 0
    bytes: int = 0
    from_table: int = 0
    resumed: int = 0


@dataclass(kw_only=True)
class Exported(ImagesWritten):
    """What was written of a version.

    Attributes:
        notes: what is lost, and what a person should know.
    """

    dataset: str
    version: int
    content_id: str
    format: str
    out: str
    notes: list[str] = field(default_factory=list)


def export(
    content: Content,
    format: Format,
    target: Target,
    reader: ImageReader,
    previews: Previews,
    threads: int,
    decoding: DecodeOptions,
    progress: Progress,
    note: Callable[[Exported], None],
) -> Exported:
    """Write a version as a format has it. Nothing stands under the final name before all of it is on the disk.

    Args:
        target: folder that isn't there or is empty, or file that isn't there; absolute; or the same in a store; or who
            takes it as an archive, which is of folders alone.
        previews: of some rows, JPEGs by path, for the card.
        note: is told of the export before anybody sees of it, so that none is there that isn't known of.

    Raises:
        CurationError: the format can't hold it, an image can't be had, or the place can't be written to. What was
            written whole stays beside the place, and the next run goes on from there.
    """
    options = content.options
    if options.link != "copy" and not isinstance(target, Path):
        raise CurationError(f"--link {options.link}: nothing in a store can be a link to a file; leave it out")
    notes = check(content, format)
    content = replace(content, notes=notes)
    told = Exported(
        dataset=content.dataset,
        version=content.version,
        content_id=str(content.manifest.get("content_id")),
        format=format.name,
        out=str(target),
        images=len(content.rows),
        notes=notes,
    )
    said = {"layout": _LAYOUT, "code": __version__, "format": format.name, "options": asdict(options)}
    # Of the manifest, as images of a version may be forgotten, which it then tells.
    key = as_manifest(said | {"name": content.name, "manifest": content.manifest, "target": str(target)})
    with stage_of(target, key, is_file=format.suffix is not None) as stage:
        if not format.has_images:
            if isinstance(target, ArchiveTarget):
                raise CurationError(f"--to {format.name} is one file, which needs no archive")
            format.finish(content, stage)
            _write_beside(target, croissant(content, format, target.name, hash_of(stage.path(ONLY_FILE))))
            note(told)
            stage.publish()
            return told
        noted = partial(note, told)
        done = write_images(content, format, stage, reader, told, threads, decoding, progress, noted)
        format.finish(done, stage)
        write_csv_list(stage.path(LIST), done)
        _write(stage, CROISSANT, croissant(done, format, LIST, hash_of(stage.path(LIST))))
        card = card_of(content.dataset, content.version, content.manifest, content.version_rows, content.card)
        _write(stage, MANIFEST, as_manifest(content.manifest) + "\n")
        about = said | {"dataset": content.dataset, "version": content.version, "content_id": told.content_id}
        about |= {"images": told.images, "files": told.files, "bytes": told.bytes, "notes": notes}
        _write(stage, EXPORT, json.dumps(about, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
        _write_card(stage, card, done, previews, notes)
        if stage.is_hidden:
            noted()
        stage.publish()
    return told


def check(content: Content, format: Format) -> list[str]:
    """Before anything is written: whether a format can hold a version, written as its options say.

    Returns:
        What is lost, and what a person should know, a line each.

    Raises:
        CurationError: it can't.
    """
    options = content.options
    if options != Options() and not format.has_images:
        raise CurationError(f"--to {format.name} is a list: --link, --upright and --strip-metadata are of images")
    if options.link != "copy" and format.is_sharded:
        raise CurationError(
            f"--to {format.name} puts many images in a file: --link is of formats whose images are files"
        )
    notes = [*content.notes, *format.check(content)]
    check_rewriting(content)
    return notes


def write_images(
    content: Content,
    format: Format,
    stage: Stage,
    reader: ImageReader,
    told: ImagesWritten,
    threads: int,
    decoding: DecodeOptions,
    progress: Progress,
    noted: Callable[[], None],
) -> Content:
    """Write the files that hold images, but for those that an earlier run wrote whole.

    Args:
        told: is filled in, ``images`` before all else.
        noted: is called before the first file, where others see each at once.

    Returns:
        The content, its rows with ``PLACES`` and ``WRITTEN``.

    Raises:
        CurationError: an image can't be had, or written as it is asked for.
    """
    planned = reader.located(format.plan(content))
    told.images = len(planned)
    if not stage.is_hidden:
        noted()
    progress.start(f"export {content.name}", len(planned))
    files = planned.select("file").unique(maintain_order=True)["file"]
    whole = stage.resume(set(files), threads)
    pending = planned.filter(~pl.col("file").is_in(pl.Series([*whole], dtype=pl.String).implode()))
    progress.advance(len(planned) - len(pending))
    writer = _Writer(content, format, stage, reader, decoding, progress)
    written = whole | (writer.shards(pending) if format.is_sharded else writer.files(pending))
    told.files, told.resumed, told.from_table = len(files), len(whole), writer.from_table
    told.bytes = sum(each.bytes for each in written.values())
    facts = pl.DataFrame(
        [(name, each.bytes, each.sha256) for name, each in written.items()],
        {"file": pl.String, **WRITTEN},
        orient="row",
    )
    return replace(content, rows=planned.drop("on_disk").join(facts, on="file", how="left", maintain_order="left"))


def _write_beside(target: Path | StoreTarget, text: str) -> None:
    """What says what a list holds, beside it; a killed run may have left the same.

    Raises:
        CurationError: another file is there.
    """
    if not isinstance(target, Path):
        there = replace(target, address=target.address.parent / f"{target.name}.{CROISSANT}")
        if there.get("") not in (None, text.encode()):
            raise CurationError(f"--out {target}: {there} is there already")
        there.put("", text.encode())
        return
    beside = target.with_name(f"{target.name}.{CROISSANT}")
    if os.path.lexists(beside) and (beside.is_symlink() or beside.read_bytes() != text.encode()):
        raise CurationError(f"--out {target}: {beside} is there already")
    write_whole(beside, text.encode())


def _write_card(stage: Stage, card: Card, content: Content, previews: Previews, notes: list[str]) -> None:
    own = content.rows.filter(pl.col("row").is_null())  # an image in a shard has no address
    files = dict(own.select("relative_path", "file").iter_rows())
    _write(stage, f"{CARD}.md", as_markdown(card, notes, files))
    _write(stage, f"{CARD}.html", as_html(card, previews(card.examples), notes, files))


def _write(stage: Stage, name: str, text: str) -> None:
    with new_file(stage.path(name)) as out:
        out.write(text.encode())


class _Writer:
    """Writes what is pending of an export."""

    def __init__(
        self,
        content: Content,
        format: Format,
        stage: Stage,
        reader: ImageReader,
        decoding: DecodeOptions,
        progress: Progress,
    ) -> None:
        self._content = content
        self._format = format
        self._stage = stage
        self._reader = reader
        self._decoding = decoding
        self._progress = progress
        self._options = content.options
        self.from_table = 0

    def files(self, rows: pl.DataFrame) -> dict[str, Written]:
        """Every image as a file, each written by the thread that read it."""
        written: dict[str, Written] = {}
        # All others come first where a later run goes on from them.
        with closing(self._reader.each(rows, self._file, at_once=not self._stage.goes_on)) as files:
            for name, one, is_stored in files:
                written[name] = one
                self._advance(is_stored)
        return written

    def shards(self, rows: pl.DataFrame) -> dict[str, Written]:
        """Files of many images each, one after the other; their images are read ahead."""
        written: dict[str, Written] = {}
        with closing(self._reader.each(rows, self._image, at_once=True)) as images:
            for (name,), part in rows.group_by("file", maintain_order=True):
                with self._stage.file(str(name)) as out:
                    self._format.shard(cast("IO[bytes]", out), self._content, self._taken(images, len(part)))
                written[str(name)] = out.written
        return written

    def _taken(self, images: Iterator[tuple[Image, bool]], number: int) -> Iterator[Image]:
        for image, is_stored in islice(images, number):
            self._advance(is_stored)
            yield image

    def _advance(self, is_stored: bool) -> None:
        self.from_table += is_stored
        self._progress.advance(1)

    def _data(self, row: dict[str, Any], read: Read) -> bytes:
        return rewritten(read.data, row, self._options, self._decoding) if self._options.rewrites else read.data

    def _image(self, row: dict[str, Any], read: Read) -> tuple[Image, bool]:
        return Image(row, self._data(row, read)), read.is_stored

    def _file(self, row: dict[str, Any], read: Read) -> tuple[str, Written, bool]:
        name, data = row["file"], self._data(row, read)
        is_same = data is read.data
        written = Written(len(data), row["content_sha256"] if is_same else hashlib.sha256(data).hexdigest())
        if is_same and read.path is not None and self._link(read.path, name):
            self._stage.note(name, written)
        else:
            self._stage.write(name, data, written)
        return name, written, read.is_stored

    def _link(self, path: str, name: str) -> bool:
        """Let a file of the disk stand in the export as a link, if that was asked for."""
        if self._options.link == "copy":
            return False
        place = self._stage.path(name)
        place.unlink(missing_ok=True)
        if self._options.link == "symlink":
            place.symlink_to(os.path.realpath(path))
            return True
        try:
            os.link(os.path.realpath(path), place)
        except OSError as error:
            raise CurationError(
                f"--link hard: {printable(path)} can't be linked ({reason_of(error)}); choose symlink or copy"
            ) from None
        return True
