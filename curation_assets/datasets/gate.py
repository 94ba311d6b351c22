"""The gate: what has to hold of a dataset before it is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

import polars as pl

from curation_assets.datasets.drift import Drift
from curation_assets.datasets.recipe import Recipe
from curation_assets.datasets.steps import DROPPED_LABEL, SEVERAL_LABELS
from curation_assets.images.names import printable

if TYPE_CHECKING:
    from curation_assets.datasets.building import Built

_SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """Of one condition of a gate.

    Attributes:
        name: as ``[gate]`` has it.
        passed: whether it holds.
        told: with what number.
        paths: some images that it fails for.
    """

    name: str
    passed: bool
    told: str
    paths: list[str] = field(default_factory=list)


def conditions(recipe: Recipe) -> dict[str, str]:
    """The conditions that a recipe's gate has, and what each means."""
    gate = recipe.gate
    found = {"images": f"There are at least {gate.images:,} images."}
    if gate.leaks is not None and recipe.split is not None:
        found["leaks"] = f"At most {gate.leaks:,} pairs of the same bytes, photograph or scene lie on two sides."
    if gate.copies is not None and recipe.split is not None:
        found["copies"] = f"At most {gate.copies:,} pairs of the same bytes lie on two sides."
    if gate.images_per_class is not None:
        found["images_per_class"] = f"Every class has at least {gate.images_per_class:,} images."
    if gate.share_flagged is not None:
        found["share_flagged"] = f"At most {gate.share_flagged:.1%} of the images have a problem."
    if gate.undecided_label_issues is not None:
        most = f"{gate.undecided_label_issues:,}"
        found["undecided_label_issues"] = f"At most {most} images have a label issue that nobody decided."
    if gate.missing is not None:
        found["missing"] = f"At most {gate.missing:,} files are missing."
    if gate.drift is not None:
        found["drift"] = f"The area under the curve that tells this version from the last is at most {gate.drift:g}."
    return found


def judge(built: Built, missing: Mapping[str, str], drift: Drift | None) -> list[Verdict]:
    """Every condition that the recipe's gate has.

    Args:
        missing: kept images whose bytes are not to be had: path → why.
        drift: from the last version; None: there is none.
    """
    gate, kept = built.recipe.gate, built.kept
    found = [Verdict("images", len(kept) >= gate.images, f"{len(kept):,} images, at least {gate.images:,}")]
    if gate.leaks is not None and built.leakage is not None:
        pairs = built.leakage.pairs + len(built.missed)
        paths = [*built.leakage.images["relative_path"], *(path for pair in built.missed for path in pair)][:_SHOWN]
        found.append(
            Verdict(
                "leaks",
                pairs <= gate.leaks,
                f"{pairs:,} pairs across sides, at most {gate.leaks:,}; {built.sampled:,} compared anew",
                paths,
            )
        )
    if gate.copies is not None and built.leakage is not None:
        copies = int(built.leakage.counts.filter(pl.col("kind") == "exact")["pairs"].sum())
        paths = built.leakage.images.filter(pl.col("kind") == "exact")["relative_path"].head(_SHOWN).to_list()
        told = f"{copies:,} pairs of the same bytes across sides, at most {gate.copies:,}"
        found.append(Verdict("copies", copies <= gate.copies, told, paths))
    if gate.images_per_class is not None:
        no_class = pl.col("reason").is_in([SEVERAL_LABELS, DROPPED_LABEL]).fill_null(value=False)
        classes = built.rows.filter(pl.col("label").is_not_null() & ~no_class)  # also those of which nothing is kept
        counts = classes.group_by("label").agg(pl.col("kept").sum(), pl.len()).sort("kept", "label")
        few = counts.filter(pl.col("kept") < gate.images_per_class)
        least = ", ".join(f"{label} {number:,} of {of:,}" for label, number, of in few.head(_SHOWN).iter_rows())
        told = f"at least {gate.images_per_class:,} of each class" + (f"; too few: {least}" if len(few) else "")
        found.append(Verdict("images_per_class", not len(few), told))
    if gate.share_flagged is not None:
        share = len(built.flagged) / len(kept) if len(kept) else 0.0
        told = f"{share:.1%} have a problem, at most {gate.share_flagged:.1%}"
        found.append(Verdict("share_flagged", share <= gate.share_flagged, told, built.flagged[:_SHOWN]))
    if gate.undecided_label_issues is not None:
        told = f"{len(built.doubted):,} with an undecided label issue, at most {gate.undecided_label_issues:,}"
        passed = len(built.doubted) <= gate.undecided_label_issues
        found.append(Verdict("undecided_label_issues", passed, told, built.doubted[:_SHOWN]))
    if gate.missing is not None:
        told = f"{len(missing):,} files are missing, at most {gate.missing:,}"
        found.append(Verdict("missing", len(missing) <= gate.missing, told, [*missing][:_SHOWN]))
    if gate.drift is not None:
        found.append(_of_drift(gate.drift, kept, drift))
    return found


def _of_drift(limit: float, kept: pl.DataFrame, drift: Drift | None) -> Verdict:
    if drift is None:
        return Verdict("drift", True, f"no version before, at most {limit:g}")
    first = kept.sort("relative_path").unique("content_sha256", keep="first", maintain_order=True)
    path_of = dict(first.select("content_sha256", "relative_path").iter_rows())
    paths = [path_of[content] for content in drift.unlike]
    return Verdict("drift", not drift.is_above(limit), f"{drift.told}, at most {limit:g}", paths)


def as_junit(dataset: str, verdicts: Sequence[Verdict]) -> bytes:
    """The verdicts as JUnit's XML, which CI servers read."""
    failed = sum(not verdict.passed for verdict in verdicts)
    suite = Element("testsuite", name=f"dataset {dataset}", tests=str(len(verdicts)), failures=str(failed))
    for verdict in verdicts:
        case = SubElement(suite, "testcase", classname=f"dataset.{dataset}", name=verdict.name)
        if not verdict.passed:
            failure = SubElement(case, "failure", message=printable(verdict.told))
            failure.text = "\n".join(map(printable, verdict.paths))
    return bytes(tostring(suite, encoding="utf-8", xml_declaration=True))
