"""The sensor where messages of a bucket tell it where to look."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest

from curation_assets.defs import settling
from curation_assets.defs.new_images import build_new_images_sensor
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.settling import Cursor, Followed
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets.stores import notifications
from curation_assets_tests.conftest import copy_registry, jpeg
from curation_assets_tests.defs.conftest import report_model
from curation_assets_tests.defs.test_sensors import keys, reason, store_run
from curation_assets_tests.stores.s3_server import S3, Fault
from curation_assets_tests.stores.test_notifications import TEST_EVENT, s3_message

HOUR = 3600.0


class Farm:
    """Photographs in a bucket, a lake on the disk, messages in a folder, and the sensor."""

    def __init__(self, s3: S3, home: Path, instance: dg.DagsterInstance, **settings: Any) -> None:
        self.s3 = s3
        self.events = home / "events"
        self.events.mkdir()
        self.instance = instance
        given: dict[str, Any] = {
            "images_root": f"s3://{s3.bucket}/photos",
            "images_events": self.events,
            "lake_root": home / "lake",
            "mlflow_root": home / "mlflow",
            "model_source": "demo",
            "settle_seconds": 0,
        }
        self.pipeline = Pipeline(load_settings(**given | settings))
        self.cursor: str | None = None
        self.listed = 0  # requests for pages of keys in the last tick
        self._messages = 0

    def tick(self, **settings: Any) -> dg.SensorResult:
        """Evaluate the sensor, and store what it asks for as the daemon does; a refusal keeps the cursor."""
        chosen = self.pipeline.settings.model_copy(update=settings)
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        self.s3.forget()
        result = build_new_images_sensor(chosen)(context, curation=CurationResource.of(chosen))
        self.listed = sum(self.s3.of("LIST").values())
        if isinstance(result, dg.SkipReason):
            return dg.SensorResult(skip_reason=result)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        for request in result.dynamic_partitions_requests or []:
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions("image_folders", request.partition_keys)
            else:
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition("image_folders", key)
        for event in result.asset_events:
            assert isinstance(event, dg.AssetMaterialization)
            self.instance.report_runless_asset_event(event)
        for asked in result.run_requests or []:
            store_run(self.instance, asked)
        return result

    def put(self, name: str, seed: int = 0) -> None:
        self.s3.put(f"photos/{name}", jpeg(seed))

    def delete(self, name: str) -> None:
        self.s3.client.delete_object(Bucket=self.s3.bucket, Key=f"photos/{name}")

    def tell(self, name: str, event: str = "ObjectCreated:Put") -> None:
        self.write(json.dumps(s3_message(self.s3.bucket, f"photos/{name}", event)))

    def write(self, message: str) -> None:
        self._messages += 1
        (self.events / f"{self._messages:06}.json").write_text(message)

    def bring_in_line(self, *folders: str) -> None:
        self.pipeline.scan(folders, LogProgress())
        self.pipeline.embed_all(folders, self.pipeline.registry.champion(), LogProgress())

    @property
    def followed(self) -> Followed:
        found = Cursor.of(self.cursor).followed
        assert found is not None
        return found


@pytest.fixture
def bare(
    s3: S3, tmp_path: Path, registered_model: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Farm:
    """One folder, and nobody has looked at it."""
    monkeypatch.setenv("CURATION_STORAGE_OPTIONS", json.dumps(s3.options))
    copy_registry(registered_model, tmp_path / "mlflow")
    made = Farm(s3, tmp_path, instance)
    report_model(instance, made.pipeline)
    made.put("rye/0.jpg", 1)
    return made


@pytest.fixture
def farm(bare: Farm) -> Farm:
    """Two folders that are in line, and all of the bucket was looked at."""
    for number in range(2):
        bare.put(f"maize/{number}.jpg", 2 + number)
    bare.bring_in_line("maize", "rye")
    first = bare.tick()  # tells Dagster of both, and there may be more to tell
    assert len(first.asset_events) == 4
    bare.tick()
    assert bare.followed.looked > 0
    return bare


def test_a_message_leads_to_its_folder_and_nothing_else_is_listed(farm: Farm) -> None:
    farm.put("maize/2.jpg", 7)
    farm.put("rye/1.jpg", 8)
    farm.tell("maize/2.jpg")
    assert keys(farm.tick()) == ["maize"]
    assert farm.listed == 1
    farm.bring_in_line("maize")
    result = farm.tick()
    assert keys(result) == []
    assert "1 image folders that messages name or that weren't in line, all match the table" in reason(result)
    result = farm.tick()
    assert not farm.s3.asked()
    assert reason(result) == "no message names a folder, and none waits"
    assert keys(farm.tick(full_look_seconds=0)) == ["rye"]  # no message told of it: the listing is the truth


def test_all_folders_are_looked_at_when_it_is_time(bare: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys(bare.tick()) == ["rye"]
    bare.put("wheat/0.jpg")
    assert keys(bare.tick()) == []
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + HOUR + 1)
    assert "wheat" in keys(bare.tick())
    monkeypatch.setattr(time, "time", really)
    bare.put("oats/0.jpg")
    assert keys(bare.tick()) == ["oats"]  # a clock that was set back is no reason to wait an hour


def test_a_new_folder_gets_its_partition_and_one_that_is_gone_keeps_its_own_until_all_is_looked_at(farm: Farm) -> None:
    farm.put("wheat/east/0.jpg")
    farm.tell("wheat/east/0.jpg")
    farm.delete("rye/0.jpg")
    farm.tell("rye/0.jpg", "ObjectRemoved:Delete")
    assert keys(farm.tick()) == ["wheat/east"]
    assert set(farm.instance.get_dynamic_partitions("image_folders")) == {"maize", "rye", "wheat/east"}
    assert farm.pipeline.tables.directory.snapshot().folders == ["maize", "rye"]
    assert keys(farm.tick()) == []
    assert keys(farm.tick(full_look_seconds=0)) == ["rye"]


def test_messages_that_are_wrong_lose_nothing_and_are_told(farm: Farm, capfd: pytest.CaptureFixture[str]) -> None:
    farm.tell("maize/0.jpg", "ObjectRemoved:Delete")
    farm.tell("never/was.jpg")
    farm.tell("../maize/0.jpg")
    farm.tell("maize/notes.txt")
    farm.write(json.dumps(s3_message("another", "photos/rye/0.jpg")))
    farm.write(json.dumps(TEST_EVENT))
    farm.write("no message")
    assert keys(farm.tick()) == []
    assert "2 messages say nothing of an object, and were skipped" in capfd.readouterr().err
    assert farm.tick().dynamic_partitions_requests in (None, [])
    assert set(farm.instance.get_dynamic_partitions("image_folders")) == {"maize", "rye"}
    assert "messages" not in capfd.readouterr().err


def test_most_of_the_images_do_not_go_without_a_question(farm: Farm) -> None:
    for number in range(2, 8):
        farm.put(f"maize/{number}.jpg", number)
    farm.bring_in_line("maize")
    for number in range(7):
        farm.delete(f"maize/{number}.jpg")
        farm.tell(f"maize/{number}.jpg", "ObjectRemoved:Delete")
    result = farm.tick()
    assert keys(result) == []
    assert "more than half, are gone from 'maize'" in reason(result)


def test_a_folder_that_settles_or_whose_run_failed_is_looked_at_again(farm: Farm) -> None:
    farm.put("maize/2.jpg", 7)
    farm.tell("maize/2.jpg")
    settings = {"settle_seconds": 3.0}
    farm.tick(**settings)  # of other settings: all is looked at
    farm.put("maize/3.jpg", 8)
    farm.tell("maize/3.jpg")
    assert "1 still being written" in reason(farm.tick(**settings))
    assert farm.followed.again == ("maize",)
    time.sleep(3.1)
    assert keys(farm.tick(**settings)) == ["maize"]
    assert farm.listed == 1
    (run,) = farm.instance.get_runs()
    assert run.is_success  # and yet the folder isn't in line
    result = farm.tick(**settings)
    assert "1 folder waits to be tried again: maize" in reason(result)
    assert farm.listed == 1


def test_messages_that_cannot_be_read_make_it_look_at_all(bare: Farm, capfd: pytest.CaptureFixture[str]) -> None:
    bare.tick()
    bare.put("wheat/0.jpg")
    aside = bare.events.rename(bare.events.with_name("aside"))
    assert keys(bare.tick()) == ["wheat"]
    assert "messages of changes can't be read, so all folders are looked at" in capfd.readouterr().err
    bare.put("oats/0.jpg")
    aside.rename(bare.events)
    assert keys(bare.tick()) == ["oats"]
    bare.put("maize/0.jpg")
    assert keys(bare.tick()) == []


def test_a_look_that_fails_reads_its_messages_again(bare: Farm) -> None:
    bare.tick(folder_depth=1)
    bare.put("maize/east/0.jpg")
    bare.tell("maize/east/0.jpg")
    bare.s3.fail(Fault("LIST", status=403))
    assert "cannot be listed" in reason(bare.tick(folder_depth=1))
    bare.s3.fail()
    assert keys(bare.tick(folder_depth=1)) == ["maize"]
    assert bare.followed.again == ("maize", "rye")
    assert bare.listed == 2


def test_more_than_the_cursor_holds_is_looked_for_everywhere(bare: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    bare.put("maize/0.jpg")
    monkeypatch.setattr(settling, "_MOST_AGAIN", 7)
    assert keys(bare.tick()) == ["maize", "rye"]
    assert (bare.followed.looked, bare.followed.again) == (0, ())


def test_runs_that_a_tick_does_not_come_to_are_asked_for_by_the_next(
    bare: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation_assets.defs.state.FOLDERS_A_RUN", 1)
    for folder in "abc":
        bare.put(f"{folder}/0.jpg")
    monkeypatch.setattr(settling, "_MOST_AGAIN", 10)
    asked = [keys(bare.tick(sensor_max_runs=2)) for _ in range(3)]
    assert [len(each) for each in asked] == [2, 2, 0]


def test_a_queue_is_emptied_by_the_tick_that_looked(bare: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("sqs", endpoint_url=bare.s3.url, **known)
    name = f"of-{bare.s3.bucket}"
    url = client.create_queue(QueueName=name)["QueueUrl"]
    settings = {"images_events": load_settings(images_events=f"sqs://us-east-1/123456789012/{name}").images_events}

    def waiting() -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(map(int, client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))

    assert keys(bare.tick(**settings)) == ["rye"]
    bare.put("wheat/0.jpg")
    bare.put("maize/0.jpg")
    client.send_message(QueueUrl=url, MessageBody=json.dumps(s3_message(bare.s3.bucket, "photos/wheat/0.jpg")))
    client.send_message(QueueUrl=url, MessageBody=json.dumps(TEST_EVENT))
    monkeypatch.setattr(notifications, "_HIDDEN_SECONDS", 2)
    bare.s3.fail(Fault("LIST", status=403))
    assert "cannot be listed" in reason(bare.tick(**settings))
    assert waiting() == 2  # nothing was decided with them
    bare.s3.fail()
    time.sleep(2)
    assert keys(bare.tick(**settings)) == ["wheat"]
    assert waiting() == 0


def test_images_on_a_disk_are_looked_at_as_ever(
    bare: Farm, tmp_path: Path, fill: Callable[..., Any], images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill("maize")
    assert keys(bare.tick(images_root=images, lake_root=tmp_path / "another")) == ["maize"]
    assert "CURATION_IMAGES_EVENTS says nothing of images that lie in no bucket" in capfd.readouterr().err
    assert Cursor.of(bare.cursor).followed is None
