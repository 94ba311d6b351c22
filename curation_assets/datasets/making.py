"""From a recipe to a published version: gather, build, judge, publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets import __version__
from curation_assets.curate.duplicates.judging import Thresholds as Agreements
from curation_assets.datasets import versions
from curation_assets.datasets.building import Built, build
from curation_assets.datasets.changes.moments import OF_MANIFEST
from curation_assets.datasets.drift import Drift, drift
from curation_assets.datasets.gate import Verdict, judge
from curation_assets.datasets.gathering import Gathered, gather
from curation_assets.datasets.recipe import Recipe
from curation_assets.datasets.sampling import sampled_across
from curation_assets.datasets.versions import Published
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.images.source import ImageSource
from curation_assets.progress import Progress
from curation_assets.search.index import SearchIndex
from curation_assets.search.searcher import Searcher
from curation_assets.tables import Tables

_NAMED = 8  # classes in a note
_DIGITS = 6  # of numbers in a manifest


@dataclass
class Lake:
    """What a dataset is made of.

    Attributes:
        source: of the images.
        order: of sources of annotations.
        agreements: with which images have to be compared.
        threads: that draw what is compared.
        judged: rows of the quality table with verdicts, by thresholds in place of the settings'.
        thresholds: of the settings, by kind of problem.
    """

    tables: Tables
    searcher: Searcher
    source: ImageSource
    order: Sequence[str]
    agreements: Agreements
    threads: int
    judged: Callable[[dict[str, float]], pl.DataFrame]
    thresholds: Mapping[str, float]

    def limits(self, recipe: Recipe) -> dict[str, float]:
        """From which score on the kinds of problem are left out that a recipe names."""
        return {kind: self.thresholds[kind] if own is None else own for kind, own in recipe.leave_out.kinds.items()}


@dataclass
class Outcome:
    """What came of a recipe.

    Attributes:
        built: the dataset.
        verdicts: of its gate.
        parent: version that it goes on from; 0: none.
        published: None where the gate doesn't hold, or nothing was to be written.
        overridden: conditions that failed and were let pass, with the reason.
        run_id: of MLflow's run of the version; None where there is none.
        not_logged: why not.
    """

    built: Built
    verdicts: list[Verdict]
    parent: int
    published: Published | None = None
    overridden: dict[str, str] = field(default_factory=dict)
    run_id: str | None = None
    not_logged: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the gate holds, but for what was let pass."""
        return all(verdict.passed or verdict.name in self.overridden for verdict in self.verdicts)


def make(
    recipe: Recipe,
    lake: Lake,
    progress: Progress,
    *,
    dry_run: bool = False,
    fresh: bool = False,
    override: dict[str, str] | None = None,
) -> Outcome:
    """Build a recipe and, if its gate holds, publish it.

    Args:
        dry_run: only say what it would be.
        fresh: don't hold to what the last version kept, and where.
        override: conditions of the gate that may fail this once → why.

    Raises:
        CurationError: the recipe doesn't fit the lake, the lake is behind, or a table can't be read or written.
    """
    tables, searcher = lake.tables, lake.searcher
    index = searcher.open()
    if (behind := searcher.behind(index)) is not None:
        raise CurationError(f"{behind}; `curation curate` brings it in line")
    for table in (tables.pairs, tables.groups, tables.quality):
        if not table.exists():
            raise CurationError(f"there is no table at {table.path}; `curation curate` creates it")
    progress.start(f"dataset {recipe.name}", 3)
    parent = versions.last_version(tables.datasets, recipe.name)
    before = None if fresh else versions.kept_so_far(tables.datasets, recipe.name)
    gathered = gather(recipe, tables, searcher, index, lake.order, lake.agreements, lake.judged)
    progress.advance(1)
    built = build(recipe, gathered, before, progress)
    if parent and recipe.labels is not None:
        _tell_vanished(built, parent, versions.labels_of(tables.datasets, recipe.name, parent))
    if recipe.split is not None:
        _sample(built, lake, gathered, index, progress)
    progress.advance(1)
    missing = _missing(built.kept, index, lake.source) if recipe.gate.missing is not None else {}
    moved = None
    if recipe.gate.drift is not None and parent:
        moved = _drift(parent, versions.read_version(tables.datasets, recipe.name, parent), built.kept, index)
    outcome = Outcome(built, judge(built, missing, moved), parent)
    failed = {verdict.name for verdict in outcome.verdicts if not verdict.passed}
    names = [verdict.name for verdict in outcome.verdicts]
    for name, why in (override or {}).items():
        if name not in names:
            raise CurationError(f"the gate of {recipe.name} has no condition {name!r}; it has {', '.join(names)}")
        if name in failed:
            outcome.overridden[name] = why
    if not dry_run and outcome.passed:
        rows = built.rows.rename({"_file": "file"})
        facts = manifest(recipe, built, lake, index, outcome)
        outcome.published = versions.publish(tables.datasets, recipe.name, rows, facts, parent, progress, fresh=fresh)
    progress.advance(1)
    return outcome


