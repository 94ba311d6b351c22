"""``curation forget``: images that have to go for good, out of the lake and its history."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from curation_assets.commands.options import ImagesOption, JsonOption, LakeOption, keys_of, pipeline_of, settings_of
from curation_assets.commands.output import out, print_json
from curation_assets.commands.progress import quiet_libraries, stoppable
from curation_assets.images.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curation_assets.forgetting.forget import Forgotten

_MOST = 12  # lines of one kind


def forget(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Images: relative to the images root, or on disk.", metavar="[PATH]...")
    ] = None,
    content: Annotated[
        list[str] | None, typer.Option("--content", help="SHA-256 of an image's bytes; repeatable.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only said what would be done.")] = False,
    delete_files: Annotated[
        bool, typer.Option("--delete-files", help="Delete the image files too; without, they have to be gone.")
    ] = False,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take images out of every table and its history for good, with all copies of their bytes.

    Vectors, previews, decisions, indexes, and published versions of datasets lose them too; those say so from then on.
    Nothing else should write to the lake meanwhile. Killed, it is finished by the next `curation forget --yes`.
    """
    quiet_libraries()
    from curation_assets.forgetting.forget import forget as forget_images

    settings = settings_of(images, lake)
    pipeline = pipeline_of(settings)
    meant = [keys_of(settings, path) for path in paths or []]
    with stoppable() as shown:
        done = forget_images(pipeline, meant, content or [], shown, dry_run=not yes, delete_files=delete_files)
    if as_json:
        tables = [{"table": one.table, "rows": one.rows, "earlier_rows": one.earlier_rows} for one in done.tables]
        print_json({"dry_run": not yes} | asdict(done) | {"tables": tables})
    else:
        _print(done, dry_run=not yes, deleted=delete_files)


def _print(done: Forgotten, *, dry_run: bool, deleted: bool) -> None:
    _list("image", done.paths)
    if done.files:
        what = "would be deleted" if dry_run and deleted else "deleted" if deleted else "still there: --delete-files"
        _list(f"file, {what}", done.files)
    for one in done.tables:
        told = f"{one.table}  {one.rows:,} rows, and {one.earlier_rows:,} in files of earlier versions"
        out.print(told, markup=False, soft_wrap=True)
    for held in done.versions:
        told = f"{held.dataset}@{held.version}  {held.images:,} images, {held.kept:,} of them kept"
        out.print(printable(told), markup=False, soft_wrap=True)
    for export in done.exports:
        of = f"{export.dataset}@{export.version}" if export.dataset else "a search"
        gone = "" if export.is_there else ", which is not there any more"
        told = f"export  {export.place}{gone}  {export.format} of {of}, {export.exported_at:%Y-%m-%d}: it stays"
        out.print(printable(told), markup=False, soft_wrap=True)
    _list("the same photograph, and stays", done.near)
    if dry_run:
        out.print("nothing is done yet; --yes forgets them", markup=False)
        return
    out.print(
        f"{len(done.contents):,} contents are forgotten; `curation run` brings groups, scores and the index in line",
        markup=False,
        soft_wrap=True,
    )
    out.print(
        "what lies outside the lake stays: backups, copies, pictures that Dagster's pages of past runs show",
        markup=False,
        soft_wrap=True,
    )


def _list(what: str, paths: Sequence[str]) -> None:
    for path in paths[:_MOST]:
        out.print(f"{what}  {printable(path)}", markup=False, soft_wrap=True)
    if len(paths) > _MOST:
        out.print(f"{what}  and {len(paths) - _MOST:,} more", markup=False)
