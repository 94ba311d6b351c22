"""What the pages of datasets share: recipes as they lie there; versions and what changed, read once while they stay."""

from __future__ import annotations

import shlex
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation_assets.curate.duplicates.between import with_pairs
from curation_assets.datasets.catalogue import Listed, catalogue
from curation_assets.datasets.changes.moments import keys_of
from curation_assets.datasets.changes.reasons import by_reason, reason_in_short
from curation_assets.datasets.comparing import WENT
from curation_assets.datasets.reading import SUFFIX, read_recipe, recipe_files
from curation_assets.datasets.recipe import Recipe
from curation_assets.datasets.versions import checked_version, rows_of
from curation_assets.errors import CurationError
from curation_assets.export.archive import ArchiveTarget
from curation_assets.export.card import Card, card_of, side_order
from curation_assets.export.protocol import Options
from curation_assets.gallery.files import NotThereError
from curation_assets.held import Held, HeldSome
from curation_assets.images.names import printable, text_from_path
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import Settings, load_settings
from curation_assets.stores.address import StoreAddress

_HELD = 3  # versions, and differences of two
_MOST_TEXT = 200_000  # characters of a recipe
_PLACES = {"lake_root": "--lake", "images_root": "--images", "recipes": "--recipes"}
_NOT_TOLD = "not told"
_COMPARED = ["exact", "near", "burst"]  # reasons, of which pairs tell


@dataclass(frozen=True)
class RecipeFile:
    """A file in the folder of recipes.

    Attributes:
        name: without its ending.
        text: as it is written.
        recipe: None: something of it is wrong.
        fault: what that is, in a line.
    """

    name: str
    place: str
    text: str
    recipe: Recipe | None
    fault: str | None


@dataclass(frozen=True)
class VersionRows:
    """A version as it is shown.

    Attributes:
        listed: in short.
        rows: by path: ``relative_path``, ``content_sha256``, ``kept``, ``reason``, ``witness``, ``similarity``,
            ``label``, ``split``; of what stands for an image ``witness_content``, and ``method`` and ``transform`` of
            the pair that the two are.
        sides: as it is usual; empty without.
        classes: ``label`` (null: none), ``split`` and ``images`` of what is kept.
        left_out: ``reason``, ``images`` and how many have ``witnesses``, the most frequent first.
        card: what is told of it.
    """

    listed: Listed
    rows: pl.DataFrame
    sides: list[str]
    classes: pl.DataFrame
    left_out: pl.DataFrame
    card: Card


@dataclass(frozen=True)
class Changes:
    """What is otherwise from one version to another.

    Attributes:
        rows: of ``Pipeline.dataset_changes``, with ``content_sha256`` as the later version has it, of what went as the
            earlier one had it; and ``by``, the reason in short.
        counts: ``change``, ``by`` and ``images``.
    """

    rows: pl.DataFrame
    counts: pl.DataFrame


