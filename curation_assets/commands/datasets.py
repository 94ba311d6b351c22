"""``curation dataset``: recipes, and the versions that are built of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.options import ImagesOption, JsonOption, LakeOption, pipeline_of, place_of, settings_of
from curation_assets.commands.output import err, out, print_json, refuse_folder
from curation_assets.commands.progress import quiet_libraries, stoppable
from curation_assets.errors import CurationError
from curation_assets.images.names import printable

if TYPE_CHECKING:
    import polars as pl

    from curation_assets.datasets.building import Built
    from curation_assets.datasets.making import Outcome

app = typer.Typer(
    help="Datasets: recipes, splits that never leak, versions.", no_args_is_help=True, rich_markup_mode=None
)
_MOST = 8  # labels, paths or reasons that stand in a line
_MOST_ROWS = 20
_WORTH_A_WORD = 1.0  # points
RecipesOption = Annotated[Path | None, typer.Option("--recipes", help="Folder of the recipes [CURATION_RECIPES].")]
NameArgument = Annotated[str, typer.Argument(help="Name of a dataset, or NAME@VERSION.")]
FORMATS = ("folders", "coco", "yolo", "webdataset", "hf-imagefolder", "hf-parquet", "csv", "jsonl", "parquet")
LINKS = ("copy", "hard", "symlink")


@app.command("init")
def init(
    name: Annotated[str, typer.Argument(help="Name of the dataset: letters, digits and _.")],
    recipes: RecipesOption = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
) -> None:
    """Write a recipe with comments that fits the lake: its folders, labels and orders."""
    quiet_libraries()
    from curation_assets.datasets.recipe import NAME
    from curation_assets.datasets.starting import lake_of, proper_name, written
    from curation_assets.files import write_whole

    if not NAME.fullmatch(name):
        raise CurationError(
            f"{name!r} can't be a dataset's name: letters, digits and _ only, as in {proper_name(name)}"
        )
    pipeline = pipeline_of(settings_of(images, lake, recipes=_absolute(recipes)))
    file = pipeline.settings.recipes / f"{name}.toml"
    if file.exists():
        raise CurationError(f"{file} is there already")
    if not pipeline.tables.directory.exists():
        raise CurationError(f"there is no table at {pipeline.tables.directory.path}; `curation run` creates it")
    text = written(name, lake_of(pipeline.tables, pipeline.annotation_order))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.encode())
    out.print(f"recipe  {file}", markup=False, soft_wrap=True)
    out.print(f"`curation dataset build {name} --dry-run` shows what it would keep", markup=False)


@app.command("build")
def build(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or its file.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would be.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin a new line: images may change sides, or not be kept any more.")
    ] = False,
    curate: Annotated[bool, typer.Option("--curate/--no-curate", help="Bring the tables in line before.")] = True,
    override: Annotated[
        list[str] | None,
        typer.Option("--override", help="A condition of the gate that may fail this once; repeatable."),
    ] = None,
    because: Annotated[str | None, typer.Option("--because", help="Why; the version records it.")] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            help="KEY=VALUE in place of the recipe's, as leave_out.blurry=0.3, or a table as it was, as "
            "annotations@12: say what would change, and write nothing; repeatable.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the gate's verdicts: JUnit XML, or .json.")
    ] = None,
    recipes: RecipesOption = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry out a recipe and publish a version. Ends with 1 where its gate doesn't hold: then nothing is published."""
    quiet_libraries()
    from curation_assets.datasets.changes.moments import asked_as_of
    from curation_assets.datasets.reading import read_recipe, recipe_file
    from curation_assets.ingest import curate as bring_in_line

    if bool(override) != bool(because and because.strip()):
        raise CurationError("--override and --because go together: say what may fail, and why")
    pipeline = pipeline_of(settings_of(images, lake, recipes=_absolute(recipes)))
    file = recipe_file(pipeline.settings.recipes, recipe)
    as_of = [text for text in what_if or () if "@" in text and "=" not in text]
    read = read_recipe(file, [text for text in what_if or () if text not in as_of])
    check_file(report, "--report")
    if not pipeline.tables.directory.exists():
        raise CurationError(f"there is no table at {pipeline.tables.directory.path}; `curation run` creates it")
    asked = pipeline.with_tables(asked_as_of(as_of, pipeline.tables)) if as_of else pipeline
    with stoppable() as shown:
        if curate:
            done = bring_in_line(pipeline, shown)
            if done.index_error is not None:
                raise CurationError(done.index_error)
            if read.labels is not None and read.labels.zero_shot and pipeline.settings.labels:
                pipeline.label_all(shown)
        let_pass = {name: str(because) for name in override or ()}
        as_it_is = None
        if what_if:
            dry_run, as_it_is = True, pipeline.build_dataset(read_recipe(file), shown, dry_run=True, fresh=fresh)
        outcome = asked.build_dataset(read, shown, dry_run=dry_run, fresh=fresh, override=let_pass)
    changes = None if as_it_is is None else pipeline.built_changes(as_it_is, outcome, asked)
    if report is not None:
        _write_report(outcome, report)
    if as_json:
        told = outcome_facts(outcome, dry_run=dry_run)
        print_json(told if changes is None else told | {"what_if": what_if} | _change_facts(changes))
    else:
        print_outcome(outcome, dry_run=dry_run)
        if changes is not None:
            out.print(printable(f"what {', '.join(what_if or ())} would change:"), markup=False, soft_wrap=True)
            _print_changes(changes, _MOST)
    raise typer.Exit(0 if outcome.passed else 1)


