"""What the pages of ``image_pairs`` and ``image_groups`` tell: counts, examples to look at, checks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from curation_assets.curate.duplicates import checks, overview
from curation_assets.curate.duplicates.comparison import Comparison, contents_of
from curation_assets.curate.duplicates.grouping import Grouping
from curation_assets.curate.duplicates.pictures import open_pictures
from curation_assets.decisions.record import read_decisions
from curation_assets.defs import metadata as md
from curation_assets.defs.reports import Check
from curation_assets.images.names import printable
from curation_assets.pipeline import Pipeline

AGREE, LIVE, AS_BEFORE = "members_agree", "keepers_live", "spare_as_before"
_ALIKE = ("near", "burst")  # kinds of pairs, and of the groups that are worth looking at
_IMAGES = "images"
_SHEETS, _TABLE_ROWS = 4, 10
_METHODS = {
    "hash": "hashes of windows",
    "neighbours": "the model's neighbours",
    "witness": "time or number",
    "copies": "a third that both are near to",
    "frame": "thousands alike",
}


def pairs_facts(pipeline: Pipeline, done: Comparison | None) -> md.Facts:
    """Of the pairs; no comparison where somebody else made them."""
    tables = pipeline.tables
    rows = tables.pairs.latest().read(["first", "second", "kind", "similarity", "method", "transform"]).drop("_file")
    facts: md.Facts = {"how pairs were found": _methods(rows)}
    paths = contents_of(tables.directory.latest()).select("content_sha256", "relative_path")
    for kind in _ALIKE:
        facts |= _least_alike(pipeline, kind, rows.filter(pl.col("kind") == kind), paths)
    facts |= {f"{kind} pairs": dg.MetadataValue.int(int((rows["kind"] == kind).sum())) for kind in _ALIKE}
    waiting = overview.waiting(tables.directory, tables.compared, pipeline.agreements)
    facts |= {"not compared yet": dg.MetadataValue.int(waiting)}
    facts |= {"note": dg.MetadataValue.text(md.MADE_ELSEWHERE)} if done is None else _work(done)
    return facts | md.whole_table_facts(tables.pairs, pipeline.settings.full_name(pipeline.settings.pairs_table))


def _least_alike(pipeline: Pipeline, kind: str, rows: pl.DataFrame, paths: pl.DataFrame) -> md.Facts:
    """The pairs of a kind that are the most in doubt, side by side, the first picture as it is.

    Args:
        paths: ``content_sha256`` and a ``relative_path`` of each content.
    """
    some = rows.filter(pl.col("method") != "frame").sort("similarity", "first", "second").head(_SHEETS)
    for side in ("first", "second"):
        of_side = paths.rename({"content_sha256": side, "relative_path": f"{side}_path"})
        some = some.join(of_side, on=side, maintain_order="left")
    told = some.select("first_path", "second_path", "similarity", "transform").iter_rows()
    shown = [
        ([one, other], f"{printable(one)} and {printable(other)}: {similarity:.3f}, {_how(transform)}")
        for one, other, similarity, transform in told
    ]
    return md.sheets(pipeline, f"least alike {kind} pairs", f"a {kind} pair", shown)


def groups_facts(pipeline: Pipeline, rows: pl.DataFrame, done: Grouping | None) -> md.Facts:
    """Of the groups; no grouping where somebody else formed them.

    Args:
        rows: of their table.
    """
    tables, counts = pipeline.tables, overview.counts(rows)
    facts: md.Facts = {"kinds": _kinds(counts)}
    largest = {kind: list(itertools.islice(overview.groups_of(rows, kind), _TABLE_ROWS)) for kind in overview.KINDS}
    for kind in _ALIKE:
        shown = [
            (of.images["relative_path"].head(md.THUMBNAILS).to_list(), f"keep {printable(of.keeper)}")
            for of in largest[kind][:_SHEETS]
        ]
        facts |= md.sheets(pipeline, f"{kind} groups shown", f"a {kind} group", shown)
    facts |= {f"largest {kind} groups": _groups(groups) for kind, groups in largest.items() if groups}
    facts[_IMAGES] = dg.MetadataValue.int(tables.directory.latest().rows())
    for kind, of in counts.items():
        facts |= {f"{kind} {what}": dg.MetadataValue.int(number) for what, number in of.items()}
    if done is None:
        facts["note"] = dg.MetadataValue.text(md.MADE_ELSEWHERE)
    else:
        facts["changed rows"] = dg.MetadataValue.int(done.changed)
        facts["seconds"] = dg.MetadataValue.float(round(done.seconds, 3))
    return facts | md.whole_table_facts(tables.groups, pipeline.settings.full_name(pipeline.settings.groups_table))


def group_checks(
    instance: dg.DagsterInstance, asset: dg.AssetKey, pipeline: Pipeline, facts: md.Facts, done: Grouping | None
) -> list[Check]:
    """What must hold of the groups, and what should, seen against their materialization before."""
    tables = pipeline.tables
    groups, pairs, directory = tables.groups.latest(), tables.pairs.latest(), tables.directory.latest()
    if done is not None:  # of images that came or went since, the next grouping tells
        groups, directory = tables.groups.at(done.version), tables.directory.at(done.directory_version)
    same = read_decisions(tables.decisions).same_pairs()
    pictures = open_pictures(pipeline.settings.pictures_dir)
    event = instance.get_latest_materialization_event(asset)
    told = event.asset_materialization.metadata if event is not None and event.asset_materialization else {}
    (spare, images), (spare_before, images_before) = _spare(facts), _spare(told)
    agree = checks.members_agree(groups, pairs, directory, pictures, pipeline.agreements, same)
    return [
        Check(AGREE, agree, blocking=False, promise=True),
        Check(LIVE, checks.keepers_live(groups, directory)),
        Check(AS_BEFORE, checks.spare_as_before(spare, images, spare_before, images_before), blocking=False),
    ]


def _spare(facts: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Kind → images to spare, as a page tells, and of how many."""
    found = {kind: int(facts[f"{kind} spare"].value) for kind in overview.KINDS if f"{kind} spare" in facts}
    return found, int(facts[_IMAGES].value) if _IMAGES in facts else 0


