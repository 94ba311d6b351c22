"""What commands bring in line besides what they were asked for; where it fails, that is told and the rest is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curation_assets.commands.output import err
from curation_assets.errors import attempted

if TYPE_CHECKING:
    from curation_assets.curate.labels.issues import LabelIssues
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import Progress


def find_label_issues(pipeline: Pipeline, progress: Progress) -> LabelIssues | None:
    """Bring the label issues in line; None where there are no annotations, or it could not be done, which is told."""
    found, why = attempted(lambda: pipeline.find_label_issues(progress))
    if why is not None:
        err.print(f"label issues not brought in line: {why}", markup=False, soft_wrap=True)
    return found
