"""``dataset_<name>``: an asset for every recipe, behind the checks of its gate."""

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from curation_assets.curate.problems import OUTLIER
from curation_assets.datasets.gate import Verdict, conditions
from curation_assets.datasets.reading import SUFFIX, read_recipe, recipe_files
from curation_assets.datasets.recipe import NAME, Recipe
from curation_assets.defs import metadata as md
from curation_assets.defs.annotations import image_annotations
from curation_assets.defs.duplicates import image_groups
from curation_assets.defs.embeddings import WHEN_INPUTS_CHANGED
from curation_assets.defs.label_issues import label_issues
from curation_assets.defs.predictions import image_predictions
from curation_assets.defs.quality import image_quality
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import failing_for_good, progress, trying_again
from curation_assets.defs.scores import image_scores
from curation_assets.defs.search import image_search_index
from curation_assets.defs.tags import OWNERS
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.lake.schemas import DATASETS
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings

if TYPE_CHECKING:
    from curation_assets.datasets.building import Built
    from curation_assets.datasets.making import Outcome

logger = logging.getLogger(__name__)

_SHOWN = 20  # classes, or groups, in a table
_MOST_LEFT = 200  # rows of what is left out: each group may have a reason of its own
_CLASSES, _OF_CLASS, _OF_REASON = 6, 6, 2  # with pictures: classes, images of each, images left out for each reason
Told = dg.AssetCheckResult | dg.MaterializeResult  # type: ignore[type-arg]


def build_datasets(settings: Settings) -> list[dg.AssetsDefinition]:
    """An asset for each recipe of the settings' folder; one that can't be read says so when it is materialized."""
    found = []
    for file in recipe_files(settings.recipes):
        if NAME.fullmatch(file.name.removesuffix(SUFFIX)) is None:
            logger.warning("%s: letters, digits and _ only in the name of a recipe; it is no asset", file)
            continue
        try:
            found.append(_asset(file, read_recipe(file)))
        except CurationError as error:
            logger.warning("%s", error)
            found.append(_asset(file, None))
    return found


def _asset(file: Path, recipe: Recipe | None) -> dg.AssetsDefinition:
    name = f"dataset_{file.name.removesuffix(SUFFIX)}"
    gate = conditions(recipe) if recipe is not None else {}
    told = recipe.description if recipe is not None and recipe.description else "A dataset, as its recipe says"

    @dg.asset(
        name=name,
        deps=_rests_on(recipe),
        group_name="datasets",
        owners=OWNERS,
        kinds={"python", "deltalake"},
        description=f"{told} ({file.name}): which images are kept, why others are not, their labels and sides. A gate "
        "that fails publishes nothing: then its checks fail, and there is no materialization.",
        metadata={"dagster/column_schema": md.column_schema(DATASETS)},
        code_version=_code_version(file, recipe),
        automation_condition=WHEN_INPUTS_CHANGED | dg.AutomationCondition.code_version_changed()
        if recipe is not None and recipe.automatic
        else None,
        output_required=False,
        check_specs=[
            dg.AssetCheckSpec(condition, asset=name, description=meaning, blocking=True)
            for condition, meaning in gate.items()
        ],
    )
    def dataset(context: dg.AssetExecutionContext, curation: CurationResource) -> Iterator[Told]:
        """Build the recipe and, if its gate holds, publish a version."""
        with trying_again(context), failing_for_good():
            now = read_recipe(file)
            if set(conditions(now)) != set(gate):
                raise CurationError(f"{file}: the gate has other conditions now; reload the code location")
            outcome = curation.pipeline().build_dataset(now, progress(context))
        for verdict in outcome.verdicts:
            yield _check(verdict, name, curation)
        if outcome.published is not None:
            facts = dataset_facts(outcome, curation)
            yield dg.MaterializeResult(metadata=facts, data_version=dg.DataVersion(outcome.published.content_id))

    return dataset


def _rests_on(recipe: Recipe | None) -> list[dg.AssetsDefinition]:
    """What a recipe reads: no more, as one that is never made would keep an automatic recipe waiting."""
    assets = [image_search_index, image_quality, image_groups]
    if recipe is None:
        return assets
    of_labels = recipe.labels is not None and recipe.labels.field is not None
    if of_labels or (recipe.split is not None and recipe.split.given == "annotations"):
        assets.append(image_annotations)
    if of_labels:
        assets.append(label_issues)
    if recipe.labels is not None and recipe.labels.predictions is not None:
        assets.append(image_predictions)
    asks_scores = OUTLIER in recipe.leave_out.kinds or recipe.subset.is_by_vectors
    return [*assets, image_scores] if asks_scores else assets


def _code_version(file: Path, recipe: Recipe | None) -> str:
    """Of a recipe and the file of images on sides that it names, as far as that is there."""
    digest = hashlib.sha256(file.read_bytes())
    if recipe is not None and recipe.split is not None and recipe.split.given_file is not None:
        with contextlib.suppress(OSError):
            digest.update((recipe.folder / recipe.split.given_file).read_bytes())
    return digest.hexdigest()[:12]


