"""One HTTP connection and the server of all of them: uvicorn, with bounds on what it leaves open.

Bounds: bytes of a request's head, seconds in which it must arrive, connections at once. Signals are not its business.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from local_fusion.openai_api import error_body

HEAD_BYTES = 64 * 1024
HEAD_S = 15.0
KEEP_ALIVE_S = 75
CONNECTIONS = 8192
_PHRASES = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class HttpServer(uvicorn.Server):
    """`serve(sockets)` until `should_exit`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: whoever runs the loop hears them."""
        yield


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose requests' heads are small and come soon; what is wrong is said in OpenAI's form."""

    head_s = HEAD_S
    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.close()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.parser is None or self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
        super().data_received(data)
        # What came beyond the head belongs to the body, which is read under a limit of its own.
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, "the request's address and headers are too large; send less", "headers_too_large")

    def on_headers_complete(self) -> None:
        self._head_came()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            self._refuse(431, "the request's address and headers are too large; send less", "headers_too_large")
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if self.cycle is not None:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:
            super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is not an HTTP request", "bad_request")

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_s, self._head_late)

    def _head_came(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # the next request may take its time while this one is answered
        elif not self.transport.is_closing():
            self._refuse(408, "the request's headers did not come in time", "request_timeout")

    def _refuse(self, status: int, message: str, code: str) -> None:
        body = orjson.dumps(error_body(message, code, None, status))
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, _PHRASES[status], len(body)) + body)
        self.transport.close()


def http_server(
    app: Callable[..., Any],
    tls: ssl.SSLContext | None,
    drain_s: float,
    protocol: type[BoundedProtocol] = BoundedProtocol,
) -> HttpServer:
    """A server of `app` that says nothing by itself. `drain_s`: seconds for requests under way once it is to exit."""
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(drain_s) + 1,
        ssl_context_factory=None if tls is None else lambda config, default: tls,
    )
    return HttpServer(config)
