"""``curation repair`` and ``maintain``: what keeps a lake whole and tidy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from curation_assets.commands.options import ImagesOption, JsonOption, LakeOption, pipeline_of, settings_of
from curation_assets.commands.output import print_json
from curation_assets.commands.progress import stoppable
from curation_assets.commands.reports import print_maintenance, print_repair, repair_facts

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def repair(
    images: ImagesOption = None, lake: LakeOption = None, dry_run: DryRunOption = False, as_json: JsonOption = False
) -> None:
    """Read every file of the tables through, and make anew what is damaged. Nothing else should write meanwhile."""
    from curation_assets.repair import repair as mend

    pipeline = pipeline_of(settings_of(images, lake))
    with stoppable() as shown:
        report = mend(pipeline, shown, dry_run=dry_run)
    if as_json:
        print_json(repair_facts(report))
    else:
        print_repair(report, dry_run=dry_run)
    raise typer.Exit(1 if report.not_mended or (dry_run and report.found) else 0)


def maintain(
    lake: LakeOption = None,
    retention_hours: Annotated[
        int, typer.Option("--retention-hours", min=0, help="How long files of earlier versions stay for time travel.")
    ] = 168,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Join small files, let go of vectors and indexes of unused model versions, and delete files of old versions."""
    from curation_assets.maintain import maintain as tidy

    pipeline = pipeline_of(settings_of(None, lake))
    with stoppable() as shown:
        report = tidy(pipeline, shown, retention_hours=retention_hours, dry_run=dry_run)
    if as_json:
        print_json(asdict(report))
    else:
        print_maintenance(report, dry_run=dry_run)
