"""The body of POST /v1/feedback: what a user says of an answer, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from local_fusion.errors import RequestError

MAX_ID_CHARS, MAX_TEXT_CHARS = 128, 32_768
_FIELDS = ("id", "rating", "answer", "comment")


@dataclass(frozen=True, slots=True)
class Feedback:
    """`id`: of the answer; `answer`: the right one, where the user knows it."""

    id: str
    rating: Literal["up", "down"]
    answer: str | None = None
    comment: str | None = None


def parse_feedback(body: Mapping[str, Any]) -> Feedback:
    """Raises RequestError whose `param` names the field."""
    for name in body:
        if name not in _FIELDS:
            raise RequestError(f"the field {name[:64]!r} is not supported; leave it out", "unknown_field", name[:64])
    for name in ("id", "rating"):
        if body.get(name) is None:
            raise RequestError(f"the field {name!r} is missing; add it", "missing_field", name)
    answer_id, rating = body["id"], body["rating"]
    if not isinstance(answer_id, str) or not answer_id.isprintable() or not 0 < len(answer_id) <= MAX_ID_CHARS:
        raise RequestError("id must be the id of an answer", "invalid_field", "id")
    if rating not in ("up", "down"):
        raise RequestError('rating must be "up" or "down"', "invalid_field", "rating")
    return Feedback(answer_id, rating, _text(body, "answer"), _text(body, "comment"))


def feedback_schema() -> dict[str, Any]:
    """JSON schema of the body."""
    text = {"anyOf": [{"type": "string", "maxLength": MAX_TEXT_CHARS}, {"type": "null"}]}
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS},
            "rating": {"enum": ["up", "down"]},
            "answer": text,
            "comment": text,
        },
        "required": ["id", "rating"],
        "additionalProperties": False,
    }


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_TEXT_CHARS):
        raise RequestError(f"{name} must be text of up to {MAX_TEXT_CHARS} characters", "invalid_field", name)
    return value
