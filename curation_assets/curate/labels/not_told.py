"""Of which problems with labels and boxes nothing is told, and why; and whether what is told is of earlier tables."""

from __future__ import annotations

from dataclasses import dataclass

from curation_assets.curate.problems import BAD_BOX, CONFLICTING, MISLABELLED
from curation_assets.tables import Tables

KINDS = (MISLABELLED, CONFLICTING, BAD_BOX)
NOT_ANNOTATED = "nothing is annotated; `curation annotate` reads labels and boxes"
NOT_FOUND = "label issues are not found yet; `curation curate` does that"
NOT_JUDGED = "no classifier has judged a label; `curation classify` does that, or says why it can't"


@dataclass(frozen=True)
class Lacking:
    """What the kinds of problem that label issues tell lack.

    Attributes:
        not_told: kinds of which nothing is told → why.
        issues_behind: rows of the label issues that would be others now.
        predictions_behind: whether images, labels or model changed since labels were judged.
    """

    not_told: dict[str, str]
    issues_behind: int = 0
    predictions_behind: bool = False


def not_told(tables: Tables) -> dict[str, str]:
    """Kinds of which nothing is told → why.

    Raises:
        CurationError: a table can't be read.
    """
    if not tables.annotations.exists() or not tables.annotations.latest().rows():
        return dict.fromkeys(KINDS, NOT_ANNOTATED)
    if not tables.label_issues.exists():
        return dict.fromkeys(KINDS, NOT_FOUND)
    if not tables.predictions.exists() or not tables.predictions.latest().rows():
        return {MISLABELLED: NOT_JUDGED}
    return {}
