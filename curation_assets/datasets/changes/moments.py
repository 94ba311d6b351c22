"""What a version was made of, as its manifest names it: its recipe, and the tables as they were then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from curation_assets.curate.problems import KINDS
from curation_assets.datasets.reading import nearest
from curation_assets.datasets.recipe import Recipe
from curation_assets.errors import CurationError
from curation_assets.lake.at import TableAt
from curation_assets.lake.table import LakeTable
from curation_assets.tables import Tables

# What a manifest calls a table, and the attribute of `Tables` is called alike.
OF_MANIFEST = (
    "directory",
    "embeddings",
    "quality",
    "pairs",
    "groups",
    "annotations",
    "decisions",
    "scores",
    "cluster_names",
    "predictions",
    "label_issues",
    "zero_shot_labels",
)
_OF_INDEX = ("directory", "embeddings")  # what stands in an index is of one version of these
OF_WHAT_IF = tuple(name for name in OF_MANIFEST if name not in _OF_INDEX)


@dataclass(frozen=True)
class Moment:
    """What a version was made of.

    Attributes:
        dataset, line: whose, and the version that its line begins with.
        recipe: every key that says something, with dots, and its value: ``leave_out.blurry``.
        tables: as they were; one that can't be had any more says so when it is read.
        model: name and version.
        order: of sources of annotations.
        thresholds: of the kinds of problem that were left out.
        judged: rows of the quality table with verdicts by such.
    """

    dataset: str
    line: int
    recipe: Mapping[str, Any]
    tables: Tables
    model: tuple[str, str]
    order: Sequence[str]
    thresholds: Mapping[str, float]
    judged: Callable[[Mapping[str, float]], pl.DataFrame]


def tables_of(manifest: Mapping[str, Any], tables: Tables) -> dict[str, LakeTable]:
    """The tables that a manifest names, as they were."""
    said = manifest["tables"]
    found: dict[str, LakeTable] = {}
    for name in OF_MANIFEST:
        table, at = getattr(tables, name), said.get(name)
        found[name] = TableAt(table, None) if at is None else TableAt(table, at["version"], at["id"])
    return found


def asked_as_of(texts: Sequence[str], tables: Tables) -> dict[str, LakeTable]:
    """Tables as of the versions that are asked for.

    Args:
        texts: as ``annotations@12``.

    Raises:
        CurationError: there is no such table or version, or it can't be read any more.
    """
    found: dict[str, LakeTable] = {}
    for text in texts:
        name, _, number = text.partition("@")
        if name in _OF_INDEX:
            said = "the index is made of it, and the images with it"
            raise CurationError(f"--what-if {text}: {said}; it can be any of {', '.join(OF_WHAT_IF)}")
        if name not in OF_WHAT_IF:
            raise CurationError(f"--what-if {text}: there is no table {name!r}{nearest(name, OF_WHAT_IF)}")
        if not number.isdecimal() or not number.isascii():
            raise CurationError(f"--what-if {text!r}: write TABLE@VERSION, for example {name}@12")
        if name in found:
            raise CurationError(f"--what-if {text}: {name} is asked for twice")
        found[name] = TableAt(getattr(tables, name), int(number))
        found[name].latest()
    return found


def keys_of(recipe: Mapping[str, Any] | Recipe) -> dict[str, Any]:
    """The keys of a recipe with dots, and their values; a kind of problem has its threshold, true or false.

    Args:
        recipe: or what a manifest has of it, perhaps of an earlier release.
    """
    given = recipe.model_dump(mode="json") if isinstance(recipe, Recipe) else dict(recipe)
    out = dict(given.get("leave_out") or {})
    kinds = out.pop("kinds", {})
    out |= {kind: False for kind in KINDS if kind not in out}
    given["leave_out"] = out | {kind: True if limit is None else limit for kind, limit in kinds.items()}
    return dict(_flat(given, ""))


def _flat(value: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and key != "labels.merge":
        return [pair for name, one in value.items() for pair in _flat(one, f"{key}.{name}" if key else str(name))]
    return [(key, value)]
