"""The check that knows what people measured: whether enough of what a kind of problem names has it."""

from collections.abc import Iterable

from curation_assets.defs.reports import Check
from curation_assets.pipeline import Pipeline
from curation_assets.review.trust import precision_holds

PRECISION = "reviewed_precision"
MEANING = "Of the kinds of problem that were measured in the gallery, enough images have each."


def precision_check(pipeline: Pipeline, kinds: Iterable[str]) -> Check:
    """A warning where one of some kinds has a low precision; nothing is said of what nobody measured."""
    least = pipeline.settings.reviewed_precision
    return Check(PRECISION, precision_holds(pipeline.tables, pipeline.thresholds, kinds, least), blocking=False)
