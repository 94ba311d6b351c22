from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curation_assets.errors import CurationError
from curation_assets.progress import LogProgress
from curation_assets.search import image_map
from curation_assets.search.filters import make_filter
from curation_assets.search.refresh import as_of
from curation_assets_tests.search.conftest import DIMENSION, MODEL, Lake

GROUPS = 3


def vectors(number: int, seed: int = 0) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Unit vectors in three tight groups, by a name that begins with the group's number."""
    rng = np.random.default_rng(seed)
    found = {}
    for place in range(number):
        vector = np.eye(DIMENSION)[place % GROUPS] + 0.1 * rng.standard_normal(DIMENSION)
        found[f"{place % GROUPS}_{seed}_{place:04}.jpg"] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return found


def put(lake: Lake, folder: str, made: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    images = {name: f"{folder}/{name}" for name in made}
    lake.scan(folder, images)
    lake.embed(folder, images, vectors=made)


def mapped(lake: Lake) -> image_map.MapRefresh:
    return image_map.refresh(lake.refresh().index, LogProgress())


def test_images_that_look_alike_lie_together(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_map, "SAMPLE", 60)
    put(lake, "a", vectors(90))
    done = mapped(lake)
    assert (len(done.points), done.info.laid_out, done.fresh_layout) == (90, 60, True)
    places = done.points.select("x", "y").to_numpy()
    assert np.abs(places).max() <= 1.0001
    group = done.points["relative_path"].str.slice(2, 1).cast(pl.Int32).to_numpy()
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 10 * np.eye(90)
    assert np.mean(group[distances.argmin(axis=1)] == group) > 0.95


def test_what_is_on_the_map_stays_and_what_is_new_joins_its_like(lake: Lake) -> None:
    put(lake, "a", vectors(60))
    before = mapped(lake).points
    put(lake, "b", vectors(9, seed=1))
    done = mapped(lake)
    assert (done.new, done.fresh_layout, len(done.points)) == (9, False, 69)
    kept = done.points.join(before, on=["relative_path", "x", "y"], how="semi")
    assert len(kept) == 60
    groups = done.points.with_columns(group=pl.col("relative_path").str.slice(2, 1))
    centres = {key[0]: rows.select("x", "y").mean().row(0) for key, rows in groups.head(60).group_by("group")}
    for x, y, group in groups.tail(9).select("x", "y", "group").iter_rows():
        assert min(centres, key=lambda name: (centres[name][0] - x) ** 2 + (centres[name][1] - y) ** 2) == group


def test_when_half_is_new_it_is_laid_out_anew(lake: Lake) -> None:
    put(lake, "a", vectors(20))
    mapped(lake)
    put(lake, "b", vectors(30, seed=1))
    assert mapped(lake).fresh_layout


@pytest.mark.parametrize("number", [1, 2, 4, 5, 6])
def test_a_handful_of_images_has_a_map_too(lake: Lake, number: int) -> None:
    put(lake, "a", vectors(number))
    done = mapped(lake)
    assert len(done.points) == number
    assert done.points["x"].is_finite().all()
    assert image_map.draw(done.points).startswith(b"\x89PNG")


def test_a_region_holds_the_images_within_it(lake: Lake) -> None:
    put(lake, "a", vectors(40))
    points = mapped(lake).points.select("relative_path", map_x="x", map_y="y")
    corners = ((-2.0, -2.0), (0.0, -2.0), (0.0, 2.0), (-2.0, 2.0))
    region = make_filter(region=corners).expression()
    assert region is not None
    within = points.select(region).to_series()
    assert within.to_list() == (points["map_x"] < 0).to_list()
    assert 0 < within.sum() < 40
    nowhere = points.clear(1)
    assert not nowhere.select(region).to_series().any()


def test_a_damaged_map_is_one_error_and_made_anew(lake: Lake) -> None:
    put(lake, "a", vectors(6))
    mapped(lake)
    location = image_map.location_of(lake.index)
    next(location.glob("*.parquet")).write_bytes(b"nothing")
    with pytest.raises(CurationError, match="curation map"):
        image_map.read(location)
    assert len(mapped(lake).points) == 6


def test_there_is_no_map_of_an_earlier_version(lake: Lake, tmp_path: Path) -> None:
    put(lake, "a", vectors(6))
    index = as_of(None, lake.directory.snapshot(), lake.embeddings.snapshot(), MODEL)
    with pytest.raises(CurationError, match="stored index"):
        image_map.refresh(index, LogProgress())
    assert image_map.read(tmp_path / "nothing") is None
