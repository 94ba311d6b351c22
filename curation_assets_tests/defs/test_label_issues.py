"""``label_issues``: what its page tells, what its checks find, when the sensor asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from curation_assets.annotations.sources import make_source
from curation_assets.curate.labels.checks import label_issues_as_before, no_leaks
from curation_assets.curate.leaks import NO_SPLITS
from curation_assets.definitions import build_defs
from curation_assets.defs.label_issues import build_label_issues_sensor, find_label_issues, label_issues
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.curate.labels.test_issues import COPY, ONE, THREE, TWO, decide, predict
from curation_assets_tests.curate.labels.test_issues import doubted as doubted
from curation_assets_tests.curate.labels.test_issues import lake as lake
from curation_assets_tests.defs.conftest import Following, on_disk

Fill = Callable[..., list[Path]]


instance = on_disk
_following = Following(find_label_issues.name, build_label_issues_sensor)
materialize, tick = _following.materialize, _following.tick


def test_the_page_tells_counts_and_shows_the_worst(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    predict(lake, (TWO, "rust", "miner", 0.07))
    done = materialize(lake, instance)
    assert done.success
    (made,) = done.asset_materializations_for_node(label_issues.op.name)
    told = {name: fact.value for name, fact in made.metadata.items()}
    assert (told["mislabelled"], told["conflicting"], told["box_tiny"]) == (1, 2, 0)
    assert (told["annotated images"], told["changed rows"], told["dagster/row_count"]) == (4, 3, 3)
    rows = [record.data for record in told["the worst"].records]  # type: ignore[attr-defined]
    assert [(row["image"], row["given"], row["suggested"]) for row in rows] == [
        (TWO, "rust", "miner"),
        (ONE, "rust", ""),
        (COPY, "miner", ""),
    ]
    shown = str(told["the worst labels, each beside what speaks against it"])
    assert shown.count("data:image/jpeg;base64,") == 3
    assert "rust → miner" in shown
    evaluations = {e.check_name: (e.passed, e.description) for e in done.get_asset_check_evaluations()}
    assert evaluations["no_leaks"] == (True, f"nothing is known of leaks: {NO_SPLITS}")
    assert evaluations["label_issues_as_before"][0]


def test_leaks_are_a_warning_with_their_counts(lake: Pipeline, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(f"path,class,split\n{ONE},rust,train\n{COPY},rust,test\n{TWO},rust,test\n")
    lake.annotate(make_source(format="csv", path=tmp_path / "s.csv", source="anna"), LogProgress())
    done = materialize(lake, instance)
    check = {e.check_name: e for e in done.get_asset_check_evaluations()}["no_leaks"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == "1 pair of images is on two sides: 1 exact of test and train"
    assert check.metadata["exact test train"].value == 1
    assert "in line" in str(tick(lake, instance))
    content = lake.tables.contents([TWO])[TWO]
    (lake.settings.images_root / "a" / "again.jpg").write_bytes((lake.settings.images_root / TWO).read_bytes())
    lake.scan(["a"], LogProgress())
    (tmp_path / "s.csv").write_text("path,class,split\na/again.jpg,rust,train\n")
    lake.annotate(make_source(format="csv", path=tmp_path / "s.csv", source="berta"), LogProgress(), add=True)
    lake.compare_all(LogProgress())
    assert lake.tables.contents(["a/again.jpg"])["a/again.jpg"] == content
    assert "no run of Dagster made" in str(tick(lake, instance)), "another leak is told of, though no label differs"


def test_the_sensor_asks_once_for_each_state(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    asked = tick(lake, instance)
    assert isinstance(asked, dg.RunRequest)
    assert materialize(lake, instance, asked.run_key).success
    assert "in line" in str(tick(lake, instance))
    decide(lake, "keep", THREE, field="quality")
    assert "in line" in str(tick(lake, instance)), "a decision that changes no issue costs no run"
    decide(lake, "unsure", ONE)
    again = tick(lake, instance)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != asked.run_key
    assert materialize(lake, instance, again.run_key).success
    assert "in line" in str(tick(lake, instance))


def test_what_the_command_did_is_told_and_costs_no_run(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    lake.find_label_issues(LogProgress())
    assert "no run of Dagster made" in str(tick(lake, instance))
    event = instance.get_latest_materialization_event(label_issues.key)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["conflicting"].value == 2


def test_nothing_is_asked_for_without_annotations(pipeline: Pipeline, fill: Fill, instance: dg.DagsterInstance) -> None:
    assert "nothing is scanned yet" in str(tick(pipeline, instance))
    fill("a", 1)
    pipeline.scan(["a"], LogProgress())
    assert "there are no annotations" in str(tick(pipeline, instance))
    assert materialize(pipeline, instance).success


def test_one_click_finds_label_issues_too(
    ready: Pipeline, fill: Fill, images: Path, instance: dg.DagsterInstance
) -> None:
    (photograph,) = fill("rust", 1)
    (images / "miner").mkdir()
    (images / "miner" / "copy.jpg").write_bytes(photograph.read_bytes())
    settings = ready.settings.model_copy(update={"annotations": (make_source(format="folders", pattern="{class}/*"),)})
    job = build_defs(settings).resolve_job_def("bring_everything_in_line")
    done = job.execute_in_process(instance=instance)
    assert done.success
    event = instance.get_latest_materialization_event(label_issues.key)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["conflicting"].value == 2
    assert "no_leaks" in {e.check_name for e in done.get_asset_check_evaluations()}


def test_a_jump_of_label_issues_is_told() -> None:
    assert label_issues_as_before({"conflicting": 5}, 1000, {"conflicting": 4}, 1000).passed
    assert label_issues_as_before({"conflicting": 500}, 1000, {}, 0).passed
    outcome = label_issues_as_before({"conflicting": 200, "box_tiny": 0}, 1000, {"conflicting": 4, "box_tiny": 0}, 1000)
    assert not outcome.passed
    assert "conflicting 20.0% of 1000" in outcome.description
    assert no_leaks(None, "no split").passed