@app.command("list")
def list_versions(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Every version of every dataset."""
    quiet_libraries()
    from curation_assets.datasets.versions import versions

    found = versions(pipeline_of(settings_of(None, lake)).tables.datasets)
    if as_json:
        print_json({"versions": [asdict(version) for version in found]})
        return
    for version in found:
        by_name = sorted(version.splits, key=_side_order)
        sides = "  ".join(f"{side} {version.splits[side]:,}" for side in by_name[:_MOST])
        sides += f"  and {len(by_name) - _MOST:,} more sides" if len(by_name) > _MOST else ""
        told = f"{version.dataset}@{version.version}  {version.published_at:%Y-%m-%d %H:%M}"
        told += f"  {version.content_id[:12]}  {version.images:,} images  {sides}"
        out.print(printable(told.rstrip()), markup=False, soft_wrap=True)
    if not found:
        out.print("no datasets; `curation dataset init NAME` writes a recipe, `curation dataset build NAME` builds it")


@app.command("show")
def show(
    name: NameArgument,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write what is kept as a CSV file.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="The same as Parquet.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="In the files also what is left out, and why.")] = False,
    card: Annotated[
        Path | None, typer.Option("--card", help="Write the version's card: a page (.html) or Markdown (.md).")
    ] = None,
    recipes: RecipesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is in a version, what is not and why, and what it was made of."""
    quiet_libraries()
    from curation_assets.datasets.versions import checked_version, read_manifest, read_version
    from curation_assets.files import write_whole

    check_file(csv, "--csv")
    check_file(parquet, "--parquet")
    check_file(card, "--card")
    if card is not None and card.suffix not in (".html", ".md"):
        raise CurationError(f"--card {card}: the name of the file ends with .html or .md")
    pipeline = pipeline_of(settings_of(None, lake, recipes=_absolute(recipes)))
    table = pipeline.tables.datasets
    dataset, number = named(name)
    number = checked_version(table, dataset, number)
    rows, manifest = read_version(table, dataset, number), read_manifest(table, dataset, number)
    kept = rows.filter("kept")
    for file, write in ((csv, rows.write_csv), (parquet, rows.write_parquet)):
        if file is None:
            continue
        of_file = rows if everything else kept
        listed = of_file.drop(
            "dataset", "version", "file", *(() if everything else ("kept", "reason", "witness", "similarity"))
        )
        _write(listed, file, is_csv=write == rows.write_csv)
        err.print(f"wrote {len(listed):,} images to {file}", markup=False, soft_wrap=True)
    if card is not None:
        text = pipeline.version_card(dataset, number)[f"card{card.suffix}"]
        write_whole(card.absolute(), text.encode())
        err.print(f"wrote the card to {card}", markup=False, soft_wrap=True)
    if as_json:
        left = dict(rows.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows())
        print_json({"dataset": dataset, "version": number, "images": len(kept), "left_out": left, "manifest": manifest})
        return
    out.print(f"{dataset}@{number}  {len(kept):,} images  {manifest['content_id'][:12]}", markup=False)
    _print_shares(_by_side(kept))
    reasons = sorted(rows.drop_nulls("reason").partition_by("reason", as_dict=True).items())
    for reason, of_reason in reasons[:_MOST_ROWS]:
        with_witness = of_reason.drop_nulls("witness").head(1).rows(named=True)
        example = with_witness[0] if with_witness else of_reason.row(0, named=True)
        by = f" for {printable(example['witness'])}" if example["witness"] else ""
        told = f"left out  {printable(reason[0]):<16}{len(of_reason):>7,}  {printable(example['relative_path'])}{by}"
        out.print(told, markup=False, soft_wrap=True)
    if more := reasons[_MOST_ROWS:]:
        told = f"left out  {len(more):,} more reasons{sum(len(one) for _, one in more):>7,}"
        out.print(told, markup=False, soft_wrap=True)
    if "subset" in manifest:
        for line in _subset_lines(manifest["subset"]):
            out.print(printable(line), markup=False, soft_wrap=True)
    if "leakage" in manifest:
        out.print(f"leakage   {manifest['leakage']['pairs']:,} pairs across sides", markup=False)
    for name_of, why in manifest["overridden"].items():
        out.print(printable(f"let pass  {name_of}: {why}"), markup=False, soft_wrap=True)
    for note in manifest["notes"]:
        out.print(printable(f"note      {note}"), markup=False, soft_wrap=True)
    for gone in manifest.get("forgotten", ()):
        told = f"forgotten {gone['images']:>23,}  {gone['kept']:,} of them kept, on request, {gone['at'][:10]}"
        out.print(told, markup=False, soft_wrap=True)


@app.command("diff")
def diff(
    one: NameArgument,
    other: Annotated[str, typer.Argument(help="Another version: NAME@VERSION, or a number.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many images of a change.")] = _MOST_ROWS,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which images came, went, changed sides or labels from one version to another, and why."""
    quiet_libraries()
    first = named(one)
    second = (first[0], int(other)) if other.isdecimal() else named(other)
    found = pipeline_of(settings_of(None, lake)).dataset_changes(first, second)
    if as_json:
        print_json(_change_facts(found))
        return
    _print_changes(found, k)


@app.command("verify")
def verify(
    name: NameArgument, images: ImagesOption = None, lake: LakeOption = None, as_json: JsonOption = False
) -> None:
    """Read every image of a version: whether it is still there with the same bytes. Ends with 1 where one is not."""
    quiet_libraries()
    from curation_assets.datasets.comparing import verify as verify_images
    from curation_assets.datasets.versions import checked_version, read_manifest, read_version

    pipeline = pipeline_of(settings_of(images, lake))
    table = pipeline.tables.datasets
    dataset, number = named(name)
    number = checked_version(table, dataset, number)
    kept = read_version(table, dataset, number).filter("kept")
    forgotten = sum(gone["kept"] for gone in read_manifest(table, dataset, number).get("forgotten", ()))
    with stoppable() as shown:
        found = verify_images(kept, pipeline.source, shown)
    if as_json:
        print_json({"dataset": dataset, "version": number, "forgotten": forgotten} | asdict(found))
    else:
        for path, why in list(found.gone.items())[:_MOST_ROWS]:
            out.print(printable(f"gone   {path}: {why}"), markup=False, soft_wrap=True)
        for path in found.other[:_MOST_ROWS]:
            out.print(printable(f"other  {path}: its bytes are not those of the version"), markup=False, soft_wrap=True)
        whole = found.images - len(found.gone) - len(found.other)
        told = f"{dataset}@{number}  {whole:,} of {found.images:,} images are there as they were"
        told += f"; {forgotten:,} were forgotten on request" if forgotten else ""
        out.print(told, markup=False, soft_wrap=True)
    raise typer.Exit(1 if found.gone or found.other else 0)


@app.command("restore")
def restore(
    name: NameArgument,
    target: Annotated[Path, typer.Option("--out", help="Folder to write to; files of yours are never touched.")],
    everything: Annotated[
        bool, typer.Option("--all", help="All images of the version, not those alone that are gone.")
    ] = False,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write images of a version whose files are gone or others by now, out of the table; 1 if one can't be."""
    quiet_libraries()
    from curation_assets.datasets.comparing import verify as verify_images
    from curation_assets.datasets.restoring import restore as restore_images
    from curation_assets.datasets.versions import checked_version, read_version

    pipeline = pipeline_of(settings_of(images, lake))
    tables = pipeline.tables
    dataset, number = named(name)
    number = checked_version(tables.datasets, dataset, number)
    if target.exists() and not target.is_dir():
        raise CurationError(f"--out {target} is no folder")
    kept = read_version(tables.datasets, dataset, number).filter("kept")
    with stoppable() as shown:
        wanted = kept["relative_path"].to_list()
        if not everything:
            found = verify_images(kept, pipeline.source, shown)
            wanted = [*found.gone, *found.other]
        done = restore_images(kept, wanted, tables.directory, target.absolute(), shown)
    if as_json:
        print_json({"dataset": dataset, "version": number} | asdict(done))
    else:
        for path, why in list(done.lacking.items())[:_MOST_ROWS]:
            out.print(printable(f"lacking  {path}: {why}"), markup=False, soft_wrap=True)
        told = f"{done.images:,} of {len(wanted):,} images written to {target}"
        out.print(told if wanted else "every image is there as it was", markup=False, soft_wrap=True)
    raise typer.Exit(1 if done.lacking else 0)


@app.command("export")
def export(
    name: NameArgument,
    to: Annotated[str, typer.Option("--to", help=f"Format: {', '.join(FORMATS)}.")],
    target: Annotated[
        str,
        typer.Option(
            "--out", help="Folder, or file, that isn't there yet; a folder may be empty. Or s3://…, gs://…, az://…"
        ),
    ],
    link: Annotated[
        str, typer.Option("--link", help="copy, hard or symlink: how a file of the disk comes into the folder.")
    ] = "copy",
    upright: Annotated[
        bool, typer.Option("--upright", help="Turn images that EXIF turns, and encode those anew.")
    ] = False,
    strip: Annotated[
        bool, typer.Option("--strip-metadata", help="Write pixels and colour profile alone: no place, no time.")
    ] = False,
    recipes: RecipesOption = None,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version as files that others read. A killed one goes on; nothing half stands under the final name."""
    quiet_libraries()
    from curation_assets.export.protocol import Options

    if link not in LINKS:
        raise CurationError(f"--link {link}: choose {', '.join(LINKS)}")
    dataset, number = named(name)
    pipeline = pipeline_of(settings_of(images, lake, recipes=_absolute(recipes)))
    options = Options(link=link, upright=upright, strip_metadata=strip)  # type: ignore[arg-type]
    with stoppable() as shown:
        done = pipeline.export_dataset(dataset, number, to, place_of("--out", target), options, shown)
    if as_json:
        print_json(asdict(done))
        return
    held = f"  {done.files:,} files  {done.bytes / 1e6:,.1f} MB" if done.files else ""
    told = f"{done.dataset}@{done.version}  {done.images:,} images{held}  {done.format}  {target}"
    out.print(printable(told), markup=False, soft_wrap=True)
    if done.resumed:
        out.print(f"note      {done.resumed:,} files were there from a run before", markup=False)
    if done.from_table:
        told = f"note      {done.from_table:,} images came out of the table: their files are gone, or others by now"
        out.print(told, markup=False)
    for note in done.notes:
        out.print(printable(f"note      {note}"), markup=False, soft_wrap=True)


@app.command("withdraw")
def withdraw(
    name: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    because: Annotated[str, typer.Option("--because", help="Why; it is told to who asks for the version.")],
    lake: LakeOption = None,
) -> None:
    """Take a version back, and its hold on files: its number isn't used again."""
    quiet_libraries()
    from curation_assets.datasets.versions import withdraw as take_back

    dataset, number = named(name)
    if number is None:
        raise CurationError(f"{name!r}: say which version, as {dataset}@2")
    if not because.strip():
        raise CurationError("--because is empty: say why")
    with stoppable() as shown:
        take_back(pipeline_of(settings_of(None, lake)).tables.datasets, dataset, number, because, shown)
    out.print(printable(f"{dataset}@{number}  withdrawn: {because}"), markup=False, soft_wrap=True)


# ---------------------------------------------------------------------- shown


def _print_changes(changes: pl.DataFrame, k: int) -> None:
    from curation_assets.datasets.changes.reasons import by_reason

    counts = by_reason(changes)
    for (change,), rows in changes.group_by("change", maintain_order=True):
        reasons = [f"{by} {number:,}" for _, by, number in counts.filter(counts["change"] == change).iter_rows()]
        more = f", and {len(reasons) - _MOST} more reasons" if len(reasons) > _MOST else ""
        told = f"{change}  {len(rows):,} images  ({', '.join(reasons[:_MOST])}{more})"
        out.print(printable(told), markup=False, soft_wrap=True)
        for row in rows.head(k).iter_rows(named=True):
            told = f"  {row['relative_path']}: {row['before'] or 'none'} → {row['after'] or 'none'}  {row['why']}"
            out.print(printable(told), markup=False, soft_wrap=True)
        if len(rows) > k:
            out.print(f"  and {len(rows) - k:,} more", markup=False)
    if not len(changes):
        out.print("nothing is otherwise")


def _change_facts(changes: pl.DataFrame) -> dict[str, Any]:
    """The same for ``--json``."""
    from curation_assets.datasets.changes.reasons import by_reason

    why: dict[str, dict[str, int]] = {}
    for change, by, number in by_reason(changes).iter_rows():
        why.setdefault(change, {})[by] = number
    counts = {change: sum(numbers.values()) for change, numbers in why.items()}
    return {"counts": counts, "why": why, "changes": changes.to_dicts()}


def _write_report(outcome: Outcome, file: Path) -> None:
    import json

    from curation_assets.datasets.gate import as_junit
    from curation_assets.files import write_whole

    if file.suffix == ".json":
        content = json.dumps([asdict(verdict) for verdict in outcome.verdicts], indent=2).encode()
    else:
        content = as_junit(outcome.built.recipe.name, outcome.verdicts)
    write_whole(file.absolute(), content)


def print_outcome(outcome: Outcome, *, dry_run: bool) -> None:
    """What a build left out and kept, and what its gate says."""
    built, recipe = outcome.built, outcome.built.recipe
    out.print(f"{len(built.rows):,} images", markup=False)
    for name, counts in built.steps.items():
        if len(counts):
            _print_step(name, counts)
    out.print(f"{len(built.kept):,} kept", markup=False)
    if built.subset is not None:
        for line in _subset_lines(asdict(built.subset)):
            out.print(printable(line), markup=False, soft_wrap=True)
    _print_shares(_by_side(built.kept))
    if built.split is not None:
        cut = f", {built.split.cut:,} runs cut" if built.split.cut else ""
        classes = f"class shares are at most {built.worst:.2f} points off the whole" if recipe.labels else ""
        told = f"{built.split.units:,} units{cut}"
        if recipe.split is not None and recipe.split.groups is not None:
            told += f" in {len(built.shares) - 1:,} groups, each a side to be left out"
            told += f"; {classes}, as the groups are" if classes else ""
        else:
            told += f"; {classes}{', ' if classes else ''}sizes {built.off:.2f} points off what was asked for"
        if recipe.split is not None and recipe.split.groups is None and max(built.worst, built.off) > _WORTH_A_WORD:
            told += f" (the worst number is {built.split.worst:.1f} % of its side off; no way to put "
            told += f"whole units on sides is below {built.split.bound:.1f} %)"
        out.print(told, markup=False, soft_wrap=True)
    for relation in built.relations:
        if relation.used:
            told = f"{relation.name} {relation.distance:g}: {relation.images:,} images in {relation.series:,} orders"
            some = f", as {', '.join(relation.examples)}" if relation.name == "numbering" else ""
            out.print(printable(f"{told}{some}; {relation.left_out:,} left out"), markup=False, soft_wrap=True)
    for note in built.notes:
        out.print(printable(f"note: {note}"), markup=False, soft_wrap=True)
    for verdict in outcome.verdicts:
        let_pass = f", let pass: {outcome.overridden[verdict.name]}" if verdict.name in outcome.overridden else ""
        mark = "holds" if verdict.passed else "FAILS"
        out.print(printable(f"gate  {mark}  {verdict.name}: {verdict.told}{let_pass}"), markup=False, soft_wrap=True)
        for path in () if verdict.passed else verdict.paths:
            out.print(printable(f"      {path}"), markup=False, soft_wrap=True)
    if outcome.published is not None:
        what = "published" if outcome.published.is_new else "unchanged"
        told = f"{recipe.name}@{outcome.published.version}  {what}  {outcome.published.content_id[:12]}"
        out.print(told, markup=False)
        if outcome.not_logged is not None:
            told = f"note: not logged in MLflow, which the next build makes up for: {outcome.not_logged}"
            out.print(printable(told), markup=False, soft_wrap=True)
    elif dry_run:
        out.print("nothing is written (--dry-run)")
    else:
        out.print("the gate does not hold: nothing is published", markup=False)


def _subset_lines(told: dict[str, Any]) -> list[str]:
    """How well a subset stands for the rest, of the values of ``Measured``."""
    largest, mean = (f"{told[name]:.4f} (at random {told[f'{name}_at_random']:.4f})" for name in ("largest", "mean"))
    found = f"subset  {told['strategy']}: of {told['among']:,} images to the nearest of {told['chosen']:,}"
    lines = [f"{found} the distance is at most {largest}, on average {mean}"]
    if told["last"]:
        why = ", ".join(f"{kind} {number:,}" for kind, number in sorted(told["last"].items(), key=lambda one: -one[1]))
        number = sum(told["last"].values())
        lines.append(f"subset  {number:,} came last ({why}); {told['last_chosen']:,} of them are in it")
    return lines


def _print_step(name: str, counts: pl.DataFrame) -> None:
    of_reason = counts.group_by("reason", maintain_order=True).agg("label", "images")
    for reason, labels, numbers in of_reason.head(_MOST_ROWS).iter_rows():
        most = sorted(zip(labels, numbers, strict=True), key=lambda one: -one[1])
        by_label = [f"{label} {number:,}" for label, number in most if label is not None]
        more = f" and {len(by_label) - _MOST:,} more" if len(by_label) > _MOST else ""
        told = f"  ({', '.join(by_label[:_MOST])}{more})" if by_label else ""
        line = f"  {sum(numbers):>7,}  {reason if reason == name else f'{name}: {reason}'}{told}"
        out.print(printable(line), markup=False, soft_wrap=True)
    if len(more_reasons := of_reason[_MOST_ROWS:]):
        images = more_reasons["images"].list.sum().sum()
        out.print(f"  {images:>7,}  {name}: {len(more_reasons):,} more reasons", markup=False)


def _by_side(kept: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Side (``all`` without any) → label → images."""
    import polars as pl

    told = kept.with_columns(pl.col("split").fill_null("all"), pl.col("label").fill_null(""))
    counts = told.group_by("split", "label").len().sort("split", "label")
    found: dict[str, dict[str, int]] = {}
    for side, label, number in counts.iter_rows():
        found.setdefault(side, {})[label] = number
    return {side: found[side] for side in sorted(found, key=_side_order)}


def _side_order(side: str) -> tuple[int, int, str]:
    """Train, val, test; folds by their numbers."""
    return {"train": 0, "val": 1, "test": 2}.get(side, 3), len(side), side


def _print_shares(sides: dict[str, dict[str, int]]) -> None:
    for side, labels in [*sides.items()][:_MOST_ROWS]:
        by_label = [(label, number) for label, number in labels.items() if label]
        told = ", ".join(f"{label} {number:,}" for label, number in by_label[:_MOST])
        more = f" and {len(by_label) - _MOST:,} more" if len(by_label) > _MOST else ""
        out.print(
            printable(f"  {side:<8}{sum(labels.values()):>7,}  {told}{more}".rstrip()), markup=False, soft_wrap=True
        )
    if (rest := [*sides.values()][_MOST_ROWS:]) and (images := sum(sum(labels.values()) for labels in rest)):
        out.print(f"  and {len(rest):,} more sides with {images:,} images", markup=False)


def outcome_facts(outcome: Outcome, *, dry_run: bool) -> dict[str, Any]:
    """The same for ``--json``."""
    built, published = outcome.built, outcome.published
    return {
        "dataset": built.recipe.name,
        "dry_run": dry_run,
        "images": len(built.kept),
        "left_out": {name: counts.to_dicts() for name, counts in built.steps.items()},
        "sides": _by_side(built.kept),
        "subset": None if built.subset is None else asdict(built.subset),
        "split": _split_facts(built),
        "leaks": None if built.leakage is None else built.leakage.pairs + len(built.missed),
        "compared_anew": built.sampled,
        "notes": built.notes,
        "gate": [asdict(verdict) for verdict in outcome.verdicts],
        "overridden": outcome.overridden,
        "passed": outcome.passed,
        "published": None if published is None else asdict(published),
        "mlflow_run": outcome.run_id,
    }


def _split_facts(built: Built) -> dict[str, Any] | None:
    if built.split is None:
        return None
    return {
        "units": built.split.units,
        "cut": built.split.cut,
        "worst_points": round(built.worst, 4),
        "off_points": round(built.off, 4),
        "bound_points": round(built.split.bound, 4),
        "relations": [asdict(relation) for relation in built.relations],
    }


def named(name: str) -> tuple[str, int | None]:
    """Dataset and version of ``NAME`` or ``NAME@VERSION``."""
    dataset, at, number = name.partition("@")
    if at and not number.isdecimal():
        raise CurationError(f"{name!r}: write NAME@VERSION, for example {dataset or 'leaves'}@2")
    return dataset, int(number) if at else None


def check_file(file: Path | None, option: str) -> None:
    """Before any work: whether a file can be written there, as far as its folder tells."""
    refuse_folder(option, file)
    if file is not None and not file.absolute().parent.is_dir():
        raise CurationError(f"{option} {file}: there is no folder {file.parent}")


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def _write(rows: pl.DataFrame, file: Path, *, is_csv: bool) -> None:
    from io import BytesIO

    from curation_assets.files import write_whole

    content = BytesIO()
    if is_csv:
        rows.write_csv(content)
    else:
        rows.write_parquet(content)
    write_whole(file.absolute(), content.getvalue())