class Datasets:
    """Recipes and versions. Threads may share it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._tables = pipeline.tables
        self._catalogue = Held[dict[str, list[Listed]]]()
        self._versions = HeldSome[VersionRows](_HELD)
        self._changes = HeldSome[Changes](_HELD)

    def catalogue(self) -> dict[str, list[Listed]]:
        """All versions by dataset, the newest first; also those that were taken back.

        Raises:
            CurationError: the table can't be read.
        """
        table = self._tables.datasets
        return self._catalogue.of(table.newest_version(), lambda: catalogue(table))

    def recipes(self) -> dict[str, RecipeFile]:
        """What lies in the folder of recipes, by name; broken ones too."""
        return {name: _recipe(name, file) for name, file in self._recipe_files().items()}

    def recipe(self, dataset: str) -> RecipeFile | None:
        """One of them; None: there is none of that name."""
        file = self._recipe_files().get(dataset)
        return None if file is None else _recipe(dataset, file)

    def version(self, dataset: str, number: int) -> VersionRows:
        """A version with its rows.

        Raises:
            NotThereError: there is no such one, or it was taken back.
            CurationError: a table can't be read.
        """
        listed, said = self._listed(dataset, number), self._said(dataset)
        key = (self._newest(), self._tables.pairs.newest_version(), repr(said))
        return self._versions.of((dataset, number), key, lambda: self._read(listed, said))

    def changes(self, dataset: str, one: int, other: int) -> Changes:
        """What is otherwise from one version to another, and why.

        Raises:
            NotThereError: there is no such version.
            CurationError: a table can't be read.
        """
        both = self._listed(dataset, one), self._listed(dataset, other)
        return self._changes.of((dataset, one, other), self._newest(), lambda: self._compare(*both))

    def changed_keys(self, recipe: Recipe, listed: Listed) -> list[str]:
        """Keys of a recipe that say something else than when a version was made of it."""
        then, now = keys_of(listed.manifest.get("recipe") or {}), keys_of(recipe)
        # A key that came with a later release of this package was as it is by default.
        return sorted(key for key, value in now.items() if key in then and _plain(then[key]) != _plain(value))

    def write_list(self, dataset: str, number: int, format: str, target: Path) -> None:
        """Write a version as a list to a file that isn't there.

        Raises:
            NotThereError: there is no such version.
            CurationError: a table can't be read.
        """
        self._listed(dataset, number)
        self._pipeline.write_list(dataset, number, format, target, self._said(dataset))

    def check_there(self, dataset: str, number: int) -> None:
        """Whether a version is there.

        Raises:
            NotThereError: there is no such one, or it was taken back.
            CurationError: the table can't be read.
        """
        self._listed(dataset, number)

    def check_files(self, dataset: str, number: int, to: str, options: Options) -> tuple[int, int, list[str]]:
        """What a version would be as files, as ``Pipeline.check_export`` tells.

        Raises:
            NotThereError: there is no such version.
            CurationError: the format can't hold it.
        """
        self._listed(dataset, number)
        return self._pipeline.check_export(dataset, number, to, options)

    def send_files(self, dataset: str, number: int, to: str, target: ArchiveTarget, options: Options) -> None:
        """Send a version that is there as files of a format.

        Raises:
            CurationError: the format can't hold it, an image can't be had, or nobody takes it any more.
        """
        self._pipeline.send_export(dataset, number, to, target, options, LogProgress())

    def _recipe_files(self) -> dict[str, Path]:
        files = recipe_files(self._pipeline.settings.recipes)
        return {text_from_path(file.name.removesuffix(SUFFIX)): file for file in files}

    def _newest(self) -> Hashable:
        return self._tables.datasets.newest_version()

    def _listed(self, dataset: str, number: int) -> Listed:
        for listed in self.catalogue().get(dataset, ()):
            if listed.version == number and listed.withdrawn is None:
                return listed
        try:
            checked_version(self._tables.datasets, dataset, number)
        except CurationError as error:
            raise NotThereError(str(error)) from None
        raise NotThereError(f"{printable(dataset)}@{number} was published just now: ask again")

    def _said(self, dataset: str) -> Mapping[str, Any] | None:
        """What its recipe says of the data now; None: what the version's says."""
        recipe = self.recipe(dataset)
        return None if recipe is None or recipe.recipe is None else recipe.recipe.card.model_dump(mode="json")

    def _read(self, listed: Listed, said: Mapping[str, Any] | None) -> VersionRows:
        rows = rows_of(self._tables.datasets, listed.dataset, listed.version, listed.files)
        rows = rows.with_columns(reason=pl.when(~pl.col("kept")).then(pl.col("reason").fill_null(_NOT_TOLD)))
        kept = rows.filter("kept")
        out = rows.filter(~pl.col("kept"))
        out = out.group_by("reason").agg(images=pl.len(), witnesses=pl.col("witness").is_not_null().sum())
        return VersionRows(
            listed=listed,
            rows=_with_witnesses(rows, self._pipeline).drop("dataset", "version", "file"),
            sides=sorted(kept["split"].drop_nulls().unique(), key=side_order),
            classes=kept.group_by("label", "split").agg(images=pl.len()),
            left_out=out.sort("images", "reason", descending=[True, False]),
            card=card_of(listed.dataset, listed.version, listed.manifest, rows, said),
        )

    def _compare(self, one: Listed, other: Listed) -> Changes:
        found = self._pipeline.dataset_changes((one.dataset, one.version), (other.dataset, other.version))
        columns = ["relative_path", "content_sha256"]
        before, after = (
            rows_of(self._tables.datasets, each.dataset, each.version, each.files).select(columns)
            for each in (one, other)
        )
        # Of what went the content that was in it: the path may hold another by now, left out.
        went = pl.col("change") == WENT
        of_went = found.filter(went).join(before, on="relative_path", how="left")
        rows = pl.concat([of_went, found.filter(~went).join(after, on="relative_path", how="left")])
        rows = rows.sort("change", "relative_path").with_columns(by=reason_in_short())
        return Changes(rows, by_reason(found))


def options_of(settings: Settings) -> str:
    """What a command has to be told to find this lake, as a shell reads it; empty where the environment says all."""
    usual = None
    with suppress(CurationError):
        usual = load_settings()
    told = [
        f"{option} {shlex.quote(_written(getattr(settings, name)))}"
        for name, option in _PLACES.items()
        if usual is None or getattr(usual, name) != getattr(settings, name)
    ]
    return " ".join(told)


def _written(place: Path | StoreAddress) -> str:
    return place.written if isinstance(place, StoreAddress) else str(place)


def _recipe(name: str, file: Path) -> RecipeFile:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")[:_MOST_TEXT]
    except OSError:
        text = ""  # the fault says why
    recipe, fault = None, None
    try:
        recipe = read_recipe(file)
    except CurationError as error:
        fault = printable(text_from_path(str(error)).replace(text_from_path(str(file)), text_from_path(file.name)))
    return RecipeFile(name, text_from_path(str(file)), text, recipe, fault)


def _with_witnesses(rows: pl.DataFrame, pipeline: Pipeline) -> pl.DataFrame:
    """Rows with the content of what stands for an image, and of those that were compared how that was found."""
    content = rows.select(witness="relative_path", witness_content="content_sha256")
    rows = rows.join(content, on="witness", how="left", maintain_order="left")
    compared = rows.filter(pl.col("reason").is_in(_COMPARED) & pl.col("witness_content").is_not_null())
    told = with_pairs(compared, "content_sha256", "witness_content", pipeline.tables.pairs)
    told = told.select("relative_path", "method", "transform")
    return rows.join(told, on="relative_path", how="left", maintain_order="left")


def _plain(value: Any) -> Any:
    """A value as manifests have it: lists for tuples, numbers rounded."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
