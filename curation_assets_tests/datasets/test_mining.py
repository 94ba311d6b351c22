"""Mining: what may be taken, what is taken, and what of a list of failures is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curation_assets.curate.duplicates.groups import Words
from curation_assets.curate.neighbours.vectors import NodeVectors, ids_of, values_of
from curation_assets.datasets.mining import choosing
from curation_assets.datasets.mining.candidates import set_aside_with_kin
from curation_assets.datasets.mining.choosing import mined, nearest_lists
from curation_assets.datasets.mining.failures import Failure, read_failures
from curation_assets.errors import CurationError
from curation_assets_tests.datasets.test_building import NO_GROUPS, NO_PAIRS
from curation_assets_tests.datasets.test_subsets import clustered

PAIR = ["first", "second"]


def no_kin(candidate: int) -> list[int]:
    return []


def test_the_nearest_are_those_of_comparing_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_BLOCK", 50)
    monkeypatch.setattr(choosing, "_QUERIES", 3)
    vectors, queries = clustered(300), clustered(8, seed=7)
    keys = nearest_lists(NodeVectors([vectors], np.arange(300)), queries, 12)
    expected = np.sort(queries @ vectors.T, axis=1)[:, ::-1][:, :12]
    assert values_of(keys) == pytest.approx(expected, abs=1e-6)
    assert (queries[:, None] * vectors[ids_of(keys)]).sum(axis=2) == pytest.approx(expected, abs=1e-6)


def test_places_are_shared_out_by_loss_and_what_serves_several_counts_for_each() -> None:
    vectors = clustered(400, clusters=2, seed=4)
    items = NodeVectors([vectors], np.arange(400))
    one, other = vectors[np.argmax(vectors @ vectors[0])], vectors[np.argmin(vectors @ vectors[0])]
    found = mined(items, np.stack([one, other]), np.array([3.0, 1.0]), 40, no_kin)
    assert mined(items, np.stack([one, other]), np.array([1.5e308, 0.5e308]), 40, no_kin) == found
    served = np.bincount([failure for _, failure, _ in found])
    assert served.tolist() == [30, 10]
    assert len({candidate for candidate, _, _ in found}) == 40
    assert all(cosine == pytest.approx(vectors[c] @ (one, other)[f], abs=1e-6) for c, f, cosine in found)
    many = np.concatenate([np.repeat(one[None], 30, axis=0), other[None]])
    found = mined(items, many, np.ones(31), 10, no_kin)
    assert sum(failure == 30 for _, failure, _ in found) == 5  # the thirty are one
    assert mined(items, np.stack([one, other]), np.array([1.0, 0.0]), 12, no_kin)[-1][1] == 0


def test_what_is_taken_is_less_alike_than_the_nearest_and_nearer_than_chance() -> None:
    vectors = clustered(2000, clusters=4, seed=2)
    items, query = NodeVectors([vectors], np.arange(2000)), vectors[:1]
    found = [candidate for candidate, _, _ in mined(items, query, np.ones(1), 25, no_kin)]
    nearest = [candidate for candidate, _, _ in mined(items, query, np.ones(1), 25, no_kin, spread=1)]

    def likest(some: list[int]) -> float:
        cosines = vectors[some] @ vectors[some].T
        np.fill_diagonal(cosines, -1)
        return float(cosines.max(axis=1).mean())

    assert set(nearest) == set(np.argsort(-(vectors @ query[0]))[:25].tolist())
    assert likest(found) < likest(nearest)
    assert (vectors[found] @ query[0]).mean() > np.sort(vectors @ query[0])[-200:].mean()


def test_no_two_that_show_the_same_are_taken_and_the_last_ones_are_found() -> None:
    vectors = clustered(60, seed=1)
    items = NodeVectors([vectors], np.arange(60))
    found = mined(items, vectors[:2], np.ones(2), 100, lambda one: [one ^ 1])
    taken = [candidate for candidate, _, _ in found]
    assert len(taken) == len({one // 2 for one in taken}) == 30
    assert len(mined(items, vectors[:2], np.ones(2), 100, no_kin)) == 60


def test_what_shows_the_same_as_one_that_is_held_is_set_aside() -> None:
    names = ["tested", "copy", "near by pair", "near by group", "burst", "said to be same", "said to differ", "free"]
    contents = {name: name if name != "copy" else "tested" for name in names}
    images = pl.DataFrame({"relative_path": names, "content_sha256": [contents[name] for name in names]})
    groups = [("near", "g1", name, 0.9) for name in ("tested", "near by group")]
    groups += [("burst", "g2", name, 0.5) for name in ("near by group", "burst")]
    made = pl.DataFrame(groups, {k: v for k, v in NO_GROUPS.items() if k != "relative_path"}, orient="row")
    pairs = [("near by pair", "tested", "near", 0.9), ("said to differ", "tested", "near", 0.9)]
    words = Words(
        pl.DataFrame([("said to be same", "tested")], PAIR, orient="row"),
        pl.DataFrame([("said to differ", "tested")], PAIR, orient="row"),
    )
    held = pl.DataFrame({"relative_path": ["where it lay before"], "content_sha256": ["tested"]})
    pairs_of = pl.DataFrame(pairs, NO_PAIRS, orient="row")
    found = set_aside_with_kin(images.with_columns(reason=pl.lit(None, pl.String)), held, "test", made, pairs_of, words)
    like = "shows the same as test"
    expected = ["test", "test", like, like, like, like, None, None]
    assert dict(found.select("relative_path", "reason").iter_rows()) == dict(zip(names, expected, strict=True))


def test_failures_are_paths_and_rows_of_files(tmp_path: Path) -> None:
    file = tmp_path / "failed.CSV"
    file.write_text('image;loss;note\n"a;b.jpg";2.5;x\nc.jpg;0;\n')
    place = f"{file} line"
    assert read_failures(["one.jpg", str(file)]) == [
        Failure("one.jpg"),
        Failure("a;b.jpg", 2.5, f"{place} 2: ", tmp_path),
        Failure("c.jpg", 0.0, f"{place} 3: ", tmp_path),
    ]
    file.write_text("path\na.jpg\n")
    assert [failure.loss for failure in read_failures([str(file)])] == [1.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no column names the image"),
        ("path,loss\na.jpg,much\n", "line 2: the loss of a.jpg is a number, 0 or more, not 'much'"),
        ("path,loss\na.jpg,-1\nb.jpg,nan\n", "line 2: the loss of a.jpg is a number, 0 or more, not '-1'; line 3"),
        ("path,loss\na.jpg,\n", "not None"),
        ("path,loss\n,1\n", "line 2: no image is named"),
        ("path,loss\na.jpg,1,2\n", "line 2: 3 cells below 2 columns"),
        ("path,loss\na.jpg,0\n", "no image has a loss above 0"),
        ("path,loss\n", "names no image"),
        ("", "the first line has to name the columns"),
    ],
)
def test_a_list_of_failures_that_says_nothing_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "failed.csv"
    file.write_text(text)
    with pytest.raises(CurationError) as error:
        read_failures([str(file)])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(CurationError, match=r"none\.csv: No such file"):
        read_failures([str(tmp_path / "none.csv")])
