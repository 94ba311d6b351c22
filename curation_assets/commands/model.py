"""``curation model``: versions of the CLIP model in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from curation_assets.commands.options import JsonOption, LakeOption, pipeline_of, settings_of
from curation_assets.commands.output import out, print_json

if TYPE_CHECKING:
    from curation_assets.clip.versions import RegisteredModel
    from curation_assets.pipeline import Pipeline

app = typer.Typer(
    help="Versions of the CLIP model: list them, choose the champion, verify one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
VersionArgument = Annotated[str, typer.Argument(help="Number of the version.")]


@app.command("list")
def list_versions(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Every version, which is the champion, and how many images have a vector of it."""
    pipeline = pipeline_of(settings_of(None, lake))
    listed = pipeline.registry.versions()
    images, embedded = pipeline.tables.coverage([one.model for one in listed])
    if as_json:
        versions = [
            _facts(one.model)
            | {
                "registered_at": one.registered_at.isoformat(),
                "champion": one.is_champion,
                "of_model_source": one.is_source,
                "embedded": embedded[one.model.version],
            }
            for one in listed
        ]
        print_json({"name": pipeline.registry.name, "images": images, "versions": versions})
        return
    table = Table(box=None, pad_edge=False)
    for name in ("version", "", "source", "dimension", "fingerprint", "registered at (UTC)", f"of {images:,} images"):
        table.add_column(name, justify="right" if name in ("version", "dimension", f"of {images:,} images") else "left")
    for one in listed:
        model = one.model
        table.add_row(
            model.version,
            "champion" if one.is_champion else "",
            escape(model.source) + (" (demonstration)" if model.demonstration else ""),
            str(model.dimension),
            model.fingerprint[:12],
            f"{one.registered_at:%Y-%m-%d %H:%M:%S}",
            f"{embedded[model.version]:,}",
        )
    out.print(table)
    _print_overruled(pipeline)


@app.command()
def promote(version: VersionArgument, lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Make a version the champion, which embeddings and search use, until CURATION_MODEL_SOURCE changes."""
    pipeline = pipeline_of(settings_of(None, lake))
    _report(pipeline, pipeline.selection.promote(version), as_json)


@app.command()
def rollback(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Make the champion before this one the champion again."""
    pipeline = pipeline_of(settings_of(None, lake))
    _report(pipeline, pipeline.selection.rollback(), as_json)


@app.command()
def verify(
    version: Annotated[str | None, typer.Argument(help="Number of the version; without it, the champion.")] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load a version and compare what it computes here with the vectors stored when it was registered."""
    from curation_assets.clip import golden

    pipeline = pipeline_of(settings_of(None, lake))
    registry = pipeline.registry
    model = registry.champion() if version is None else registry.version(version)
    encoder = pipeline.encoders.load(model)
    report = golden.verify(encoder.folder.parent, encoder)
    if as_json:
        print_json(
            _facts(model)
            | {
                "ok": report.ok,
                "cosines": report.cosines,
                "bound": report.bound,
                "device": report.device,
                "precision": report.precision,
            }
        )
    else:
        for name, cosine in report.cosines.items():
            out.print(f"{name:<8} cosine {cosine:.6f}{'' if cosine >= report.bound else '  too small'}")
        verdict = "computes what it did when it was registered" if report.ok else "DIFFERS from when it was registered"
        out.print(
            f"{model.name} version {model.version} {verdict}: smallest cosine {report.worst:.6f}, at least "
            f"{report.bound} is asked for on {report.device} in {report.precision}"
        )
    raise typer.Exit(0 if report.ok else 1)


def _report(pipeline: Pipeline, champion: RegisteredModel, as_json: bool) -> None:
    """What a new champion means for the vectors in the table."""
    images, embedded = pipeline.tables.coverage([champion])
    have = embedded[champion.version]
    if as_json:
        print_json(_facts(champion) | {"images": images, "embedded": have, "to_embed": images - have})
        return
    out.print(f"champion  {champion.name} version {champion.version}, {champion.source}, {champion.dimension} floats")
    out.print(f"vectors   {have:,} of {images:,} images have one of this version")
    if have < images:
        out.print(
            f"next      `curation run`, or in Dagster new_images_sensor, embeds the other {images - have:,}; "
            "until then search finds only those that have one"
        )
    _print_overruled(pipeline)


def _print_overruled(pipeline: Pipeline) -> None:
    other = pipeline.registry.overruled()
    if other is not None:
        out.print(
            f"note      CURATION_MODEL_SOURCE was version {other.version} when last looked at; the champion stays "
            "until it changes"
        )


def _facts(model: RegisteredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "source": model.source,
        "dimension": model.dimension,
        "image_size": model.image_size,
        "parameters": model.parameters,
        "fingerprint": model.fingerprint,
        "demonstration": model.demonstration,
        "run_id": model.run_id,
    }
