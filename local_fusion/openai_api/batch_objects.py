"""Batches in OpenAI's form: the body that makes one, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local_fusion.errors import RequestError
from local_fusion.openai_api.file_objects import MAX_EXPIRY_S, MIN_EXPIRY_S, parse_expiry

ENDPOINT = "/v1/chat/completions"
MAX_WINDOW_S = 30 * 86_400
_FIELDS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")
_WINDOW = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class BatchAsk:
    """A checked body. `window_s`: seconds until what is not done expires; `window`: as the client wrote it."""

    input_file_id: str
    endpoint: str
    window: str
    window_s: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    output_expires_after_s: int | None = None


def parse_batch(body: Mapping[str, Any]) -> BatchAsk:
    """Check the body of POST /v1/batches. Raises RequestError whose `param` names the field."""
    for name in body:
        if name not in _FIELDS:
            raise RequestError(f"the field {name[:64]!r} is not supported; leave it out", "unknown_field", name[:64])
    texts = {}
    for name in _FIELDS[:3]:
        value = body.get(name)
        if value is None:
            raise RequestError(f"the field {name!r} is missing; add it", "missing_field", name)
        if not isinstance(value, str):
            raise RequestError(f"{name} must be text", "invalid_field", name)
        texts[name] = value
    if texts["endpoint"] != ENDPOINT:
        raise RequestError(f"endpoint must be {ENDPOINT}; no other is run in batches", "invalid_field", "endpoint")
    window = texts["completion_window"]
    return BatchAsk(
        texts["input_file_id"],
        texts["endpoint"],
        window,
        _window_s(window),
        check_metadata(body.get("metadata")),
        parse_expiry(body.get("output_expires_after"), "output_expires_after"),
    )


def batch_schema() -> dict[str, Any]:
    """JSON schema of the body."""
    expiry = {
        "type": "object",
        "properties": {
            "anchor": {"const": "created_at"},
            "seconds": {"type": "integer", "minimum": MIN_EXPIRY_S, "maximum": MAX_EXPIRY_S},
        },
        "required": ["anchor", "seconds"],
        "additionalProperties": False,
    }
    metadata = {
        "type": "object",
        "maxProperties": 16,
        "propertyNames": {"maxLength": 64},
        "additionalProperties": {"type": "string", "maxLength": 512},
    }
    return {
        "type": "object",
        "properties": {
            "input_file_id": {"type": "string"},
            "endpoint": {"const": ENDPOINT},
            "completion_window": {"type": "string", "pattern": f"^{_WINDOW.pattern}$"},
            "metadata": {"anyOf": [metadata, {"type": "null"}]},
            "output_expires_after": {"anyOf": [expiry, {"type": "null"}]},
        },
        "required": list(_FIELDS[:3]),
        "additionalProperties": False,
    }


def check_metadata(value: Any) -> Mapping[str, str]:
    """OpenAI's limits: 16 pairs, keys of 64 characters, values of 512. Raises RequestError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > 16:
        raise RequestError("metadata must be an object of at most 16 texts", "invalid_field", "metadata")
    for key, entry in value.items():
        if len(key) > 64 or not isinstance(entry, str) or len(entry) > 512:
            raise RequestError(
                "metadata takes keys of up to 64 characters and texts of up to 512", "invalid_field", "metadata"
            )
    return dict(value)


def _window_s(window: str) -> int:
    found = _WINDOW.fullmatch(window)
    seconds = 0 if found is None else int(found[1]) * _UNIT_S[found[2]]
    if not 0 < seconds <= MAX_WINDOW_S:
        raise RequestError(
            "completion_window must be a number and s, m, h or d, such as 24h, and at most 30d",
            "invalid_field",
            "completion_window",
        )
    return seconds
