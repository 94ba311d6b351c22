"""What should hold of labels and splits, as plain functions; Dagster shows each as an asset check."""

from __future__ import annotations

from collections.abc import Mapping

from curation_assets.curate.checks import shares_as_before
from curation_assets.curate.leakage import Leakage
from curation_assets.integrity import Outcome

_SHOWN = 12  # kinds and pairs of splits


def label_issues_as_before(
    now: Mapping[str, int], images: int, before: Mapping[str, int], images_before: int
) -> Outcome:
    """Of no kind of label issue there is a far larger share of the annotated images than there was.

    Args:
        now, before: how many images have each kind.
        images, images_before: that are annotated.
    """
    return shares_as_before(now, images, before, images_before, "no label issue is much more frequent than before")


def no_leaks(found: Leakage | None, why_not: str | None, not_compared: int = 0) -> Outcome:
    """No image is in two splits, nor another of the same photograph or scene.

    Args:
        found: None: splits tell of none, as ``why_not`` says.
        not_compared: contents whose leaks are not seen yet.
    """
    if found is None:
        return Outcome(True, f"nothing is known of leaks: {why_not}", {})
    counts = list(found.counts.iter_rows())
    numbers: dict[str, int | float] = {"pairs": found.pairs, "give_way": int(found.images["gives_way"].sum())}
    numbers |= {"not_compared": not_compared}
    waits = f"; {not_compared:,} contents are not compared yet" if not_compared else ""
    for kind, split, other, pairs in counts[:_SHOWN]:
        numbers[f"{kind} {split} {other}"] = pairs
    told = ", ".join(f"{pairs:,} {kind} of {split} and {other}" for kind, split, other, pairs in counts[:_SHOWN])
    more = f", and {len(counts) - _SHOWN} kinds more" if len(counts) > _SHOWN else ""
    if not found.pairs:
        return Outcome(True, f"no image is on two sides{waits}", numbers)
    what = "1 pair of images is" if found.pairs == 1 else f"{found.pairs:,} pairs of images are"
    return Outcome(False, f"{what} on two sides: {told}{more}{waits}", numbers)
