"""Files in OpenAI's form: the fields of an upload, the file object, and the query of every list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from local_fusion.errors import RequestError

UPLOAD_PURPOSES = ("assistants", "batch", "user_data")
PURPOSES = (*UPLOAD_PURPOSES, "batch_output")
MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 2_592_000
_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


@dataclass(frozen=True, slots=True)
class Upload:
    """The checked fields beside an uploaded file. `expires_after_s`: seconds from now, None: as the server says."""

    purpose: str
    expires_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list: up to `limit` entries after the one called `after`. `purpose`: of files only."""

    limit: int
    after: str | None = None
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


def parse_upload(fields: Mapping[str, str]) -> Upload:
    """The text fields of a multipart upload. Raises RequestError."""
    for name in fields:
        if name not in _FIELDS:
            raise RequestError(f"the field {name[:64]!r} is not supported; leave it out", "unknown_field", name[:64])
    purpose = fields.get("purpose")
    if purpose is None:
        raise RequestError("the field 'purpose' is missing; add it", "missing_field", "purpose")
    if purpose not in UPLOAD_PURPOSES:
        raise RequestError(f"purpose must be one of {', '.join(UPLOAD_PURPOSES)}", "invalid_field", "purpose")
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return Upload(purpose)
    number = int(seconds) if seconds is not None and seconds.isascii() and seconds.isdigit() else seconds
    return Upload(purpose, parse_expiry({"anchor": anchor, "seconds": number}, "expires_after"))


def parse_expiry(value: Any, name: str) -> int | None:
    """Seconds of `{anchor: created_at, seconds: …}`; None for None. Raises RequestError naming `name`."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"anchor", "seconds"} or value["anchor"] != "created_at":
        raise RequestError(
            f'{name} must be of the form {{"anchor": "created_at", "seconds": …}}', "invalid_field", name
        )
    seconds = value["seconds"]
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not MIN_EXPIRY_S <= seconds <= MAX_EXPIRY_S:
        raise RequestError(
            f"{name}.seconds must be a whole number from {MIN_EXPIRY_S} to {MAX_EXPIRY_S}",
            "invalid_field",
            f"{name}.seconds",
        )
    return seconds


def parse_listing(query: Mapping[str, str], most: int, default: int, purposes: bool = False) -> Listing:
    """The query of a list. Raises RequestError."""
    known = ("limit", "after", "order", *(("purpose",) if purposes else ()))
    for name in query:
        if name not in known:
            raise RequestError(
                f"the parameter {name[:64]!r} is not supported; leave it out", "unknown_field", name[:64]
            )
    limit = query.get("limit", str(default))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= most):
        raise RequestError(f"limit must be a whole number from 1 to {most}", "invalid_field", "limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise RequestError("order must be asc or desc", "invalid_field", "order")
    purpose = query.get("purpose")
    if purpose is not None and purpose not in PURPOSES:
        raise RequestError(f"purpose must be one of {', '.join(PURPOSES)}", "invalid_field", "purpose")
    return Listing(int(limit), query.get("after"), "asc" if order == "asc" else "desc", purpose)


def upload_schema() -> dict[str, Any]:
    """JSON schema of the fields of an upload, the file among them."""
    return {
        "type": "object",
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "purpose": {"enum": list(UPLOAD_PURPOSES)},
            "expires_after[anchor]": {"const": "created_at"},
            "expires_after[seconds]": {"type": "integer", "minimum": MIN_EXPIRY_S, "maximum": MAX_EXPIRY_S},
        },
        "required": ["file", "purpose"],
        "additionalProperties": False,
    }


def listing_schemas(most: int, purposes: bool = False) -> dict[str, dict[str, Any]]:
    """JSON schemas of the parameters of a list."""
    found: dict[str, dict[str, Any]] = {
        "limit": {"type": "integer", "minimum": 1, "maximum": most},
        "after": {"type": "string"},
        "order": {"enum": ["asc", "desc"]},
    }
    return found | ({"purpose": {"enum": list(PURPOSES)}} if purposes else {})


def file_object(
    file_id: str, filename: str, purpose: str, size_bytes: int, created_at: int, expires_at: int | None
) -> dict[str, Any]:
    """OpenAI's file object; times in Unix seconds."""
    return {
        "id": file_id,
        "object": "file",
        "bytes": size_bytes,
        "created_at": created_at,
        "expires_at": expires_at,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }


def list_object(entries: Sequence[Mapping[str, Any]], has_more: bool) -> dict[str, Any]:
    """One page of a list in OpenAI's form."""
    return {
        "object": "list",
        "data": list(entries),
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
        "has_more": has_more,
    }


def deleted_object(file_id: str) -> dict[str, Any]:
    """The answer to a DELETE of a file."""
    return {"id": file_id, "object": "file", "deleted": True}
