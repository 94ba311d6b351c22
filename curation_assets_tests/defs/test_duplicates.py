"""``image_pairs`` and ``image_groups``: what their pages tell, what checks find, when the sensor asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from curation_assets.curate.duplicates import checks
from curation_assets.curate.duplicates.pictures import open_pictures
from curation_assets.decisions.record import append, read_decisions
from curation_assets.definitions import build_defs
from curation_assets.defs.duplicates import build_duplicates_sensor, find_duplicates, image_groups, image_pairs
from curation_assets.defs.resources import CurationResource
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.curate.duplicates.test_comparison import NEAR, TREE, put


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp() as made:
        yield made


@pytest.fixture
def lake(ready: Pipeline, images: Path) -> Pipeline:
    put(images)
    run(ready, LogProgress(), curate=False)
    return ready


def materialize(lake: Pipeline, instance: dg.DagsterInstance, run_key: str | None = None) -> dg.ExecuteInProcessResult:
    job = build_defs(lake.settings).resolve_job_def(find_duplicates.name)
    tags = {} if run_key is None else {"dagster/run_key": run_key}
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def tick(lake: Pipeline, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    resource = CurationResource.of(lake.settings)
    answer = build_duplicates_sensor(lake.settings)(dg.build_sensor_context(instance=instance), curation=resource)
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


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


def test_the_sensor_asks_once_for_each_state(lake: Pipeline, images: Path, instance: dg.DagsterInstance) -> None:
    asked = tick(lake, instance)
    assert isinstance(asked, dg.RunRequest)
    assert materialize(lake, instance, asked.run_key).success
    assert "in line" in str(tick(lake, instance))
    content = lake.tables.directory.latest().read(["relative_path", "content_sha256"])
    path, sha, _ = content.row(0)
    row = {"decided_by": "me", "kind": "keeper", "relative_path": path, "content_sha256": sha}
    append(lake.tables.decisions, lambda _: [row])
    again = tick(lake, instance)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != asked.run_key
    assert materialize(lake, instance, again.run_key).success
    assert "in line" in str(tick(lake, instance))
    (images / "rye/alone.jpg").unlink()
    lake.scan(["rye"], LogProgress())
    assert "index is not in line" in str(tick(lake, instance))
    run(lake, LogProgress())
    assert isinstance(tick(lake, instance), dg.RunRequest), "the command made it; a run of seconds tells Dagster"


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


@pytest.mark.parametrize(("few", "passes"), [(6, True), (24, False)])
def test_copies_of_few_images_are_no_jump(
    few: int, passes: bool, ready: Pipeline, fill: Callable[..., list[Path]], images: Path, instance: dg.DagsterInstance
) -> None:
    paths = fill("maize", few)
    run(ready, LogProgress(), curate=False)
    assert materialize(ready, instance).success
    for path in paths[: few // 2]:
        (images / "maize" / f"copy_of_{path.name}").write_bytes(path.read_bytes())
    run(ready, LogProgress(), curate=False)
    done = materialize(ready, instance)
    assert done.success
    (jump,) = [e for e in done.get_asset_check_evaluations() if e.check_name == "spare_as_before"]
    assert (jump.passed, jump.severity) == (passes, dg.AssetCheckSeverity.WARN)


def test_checks_find_what_is_wrong(lake: Pipeline) -> None:
    lake.compare_all(LogProgress())
    tables = lake.tables
    pictures = open_pictures(lake.settings.pictures_dir)
    same = read_decisions(tables.decisions).same_pairs()

    def members() -> bool:
        groups, directory = tables.groups.snapshot(), tables.directory.snapshot()
        return checks.members_agree(groups, directory, pictures, lake.agreements, same).passed

    def keepers() -> bool:
        return checks.keepers_live(tables.groups.snapshot(), tables.directory.snapshot()).passed

    assert (members(), keepers()) == (True, True)
    DeltaTable(tables.groups.path).update(updates={"is_keeper": "false"}, predicate="relative_path = 'rye/plain.jpg'")
    assert keepers() == ("rye/plain.jpg" not in set(_keepers(tables.groups.snapshot().read(["keeper"]))))
    rows = tables.groups.snapshot().read(["group_id", "kind", "relative_path"]).filter(pl.col("kind") == "near")
    one, other = rows["group_id"].unique().sort()[:2]
    DeltaTable(tables.groups.path).update(updates={"group_id": f"'{one}'"}, predicate=f"group_id = '{other}'")
    assert not members(), "two photographs are in one group now"
    assert not keepers(), "and it has two keepers"


def _keepers(rows: pl.DataFrame) -> list[str]:
    return rows["keeper"].to_list()


def test_a_larger_share_to_spare_is_told() -> None:
    assert checks.spare_as_before({"near": 0.2}, {}).passed
    assert checks.spare_as_before({"near": 0.2}, {"near": 0.18}).passed
    told = checks.spare_as_before({"near": 0.3}, {"near": 0.18})
    assert not told.passed
    assert "near 30.0%, before 18.0%" in told.description
    assert np.isclose(told.numbers["share_near"], 0.3)
