"""What should hold of annotations, as plain functions; Dagster shows each as an asset check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curation_assets.annotations.overview import SourceField
from curation_assets.curate.checks import shares_as_before
from curation_assets.integrity import Outcome


def annotations_have_images(found: Sequence[SourceField]) -> Outcome:
    """Every row is of an image that is there with the content that was annotated."""
    rows = sum(each.images + each.waiting for each in found)
    by_source: dict[str, int] = {}
    for each in found:
        by_source[each.source] = by_source.get(each.source, 0) + each.waiting
    waiting = {source: number for source, number in by_source.items() if number}
    told = ", ".join(f"{number} of {source}" for source, number in waiting.items())
    said = f"{sum(waiting.values())} of {rows} rows are of an image that is gone or has another content"
    return Outcome(not waiting, said + (f": {told}" if told else ""), {"rows": rows, "waiting": sum(waiting.values())})


def labels_as_before(now: Mapping[str, int], images: int, before: Mapping[str, int], images_before: int) -> Outcome:
    """No label is on a far larger share of the annotated images than it was.

    Args:
        now, before: how many images have each label.
        images, images_before: that are annotated.
    """
    return shares_as_before(now, images, before, images_before, "no label is much more frequent than before")
