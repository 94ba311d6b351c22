"""What measuring says of a kind as a whole, and when that warns."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curation_assets.curate.problems import Thresholds, thresholds
from curation_assets.decisions.record import append
from curation_assets.decisions.standing import SCHEMA
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


def said(*answers: str, sample: str | None = "1", by: str = "ann", after: int = 0, **more: object) -> pl.DataFrame:
    """Decisions on contents in their order, said while a sample was looked at, or anywhere else."""
    rows = [
        {
            "decision_id": f"{after + at:04}",
            "decided_at": NOW + timedelta(seconds=after),
            "decided_by": by,
            "kind": kind,
        }
        | {"field": "quality", "content_sha256": content(at), "shown": json.dumps({"sample": sample} if sample else {})}
        | more
        for at, kind in enumerate(answers)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


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


def counts(one: Sample, rows: pl.DataFrame) -> tuple[int, int, int]:
    (band,) = one.bands(rows)
    return band.right, band.wrong, band.unsure


@pytest.mark.parametrize("kind", ["dark", "leak"])
def test_only_what_is_said_while_the_sample_is_looked_at_counts(kind: str) -> None:
    one = sample(kind, (0.2, 100, 4))
    measured = said("remove", "remove", "keep", "unsure")
    free = [
        said("keep", "keep", "remove", "keep", sample=None, after=10),
        said("keep", "keep", "remove", "keep", after=20, shown=json.dumps({"problem": kind, "score": 0.1})),
        said("keep", "keep", "remove", "keep", after=30, shown=None, by="ben"),
        said("keep", "keep", "remove", "keep", sample="2", after=40),
        said("keep", "keep", "remove", "keep", after=50, shown=json.dumps({"tags": {"sample": "1"}})),
    ]
    for more in free:
        assert counts(one, more) == (0, 0, 0)
        assert counts(one, pl.concat([measured, more])) == (2, 1, 1)
        assert one.agreement(pl.concat([measured, more])) is None
    later = said("remove", "remove", "remove", by="ben", after=60)
    assert counts(one, pl.concat([measured, *free, later])) == (3, 0, 1), "measured anew"
    assert one.agreement(pl.concat([measured, *free, later])) == (3, pytest.approx(2 / 3))
    back = later.with_columns(undoes="decision_id", decision_id="9" + pl.col("decision_id"), shown=None)
    assert counts(one, pl.concat([measured, *free, later, back])) == (2, 1, 1), "what is taken back was not said"


def test_what_is_gone_before_anybody_looked_counts_as_what_is_worse(usual: Thresholds) -> None:
    one = sample("blurry", (0.2, 100, 4))
    one = replace(one, rows=one.rows.with_columns(relative_path=pl.lit("a/") + pl.col("content_sha256").str.tail(1)))
    there = one.rows.select("relative_path", "content_sha256").gather([0, 2, 2])  # 2 lies there twice
    rows = said("remove", "remove", "keep")
    (band,) = one.bands(rows, there)
    assert (band.right, band.wrong, band.gone, band.looked_at, band.is_done) == (2, 1, 1, 3, True)
    (found,) = reviewed([one], rows, usual, there)
    assert (found.looked_at, found.precision) == (3, 0.5)
    (band,) = one.bands(said("remove"), there)
    assert (band.gone, band.is_done) == (2, False), "one can be looked at still"
    (band,) = one.bands(rows.head(0), there.with_columns(relative_path=pl.lit("b/other")))
    assert (band.gone, band.is_done) == (4, True)
    assert reviewed([one], rows.head(0), usual, there.head(0)) == [], "nobody looked at any"


def test_bounds_hold_whatever_people_decide_of_images_that_they_chose() -> None:
    rng, held, rounds, drawn, images = np.random.default_rng(11), 0, 200, 59, 300
    for _ in range(rounds):
        is_wrong = rng.random(images) < 0.08
        place = rng.choice(images, drawn, replace=False)
        facts = {"band": 0, "first": 0.0, "last": 0.4, "flagged": True, "images": images}
        one = Sample(
            "1", "blurry", NOW, "ann", 0.4, pl.DataFrame([facts | {"content_sha256": content(at)} for at in place])
        )
        words = np.where(is_wrong, "keep", "remove")
        measured = said(*words).filter(pl.col("content_sha256").is_in([content(at) for at in place]))
        free = said(*["remove"] * images, sample=None, after=images)  # somebody sees the problem everywhere
        (band,) = one.bands(pl.concat([measured, free]))
        most = band.most_wrong()
        assert most is not None
        held += most >= is_wrong.mean()
    assert held / rounds >= 0.95


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
    append(ready.tables.decisions, lambda _: said(*answers).drop("decision_id").to_dicts())
    low = precision_holds(ready.tables, usual, ["blurry", "dark"], 0.8)
    assert not low.passed
    assert low.description == (
        "blurry: of 1,000 images 4 were looked at, and 50% have it: less than 80%; move the threshold"
    )
    assert low.numbers == {"precision_blurry": 0.5}
    assert precision_holds(ready.tables, usual, ["blurry"], 0.5).passed
    assert precision_holds(ready.tables, usual, ["dark"], 0.8).passed, "of another kind nothing is known"
