"""What is brought in line after people decided, and what isn't, as it would be the same."""

from __future__ import annotations

from typing import Any

import pytest

from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.review.following import follow_decisions
from curation_assets_tests.curate.test_leaks import images_of, pair, pipeline, scanned  # noqa: F401  fixtures


def test_groups_are_formed_anew_where_a_decision_concerns_them(
    pipeline: Pipeline,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contents = [content for _, content in images_of(pipeline)]
    (_, one), (_, other), *_, (path, alone) = (image for image in images_of(pipeline) if contents.count(image[1]) == 1)
    pair(pipeline, (one, other, "near", 0.9))
    formed = list[str]()
    monkeypatch.setattr(pipeline, "group", lambda _: formed.append("groups"))

    def forms(kind: str, content: str, **more: Any) -> bool:
        formed.clear()
        follow_decisions(
            pipeline, [{"kind": kind, "field": "quality", "content_sha256": content} | more], LogProgress()
        )
        return bool(formed)

    assert not forms("remove", alone)
    assert forms("remove", one)
    assert forms("keep", alone, field="duplicate")
    assert forms("different", alone, field=None, other_sha256=one)
    assert forms("keeper", alone, field=None, relative_path=path)
    assert not forms("tag", one, field=None)
