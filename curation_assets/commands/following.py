"""What commands bring in line besides what they were asked for; where it fails, that is told and the rest is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curation_assets.commands.output import err
from curation_assets.errors import CurationError

if TYPE_CHECKING:
    from curation_assets.curate.labels.issues import LabelIssues
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import Progress
    from curation_assets.search.refresh import IndexRefresh


def refresh_index(pipeline: Pipeline, progress: Progress) -> tuple[IndexRefresh | None, str | None]:
    """Bring the champion's search index in line, so that vectors are known to whoever works with them.

    Returns:
        What was done, None where nothing is embedded; and why it could not be.
    """
    try:
        return pipeline.refresh_index(progress), None
    except CurationError as error:
        return None, str(error)


def find_label_issues(pipeline: Pipeline, progress: Progress) -> LabelIssues | None:
    """Bring the label issues in line; None where there are no annotations, or it could not be done, which is told."""
    try:
        return pipeline.find_label_issues(progress)
    except CurationError as error:
        err.print(f"label issues not brought in line: {error}", markup=False, soft_wrap=True)
        return None
