"""Responses: made, run with their client or in the background, stored, and taken up again after a restart.

Invariants: a run in the background ends as one stored response, whatever its client does; what a crash interrupted is
run again once, from the stored request with the same seed, and then fails as `server_restarted` (what only waited, or
was cut off by an orderly end, does not count). Nothing is begun for a key that was removed. A run with its client ends
when the client goes. A response is stored before its last event is sent; one of the background that a full
disk does not take, as soon as there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from local_fusion.engine import Engines
from local_fusion.errors import LocalFusionError, RequestError
from local_fusion.openai_api.responses_events import Event, ResponseEvents
from local_fusion.server.door.admission import Place
from local_fusion.server.door.callers import Caller, owns
from local_fusion.server.orders.live import Live
from local_fusion.server.orders.meter import Meter
from local_fusion.server.orders.order import Reply
from local_fusion.server.orders.run import execute
from local_fusion.server.problems import CutOff, NotReady, Overloaded, Unauthorized
from local_fusion.server.responses.make import Made, events_again, made_again, make
from local_fusion.server.responses.run import Run
from local_fusion.server.responses.store import ResponseStore, Stored, no_such
from local_fusion.server.responses.tell import fail, is_last, told
from local_fusion.server.service import Service
from local_fusion.server.stored.disk import StorageProblem
from local_fusion.server.watch.logs import log

MAX_RUNS = 2
"""How often a run in the background is begun at most."""
RETRY_S = 30.0
WAIT_S = 3600.0
"""Seconds a run in the background waits for a place at most."""


class Responses:
    """All responses of one server."""

    def __init__(self, service: Service, path: Path) -> None:
        settings = service.settings
        self.store = ResponseStore(path, settings.response_days * 86_400, settings.max_stored_bytes)
        self._service = service
        self._runs: dict[str, Run] = {}
        self._coming: list[str] = []  # owners of runs that are being stored
        self._resuming: asyncio.Task[None] | None = None
        self._resumed = False
        self._ended_before: set[str] = set()  # cancelled or deleted before the run was taken up

    async def make(self, caller: Caller, body: Mapping[str, Any]) -> Made:
        """Check a body; nothing is begun. Raises RequestError."""
        return await make(self._service, self.store, caller, body)

    # with its client

    def begin(self, made: Made, engines: Engines, place: Place) -> Live:
        """Begin a run that lives as long as its client; `place` is left when it ends."""
        meter = Meter(engines)
        return Live(lambda hear: execute(meter, made.order, hear, made.asked.stream), place, meter)

    async def whole(self, made: Made, live: Live) -> dict[str, Any]:
        """The response object at the end. Raises what the order raises."""
        made.events.begun()
        async for _ in self._told(made, live):
            pass
        await self._keep(made)
        return made.events.body()

    async def streamed(self, made: Made, live: Live) -> AsyncIterator[Event]:
        """The events of a run; an error is one of them. The last one comes when the response is stored."""
        made.events.begun()
        try:
            async for event in self._told(made, live):
                if is_last(event):
                    await self._keep(made)
                    event["response"] = made.events.body()
                yield event
        except Exception as problem:
            _note(problem)
            fail(made.events, problem)
            for event in made.events.take():
                yield event

    # in the background

    async def launch(self, made: Made) -> Run:
        """Store it and run it, whatever its client does. Raises Overloaded, NotReady, StorageProblem."""
        self._service.engines  # noqa: B018  (raises NotReady)
        most = max(1, self._service.settings.queue)
        owners = [*self._coming, *(run.owner for run in self._runs.values())]
        if len(owners) >= most:
            raise Overloaded("too many responses are under way in the background; try again later", 5)
        owner = made.caller.owner
        if self._service.keys is not None and owners.count(owner) >= max(1, most // 2):
            raise Overloaded("too many responses of this key are under way in the background; try again later", 5)
        self._coming.append(owner)
        try:
            await self.store.put(made.stored)
            return self._launch(made)
        finally:
            self._coming.remove(owner)

    def start(self) -> None:
        """Take up what a restart interrupted, now or as soon as the engines are there."""
        if self._service.ready:
            self._resuming = asyncio.create_task(self.resume())
        else:
            self._service.on_open.append(self.resume)

    async def resume(self) -> None:
        """Begin again every run that had not ended when the server last did. What fails here keeps no server down."""
        try:
            for stored in await self.store.interrupted():
                if stored.id not in self._runs:
                    await self._resume(stored)
        except Exception as problem:
            log.failed("responses_not_resumed", problem)
        finally:
            self._resumed = True
            self._ended_before.clear()

    async def cancel(self, caller: Caller, response_id: str) -> dict[str, Any]:
        """End a run in the background; one that has ended is given back as it is. Raises RequestError."""
        run = self._run(caller, response_id)
        if run is None:
            stored = await self.store.get(caller.owner, response_id)
            if not stored.background:
                raise RequestError("only a response made with background: true can be cancelled", "invalid_request")
            if not stored.open:
                return dict(stored.body)
            run = self._runs.get(response_id)  # taken up meanwhile
            if run is None:
                return await self._cancel_unrun(stored)
        run.cancel()
        await run.ended()
        return run.body()

    async def delete(self, caller: Caller, response_id: str) -> None:
        """Away with it, its run included. Raises RequestError (404)."""
        run = self._run(caller, response_id)
        if run is not None:
            run.cancel()
            await run.ended()
        self._end_before(response_id)
        try:
            await self.store.delete(caller.owner, response_id)
        except LocalFusionError:
            self._ended_before.discard(response_id)  # another key's, or still there
            raise
        await self._service.storage.receipts.forget(caller.owner, response_id)

    async def body(self, caller: Caller, response_id: str) -> dict[str, Any]:
        """The response object as it stands. Raises RequestError (404)."""
        run = self._run(caller, response_id)
        return run.body() if run is not None else dict((await self.store.get(caller.owner, response_id)).body)

    async def events(self, caller: Caller, response_id: str) -> Run | list[bytes]:
        """The run to be followed, or the events of one that has ended. Raises RequestError."""
        run = self._run(caller, response_id)
        if run is not None and run.streams:
            return run
        found = None if run is not None else await self.store.events(caller.owner, response_id)
        if found is None:
            if run is None:
                stored = await self.store.get(caller.owner, response_id)
                if stored.open and stored.request["stream"]:
                    return self._runs.get(response_id) or _not_taken_up()
            raise RequestError(
                "this response has no stream to be resumed: only one made with background and stream has",
                "invalid_request",
                "stream",
            )
        return found

    async def close(self) -> None:
        """End all runs, to be taken up by the next start; idempotent."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if self._resuming is not None:
            tasks.append(self._resuming)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.store.close()

    def _run(self, caller: Caller, response_id: str) -> Run | None:
        run = self._runs.get(response_id)
        if run is not None and not owns(caller.owner, run.owner):
            raise no_such(response_id)
        return run

    async def _told(self, made: Made, live: Live) -> AsyncIterator[Event]:
        def ended(reply: Reply) -> None:
            kept = reply.fused if made.asked.store else None
            self._service.storage.receipts.keep(made.stored.id, made.caller.owner, made.chat.messages, kept)

        for event in made.events.take():
            yield event
        try:
            async for event in told(live, made.events, made.order, made.chat, self._service.engines, ended):
                yield event
        finally:
            live.close()

    async def _keep(self, made: Made) -> None:
        """Store a response that ended with its client there. A full disk loses the stored one, never the answer."""
        if not made.asked.store:
            return
        body = made.events.body()
        try:
            await self.store.put(replace(made.stored, status=body["status"], body=body))
        except StorageProblem as problem:
            log.failed("response_not_stored", problem)
            made.events.unstored()

    def _launch(self, made: Made) -> Run:
        run = Run(made.stored.id, made.caller.owner, made.events.body, made.asked.stream)
        self._runs[run.id] = run
        made.events.queued()
        run.tell(made.events.take())
        run.task = asyncio.create_task(self._work(run, made))
        return run

    async def _work(self, run: Run, made: Made) -> None:
        try:
            await self._end(run, made, await self._through(run, made))
        finally:
            del self._runs[run.id]
            run.end()

    async def _through(self, run: Run, made: Made) -> list[Event]:
        """Run it; the events up to the end are told, those that end it are given back."""
        events = made.events
        begun = False
        try:
            place = await self._place(made.caller.owner)
            try:
                begun = True
                await self.store.begin(made.stored.id)
                live = self.begin(made, self._service.engines, place)
            except BaseException:
                place.leave()
                raise
            events.begun()
            async for event in self._told(made, live):
                if is_last(event):
                    return [event]
                run.tell([event])
            raise RuntimeError("an order ended without an end")
        except asyncio.CancelledError:
            if not run.cancelled:
                await self._drained(run, begun)
                raise
            events.cancelled()
        except Exception as problem:
            if self._service.stopping and isinstance(problem, NotReady | CutOff):
                await self._drained(run, begun)
                raise asyncio.CancelledError from None
            _note(problem)
            fail(events, problem)
        return events.take()

    async def _end(self, run: Run, made: Made, last: list[Event]) -> None:
        run.ending = True
        body = made.events.body()
        log_of_events = [*run.log, *map(run.line, last)] if run.streams else None
        while True:
            try:
                await self.store.update(run.id, body["status"], body, log_of_events)
            except StorageProblem as problem:
                log.failed("response_not_stored", problem)
            else:
                run.tell(last)
                return
            run.tell(last)  # a full disk is waited out; until then the run stays known, and this is its answer
            last = []
            run.end()
            await asyncio.sleep(RETRY_S)

    async def _drained(self, run: Run, begun: bool) -> None:
        """The server ends in order: the next start takes the run up."""
        if begun:
            with contextlib.suppress(StorageProblem):
                await self.store.drain(run.id)

    async def _place(self, owner: str) -> Place:
        until = time.monotonic() + WAIT_S
        while True:
            caller = self._service.key_of(owner)
            if caller is None:
                raise Unauthorized("the key that asked for this response was removed")
            try:
                return await self._service.admission.enter(caller)
            except Overloaded as problem:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(float(problem.headers.get("retry-after", 1)))

    async def _resume(self, stored: Stored) -> None:
        why = "the server was restarted while it ran"
        caller = self._service.key_of(stored.owner)
        if caller is None:
            log.warning("response_left", response=stored.id)
            return
        if stored.attempts - stored.drained >= MAX_RUNS:
            await self._give_up(stored, f"{why}, more than once")
            return
        try:
            made = await made_again(self._service, self.store, stored, caller)
            if stored.id not in self._ended_before:
                self._launch(made)
        except LocalFusionError as problem:
            await self._give_up(stored, f"{why}, and it can no longer be run: {problem.message}")

    async def _give_up(self, stored: Stored, why: str) -> None:
        events = events_again(stored)
        events.failed(why, "server_restarted")
        if stored.id not in self._ended_before:
            await self._end_unrun(stored, events)

    async def _cancel_unrun(self, stored: Stored) -> dict[str, Any]:
        """Cancel what waits to be taken up."""
        self._end_before(stored.id)
        events = events_again(stored)
        events.cancelled()
        return await self._end_unrun(stored, events)

    def _end_before(self, response_id: str) -> None:
        if not self._resumed:
            self._ended_before.add(response_id)

    async def _end_unrun(self, stored: Stored, events: ResponseEvents) -> dict[str, Any]:
        body, lines = events.body(), [Run.line(event) for event in events.take()]
        await self.store.update(stored.id, body["status"], body, lines if stored.request["stream"] else None)
        return body


def _note(problem: BaseException) -> None:
    """An error that nobody expected is logged."""
    if not isinstance(problem, LocalFusionError):
        log.failed("response_failed", problem)


def _not_taken_up() -> NoReturn:
    raise NotReady("this response is not taken up again yet; follow it in a moment")
