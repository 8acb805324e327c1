"""A run in the background: it goes on without a client, and whoever asks can follow its events from any number on.

Invariant: `follow` gives every event with a number above the one given, in order, once, and ends with the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson

from local_fusion.openai_api.responses_events import Event
from local_fusion.server.door.sse import event as sse_event


class Run:
    """The events of one run so far. `body`: gives the response as it stands; `streams`: it was asked for as a stream;
    `cancelled`: the client ended it; `ending`: its end is being stored."""

    def __init__(self, response_id: str, owner: str, body: Callable[[], dict[str, Any]], streams: bool) -> None:
        self.id = response_id
        self.owner = owner
        self.body = body
        self.streams = streams
        self.cancelled = False
        self.ending = False
        self.task: asyncio.Task[None] | None = None
        self.log: list[bytes] = []
        self._numbers: list[int] = []
        self._ended = False
        self._news = asyncio.Event()

    @staticmethod
    def line(event: Event) -> bytes:
        """An event as it is logged and stored."""
        return orjson.dumps(event)

    def tell(self, events: Sequence[Event]) -> None:
        """Let everybody who follows know."""
        if not events:
            return
        for event in events:
            self.log.append(self.line(event))
            self._numbers.append(event["sequence_number"])
        self._wake()

    async def ended(self) -> None:
        """Wait until the run is over."""
        while not self._ended:
            await self._news.wait()

    def end(self) -> None:
        """No event comes any more."""
        self._ended = True
        self._wake()

    def cancel(self) -> None:
        """The client ends it, where it is not ending by itself."""
        if self.task is not None and not self.ending and not self.cancelled:
            self.cancelled = True
            self.task.cancel()

    async def follow(self, after: int = -1) -> AsyncIterator[bytes]:
        """Server-sent events with numbers above `after`, as they come."""
        place = 0
        while True:
            while place < len(self.log):
                if self._numbers[place] > after:
                    yield framed(self.log[place])
                place += 1
            if self._ended:
                return
            await self._news.wait()

    def _wake(self) -> None:
        """Everybody who waits looks again; the next wait is for the next news."""
        news, self._news = self._news, asyncio.Event()
        news.set()


def framed(event: bytes) -> bytes:
    """A logged event as a server-sent one."""
    return sent(orjson.loads(event))


def sent(event: dict[str, Any]) -> bytes:
    """An event as a server-sent one, its type on a line of its own, as OpenAI does."""
    return sse_event(event, event["type"])


def above(log: Sequence[bytes], after: int) -> list[bytes]:
    """Server-sent events of a run that has ended, with numbers above `after`."""
    events = [orjson.loads(line) for line in log]
    return [sent(event) for event in events if event["sequence_number"] > after]
