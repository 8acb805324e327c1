"""Server-sent events: data lines as they come, a comment in long silence, errors in OpenAI's form inside the stream.

What the source has ready at one moment goes out as one chunk. Invariant: when the stream ends, or its reader goes
away or stops reading, `close` has been called and nothing of it is left running.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Close = Callable[[], Awaitable[None]]
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": still working\n\n"
GATHER_S = 0.01
"""Seconds between two chunks at least: what comes closer together goes out together. The first one never waits."""
UNREAD_S = 120.0
"""Seconds that a reader may take to make room for more."""
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def event(data: Any, name: str | None = None) -> bytes:
    """One event. `name`: the `event:` line, as the Responses API wants it."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + orjson.dumps(data) + b"\n\n"


def response(
    source: AsyncIterator[bytes],
    heartbeat_s: float,
    close: Close,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A stream of events. `close` is awaited when it ends or the client goes away; it must not wait long."""
    return EventStream(source, heartbeat_s, close, headers)


class EventStream(Response):
    """Sends a source of events to a client."""

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncIterator[bytes],
        heartbeat_s: float,
        close: Close,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS | dict(headers or {}))
        self._source = source
        self._heartbeat_s = heartbeat_s
        self._close = close
        self._ready: list[bytes] = []
        self._more = asyncio.Event()
        self._over = asyncio.Event()

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Without a length: nobody knows it."""
        self.body = b""
        super().init_headers(headers)
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the source ends or the client is gone."""
        collecting = asyncio.ensure_future(self._collect())
        gone = asyncio.ensure_future(_hung_up(receive))
        for task in (collecting, gone):
            task.add_done_callback(self._wake)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._pass_on(send, collecting, gone)
        except TimeoutError:
            return  # nobody reads: what has begun stays unended, and the server closes the connection
        finally:
            for task in (collecting, gone):
                task.cancel()
            await self._close()
            await asyncio.wait([collecting, gone])
        if not gone.done() or gone.cancelled():
            if not collecting.cancelled() and (problem := collecting.exception()) is not None:
                raise problem
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, send: Send, collecting: asyncio.Task[None], gone: asyncio.Task[None]) -> None:
        while not gone.done():
            ended = collecting.done()
            if self._ready:
                body, self._ready = b"".join(self._ready), []
                async with asyncio.timeout(UNREAD_S):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await _within(self._over, GATHER_S)
                continue
            if ended:
                return
            self._more.clear()
            if not await _within(self._more, self._heartbeat_s):
                self._ready.append(HEARTBEAT)

    async def _collect(self) -> None:
        async for chunk in self._source:
            self._ready.append(chunk)
            self._more.set()

    def _wake(self, task: asyncio.Task[None]) -> None:
        self._more.set()
        self._over.set()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within so many seconds; cheaper than a timeout, as nothing is cancelled."""
    if event.is_set():
        return True
    late = False

    def wake() -> None:
        nonlocal late
        late = True
        event.set()

    timer = asyncio.get_running_loop().call_later(seconds, wake)
    try:
        await event.wait()
    finally:
        timer.cancel()
    if late:
        event.clear()
    return not late


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
