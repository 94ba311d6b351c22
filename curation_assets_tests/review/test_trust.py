"""What measuring says of a kind as a whole, and when that warns."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from curation_assets.curate.problems import Thresholds, thresholds
from curation_assets.decisions.record import append
from curation_assets.decisions.standing import SCHEMA, Decisions, standing
from curation_assets.pipeline import Pipeline
from curation_assets.review.samples import Sample
from curation_assets.review.trust import precision_holds, reviewed

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def content(number: int) -> str:
    return f"{number:064x}"


def sample(kind: str, *bands: tuple[float, int, int], begin: int = 0) -> Sample:
    """Bands as (last, images, drawn); contents are numbered from ``begin``."""
    rows: list[dict[str, object]] = []
    for at, (last, images, drawn) in enumerate(bands):
        for _ in range(drawn):
            facts = {"band": at, "first": 0.0, "last": last, "flagged": True, "images": images}
            rows.append(facts | {"content_sha256": content(begin + len(rows))})
    return Sample("1", kind, NOW, "ann", 0.42, pl.DataFrame(rows))


def said(*answers: str) -> Decisions:
    rows = [
        {"decision_id": f"{at}", "decided_at": NOW, "kind": kind, "field": "quality", "content_sha256": content(at)}
        for at, kind in enumerate(answers)
    ]
    return standing(pl.DataFrame(rows, schema=SCHEMA))


@pytest.fixture
def usual() -> Thresholds:
    return thresholds({})


def test_bands_weigh_as_much_as_they_hold_and_only_those_that_are_named_and_done_count(usual: Thresholds) -> None:
    two = sample("blurry", (0.2, 10, 2), (0.42, 90, 2))
    (found,) = reviewed([two], said("remove", "remove", "remove", "unsure"), usual)
    assert (found.kind, found.images, found.looked_at) == ("blurry", 100, 4)
    assert found.precision == pytest.approx((10 * 1 + 90 * 0.5) / 100)
    (found,) = reviewed([two], said("remove", "keep", "remove"), usual)
    assert (found.images, found.precision) == (10, 0.5), "the second band is not done"
    (found,) = reviewed([two], said("remove", "keep", "keep", "keep"), thresholds({"blurry": 0.3}))
    assert (found.images, found.precision) == (10, 0.5), "the second band is not named by that threshold"
    assert reviewed([two], said("remove"), usual) == []


def test_a_picture_that_was_removed_for_another_problem_is_no_proof_of_this_one() -> None:
    one = sample("dark", (0.2, 100, 4))
    rows = said("remove", "remove", "remove", "keep").rows
    shown = [None, '{"problem": "blurry", "score": 0.1}', '{"problem": "dark"}', '{"problem": "blurry"}']
    (band,) = one.bands(standing(rows.with_columns(shown=pl.Series(shown))))
    assert (band.right, band.unsure, band.wrong) == (2, 1, 1)


def test_the_latest_sample_that_tells_something_counts(usual: Thresholds) -> None:
    latest, earlier = sample("blurry", (0.2, 5, 1), begin=1), sample("blurry", (0.2, 10, 1))
    assert [one.images for one in reviewed([latest, earlier], said("remove", "keep"), usual)] == [5]
    assert [one.images for one in reviewed([latest, earlier], said("remove"), usual)] == [10]


def test_a_low_precision_warns_and_nothing_measured_does_not(
    ready: Pipeline, usual: Thresholds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nothing = precision_holds(ready.tables, usual, ["blurry", "dark"], 0.8)
    assert nothing.passed
    assert nothing.description.startswith("no kind of problem was measured yet")
    one = sample("blurry", (0.42, 1000, 4))
    monkeypatch.setattr("curation_assets.review.trust.read_samples", lambda _table: [one])
    answers = ("remove", "keep", "keep", "remove")
    append(ready.tables.decisions, lambda _: said(*answers).rows.drop("decision_id").to_dicts())
    low = precision_holds(ready.tables, usual, ["blurry", "dark"], 0.8)
    assert not low.passed
    assert low.description == (
        "blurry: of 1,000 images 4 were looked at, and 50% have it: less than 80%; move the threshold"
    )
    assert low.numbers == {"precision_blurry": 0.5}
    assert precision_holds(ready.tables, usual, ["blurry"], 0.5).passed
    assert precision_holds(ready.tables, usual, ["dark"], 0.8).passed, "of another kind nothing is known"
