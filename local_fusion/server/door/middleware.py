"""What every request passes first: an id, a trace, one log line, and a last net for errors nobody expected. Pure ASGI.

Invariant: whatever happens inside, the client gets one response with `x-request-id`, and there is one log line.
"""

from __future__ import annotations

import asyncio
import re
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_fusion.server.door.callers import NOBODY, Caller
from local_fusion.server.ids import new_id
from local_fusion.server.problems import answer
from local_fusion.server.service import Service
from local_fusion.server.watch.exchange import Trace, begin
from local_fusion.server.watch.logs import log

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,128}")
_CLIENT_GONE = 499
_COMMON = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Front:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = Trace(_request_id(scope))
        begin(trace)
        outgoing = _Outgoing(send, trace, self._service, scope)
        try:
            await self._app(scope, receive, outgoing.send)
        except asyncio.CancelledError:
            trace.error = trace.error or "cancelled"
            raise
        except Exception as problem:
            trace.error = type(problem).__name__
            log.failed("request_failed", problem, request_id=trace.request_id)
            if not outgoing.status:
                await answer(problem)(scope, receive, outgoing.send)
            else:
                raise _Cut from None
        finally:
            self._end(scope, trace, outgoing)

    def _end(self, scope: Scope, trace: Trace, outgoing: _Outgoing) -> None:
        status = outgoing.status or _CLIENT_GONE
        route = getattr(scope.get("route"), "path", None) or "unknown"
        name = trace.caller.name
        self._service.metrics.request(route, scope["method"], status, trace.seconds, trace.first_byte_s)
        fields: dict[str, object] = {}
        if trace.tokens.prompt or trace.tokens.completion:
            fields["tokens"] = trace.tokens.prompt + trace.tokens.completion
        if trace.model:
            fields["model"] = trace.model
        if trace.error:
            fields["error"] = trace.error
        log.info(
            "request",
            request_id=trace.request_id,
            method=scope["method"],
            route=route,
            status=status,
            seconds=round(trace.seconds, 4),
            key=name,
            **fields,
        )


class _Cut(Exception):
    """The response had begun: the server must close the connection, so that nobody takes a part for the whole."""


class _Outgoing:
    """The response on its way: headers are added, its status and first byte are noted."""

    def __init__(self, send: Send, trace: Trace, service: Service, scope: Scope) -> None:
        self._send = send
        self._trace = trace
        self._service = service
        self._scope = scope
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._headers()]
        elif self._trace.first_byte_s is None and message.get("body"):
            self._trace.first_byte_s = self._trace.seconds
        await self._send(message)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", self._trace.request_id.encode()), *_COMMON]
        caller: Caller = self._scope.get("local_fusion.caller", NOBODY)
        if self.status != 429 and (caller.parallel is not None or caller.tokens_per_minute is not None):
            limits = self._service.admission.allowance(caller).headers(monotonic())
            headers += [(name.encode(), value.encode()) for name, value in limits.items()]
        return headers


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return new_id("req_")
