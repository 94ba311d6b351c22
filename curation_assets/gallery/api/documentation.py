"""What the documentation says of answers that several addresses give."""

from __future__ import annotations

from typing import Any

from curation_assets.gallery import responses

Answers = dict[int | str, dict[str, Any]]  # by status, as FastAPI takes them

PROBLEMS: Answers = {
    400: {"model": responses.Problem, "description": "The call can't be answered as it is."},
}
NOT_THERE: Answers = {404: {"model": responses.Problem, "description": "There is no such image, or not any more."}}


def file_answer(kind: str, description: str) -> Answers:
    """A file of a media type, or none."""
    return {200: {"content": {kind: {}}, "description": description}, **NOT_THERE}
