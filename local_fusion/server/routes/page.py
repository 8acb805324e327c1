"""`/`, `/fleet` and `/static/*`: the page people look at, built from `web/` and shipped inside the package.

Invariant: no name from a request is used as a path, only the files of the build are known; and the policy sent with
each lets the page load code, style and data from this server and from nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_A_YEAR_S = 365 * 24 * 3600
_HASHED = ("js", "css", "svg")  # their names change with their content


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    kind: str
    tag: str


@router.api_route("/", methods=["GET", "HEAD"])
@router.api_route("/fleet", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The shell; which of the two views it shows follows from the address."""
    return _send(request, _build()["page.html"])


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(request: Request, name: str) -> Response:
    """A file of the build."""
    found = _build().get(name)
    if found is None:
        raise HTTPException(404)
    return _send(request, found)


def _send(request: Request, file: _File) -> Response:
    lasting = f"public, max-age={_A_YEAR_S}, immutable" if file.kind in _HASHED else "no-cache"
    headers = dict(HEADERS) | {"cache-control": lasting, "etag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=_TYPES[file.kind])


@cache
def _build() -> dict[str, _File]:
    """The files of the build by name, read once."""
    found = {}
    for entry in files("local_fusion.server").joinpath("static").iterdir():
        kind = entry.name.rpartition(".")[2]
        if kind in _TYPES:
            body = entry.read_bytes()
            found[entry.name] = _File(body, kind, f'"{hashlib.sha256(body).hexdigest()[:24]}"')
    return found
