"""Deciding over HTTP: who may, what is written, and what others see of it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from curation_assets.curate.problems import KINDS
from curation_assets.datasets.recipe import LeaveOut
from curation_assets.decisions.record import read_decisions, read_rows
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.review.problem_queue import ProblemQueue
from curation_assets.review.samples import draw_sample
from curation_assets_tests.gallery.conftest import NEAR, THIS_MACHINE, client_of, decide

_NEEDED = "deciding needs the gallery's token, or this machine"


@pytest.fixture
def client(own: Pipeline) -> Iterator[TestClient]:
    with client_of(own, client=THIS_MACHINE) as made:
        yield made


def image_of(client: TestClient, key: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/image", params={"key": key}).json()["image"]
    return found


def keep(number: int, key: str = NEAR[0], **more: Any) -> dict[str, Any]:
    return {"token": f"{number:016x}", "kind": "keep", "key": key} | more


def test_what_is_decided_is_written_and_others_see_it(own: Pipeline, client: TestClient) -> None:
    content = image_of(client, NEAR[0])["content_sha256"]
    answer = decide(client, keep(1, content=content, shown={"score": 0.1}, reason="fine"))
    assert answer.status_code == 200, answer.text
    (said,) = answer.json()["decisions"]
    assert (said["status"], said["decision"]["field"]) == ("recorded", "quality")
    (row,) = read_decisions(own.tables.decisions).rows.iter_rows(named=True)
    shown = json.loads(row["shown"])
    assert (row["decided_by"], row["content_sha256"], shown["score"]) == ("ann", content, 0.1)
    sharpness = own.judged_rows().filter(relative_path=NEAR[0])["sharpness"].item()
    assert shown["scores"]["blurry"] == pytest.approx(sharpness), "what is known is kept, wherever it is decided"
    odd = '{"by": "ann", "decisions": [{"token": "%s", "kind": "keep", "key": "%s", "shown": {"score": NaN}}]}'
    refused = client.post(
        "/api/decisions", content=odd % ("2" * 16, NEAR[0]), headers={"Content-Type": "application/json"}
    )
    assert (refused.status_code, refused.json()["error"][:27]) == (400, "shown holds a number that J")
    since = client.get("/api/decisions").json()
    assert [one["decision_id"] for one in since["decisions"]] == [row["decision_id"]]
    assert since["latest"] == answer.json()["latest"] == row["decision_id"]
    assert client.get("/api/decisions", params={"after": since["latest"]}).json()["decisions"] == []
    assert decide(client, keep(1)).json()["decisions"][0]["status"] == "already"
    conflict = decide(client, {"token": "2" * 16, "kind": "remove", "key": NEAR[0], "seen": ""}, by="ben").json()
    assert conflict["decisions"][0]["status"] == "conflict"
    assert conflict["decisions"][0]["decision"]["decided_by"] == "ann"
    undone = decide(client, {"token": "3" * 16, "undoes": row["decision_id"]}).json()["decisions"][0]
    assert (undone["status"], undone["decision"]["undoes"]) == ("recorded", row["decision_id"])
    assert not len(read_decisions(own.tables.decisions).rows)


def test_who_may_not_decide_is_told_and_nothing_is_written(own: Pipeline, client: TestClient) -> None:
    with client_of(own, client=("192.0.2.7", 5)) as elsewhere:
        refused = decide(elsewhere, keep(1))
        assert (refused.status_code, refused.json()["error"]) == (403, _NEEDED)
        assert elsewhere.get("/api/problems").status_code == 200
    other_site = decide(client, keep(1), headers={"Sec-Fetch-Site": "cross-site"})
    assert (other_site.status_code, other_site.json()["error"]) == (403, "this request comes from another site's page")
    with client_of(own, "secret", client=("192.0.2.7", 5)) as guarded:
        assert decide(guarded, keep(1)).status_code == 401
        assert decide(guarded, keep(1), headers={"Authorization": "Bearer secret"}).status_code == 200
    assert len(read_rows(own.tables.decisions)) == 1


def test_whose_a_token_is_says_who_decides(own: Pipeline) -> None:
    with client_of(own, {"hers": "Ana", "ours": None}, client=("192.0.2.7", 5)) as guarded:
        for number, (token, is_hers) in enumerate({"hers": True, "ours": False}.items()):
            headers = {"Authorization": f"Bearer {token}"}
            assert decide(guarded, keep(number, NEAR[number]), by=" bo ", headers=headers).status_code == 200
            page = guarded.get("/problems", headers=headers | {"Accept": "text/html"}).text
            assert ('data-reviewer="Ana"' in page, 'title="Signed in as Ana"' in page) == (is_hers, is_hers)
            sample = {"kind": ("blurry", "dark")[number], "by": "bo"}
            assert guarded.post("/api/samples", json=sample, headers=headers).status_code == 200
            cluster = {"cluster": 0, "name": token, "by": "bo"}
            named = guarded.post("/api/clusters/names", json=cluster, headers=headers)
            assert named.json()["named_by"] == ("Ana" if is_hers else "bo")
        assert guarded.get("/api/search", headers={"Authorization": "Bearer Ana"}).status_code == 401
    assert read_rows(own.tables.decisions).sort("decision_id")["decided_by"].to_list() == ["Ana", "bo"]
    assert set(own.tables.samples.latest().read(["created_by"])["created_by"]) == {"Ana", "bo"}


def test_an_image_of_a_sample_that_is_gone_is_not_waited_for(client: TestClient, own: Pipeline) -> None:
    key = ["relative_path", "content_sha256"]
    gone = pl.DataFrame([["gone.jpg", "0" * 64]], key, orient="row")
    drawn = pl.concat([own.judged_rows().select(key).head(5), gone]).with_columns(score=pl.lit(0.1), at=pl.lit(0.1))
    made = draw_sample(own.tables.samples, ProblemQueue(KINDS["blurry"], drawn, len(drawn)), 0.2, 59, "ann")
    about = {"kind": "blurry", "sample": made.sample_id}
    answer = client.get("/api/samples", params=about).json()
    ((band,),) = (sample["bands"] for sample in answer["samples"])
    assert (len(answer["images"]), band["drawn"], band["gone"], band["most_wrong"]) == (5, 6, 1, None)
    mark = {"shown": {"problem": "blurry", "sample": made.sample_id}}
    keys = [one["image"]["relative_path"] for one in answer["images"]]
    assert decide(client, *(keep(n, key, **mark) | {"kind": "remove"} for n, key in enumerate(keys))).status_code == 200
    (sample,) = client.get("/api/samples", params=about).json()["samples"]
    (edge,) = sample["edges"]
    assert "5 were looked at, 0 were wrong, 1 gone and taken for wrong: with 95% confidence" in edge["told"]
    assert edge["most_wrong"] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("decision", "status", "said"),
    [
        (keep(1, "no/such.jpg"), 404, "no image 'no/such.jpg'"),
        (keep(1, content="0" * 64), 409, "another image by now"),
        (keep(1) | {"token": "x"}, 400, "16 lower-case hexadecimal digits"),
        (keep(1) | {"kind": "burn"}, 400, "there is no kind 'burn'"),
        (keep(1) | {"kind": "relabel", "field": "class"}, 400, "relabel needs a value"),
        (keep(1) | {"kind": "relabel", "field": "class", "value": " "}, 400, "relabel needs a value"),
        ({"token": "0" * 16}, 400, "names its kind"),
        ({"token": "0" * 16, "undoes": "nothing"}, 400, "no decision 'nothing'"),
        (keep(1) | {"more": 1}, 400, "more"),
    ],
)
def test_what_says_nothing_is_one_line(
    client: TestClient, own: Pipeline, decision: dict[str, Any], status: int, said: str
) -> None:
    answer = decide(client, keep(7), decision)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert not own.tables.decisions.exists() or not len(read_rows(own.tables.decisions))
    assert decide(client, keep(1), by=" ").status_code == 400


def test_a_lake_that_is_not_there_for_a_moment_is_no_fault_of_a_decision(
    client: TestClient, own: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise CurationError("the disk is not there")

    with monkeypatch.context() as patch:
        patch.setattr("curation_assets.search.searcher.Searcher.open", gone)
        answer = decide(client, keep(1))
    assert (answer.status_code, answer.json()["error"]) == (503, "it can't be written: the disk is not there")
    assert decide(client, keep(1)).status_code == 200


def test_problems_are_counted_at_any_threshold(client: TestClient, own: Pipeline) -> None:
    overview = client.get("/api/problems").json()
    assert {kind["kind"] for kind in overview["kinds"]} >= {"blurry", "outlier", "mislabelled", "leak"}
    judged = own.judged_rows()
    assert overview["measured"] == len(judged)
    for kind in overview["kinds"]:
        assert kind["images"] == judged[kind["kind"]].sum()
        assert len(kind["examples"]) == min(4, kind["images"])
    worst = client.get("/api/problems/blurry", params={"threshold": 10}).json()
    assert worst["flagged"] == worst["undecided"] == worst["total"] == len(judged)
    assert sum(worst["histogram"]["counts"]) == len(judged)
    scores = [one["at"] for one in worst["images"]]
    assert scores == sorted(scores)
    middle = scores[20] + 1e-9
    half = client.get("/api/problems/blurry", params={"threshold": middle, "around": True, "k": 10}).json()
    assert (half["flagged"], half["offset"]) == (21, 16)
    assert [one["flagged"] for one in half["images"]] == [True] * 5 + [False] * 5
    first = worst["images"][0]["image"]
    assert decide(client, keep(1, first["relative_path"])).json()["decisions"][0]["status"] == "recorded"
    asked = {"threshold": middle, "undecided": True, "k": 5}
    rest = client.get("/api/problems/blurry", params=asked).json()
    assert (rest["flagged"], rest["undecided"], rest["total"], rest["decided"]) == (21, 20, 20, {"keep": 1})
    assert rest["images"][0]["image"]["relative_path"] == worst["images"][1]["image"]["relative_path"]
    folder = client.get("/api/problems/blurry", params={"threshold": 10, "folder": "rice", "k": 0}).json()
    assert (folder["flagged"], folder["images"]) == (30, [])
    wrong = client.get("/api/problems/blury")
    assert (wrong.status_code, wrong.json()["error"]) == (
        400,
        "no kind of problem is called 'blury'; did you mean blurry?",
    )


def test_a_sample_is_drawn_once_and_tells_when_all_of_it_is_looked_at(client: TestClient, own: Pipeline) -> None:
    asked = {"kind": "blurry", "by": 'ann"\n[x]', "threshold": 10}
    made = client.post("/api/samples", json=asked).json()
    assert [band["drawn"] for band in made["bands"]] == [min(59, band["images"]) for band in made["bands"]]
    assert sum(band["images"] for band in made["bands"]) == len(own.judged_rows())
    assert made["edges"] == []
    about = {"kind": "blurry", "sample": made["sample"], "k": 500}
    answer = client.get("/api/samples", params=about).json()
    assert len(answer["images"]) == made["drawn"] == len({one["image"]["relative_path"] for one in answer["images"]})
    keys = [one["image"]["relative_path"] for one in answer["images"]]
    alone = [one["image"]["relative_path"] for one in answer["images"] if not one["image"]["copies"]]
    wrong = alone[0]  # what is said of one of two copies is said of both
    free = [keep(10_000 + n, key) for n, key in enumerate(keys)]
    assert decide(client, *free).status_code == 200
    (unchanged,) = client.get("/api/samples", params=about).json()["samples"]
    assert unchanged == made, "what was not said of the sample tells nothing of it"
    mark = {"shown": {"problem": "blurry", "sample": made["sample"]}}
    answers = [keep(n, key, **mark) | {"kind": "keep" if key == wrong else "remove"} for n, key in enumerate(keys, 1)]
    since = decide(client, *answers).json()["decisions"][-1]["decision"]
    assert since["sample"] == made["sample"]
    done = client.get("/api/samples", params=about).json()
    (sample,) = done["samples"]
    assert (done["images"], sample["looked_at"]) == ([], sample["drawn"])
    last = sample["edges"][-1]
    assert (last["images"], sample["agreement"]) == (len(own.judged_rows()), None)
    assert " 1 was wrong: with 95% confidence (one-sided) at most " in last["told"]
    pasted = tomllib.loads("\n".join(line[1:] for line in last["recipe"].splitlines()))
    assert LeaveOut.model_validate(pasted["leave_out"]).kinds == {"blurry": last["threshold"]}
    assert last["threshold"] == 10, "the line names them all"
    assert len(client.get("/api/samples", params=about | {"by": "ben"}).json()["images"]) == made["drawn"]
    assert decide(client, keep(998, alone[1]), keep(999, alone[2], **mark), by="ben").status_code == 200
    anew = client.get("/api/samples", params=about | {"by": "ben"}).json()
    assert len(anew["images"]) == made["drawn"] - 1
    (again,) = anew["samples"]
    assert (again["judged_by_several"], again["agreement"]) == (1, 0.0)
    with client_of(own, client=("192.0.2.7", 5)) as elsewhere:
        refused = elsewhere.post("/api/samples", json=asked)
        assert (refused.status_code, refused.json()["error"]) == (403, _NEEDED)
        assert elsewhere.get("/api/samples", params=about).status_code == 200
    assert len(client.get("/api/samples", params={"kind": "blurry"}).json()["samples"]) == 1
    for change, said in (
        ({"size": 7}, "choose among 59, 140, 300"),
        ({"kind": "leak"}, "no image can be judged by"),
        ({"by": " "}, "by"),
    ):
        refused = client.post("/api/samples", json=asked | change)
        assert refused.status_code == 400
        assert said in refused.json()["error"]
    assert client.get("/api/samples", params={"kind": "blurry", "sample": "no"}).status_code == 404
