"""``image_pairs`` and ``image_groups``: what their pages tell, what checks find, when the sensor asks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from deltalake import DeltaTable

from curation_assets.curate.duplicates import checks
from curation_assets.curate.duplicates.pictures import open_pictures
from curation_assets.decisions.record import append, read_decisions
from curation_assets.defs.duplicates import build_duplicates_sensor, find_duplicates, image_groups, image_pairs
from curation_assets.ingest import run
from curation_assets.integrity import Outcome
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import copied, pipeline_of
from curation_assets_tests.curate.duplicates.test_comparison import NEAR, TREE, put
from curation_assets_tests.defs.conftest import Following, meanwhile, on_disk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """A lake that is not compared yet."""
    home = tmp_path_factory.mktemp("compared")
    put(home / "images")
    run(pipeline_of(home, registered_model), LogProgress(), curate=False)
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return copied(ready, made)


instance = on_disk
_following = Following(find_duplicates.name, build_duplicates_sensor)
materialize, tick = _following.materialize, _following.tick


def test_the_pages_tell_counts_and_show_groups(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    done = materialize(lake, instance)
    assert done.success
    (pairs,) = done.asset_materializations_for_node(image_pairs.op.name)
    (groups,) = done.asset_materializations_for_node(image_groups.op.name)
    told = {name: fact.value for name, fact in (*pairs.metadata.items(), *groups.metadata.items())}
    assert (told["contents"], told["near pairs found"] > 0, told["not comparable"]) == (9, True, 0)
    assert (told["images"], told["near groups"], told["near images"], told["near spare"]) == (len(TREE), 3, 8, 5)
    assert (told["exact groups"], told["exact spare"], told["burst groups"]) == (1, 1, 0)
    assert str(told["near groups shown"]).count("data:image/jpeg;base64,") == len(NEAR)
    evaluations = {e.check_name: e.passed for e in done.get_asset_check_evaluations()}
    assert evaluations == {"members_agree": True, "keepers_live": True, "spare_as_before": True}


def test_an_image_that_goes_while_groups_are_told_of_is_left_to_the_next_run(
    lake: Pipeline, images: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def goes(pipeline: Pipeline) -> None:
        (images / "rye/small.jpg").unlink()
        pipeline.scan(["rye"], LogProgress())

    with monkeypatch.context() as patch:
        meanwhile(patch, "group", goes)
        done = materialize(lake, instance)
    assert all(each.passed for each in done.get_asset_check_evaluations())
    assert lake.group(LogProgress()).changed


def decide(lake: Pipeline, kind: str, path: str, **more: str) -> None:
    content = dict(lake.tables.directory.latest().read(["relative_path", "content_sha256"]).drop("_file").iter_rows())
    row = {"decided_by": "me", "kind": kind, "relative_path": path, "content_sha256": content[path], **more}
    append(lake.tables.decisions, lambda _: [row])


def test_the_sensor_asks_once_for_each_state(lake: Pipeline, images: Path, instance: dg.DagsterInstance) -> None:
    asked = tick(lake, instance)
    assert isinstance(asked, dg.RunRequest)
    assert materialize(lake, instance, asked.run_key).success
    assert "in line" in str(tick(lake, instance))
    decide(lake, "keeper", "rye/small.jpg")
    again = tick(lake, instance)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != asked.run_key
    assert materialize(lake, instance, again.run_key).success
    assert "in line" in str(tick(lake, instance))
    (images / "rye/alone.jpg").unlink()
    lake.scan(["rye"], LogProgress())
    assert "index is not in line" in str(tick(lake, instance))


def test_what_changes_nothing_or_the_command_did_costs_no_run(
    lake: Pipeline, images: Path, instance: dg.DagsterInstance
) -> None:
    def told(of: dg.AssetsDefinition) -> dg.AssetMaterialization:
        event = instance.get_latest_materialization_event(of.key)
        assert event is not None
        assert event.asset_materialization is not None
        return event.asset_materialization

    lake.compare_all(LogProgress())
    assert "no run of Dagster made" in str(tick(lake, instance))
    assert told(image_pairs).metadata["note"].value == told(image_groups).metadata["note"].value
    assert told(image_groups).metadata["near spare"].value == 5
    (check, *_) = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(image_groups.key, "keepers_live"), limit=1
    )
    assert check.status.value == "SUCCEEDED"
    first = told(image_groups)
    decide(lake, "relabel", "rye/small.jpg", field="class", value="rye")
    decide(lake, "remove", "rye/alone.jpg", field="quality")  # in no group
    assert "in line" in str(tick(lake, instance))
    assert told(image_groups) == first
    (images / "oats/part.jpg").unlink()
    run(lake, LogProgress(), curate=False)
    lake.compare_all(LogProgress())
    assert "in line" in str(tick(lake, instance))
    assert told(image_groups).metadata["near spare"].value == 4


def test_without_vectors_images_are_compared_by_their_hashes(
    pipeline: Pipeline, images: Path, instance: dg.DagsterInstance
) -> None:
    put(images)
    pipeline.scan(["maize", "oats", "rye"], LogProgress())
    assert isinstance(tick(pipeline, instance), dg.RunRequest)
    pipeline.compare_all(LogProgress())
    assert "in line" in str(tick(pipeline, instance))


def test_vectors_that_came_later_are_looked_up(ready: Pipeline, images: Path, instance: dg.DagsterInstance) -> None:
    put(images, "maize/1.jpg", "oats/mirrored.jpg")
    ready.scan(["maize", "oats"], LogProgress())
    ready.embed("maize", ready.registry.champion(), LogProgress())
    ready.searcher.refresh(LogProgress())
    ready.compare_all(LogProgress())
    assert "in line" in str(tick(ready, instance))
    run(ready, LogProgress(), curate=False)
    asked = tick(ready, instance)
    assert isinstance(asked, dg.RunRequest)
    assert materialize(ready, instance, asked.run_key).success
    assert "in line" in str(tick(ready, instance))


@pytest.mark.parametrize("asset", [image_pairs, image_groups])
def test_a_materialization_under_way_is_waited_for(
    asset: dg.AssetsDefinition, lake: Pipeline, instance: dg.DagsterInstance
) -> None:
    manual = instance.add_run(dg.DagsterRun("__ASSET_JOB", status=dg.DagsterRunStatus.STARTED))
    planned = AssetMaterializationPlannedData(asset.key)
    event = DagsterEvent.build_asset_materialization_planned_event(manual.job_name, asset.op.name, planned)
    instance.report_dagster_event(event, manual.run_id)
    assert f"run {manual.run_id[:8]} is at it" in str(tick(lake, instance))
    instance.report_run_failed(manual)
    assert isinstance(tick(lake, instance), dg.RunRequest)


def test_a_run_that_fails_is_asked_for_again_after_a_wait(
    lake: Pipeline, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curation_assets.errors import CurationError

    def fail(*_: object) -> None:
        raise CurationError("no room")

    asked = tick(lake, instance)
    assert isinstance(asked, dg.RunRequest)
    monkeypatch.setattr(Pipeline, "compare", fail)
    assert not materialize(lake, instance, asked.run_key).success
    waits = tick(lake, instance)
    assert isinstance(waits, dg.SkipReason)
    assert "asked for already" in str(waits.skip_message)


def test_many_copies_at_once_are_a_warning(
    ready: Pipeline, fill: Callable[..., list[Path]], images: Path, instance: dg.DagsterInstance
) -> None:
    paths = fill("maize", 24)
    ready.tables.directory.create()
    ready.scan(["maize"], LogProgress())
    assert materialize(ready, instance).success
    for path in paths[:12]:
        (images / "maize" / f"copy_of_{path.name}").write_bytes(path.read_bytes())
    ready.scan(["maize"], LogProgress())
    done = materialize(ready, instance)
    assert done.success
    (jump,) = [e for e in done.get_asset_check_evaluations() if e.check_name == "spare_as_before"]
    assert (jump.passed, jump.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_checks_find_what_is_wrong(lake: Pipeline) -> None:
    lake.compare_all(LogProgress())
    tables = lake.tables
    pictures = open_pictures(lake.settings.pictures_dir)
    same = read_decisions(tables.decisions).same_pairs()

    def members(same: pl.DataFrame = same) -> Outcome:
        groups, pairs, directory = tables.groups.snapshot(), tables.pairs.snapshot(), tables.directory.snapshot()
        return checks.members_agree(groups, pairs, directory, pictures, lake.agreements, same)

    def keepers() -> bool:
        return checks.keepers_live(tables.groups.snapshot(), tables.directory.snapshot()).passed

    def change(where: str, **values: str) -> None:
        DeltaTable(tables.groups.path).update(updates=values, predicate=where)

    assert (members().passed, keepers()) == (True, True)
    assert members().numbers == {"compared": 1 + 1 + 3, "wrong": 0}
    change("relative_path = 'rye/plain.jpg'", is_keeper="false")
    assert keepers() == ("rye/plain.jpg" not in set(_keepers(tables.groups.snapshot().read(["keeper"]))))
    rows = tables.groups.snapshot().read(["group_id", "kind", "content_sha256"]).filter(pl.col("kind") == "near")
    contents = dict(rows.group_by("group_id").agg(pl.col("content_sha256").unique()).sort("group_id").iter_rows())
    one, other, *_ = contents
    change(f"group_id = '{one}'", kind="'burst'")
    assert members().passed, "a near pair is more than a burst asks for"
    change(f"group_id = '{other}'", kind="'burst'", group_id=f"'{one}'")
    crossing = len(contents[one]) * len(contents[other])
    assert members().numbers["wrong"] == crossing, "nothing holds them together"
    change(f"group_id = '{one}'", kind="'near'")
    found = members()
    assert (found.passed, found.numbers["wrong"]) == (False, crossing), "two photographs are in one group now"
    assert not keepers(), "and it has two keepers"
    said = pl.DataFrame(
        [sorted([a, b]) for a in contents[one] for b in contents[other]], schema=["first", "second"], orient="row"
    )
    assert members(said.head(1)).numbers["wrong"] == crossing - 1, "a person's word is about two, not about their group"
    assert members(said).passed


def _keepers(rows: pl.DataFrame) -> list[str]:
    return rows["keeper"].to_list()


def test_the_sample_of_pairs_is_spread_over_all_groups() -> None:
    groups = {str(number): [f"{number} {member}" for member in range(2 + number % 3)] for number in range(500)}
    found = checks.sampled_pairs(groups, 200, seed=1)
    assert len({pair[0].split()[0] for pair in found}) == len(found) == 200
    assert found == checks.sampled_pairs(groups, 200, seed=1)
    assert len({*found} - {*checks.sampled_pairs(groups, 200, seed=2)}) > 50
    crowd = {"crowd": [f"{member:05}" for member in range(20_000)], "two": ["a", "b"]}
    some = checks.sampled_pairs(crowd, 200, seed=1)
    assert ("a", "b") in some
    assert len(set(some)) == 101
    assert all(first < second for first, second in some)


def test_a_larger_share_to_spare_is_told() -> None:
    assert checks.spare_as_before({"near": 200}, 1000, {}, 0).passed
    assert checks.spare_as_before({"near": 200}, 1000, {"near": 180}, 1000).passed
    assert checks.spare_as_before({"near": 9}, 30, {"near": 5}, 30).passed, "chance brings that"
    assert checks.spare_as_before({"exact": 3}, 9, {"exact": 0}, 6).passed, "they are few"
    told = checks.spare_as_before({"near": 300}, 1000, {"near": 180}, 1000)
    assert not told.passed
    assert "near 30.0% of 1000, before 18.0% of 1000" in told.description
    assert np.isclose(told.numbers["share_near"], 0.3)
