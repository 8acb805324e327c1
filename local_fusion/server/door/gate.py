"""Who may come in: keys, where there are any; else only pages and programs of this machine. Pure ASGI.

Invariant: every address is closed but those of `OPEN`, which show nothing of prompts, answers or files.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from local_fusion.errors import RequestError
from local_fusion.server.door.callers import LOCAL, NOBODY, Caller
from local_fusion.server.problems import Forbidden, Unauthorized, answer
from local_fusion.server.service import Service
from local_fusion.server.watch.exchange import current

OPEN = frozenset({"/", "/fleet", "/favicon.ico", "/health/live", "/health/ready"})
OPEN_BELOW = "/static/"
PATH_CHARS = 2048
QUERY_BYTES = 16 * 1024
_KEY_HEADERS = (b"x-api-key", b"api-key")


class Gate:
    """Sets `scope["local_fusion.caller"]`, or refuses."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            caller = self._admit(scope)
        except (Unauthorized, Forbidden, RequestError) as problem:
            await answer(problem)(scope, receive, send)
            return
        scope["local_fusion.caller"] = caller
        trace = current()
        if trace is not None:
            trace.caller = caller
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Caller:
        path: str = scope["path"]
        if len(path) > PATH_CHARS or len(scope.get("query_string", b"")) > QUERY_BYTES:
            raise RequestError("the address is too long", "uri_too_long")
        headers = scope["headers"]
        keys = self._service.keys
        if keys is None:
            self._check_page(headers)
            return LOCAL
        secret = _secret(headers)
        caller = keys.caller(secret) if secret else None
        if caller is not None:
            return caller
        if path in OPEN or path.startswith(OPEN_BELOW):
            return NOBODY
        if secret:
            raise Unauthorized("this key is not known here; ask for one that is")
        raise Unauthorized("no key was sent; send yours as `Authorization: Bearer lf-…`")

    def _check_page(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Without keys, a page of somebody else in a browser of this machine could ask in the user's name: by a form or
        script (`origin` is another), or by a name of its own that leads here (`host` is not one of ours)."""
        host = origin = b""
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        hosts = self._service.hosts
        if hosts is not None and _name(host.decode("latin-1")) not in hosts:
            raise Forbidden("this server is for programs of its own machine; call it by its loopback address")
        if origin and origin.partition(b"://")[2].lower() != host.lower():
            raise Forbidden("pages of other sites may not call this server; give it keys to allow programs that can")


def _name(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host[1:].split("]")[0].lower()
    return host.rsplit(":", 1)[0].lower() if ":" in host else host.lower()


def _secret(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"authorization":
            kind, _, rest = value.decode("latin-1").strip().partition(" ")
            if kind.lower() == "bearer":
                return rest.strip()
        elif name in _KEY_HEADERS:
            return value.decode("latin-1").strip()
    return ""
