"""``curation classify``: what a classifier fitted to the annotations says of the images, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation_assets.commands.following import find_label_issues
from curation_assets.commands.options import ImagesOption, JsonOption, LakeOption, pipeline_of, settings_of
from curation_assets.commands.output import err, out, print_json, refuse_folder
from curation_assets.commands.progress import quiet_libraries, stoppable
from curation_assets.commands.reports import left_out, predictions_line, print_label_issues
from curation_assets.errors import CurationError, attempted
from curation_assets.images.names import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from curation_assets.curate.labels.overview import FieldReport
    from curation_assets.curate.labels.predicting import FieldPredictions
    from curation_assets.pipeline import Pipeline
    from curation_assets.search.page import Section

_SHOWN = 5  # classes, confusions
_IN_JSON = 100  # confusions
_CONFUSIONS_ON_A_PAGE, _TILES = 16, 12
_SUSPECTED_ON_A_PAGE = 60
_CLASSES_ON_A_PAGE = 40


def classify(
    field: Annotated[str | None, typer.Option("--field", help="Only this field of the annotations.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Only tell what there is: nothing is computed.")] = False,
    images: ImagesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write report and confusions with pictures as a page, in one file.")
    ] = None,
) -> None:
    """Fit classifiers to the annotations, predict every image, and report how well; of each field of labels."""
    quiet_libraries()
    from curation_assets.curate.labels.overview import prediction_rows, reports_of

    refuse_folder("--html", html)
    pipeline = pipeline_of(settings_of(images, lake))
    done, issues = None, None
    told: dict[str, FieldPredictions] = {}
    if report:
        rows = prediction_rows(pipeline.tables.predictions)
        if not len(rows):
            reasons = pipeline.why_not_classified() or ["no image has a label, or nothing is embedded and indexed"]
            raise CurationError(f"no field is classified any more: {'; '.join(reasons)}")
        rows = rows if field is None else prediction_rows(pipeline.tables.predictions, field)
        if pipeline.predictions_are_behind():
            note = (
                "note: images, annotations or model changed since; `curation classify` brings the predictions in line"
            )
            err.print(note, soft_wrap=True)
    else:
        with stoppable() as shown:
            _, index_error = attempted(lambda: pipeline.refresh_index(shown))
            done = pipeline.classify(shown, field)
            issues = None if done is None else find_label_issues(pipeline, shown)
        if index_error is not None:
            err.print(f"index  not brought in line: {index_error}", markup=False, soft_wrap=True)
        if done is None:
            raise CurationError("nothing is embedded and indexed yet; `curation run` does that")
        told = {one.field: one for one in done.fields}
        if not told:
            raise CurationError("no image has a label; `curation annotate` reads them")
        reasons = [one.why_not for one in done.fields if one.why_not is not None]
        if len(reasons) == len(told):
            raise CurationError("; ".join(reasons))
        rows = prediction_rows(pipeline.tables.predictions, field)
    reports = reports_of(rows, pipeline.said_of_labels())
    if as_json:
        facts: dict[str, Any] = {} if done is None else {"changed": done.changed, "seconds": done.seconds}
        facts |= {} if issues is None else {"label_issues": asdict(issues)}
        print_json(facts | {"fields": _facts(reports, told)})
    else:
        if done is not None:
            out.print(predictions_line(done))
        for one in reports:
            _print(one, told.get(one.field))
        for one_told in told.values():
            if one_told.why_not is not None:
                out.print(f"\n{printable(one_told.why_not)}", markup=False, soft_wrap=True)
        if issues is not None:
            out.print()
            print_label_issues(issues)
    if html is not None:
        _write_page(pipeline, html, reports)
        err.print(f"page  {html}", markup=False, soft_wrap=True)


def _facts(reports: list[FieldReport], told: Mapping[str, FieldPredictions]) -> list[dict[str, Any]]:
    facts = []
    for one in reports:
        there = told.get(one.field)
        facts.append(
            {
                "field": one.field,
                "images": one.images,
                "labelled": one.labelled,
                "accuracy": one.accuracy,
                "balanced_accuracy": one.balanced_accuracy,
                "calibration_error": one.calibration_error,
                "classes": [
                    asdict(each) | {"precision": each.precision, "recall": each.recall} for each in one.classes
                ],
                "confusions": [
                    {"label": label, "predicted": predicted, "images": number}
                    for label, predicted, number in one.confusions[:_IN_JSON]
                ],
                "predicted": one.predicted,
                "not_judged": one.not_judged,
                "likely_wrong": len(one.suspected),
            }
            | ({} if there is None else {"done": asdict(there)})
        )
    known = {one.field for one in reports}
    return facts + [{"field": name, "done": asdict(one)} for name, one in told.items() if name not in known]


def _print(one: FieldReport, told: FieldPredictions | None) -> None:
    from curation_assets.curate.labels.overview import LIKELY_WRONG, NOT_JUDGED

    others = [f"{number:,} {NOT_JUDGED[why]}" for why, number in one.not_judged.items() if number]
    rest = f"; {others[0]} are predicted" if len(others) == 1 else ""
    if len(others) > 1:
        rest = f"; {sum(one.not_judged.values()):,} others are predicted: {', '.join(others)}"
    out.print(
        f"\n{printable(one.field)}: {one.labelled:,} images with a label, {len(one.classes):,} classes{rest}",
        markup=False,
        soft_wrap=True,
    )
    out.print(
        f"  accuracy {one.accuracy:.3f}, balanced {one.balanced_accuracy:.3f}; confidence is off by "
        f"{one.calibration_error:.3f}, all by classifiers fitted without the image and its near copies",
        soft_wrap=True,
    )
    for each in one.weakest[:_SHOWN]:
        precision = "     -" if each.precision is None else f"{each.precision:>6.3f}"
        said = f"  {printable(each.name):<28} precision {precision}  recall {each.recall:>6.3f}  of {each.images:,}"
        out.print(said, markup=False, soft_wrap=True)
    if len(one.classes) > _SHOWN:
        out.print(f"  … these are the weakest; --json has all {len(one.classes):,}")
    for label, predicted, number in one.confusions[:_SHOWN]:
        said = f"  {number:>8,}  {printable(label)} taken for {printable(predicted)}"
        out.print(said, markup=False, soft_wrap=True)
    if len(one.suspected):
        out.print(f"  {len(one.suspected):,} labels are likely wrong (quality below {LIKELY_WRONG:g}), first:")
        for row in one.suspected.head(3).iter_rows(named=True):
            said = f"  {printable(row['relative_path'])}  {row['label']}, rather {row['suggested']}"
            out.print(f"  {printable(said)}  {row['label_quality']:.3f}", markup=False, soft_wrap=True)
    if told is not None and (said := left_out(told)):
        out.print(f"  left out: {printable(said)}", markup=False, soft_wrap=True)


def _write_page(pipeline: Pipeline, html: Path, reports: list[FieldReport]) -> None:
    from curation_assets.search.page import Heading, write_page

    sections: list[Section] = []
    for one in reports:
        sections += _sections(pipeline, one, len(sections))
    text = "; ".join(
        f"{printable(one.field)}: accuracy {one.accuracy:.3f}, balanced {one.balanced_accuracy:.3f}, of "
        f"{one.labelled:,} images" for one in reports
    )  # fmt: skip
    detail = (
        "Each image is judged by a classifier that was fitted without it and its near copies. Rows of a table are "
        "labels, columns what is predicted; a number leads to its images."
    )
    write_page(html, Heading("What a classifier makes of the labels", f"{text}.", detail), sections)


def _sections(pipeline: Pipeline, one: FieldReport, before: int) -> list[Section]:
    """Table of confusions, the images of the largest, and labels that are likely wrong.

    Args:
        before: how many sections come before these.
    """
    from curation_assets.search.page import Cell, Matrix, Section, tile

    chosen = one.confusions[:_CONFUSIONS_ON_A_PAGE]
    parts = [
        (label, predicted, number, one.confused(label, predicted).head(_TILES)) for label, predicted, number in chosen
    ]
    suspected = one.suspected.head(_SUSPECTED_ON_A_PAGE)
    paths = {path for *_, found in parts for path in found["relative_path"]} | {*suspected["relative_path"]}
    pictures = pipeline.tables.pictures(paths)
    link_of = {(label, predicted): before + 2 + at for at, (label, predicted, *_) in enumerate(parts)}
    largest = sorted(one.classes, key=lambda each: (-each.images, each.name))[:_CLASSES_ON_A_PAGE]
    shown = sorted(each.name for each in largest)
    place = {each.name: at for at, each in enumerate(one.classes)}
    rows = []
    for label in shown:
        counts = one.matrix[place[label]]
        cells = [
            Cell(
                f"{number:,}" if (number := int(counts[place[other]])) else "",
                number / max(1, int(counts.sum())),
                link_of.get((label, other)),
            )
            for other in shown
        ]
        rows.append((printable(label), cells))
    less = f" The {len(shown)} classes with the most images." if len(shown) < len(one.classes) else ""
    field = printable(one.field)
    note = f"Expected calibration error of the confidence {one.calibration_error:.3f}.{less}"
    sections = [
        Section(f"{field}: labels and predictions", [], note, Matrix([printable(name) for name in shown], rows))
    ]

    def tiles(found: pl.DataFrame, said: str) -> list[Any]:
        return [
            tile({"relative_path": row["relative_path"], "file_path": there[0]}, there[1], None, said.format(**row))
            for row in found.iter_rows(named=True)
            if (there := pictures.get(row["relative_path"])) is not None
        ]

    for label, predicted, number, found in parts:
        title = f"{field}: {printable(label)} taken for {printable(predicted)}, {number:,}"
        sections.append(Section(title, tiles(found, "confidence {confidence:.2f}"), "The surest first."))
    if len(suspected):
        title = f"{field}: labels that are likely wrong, {len(one.suspected):,}"
        said = "{label}, rather {suggested}; quality {label_quality:.3f}"
        sections.append(Section(title, tiles(suspected, said), "The likeliest first."))
    return sections
