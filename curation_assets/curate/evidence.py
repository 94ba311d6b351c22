"""What speaks for a problem of an image: what a reader looks at beside it, in words and in pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from curation_assets.annotations.columns import counting_labels
from curation_assets.curate.leaks import Leaks
from curation_assets.curate.problems import BAD_BOX, CONFLICTING, DISTANCE, LEAK, MISLABELLED, OUTLIER
from curation_assets.embed.vectors import KEY
from curation_assets.images.names import printable
from curation_assets.tables import Tables

BESIDE = 4  # images that are shown beside one
ISSUE_COLUMNS = ["field", "kind", "given", "suggested", "label_quality", "number", "evidence", "reason"]
Nearest = Callable[[Iterable[str]], dict[str, list[tuple[str, float]]]]


@dataclass
class Evidence:
    """What speaks for a problem of one image.

    Attributes:
        said: in a sentence; empty: the score says it all.
        cells: the same for a table, by column.
        facts: the same for programs, by name.
        beside: images to look at beside it: relative path, and what each is.
    """

    said: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    beside: list[tuple[str, str]] = field(default_factory=list)


def evidence_of(
    kind: str, rows: pl.DataFrame, tables: Tables, order: Sequence[str], leaks: Leaks, nearest: Nearest
) -> dict[str, Evidence]:
    """What speaks for a kind of problem of some images.

    Args:
        kind: of problem; of those that a measure of the picture tells there is nothing more to say.
        rows: of :func:`~curation_assets.curate.overview.judged_rows` that have it.
        order: of sources of annotations.
        nearest: gives others that are near by the model's vectors, with their cosines.

    Raises:
        CurationError: a table can't be read.
    """
    if kind == OUTLIER:
        return _outliers(rows, nearest)
    if kind == LEAK:
        return _leaks(rows, leaks)
    if kind in (MISLABELLED, CONFLICTING, BAD_BOX):
        return _issues(kind, rows, tables, order, nearest)
    return {}


def _outliers(rows: pl.DataFrame, nearest: Nearest) -> dict[str, Evidence]:
    near = nearest(rows["relative_path"])
    found = {}
    for path, distance in rows.select("relative_path", DISTANCE).iter_rows():
        others = near.get(path, [])
        told = [{"relative_path": other, "cosine": cosine} for other, cosine in others]
        beside = [(other, f"its neighbour {at}, cosine {cosine:.3f}") for at, (other, cosine) in enumerate(others, 1)]
        found[path] = Evidence(facts={"outlier_score": distance, "neighbours": told}, beside=beside)
    return found


def _leaks(rows: pl.DataFrame, leaks: Leaks) -> dict[str, Evidence]:
    known = leaks.found()
    if known is None:
        return {}
    wanted = rows.select("relative_path")
    splits = dict(known.images.join(wanted, on="relative_path").select("relative_path", "split").iter_rows())
    found = {path: Evidence(facts={"split": split, "nearest": []}) for path, split in splits.items()}
    for path, other, split, kind, similarity in known.nearest.join(
        wanted, on="relative_path", how="semi", maintain_order="left"
    ).iter_rows():
        near = {"relative_path": other, "split": split, "kind": kind, "similarity": similarity}
        found[path].facts["nearest"].append(near)
    for path, one in found.items():
        others = one.facts["nearest"]
        first = others[0]
        one.said = (
            f"in {printable(splits[path])}; {first['kind']} {printable(first['relative_path'])} in {first['split']}"
        )
        one.cells = {"split": splits[path], "other": first["relative_path"], "other_split": first["split"]}
        one.beside = [
            (other["relative_path"], f"{other['kind']}, in {other['split']}" + _number(other["similarity"]))
            for other in others[:BESIDE]
        ]
    return found


def _number(similarity: float | None) -> str:
    return "" if similarity is None else f", {similarity:.3f}"


def _issues(
    kind: str, rows: pl.DataFrame, tables: Tables, order: Sequence[str], nearest: Nearest
) -> dict[str, Evidence]:
    """Of several fields the one that says most, the others after it."""
    if tables.label_issues.newest_version() < 0:
        return {}
    chosen = pl.col("kind").str.starts_with("box_") if kind == BAD_BOX else pl.col("kind") == kind
    issues = tables.label_issues.latest().read([*KEY, *ISSUE_COLUMNS], where=chosen).drop("_file")
    issues = issues.join(rows.select(KEY), on=KEY, how="semi").sort(
        "relative_path", "label_quality", "number", "field", "kind", descending=[False, False, True, False, False]
    )
    of_image = issues.partition_by("relative_path", as_dict=True, maintain_order=True)
    told = {str(path): found.select(ISSUE_COLUMNS).to_dicts() for (path,), found in of_image.items()}
    near = nearest(told) if kind == MISLABELLED else {}
    beside = {
        path: [other for other, _ in near.get(path, [])] or (issues[0]["evidence"] or [])[:BESIDE]
        for path, issues in told.items()
    }
    labels = _labels_of({other for others in beside.values() for other in others}, tables, order)
    found = {}
    for path, mine in told.items():
        first = mine[0]
        found[path] = Evidence(
            said="; ".join(_sentence(issue) for issue in mine),
            cells={
                name: "; ".join(_text(issue[name]) for issue in mine)
                for name in ("field", "given", "suggested", "reason")
            },
            facts={
                "issues": mine,
                "beside": [
                    {"relative_path": other, "label": labels.get((other, first["field"]))} for other in beside[path]
                ],
            },
            beside=[
                (
                    other,
                    f"labelled {printable(label)}"
                    if (label := labels.get((other, first["field"])))
                    else "not labelled",
                )
                for other in beside[path]
            ],
        )
    return found


def _sentence(issue: dict[str, Any]) -> str:
    labels = _text(issue["given"]) or "nothing"
    if issue["suggested"] is not None:
        labels += f" → {issue['suggested']}"
    more = f", quality {issue['label_quality']:.2f}" if issue["kind"] == MISLABELLED else f": {issue['reason']}"
    return printable(f"{issue['field']}: {labels}{more}")


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _labels_of(paths: Iterable[str], tables: Tables, order: Sequence[str]) -> dict[tuple[str, str], str]:
    """What counts of the labels of some images, by path and field."""
    contents = tables.contents(paths)
    images = pl.DataFrame(
        {"relative_path": list(contents), "content_sha256": list(contents.values())}, dict.fromkeys(KEY, pl.String)
    )
    if not len(images) or not tables.annotations.exists():
        return {}
    rows = counting_labels(tables.annotations, tables.decisions, tables.pairs, order, images)
    named = rows.select("relative_path", "field", pl.col("values").list.join(", "))
    return {(path, name): label for path, name, label in named.iter_rows() if label}
