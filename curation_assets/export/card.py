"""The card of a version: what is in it, what is not and why, what was measured, and what people say of it.

It is made of the version's rows and its manifest alone, so that a version has one without an export too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import polars as pl

from curation_assets.images.names import printable
from curation_assets.search.page import Cell, Heading, Matrix, Section, Tile, page_of, thumbnail

_EXAMPLES, _CLASSES_SHOWN, _MOST_CLASSES = 3, 8, 200
_NO_LABEL, _ALL = "no label", "images"
_MARKED = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$])")


@dataclass(frozen=True)
class Card:
    """What is told.

    Attributes:
        title: ``leaves@2``.
        text: the recipe's description.
        content_id: of the version.
        sides: columns of the counts.
        counts: class → images on each side; the last row is all.
        facts: names, and what each is: licence, sources, what it was made of.
        left_out: reason → images, and one with what stands for it.
        measured: leakage and gate, by name.
        limits: sentences.
        examples: rows of the version whose pictures are shown, ``group`` says under which title.
    """

    title: str
    text: str
    content_id: str
    sides: Sequence[str]
    counts: Sequence[tuple[str, Sequence[int]]]
    facts: Sequence[tuple[str, str]]
    left_out: Sequence[tuple[str, int, str]]
    measured: Sequence[tuple[str, str]]
    limits: Sequence[str]
    examples: pl.DataFrame


def card_of(
    dataset: str, version: int, manifest: Mapping[str, Any], rows: pl.DataFrame, said: Mapping[str, Any] | None = None
) -> Card:
    """Make the card.

    Args:
        rows: of the version, as ``versions.read_version`` gives them: ``relative_path``, ``content_sha256``, ``kept``,
            ``reason``, ``witness``, ``label``, ``split``, ``file``.
        said: ``licence``, ``sources``, ``citation`` and ``limits``; None: as the version's recipe has them.
    """
    recipe = manifest.get("recipe") or {}
    said = (recipe.get("card") or {}) if said is None else said
    kept = rows.filter("kept")
    sides, counts = _counts(kept)
    return Card(
        f"{dataset}@{version}",
        str(recipe.get("description") or ""),
        str(manifest.get("content_id") or ""),
        sides,
        counts,
        [*_said(said), *_made_of(manifest)],
        _left_out(rows),
        _measured(manifest),
        [*said.get("limits", ()), *_limits(manifest)],
        _examples(kept),
    )


def as_markdown(card: Card, notes: Sequence[str] = (), files: Mapping[str, str] | None = None) -> str:
    """The card as Markdown.

    Args:
        notes: of an export: what is lost in its format.
        files: of an export: path of an image → its file, relative to the card.
    """
    parts = [f"# {_plain(card.title)}"]
    if card.text:
        parts.append(_plain(card.text))
    parts.append(
        _table(["class", *map(_plain, card.sides)], [[_plain(name), *_numbers(row)] for name, row in card.counts])
    )
    if card.facts:
        parts += ["## Licence and origin", _listed(card.facts)]
    if card.left_out:
        rows = [[_plain(reason), f"{number:,}", _plain(example)] for reason, number, example in card.left_out]
        parts += ["## Left out", _table(["reason", "images", "for example"], rows)]
    if card.measured:
        parts += ["## Measured", _listed(card.measured)]
    if limits := [*card.limits, *notes]:
        parts += ["## Known limits", "\n".join(f"- {_plain(limit)}" for limit in limits)]
    if len(card.examples):
        parts += ["## Examples", "\n".join(_example(row, files or {}) for row in card.examples.iter_rows(named=True))]
    return "\n\n".join(parts) + "\n"


def as_html(
    card: Card,
    previews: Mapping[str, bytes],
    notes: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> str:
    """The card as a page that needs nothing beside it.

    Args:
        previews: JPEG by path, of ``card.examples``.
        notes, files: as of :func:`as_markdown`.
    """
    most = max((number for _, row in card.counts[:-1] for number in row), default=0) or 1
    table = [
        (
            printable(name),
            [Cell(f"{number:,}", 0.6 * number / most if place < len(card.counts) - 1 else 0) for number in row],
        )
        for place, (name, row) in enumerate(card.counts)
    ]
    sections = [Section("Images", [], None, Matrix([printable(side) for side in card.sides], table))]
    if card.facts:
        sections.append(Section("Licence and origin", [], facts=_printed(card.facts)))
    if card.left_out:
        left = [(reason, f"{number:,}, for example {example}") for reason, number, example in card.left_out]
        sections.append(Section("Left out", [], facts=_printed(left)))
    if card.measured:
        sections.append(Section("Measured", [], facts=_printed(card.measured)))
    if limits := [*card.limits, *notes]:
        sections.append(Section("Known limits", [], facts=[("", printable(limit)) for limit in limits]))
    for (group,), rows in card.examples.group_by("group", maintain_order=True):
        tiles = [_tile(row, previews, files or {}) for row in rows.iter_rows(named=True)]
        sections.append(Section(f"Examples: {printable(str(group))}", tiles))
    heading = Heading(
        printable(card.title), printable(card.text), f"content {card.content_id}" if card.content_id else ""
    )
    return page_of(heading, sections)


def _counts(kept: pl.DataFrame) -> tuple[list[str], list[tuple[str, list[int]]]]:
    sides = sorted(kept["split"].drop_nulls().unique(), key=side_order)
    names = pl.col("label").fill_null(_NO_LABEL)
    tally: dict[tuple[str, str | None], int] = {
        (label, side): number for label, side, number in kept.group_by(names, "split").len().iter_rows()
    }
    labels = sorted({label for label, _ in tally})
    columns: list[str | None] = [*sides] if sides else [None]
    rows = [(label, [tally.get((label, side), 0) for side in columns]) for label in labels]
    total = [sum(row[place] for _, row in rows) for place in range(len(columns))]
    if len(rows) > _MOST_CLASSES:
        rest = rows[_MOST_CLASSES:]
        rows = rows[:_MOST_CLASSES]
        rows.append((f"{len(rest):,} more classes", [sum(row[at] for _, row in rest) for at in range(len(columns))]))
    every = [(name, [*row, sum(row)] if sides else row) for name, row in [*rows, ("all", total)]]
    return [*sides, _ALL], every


def side_order(side: str) -> tuple[int, int, str]:
    """Train, val, test; folds by their numbers."""
    return {"train": 0, "val": 1, "test": 2}.get(side, 3), len(side), side


def _said(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [("Licence", said.get("licence") or "not given")]
    found += [("Source", source) for source in said.get("sources", ())]
    if said.get("citation"):
        found.append(("Citation", said["citation"]))
    return found


def _made_of(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    if (tables := manifest.get("tables")) is not None:
        found.append(
            ("Tables", ", ".join(f"{name} at version {each['version']}" for name, each in sorted(tables.items())))
        )
    if (model := manifest.get("model")) is not None:
        found.append(("Model", f"{model['name']} version {model['version']}"))
    if manifest.get("parent"):
        found.append(("Goes on from", f"version {manifest['parent']}"))
    if manifest.get("code"):
        found.append(("Made by", f"curation_assets {manifest['code']}"))
    return found


def _left_out(rows: pl.DataFrame) -> list[tuple[str, int, str]]:
    out = rows.filter(~pl.col("kept")).sort(pl.col("witness").is_null(), "relative_path")
    found = []
    for (reason,), those in out.group_by("reason", maintain_order=True):
        first = those.row(0, named=True)
        stands = f", for which {first['witness']} stands" if first["witness"] else ""
        found.append((str(reason or "not told"), len(those), f"{first['relative_path']}{stands}"))
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _measured(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    if (leakage := manifest.get("leakage")) is not None:
        anew = f"; {leakage['compared_anew']:,} compared anew" if leakage.get("compared_anew") else ""
        found.append(("Leakage", f"{leakage['pairs']:,} pairs of the same photograph or scene lie on two sides{anew}"))
    for name, verdict in sorted((manifest.get("gate") or {}).items()):
        found.append((f"Gate: {name}", f"{'holds' if verdict['passed'] else 'fails'}: {verdict['told']}"))
    return found


def _limits(manifest: Mapping[str, Any]) -> list[str]:
    let_pass = (manifest.get("overridden") or {}).items()
    found = [f"the condition {name} of the gate failed, and was let pass: {why}" for name, why in let_pass]
    found += [
        f"{gone['images']:,} images were forgotten on request on {gone['at'][:10]}, {gone['kept']:,} of them kept"
        for gone in manifest.get("forgotten") or ()
    ]
    return [*found, *(manifest.get("notes") or ())]


def _examples(kept: pl.DataFrame) -> pl.DataFrame:
    """Some images of each class, by chance that is the same each time: in the order of their hashes."""
    named = kept.with_columns(group=pl.col("label").fill_null(_NO_LABEL))
    often = named.group_by("group").len().sort("len", "group", descending=[True, False]).head(_CLASSES_SHOWN)
    most = _EXAMPLES if len(often) > 1 else _EXAMPLES * 4
    some = named.join(often.select("group"), on="group", how="semi").sort("group", "content_sha256", "relative_path")
    return some.group_by("group", maintain_order=True).head(most)


def _tile(row: Mapping[str, Any], previews: Mapping[str, bytes], files: Mapping[str, str]) -> Tile:
    path = row["relative_path"]
    link = quote(files[path]) if path in files else ""
    return Tile(printable(path), link, thumbnail(previews.get(path)), None, row["split"] and printable(row["split"]))


def _example(row: Mapping[str, Any], files: Mapping[str, str]) -> str:
    path = row["relative_path"]
    name = f"[{_plain(path)}]({quote(files[path])})" if path in files else _plain(path)
    return f"- {_plain(row['group'])}: {name}"


def _printed(facts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(printable(name), printable(text)) for name, text in facts]


def _listed(facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {_plain(name)}: {_plain(text)}" for name, text in facts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:" if head[0] == "class" else "---"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _numbers(row: Sequence[int]) -> list[str]:
    return [f"{number:,}" for number in row]


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return _MARKED.sub(r"\\\1", printable(text))