def build_datasets_sensor(assets: Sequence[dg.AssetsDefinition]) -> dg.AutomationConditionSensorDefinition:
    """Builds recipes anew that say ``automatic = true``."""
    return dg.AutomationConditionSensorDefinition(
        "datasets_automation_sensor",
        target=dg.AssetSelection.assets(*assets),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Builds a dataset anew when what it rests on, or its recipe, changed, if the recipe says "
        "`automatic = true`.",
    )


def _check(verdict: Verdict, asset: str, curation: CurationResource) -> dg.AssetCheckResult:
    shown: md.Facts = {}
    if verdict.paths:
        shown["images"] = dg.MetadataValue.text("\n".join(map(printable, verdict.paths)))
        if not verdict.passed:
            said = [(verdict.paths, verdict.told)]
            shown |= md.sheets(curation.pipeline(), "pictures", "images that it fails for", said)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=verdict.name,
        passed=verdict.passed,
        description=printable(verdict.told),
        severity=dg.AssetCheckSeverity.ERROR,
        metadata=shown,
    )


def dataset_facts(outcome: "Outcome", curation: CurationResource) -> md.Facts:
    """What the asset's page tells of a version."""
    built, published, pipeline = outcome.built, outcome.published, curation.pipeline()
    assert published is not None
    kept = built.kept
    recipe = built.recipe
    sides = list(recipe.split.sides.names) if recipe.split is not None else ["all"]
    by_label: dict[str, dict[str, int]] = {}
    for label, side, number in kept.group_by("label", "split").len().sort("label", "split").iter_rows():
        by_label.setdefault(str(label or ""), {})[str(side or "all")] = number
    groups = []
    if built.recipe.split is not None and built.recipe.split.groups is not None:  # any number, called anything
        groups = [(printable(side), number) for side, number in kept["split"].value_counts().sort("split").iter_rows()]
        by_label = {label: {"images": sum(counts.values())} for label, counts in by_label.items()}
        sides = ["images"]
    rows = [[printable(label), *(counts.get(side, 0) for side in sides)] for label, counts in by_label.items()]
    left = [
        (step, reason, printable(label or ""), number)
        for step, counts in built.steps.items()
        for reason, label, number in counts.iter_rows()
    ]
    facts: md.Facts = {
        "version": dg.MetadataValue.int(published.version),
        "new": dg.MetadataValue.bool(published.is_new),
        "content id": dg.MetadataValue.text(published.content_id),
        "MLflow run": dg.MetadataValue.text(outcome.run_id or f"not logged: {outcome.not_logged}"),
        "images": dg.MetadataValue.int(len(kept)),
        "classes": md.records({"label": "string"} | dict.fromkeys(sides, "int"), rows[:_SHOWN]),
        "left out": md.records(
            {"step": "string", "reason": "string", "label": "string", "images": "int"}, left[:_MOST_LEFT]
        ),
    }
    if groups:
        facts["groups"] = dg.MetadataValue.int(len(groups))
        facts["images by group"] = md.records({"group": "string", "images": "int"}, groups[:_SHOWN])
    if built.split is not None:
        facts["class shares off by (points)"] = dg.MetadataValue.float(round(built.worst, 4))
        if not groups:
            facts["sizes off by (points)"] = dg.MetadataValue.float(round(built.off, 4))
    if built.subset is not None:
        told = built.subset
        facts |= {
            "largest distance to the subset": dg.MetadataValue.float(round(told.largest, 4)),
            "the same at random": dg.MetadataValue.float(round(told.largest_at_random, 4)),
            "mean distance to the subset": dg.MetadataValue.float(round(told.mean, 4)),
            "its mean at random": dg.MetadataValue.float(round(told.mean_at_random, 4)),
            "chosen last": md.records({"why": "string", "images": "int"}, [*told.last.items()]),
        }
    if built.notes:
        facts["notes"] = dg.MetadataValue.md("\n".join(f"- {md.escaped(printable(note))}" for note in built.notes))
    facts |= _pictures(built, pipeline)
    name = pipeline.settings.full_name(pipeline.settings.datasets_table)
    return facts | md.whole_table_facts(pipeline.tables.datasets, name)


def _pictures(built: "Built", pipeline: Pipeline) -> md.Facts:
    """A few images of the largest classes, and a few that are left out beside what stands for them."""
    kept = built.kept.sort("relative_path")
    classes = kept["label"].value_counts().sort("count", "label", descending=[True, False], nulls_last=True)
    shown = []
    for label, number in classes.head(_CLASSES).iter_rows():
        of_class = kept.filter(pl.col("label").eq_missing(label))["relative_path"]
        spread = of_class.gather_every(max(1, len(of_class) // _OF_CLASS)).head(_OF_CLASS)
        shown.append((spread.to_list(), f"{printable(label or 'all')}: {number:,}"))
    left = built.rows.drop_nulls("reason").sort(pl.col("witness").is_null(), "reason", "relative_path")
    beside = []
    for path, witness, reason in (
        left.group_by("reason", maintain_order=True)
        .head(_OF_REASON)
        .select("relative_path", "witness", "reason")
        .iter_rows()
    ):
        stands = f", for {printable(witness)}" if witness is not None else ""
        beside.append(([path] if witness is None else [path, witness], f"{reason}: {printable(path)}{stands}"))
    facts = md.sheets(pipeline, "a few of each class", "images of a class", shown)
    return facts | md.sheets(pipeline, "left out, beside what stands for it", "an image and its witness", beside)
