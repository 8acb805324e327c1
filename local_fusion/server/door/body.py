"""Reads a request's body as JSON, bounded in bytes, seconds and shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from local_fusion.errors import RequestError
from local_fusion.server.door.limits import check_counts, check_depth
from local_fusion.server.problems import ClientGone, TooSlow
from local_fusion.server.service import service_of

BODY_S = 60.0
BYTES_A_S = 16 * 1024
"""A long body has more time than BODY_S, as long as it comes at this rate."""
_JSON = ("application/json", "")


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises RequestError: too large, not JSON, not an object, too deep, too many of
    something; TooSlow; ClientGone."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _JSON:
        raise RequestError(
            "the content type of the body must be application/json", "unsupported_media_type", "content-type"
        )
    raw = await _read(request, service_of(request).settings.max_body_bytes)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as problem:
        where = f"line {problem.lineno}, column {problem.colno}"
        raise RequestError(f"the body is not JSON ({where}); send a JSON object", "invalid_json") from None
    if not isinstance(body, dict):
        raise RequestError("the body is not a JSON object", "invalid_json")
    check_depth(body, raw)
    check_counts(body)
    return body


async def timely(request: Request, first_s: float = BODY_S, bytes_a_s: int = BYTES_A_S) -> AsyncIterator[bytes]:
    """The chunks of a body of any length, which may take `first_s` and a second more for every `bytes_a_s` that came.

    Raises TooSlow, ClientGone."""
    source = request.stream()
    began, size = asyncio.get_running_loop().time(), 0
    while True:
        try:
            async with asyncio.timeout_at(began + first_s + size / bytes_a_s):
                chunk = await anext(source, None)
        except TimeoutError:
            raise TooSlow("the body did not come in time") from None
        except ClientDisconnect:
            raise ClientGone("the client hung up") from None
        if chunk is None:
            return
        size += len(chunk)
        yield chunk


async def _read(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise RequestError(f"the body is larger than {limit} bytes; send less", "body_too_large")
                chunks.append(chunk)
    except TimeoutError:
        raise TooSlow("the body did not come in time") from None
    except ClientDisconnect:
        raise ClientGone("the client hung up") from None
    return b"".join(chunks)
