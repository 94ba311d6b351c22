"""``curation clusters``: what there is among the images, in groups of those that look alike to the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.options import (
    CameraOption,
    FolderOption,
    FromOption,
    GpsOption,
    ImagesOption,
    JsonOption,
    LakeOption,
    MinSideOption,
    NameOption,
    ToOption,
    WhereOption,
    filter_of,
    meeting,
    pipeline_of,
    settings_of,
    texts_of,
)
from curation_assets.commands.output import err, out, print_json, refuse_folder
from curation_assets.commands.progress import quiet_libraries
from curation_assets.errors import CurationError
from curation_assets.images.names import printable, text_from_path

if TYPE_CHECKING:
    from curation_assets.curate.scores.overview import Cluster
    from curation_assets.pipeline import Pipeline

_EVERYTHING = 10**9  # images
_EXAMPLES = 3
_ON_A_PAGE = 12  # images of each cluster
_COLUMNS = ["relative_path", "content_sha256", "cluster_distance", "outlier_score", "uniqueness", "is_medoid"]


def clusters(
    number: Annotated[int | None, typer.Argument(help="Only this cluster: its images, the most typical first.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="How many images of a cluster.")] = 24,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out that many of the most typical.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="All images, however many there are.")] = False,
    folder: FolderOption = None,
    name: NameOption = None,
    camera: CameraOption = None,
    captured_from: FromOption = None,
    captured_to: ToOption = None,
    min_side: MinSideOption = None,
    gps: GpsOption = None,
    where: WhereOption = None,
    rename: Annotated[
        str | None, typer.Option("--rename", help="Call this cluster so from now on, everywhere; nothing else is done.")
    ] = None,
    unname: Annotated[
        bool, typer.Option("--unname", help="Take the name back that somebody gave this cluster; nothing else is done.")
    ] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who names it. Default: the login name.")] = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the clusters as a page, in one file.")] = None,
) -> None:
    """What there is among the images: clusters of those that look alike, each with a name, its size and an example."""
    quiet_libraries()
    from curation_assets.curate.scores.overview import clusters_of, score_table

    refuse_folder("--html", html)
    pipeline = pipeline_of(settings_of(images, lake))
    if rename is not None or unname:
        _name(pipeline, number, rename, by, unname=unname, as_json=as_json)
        return
    if by is not None:
        raise CurationError("--by says who names a cluster: it goes with --rename or --unname")
    rows = score_table(pipeline.tables.scores, pipeline.tables.cluster_names)
    known = rows["cluster"].unique().sort().to_list()
    if number is not None and number not in known:
        raise CurationError(f"there is no cluster {number}; there are {', '.join(map(str, known)) or 'none'}")
    if pipeline.scores_are_behind():
        note = "note: images, model or settings changed since; `curation curate` brings the clusters in line"
        err.print(note, soft_wrap=True)
    chosen = filter_of(
        folder=texts_of(folder),
        name=None if name is None else text_from_path(name),
        camera=camera,
        captured_from=captured_from,
        captured_to=captured_to,
        min_side=min_side,
        has_gps=gps,
        where=where,
    )
    found = clusters_of(meeting(pipeline, rows, chosen))
    total = sum(len(one.images) for one in found)
    most = _EVERYTHING if everything else k
    if number is not None:
        found = [one for one in found if one.cluster == number]
    if as_json:
        shown = None if number is None else (offset, most)
        print_json({"images": total, "clusters": [_facts(one, shown) for one in found]})
    elif number is not None:
        _print_images(found, offset, most)
    else:
        _print(found, total)
    if html is not None:
        _write_page(pipeline, html, found, offset, most if number is not None or everything else min(k, _ON_A_PAGE))
        err.print(f"page  {html}", markup=False, soft_wrap=True)


def _name(
    pipeline: Pipeline, number: int | None, name: str | None, by: str | None, *, unname: bool, as_json: bool
) -> None:
    """Name a cluster, or take its name back."""
    from curation_assets.curate.scores.given_names import name_cluster
    from curation_assets.decisions.record import login_name

    if name is not None and unname:
        raise CurationError("--rename gives a name and --unname takes it back: use one of them")
    if number is None:
        raise CurationError(f"say which cluster: curation clusters NUMBER {'--unname' if unname else '--rename NAME'}")
    who = login_name() if by is None else by
    called = name_cluster(pipeline.tables.cluster_names, pipeline.tables.scores, number, name, who)
    if as_json:
        print_json({"cluster": number, "name": called.name, "own_name": called.own, "is_new": called.is_new})
        return
    was = "" if called.is_new else " already"
    instead = "" if called.by is None else f"; the program calls it {called.own}"
    out.print(f"cluster {number} is called {called.name}{was}{instead}", markup=False, soft_wrap=True)


def _facts(one: Cluster, shown: tuple[int, int] | None) -> dict[str, Any]:
    facts = {"cluster": one.cluster, "name": one.name, "images": len(one.images), "share": one.share}
    facts |= {"spread": one.spread, "medoid": one.medoid}
    facts |= {"examples": one.images["relative_path"].head(_EXAMPLES).to_list()}
    return facts | ({} if shown is None else {"found": one.images.select(_COLUMNS).slice(*shown).to_dicts()})


def _print(found: list[Cluster], total: int) -> None:
    out.print(f"{total:,} images in {len(found):,} clusters; spread is the mean cosine distance to the centre")
    for one in found:
        out.print(
            f"{one.cluster:>4}  {one.name:<28} {len(one.images):>8,}  {one.share:>6.1%}  spread {one.spread:.3f}  "
            f"{printable(one.medoid)}",
            markup=False,
            soft_wrap=True,
        )
    if found:
        out.print("`curation clusters NUMBER` names the images of one; `--html FILE` shows all of them")


def _print_images(found: list[Cluster], offset: int, most: int) -> None:
    if not found:
        out.print("no image of it meets the conditions")
    for one in found:
        shown = one.images.slice(offset, most)
        for path, distance in shown.select("relative_path", "cluster_distance").iter_rows():
            out.print(f"{distance:.3f}  {printable(path)}", markup=False)
        if len(shown) < len(one.images):
            told = f"{len(shown):,} of {len(one.images):,} images, the most typical first; -k or --all shows more"
            err.print(told, markup=False)


def _write_page(pipeline: Pipeline, html: Path, found: list[Cluster], offset: int, most: int) -> None:
    from curation_assets.search.page import Heading, Section, tile, write_page

    chosen = [(one, one.images.slice(offset, most)) for one in found]
    pictures = pipeline.tables.pictures({path for _, shown in chosen for path in shown["relative_path"]})
    sections = []
    for one, shown in chosen:
        tiles = [
            tile({"relative_path": path, "file_path": there[0]}, there[1], None, f"distance {distance:.3f}")
            for path, distance in shown.select("relative_path", "cluster_distance").iter_rows()
            if (there := pictures.get(path)) is not None
        ]
        title = f"{one.cluster}: {one.name}, {len(one.images):,} images"
        sections.append(Section(title, tiles, f"{one.share:.1%} of the images; spread {one.spread:.3f}."))
    text = "Images that look alike to the model, the largest cluster first; of each the most typical come first."
    write_page(html, Heading("What there is among these images", text), sections)
