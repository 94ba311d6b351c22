"""What people decide: written down, taken back, and what others decided meanwhile."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Body, Query, Request
from starlette.exceptions import HTTPException

from curation_assets.decisions.kinds import QUALITY, field_of
from curation_assets.decisions.record import Row
from curation_assets.errors import CurationError
from curation_assets.gallery import responses
from curation_assets.gallery.api.whole_body import WholeBody
from curation_assets.gallery.files import NotThereError
from curation_assets.gallery.gallery import Gallery, GalleryOf
from curation_assets.gallery.requests import Decided, DecisionsRequest, SinceRequest
from curation_assets.gallery.security import MOST_BODY_BYTES, REVIEWER
from curation_assets.images.names import printable
from curation_assets.review.group_answers import shown_of
from curation_assets.review.recording import Answer, Asked, NotWrittenError
from curation_assets.search.index import SearchIndex

_MOST_SINCE = 1000

router = APIRouter(route_class=WholeBody)


@router.get("/api/decisions", tags=["review"], summary="What was decided since")
def decisions(gallery: GalleryOf, asked: Annotated[SinceRequest, Query()]) -> responses.DecisionsSince:
    """Decisions that were made after one, the earliest first; at most a thousand of the latest."""
    rows = gallery.review.rows()
    found = rows.filter(pl.col("decision_id") > asked.after).sort("decision_id").tail(_MOST_SINCE)
    return responses.DecisionsSince(
        decisions=[as_decision(row) for row in found.iter_rows(named=True)],
        latest=str(found["decision_id"].max() or asked.after),
    )


@router.post(
    "/api/decisions",
    tags=["review"],
    summary="Decide",
    max_body_size=MOST_BODY_BYTES,
    responses={
        403: {"model": responses.Problem, "description": "Who asks may look, but not decide."},
        404: {"model": responses.Problem, "description": "There is no such image."},
        409: {"model": responses.Problem, "description": "The image is another by now."},
        503: {"model": responses.Problem, "description": "The disk is full, say: send it again later."},
    },
)
async def decide(
    gallery: GalleryOf, request: Request, asked: Annotated[DecisionsRequest, Body()]
) -> responses.DecisionsAnswer:
    """Write decisions down, all or none; the answer comes when they are on the disk.

    However often one is sent with the same `token`, it is written once. One that another person answered otherwise
    after what was `seen` is a `conflict`, and isn't written.
    """
    check_may_decide(request)
    return await gallery.deciding.run(request, _decided, gallery, asked, who(request, asked.by))


def check_may_decide(request: Request) -> None:
    """Refuse who asks without the token, which was asked for before, and not from this machine.

    Raises:
        HTTPException: 403.
    """
    if not may_decide(request):
        raise HTTPException(403, "deciding needs the gallery's token, or this machine")


def may_decide(request: Request) -> bool:
    """Whether who asks may decide."""
    if request.app.state.tokens:
        return True
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def who(request: Request, said: str) -> str:
    """The name that stands beside what is decided: of whom the token is, else the one that was said."""
    return str(request.scope.get(REVIEWER) or said.strip())


def _decided(gallery: Gallery, asked: DecisionsRequest, by: str) -> responses.DecisionsAnswer:
    try:
        index = gallery.searcher.open()
    except CurationError as error:  # no fault of what is asked: a disk that isn't there for a moment, say
        raise HTTPException(503, f"it can't be written: {error}", {"Retry-After": "3"}) from error
    try:
        scores = gallery.review.scores_of(
            {one.key for one in asked.decisions if one.key is not None and _is_of_picture(one)}
        )
        answers = gallery.review.recorder.record([_asked(one, by, index, scores) for one in asked.decisions])
    except NotWrittenError as error:
        raise HTTPException(503, str(error), {"Retry-After": "3"}) from error
    return responses.DecisionsAnswer(
        decisions=[_answer(one.token, answer) for one, answer in zip(asked.decisions, answers, strict=True)],
        latest=gallery.review.latest(),
    )


def _is_of_picture(one: Decided) -> bool:
    return one.kind is not None and field_of(one.kind, one.field) == QUALITY


def _asked(one: Decided, by: str, index: SearchIndex, scores: Mapping[str, dict[str, float]]) -> Asked:
    """What is to be written.

    Args:
        scores: of pictures that are decided on by path, which are kept beside what the page showed of them.
    """
    if one.undoes is not None:
        return Asked(one.token, {"decided_by": by, "reason": one.reason}, undoes=one.undoes)
    if one.kind is None or one.key is None:
        raise CurationError("a decision names its kind and the key of its image, or what it undoes")
    shown = ({"scores": scores[one.key]} if scores.get(one.key) and _is_of_picture(one) else {}) | (one.shown or {})
    row = {
        "decided_by": by,
        "kind": one.kind,
        "relative_path": one.key,
        "content_sha256": _content(index, one.key, one.content),
        "other_sha256": None if one.other is None else _content(index, one.other, one.other_content),
        "field": field_of(one.kind, one.field),
        "value": one.value,
        "reason": one.reason,
        "shown": _as_json(shown) if shown else None,
    }
    return Asked(one.token, row, seen=one.seen)


def _as_json(shown: dict[str, Any]) -> str:
    try:
        return json.dumps(shown, sort_keys=True, allow_nan=False)
    except ValueError:
        raise CurationError("shown holds a number that JSON doesn't have: NaN, or an infinity") from None


def _content(index: SearchIndex, key: str, content: str | None) -> str:
    """The content that was looked at.

    Raises:
        NotThereError: there is no such image.
        HTTPException: it is another by now (409).
    """
    number = index.row_number(key)
    now = None if number is None else index.rows["content_sha256"][number]
    if now is None:
        raise NotThereError(f"there is no image {printable(key)[:300]!r} to decide on")
    if content is not None and content != now:
        raise HTTPException(409, f"{printable(key)[:300]} is another image by now: look at it again")
    return str(now)


def _answer(token: str, answer: Answer) -> responses.DecisionAnswer:
    return responses.DecisionAnswer(token=token, status=answer.status, decision=as_decision(answer.row))


def as_decision(row: Row) -> responses.Decision:
    """A row of the table of decisions, as answers tell it."""
    sample = shown_of(row["shown"]).get("sample")
    return responses.Decision.model_validate(row | {"sample": sample if isinstance(sample, str) else None})