def _work(done: Comparison) -> md.Facts:
    numbers = {
        "contents": done.contents,
        "pairs verified": done.verified,
        "near pairs found": done.found["near"],
        "burst pairs found": done.found["burst"],
        "represented by another": done.crowded,
        "pairs removed": done.removed,
        "not comparable": len(done.failed),
    }
    facts: md.Facts = {name: dg.MetadataValue.int(number) for name, number in numbers.items()}
    return facts | {"seconds": dg.MetadataValue.float(round(done.seconds, 3))}


def _how(transform: dict[str, Any] | None) -> str:
    if transform is None or transform["x"] is None:
        return "of one scene"
    return overview.described(transform, keeper_is_first=True)


def _methods(rows: pl.DataFrame) -> dg.MetadataValue:
    found = rows.group_by("kind", "method").agg(pl.len(), pl.col("similarity").min())
    found = found.sort("kind", "len", "method", descending=[True, True, False])
    columns = {"kind": "string", "brought together by": "string", "pairs": "int", "least alike": "float"}
    records = [
        (kind, _METHODS.get(method, method), number, round(least, 3))
        for kind, method, number, least in found.iter_rows()
    ]
    return md.records(columns, records)


def _kinds(counts: Mapping[str, Mapping[str, int]]) -> dg.MetadataValue:
    columns = {"kind": "string", "groups": "int", _IMAGES: "int", "spare": "int", "what to do": "string"}
    return md.records(columns, [(kind, *of.values(), overview.ADVICE[kind]) for kind, of in counts.items()])


def _groups(groups: Sequence[overview.Group]) -> dg.MetadataValue:
    columns = {_IMAGES: "int", "why": "string", "keep": "string"}
    return md.records(
        columns, [(len(of.images), str(of.images["rule"][0]), md.end_of_path(of.keeper)) for of in groups]
    )