def manifest(recipe: Recipe, built: Built, lake: Lake, index: SearchIndex, outcome: Outcome) -> dict[str, Any]:
    """What a version was made of: no times, no absolute paths, rounded numbers."""
    tables = lake.tables
    info = index.info
    used = {name: getattr(tables, name) for name in OF_MANIFEST}
    split = built.split
    facts: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "parent": outcome.parent,
        "tables": {
            name: {"id": table.latest().table_id, "version": table.newest_version()}
            for name, table in used.items()
            if table.exists()
        },
        "thresholds": lake.limits(recipe),
        "model": {"name": info.model_name, "version": info.model_version, "fingerprint": info.model_fingerprint},
        "code": __version__,
        "left_out": {name: int(counts["images"].sum()) for name, counts in built.steps.items()},
        "gate": {verdict.name: {"passed": verdict.passed, "told": verdict.told} for verdict in outcome.verdicts},
        "overridden": outcome.overridden,
        "notes": built.notes,
    }
    if built.given is not None:
        facts["given"] = {"file": built.given.name, "sha256": built.given.sha256, "images": built.given.images}
    if built.subset is not None:
        facts["subset"] = asdict(built.subset)
    if split is not None and built.leakage is not None:
        facts["split"] = {
            "units": split.units,
            "cut": split.cut,
            "worst": built.worst,
            "off": built.off,
            "bound": split.bound,
            "shares": built.shares,
            "relations": [asdict(relation) for relation in built.relations],
        }
        counts = built.leakage.counts.to_dicts()
        facts["leakage"] = {"pairs": built.leakage.pairs, "counts": counts, "compared_anew": built.sampled}
    return {name: _rounded(value) for name, value in facts.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {str(name): _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _sample(built: Built, lake: Lake, gathered: Gathered, index: SearchIndex, progress: Progress) -> None:
    """Compare a sample of pairs across sides anew."""
    kept = built.kept.select("relative_path", "content_sha256", "split")
    directory = lake.tables.directory.latest()
    different = gathered.words.different
    found = sampled_across(kept, different, index, directory, lake.agreements, progress, lake.threads)
    path_of = dict(kept.sort("relative_path", descending=True).select("content_sha256", "relative_path").iter_rows())
    built.sampled = found.compared
    built.missed = [(path_of[first], path_of[second]) for first, second in found.near.iter_rows()]


def _tell_vanished(built: Built, parent: int, before: set[str]) -> None:
    """Tell of classes that the version before had and this one has not."""
    gone = sorted(before.difference(built.kept["label"].drop_nulls().unique()))
    if gone:
        named = ", ".join(map(printable, gone[:_NAMED])) + (f" and {len(gone) - _NAMED:,} more" * (len(gone) > _NAMED))
        built.notes.append(f"no image is left of {named}, of which version {parent} had some")


def _drift(version: int, before: pl.DataFrame, kept: pl.DataFrame, index: SearchIndex) -> Drift:
    """How far what is kept is from an earlier version, by the model's vectors of what is still there."""
    rows = index.rows.select("content_sha256", "position").drop_nulls().unique("content_sha256", keep="first")
    known = rows.sort("content_sha256")

    def vectors_of(contents: pl.Series) -> NDArray[np.float32]:
        found = contents.to_frame("content_sha256").join(known, on="content_sha256", maintain_order="left")
        return index.take(found["position"].to_numpy())

    was = before.filter("kept")["content_sha256"]
    return drift(version, was, kept["content_sha256"], known["content_sha256"], vectors_of)


def _missing(kept: pl.DataFrame, index: SearchIndex, source: ImageSource) -> dict[str, str]:
    """Kept images whose file isn't there, or has another size: path → why."""
    sizes = kept.join(index.rows.select("relative_path", "size_bytes"), on="relative_path", how="left")
    found = {}
    for path, size in sizes.select("relative_path", "size_bytes").iter_rows():
        try:
            now = source.times(path).size_bytes
        except OSError as error:
            found[path] = error.strerror or str(error)
            continue
        if now != size:
            found[path] = f"{now:,} bytes, not {size:,}"
    return found
