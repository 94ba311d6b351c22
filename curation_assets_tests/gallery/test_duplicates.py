"""Groups of duplicates over HTTP: counted, filtered, and asked anew when an image came."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from curation_assets.gallery.api.duplicates import _described
from curation_assets.pipeline import Pipeline
from curation_assets_tests.gallery.conftest import BURST, NEAR, THIS_MACHINE, client_of, decide


def asked(client: TestClient, **asked: Any) -> Any:
    answer = client.get("/api/duplicates", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def paths(group: dict[str, Any]) -> list[str]:
    return [one["image"]["relative_path"] for one in group["images"]]


def test_groups_are_counted_and_told_with_what_their_images_are(client: TestClient) -> None:
    found = asked(client)
    assert {one["kind"]: (one["groups"], one["undecided"], one["spare"]) for one in found["kinds"]} == {
        "exact": (1, 1, 1),
        "near": (1, 1, 1),
        "burst": (1, 1, 1),
    }
    assert (found["total"], found["undecided"], found["next"], found["latest"]) == (3, 3, None, "")
    exact, near, burst = found["groups"]
    assert (exact["kind"], sorted(paths(exact))) == ("exact", ["kinds/copy.jpg", "rice/photo_000.jpg"])
    assert {one["how"] for one in exact["images"]} == {None, "the same bytes"}
    assert paths(near) == list(NEAR)
    assert (near["keeper"], near["images"][1]["how"]) == (NEAR[0], "mirrored")
    assert near["images"][0]["labels"] == {"class": "healthy"}
    assert paths(burst) == list(BURST)
    assert [one["is_keeper"] for one in burst["images"]].count(True) == 1


def test_groups_are_filtered_and_paged(client: TestClient) -> None:
    near = asked(client, kind="near")
    assert (near["total"], [one["kind"] for one in near["groups"]]) == (1, ["near"])
    assert [one["groups"] for one in near["kinds"]] == [1, 1, 1]
    rice = asked(client, folder="rice")
    assert (rice["total"], [one["groups"] for one in rice["kinds"]]) == (1, [1, 0, 0])
    first = asked(client, k=2)
    assert (len(first["groups"]), first["next"]) == (2, 2)
    assert [one["kind"] for one in asked(client, k=2, offset=2)["groups"]] == ["burst"]
    assert asked(client, offset=9)["groups"] == []
    wrong = client.get("/api/duplicates", params={"kind": "nearly"})
    assert (wrong.status_code, "kind='nearly'" in wrong.json()["error"]) == (400, True)
    assert client.get("/duplicates?kind=near").status_code == 200


def test_a_group_is_decided_until_another_image_is_in_it(own: Pipeline) -> None:
    with client_of(own, client=THIS_MACHINE) as client:
        (near,) = asked(client, kind="near", rest=True)["groups"]
        members = sorted(one["image"]["content_sha256"] for one in near["images"])
        shown = {"group": near["group_id"], "members": members, "images": 2}
        answer = decide(client, {"token": "1" * 16, "kind": "keeper", "key": NEAR[1], "shown": shown})
        assert answer.json()["decisions"][0]["status"] == "recorded"
        deadline = time.monotonic() + 20
        while (there := asked(client, kind="near")["groups"])[0]["keeper"] != NEAR[1] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (there[0]["decided"], there[0]["keeper"], there[0]["rule"]) == ("keeper", NEAR[1], "a person's word")
        assert (asked(client)["undecided"], asked(client, kind="near", undecided=True)["total"]) == (2, 0)
        assert decide(client, {"token": "2" * 16, "undoes": "1" * 16}).status_code == 200
        assert asked(client, kind="near", undecided=True)["total"] == 1
        apart = {"token": "3" * 16, "kind": "different", "key": NEAR[0], "other": NEAR[1]}
        assert decide(client, apart).status_code == 200
        assert asked(client, kind="near", undecided=True)["total"] == 0
    shutil.rmtree(own.tables.groups.path)
    answer = client_of(own).get("/api/duplicates")
    assert (answer.status_code, "`curation curate` does that" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(("keeper", "shown"), [(0, [0, 1, 2]), (2, [0, 1, 2]), (4, [2, 3, 4])])
def test_a_long_burst_is_a_strip_in_time_around_its_keeper(keeper: int, shown: list[int]) -> None:
    taken = [datetime(2025, 6, 20, 10, 41, second, tzinfo=UTC) for second in range(5)]
    index = SimpleNamespace(rows=pl.DataFrame({"captured_at": taken}))
    there = [({"relative_path": f"{at}.jpg", "is_keeper": at == keeper}, at) for at in (3, 1, 0, 4, 2)]
    described, others = _described(index, "burst", there, 3)  # type: ignore[arg-type]
    assert [number for _, number in described] == shown
    assert sorted(number for _, number in [*described, *others]) == list(range(5))
    assert _described(index, "near", there, 3) == (there[:3], there[3:])  # type: ignore[arg-type]
