from __future__ import annotations

import base64
import time
from io import BytesIO
from typing import Any

import dagster as dg
import pytest
from PIL import Image

from curation_assets.defs import speed_history
from curation_assets.embed.result import DeviceUse, EmbedPiece, EmbedResult, StageSeconds
from curation_assets.scan.result import ScanResult

ASSET = dg.AssetKey("crop_images_directory_embeddings")
COMPUTED = DeviceUse("cuda:0", 2, "bfloat16", 160e9, 1000e12)


def encoded(images: int, seconds: float) -> EmbedResult:
    result = EmbedResult("maize", seconds=seconds + 5)
    stages = StageSeconds(read=1, decode=2, forward=6, write=1)
    began = time.monotonic() - seconds
    result.take(EmbedPiece(encoded=images, bytes=2_000_000, began=began, stages=stages, computed=COMPUTED))
    return result


def test_speed_is_of_the_encoding_and_its_share_of_all_devices() -> None:
    facts = speed_history.embed_speed(encoded(5000, 2.0))
    values = {name: fact.value for name, fact in facts.items()}
    assert values["images per second"] == pytest.approx(2500, rel=0.01)
    assert values["share of the device's limit"] == pytest.approx(2500 * 160e9 / 2000e12, rel=0.01)
    assert values["MB read"] == 2
    assert values["share of forward"] == 0.6
    assert sum(value for name, value in values.items() if name.startswith("share of ") and "limit" not in name) == 1


def test_speed_and_seconds_do_not_contradict_each_other() -> None:
    facts = speed_history.embed_speed(encoded(5000, 2.0))
    assert facts["images per second"].value * facts["seconds"].value == pytest.approx(5000, rel=0.01)
    assert facts["seconds in all"].value == 7
    scanned = speed_history.scan_speed(ScanResult(folder="maize", read=30, new=30, seconds=2.5))
    assert scanned["images per second"].value * scanned["seconds"].value == pytest.approx(30, rel=0.01)


def test_a_device_of_unknown_limit_has_a_speed_and_no_share() -> None:
    result = encoded(10, 1.0)
    result.computed = DeviceUse("cuda:0", 1, "bfloat16", 160e9, None)
    facts = speed_history.embed_speed(result)
    assert facts["images per second"].value == pytest.approx(10, rel=0.01)
    assert "share of the device's limit" not in facts


def test_a_run_without_work_records_no_speed() -> None:
    assert speed_history.SPEED not in speed_history.embed_speed(EmbedResult("maize", seconds=0.1))
    assert speed_history.SPEED not in speed_history.scan_speed(ScanResult(folder="maize", unchanged=9, seconds=0.1))


def test_the_picture_shows_what_the_instance_holds_and_what_comes_now() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        now = [speed_history.embed_speed(encoded(100, 2.0))]
        assert speed_history.over_time(instance, ASSET, now) == {}
        report(instance, speed_history.embed_speed(EmbedResult("maize")))  # without a speed
        assert speed_history.over_time(instance, ASSET, now) == {}
        report(instance, speed_history.embed_speed(encoded(100, 1.0)))
        (fact,) = speed_history.over_time(instance, ASSET, now).values()
    text: Any = fact.value
    head, _, data = text.partition("data:image/png;base64,")
    assert head == "![images per second]("
    picture = Image.open(BytesIO(base64.b64decode(data.rstrip(")"))))
    assert picture.width > 500
    assert len(picture.convert("RGB").getcolors(100_000) or []) > 20


def report(instance: dg.DagsterInstance, facts: dict[str, Any]) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(ASSET, metadata=facts))
