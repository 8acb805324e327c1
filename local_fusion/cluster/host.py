"""One engine in a process of its own, spoken to in groups of calls.

A plain class: `replica.py` makes it a Ray actor. Invariant: each submitted number gets exactly one last event
(completion, label read or error), unless this process dies. A dead engine takes the process with it, so that the
fleet starts a fresh one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from local_fusion.cluster.direct import HostLine
from local_fusion.cluster.guardian import Guardian, guard_children
from local_fusion.cluster.outbox import Outbox
from local_fusion.cluster.wire import AnyCall, Payload, Submission, pack, unpack
from local_fusion.config import ModelSettings
from local_fusion.engine import Engine, Mortal, Sleeper
from local_fusion.errors import CallAborted, CallError, EngineDied
from local_fusion.types import Call, Delta, EngineInfo, Health, LabelCall

_LAST_WORDS_S = 0.2


class Host:
    """Holds one engine. Methods are called by one driver; numbers (`ticket`) are the driver's own."""

    def __init__(
        self, name: str, settings: ModelSettings, folder: Path | None, environment: Mapping[str, str] | None = None
    ) -> None:
        os.environ.update(environment or {})  # before anything that reads it is imported
        self._name = name
        self._settings = settings
        self._folder = folder
        self._engine: Engine | None = None
        self._outbox = Outbox()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._by_id: dict[str, int] = {}
        self._guardian: Guardian | None = None
        self._vigil: asyncio.Task[None] | None = None
        self._dying = False

    async def hello(self) -> tuple[int, str]:
        """Process id and Ray's id of the node, before anything heavy is loaded."""
        from ray import get_runtime_context

        if self._guardian is None:
            self._guardian = guard_children()
        return os.getpid(), get_runtime_context().get_node_id()

    async def start(self) -> tuple[EngineInfo, float]:
        """Build the engine; its info and the seconds that took. Raises StartError with the real cause."""
        from local_fusion.engines.build import build_engine  # only here: it imports the engine

        begun = perf_counter()
        if self._engine is None:
            self._engine = await build_engine(self._name, self._settings, self._folder)
            if isinstance(self._engine, Mortal):
                self._vigil = asyncio.create_task(self._follow(self._engine))
        return await self._engine.info(), perf_counter() - begun

    async def listen(self, folder: str | None) -> str | None:
        """Open a direct line for a driver on this node; see `HostLine.listen`. From then on it gets the events."""
        return await HostLine(self, self._name, self._outbox).listen(folder)

    async def submit(self, packed: bytes) -> None:
        """Begin each call of a group of submissions."""
        self.begin(unpack(packed))

    def begin(self, submissions: Sequence[Submission]) -> None:
        """Begin each of these calls."""
        for ticket, call in submissions:
            if ticket in self._tasks:
                continue  # sent a second time, because the reply to the first was lost
            task = self._tasks[ticket] = asyncio.create_task(self._run(ticket, call))
            task.add_done_callback(partial(self._ended, ticket))

    async def collect(self, seen: int, wait_s: float) -> tuple[int, bytes]:
        """Packed events after number `seen`, all that are ready; waits for the first one `wait_s` at most."""
        last, events = await self._outbox.take(seen, wait_s)
        return last, pack(events)

    async def abort(self, tickets: Sequence[int]) -> None:
        """Stop these calls; unknown ones are ignored."""
        self.stop(tickets)

    def stop(self, tickets: Sequence[int]) -> None:
        """Stop these calls; unknown ones are ignored."""
        for ticket in tickets:
            if (task := self._tasks.get(ticket)) is not None:
                task.cancel()

    async def count_tokens(self, packed: bytes) -> list[int]:
        """See `Engine.count_tokens`; the conversations come packed."""
        return await self._up().count_tokens(unpack(packed))

    async def tokenize(self, packed: bytes) -> list[int]:
        """See `Engine.tokenize`; text and `special` come packed."""
        text, special = unpack(packed)
        return await self._up().tokenize(text, special)

    async def detokenize(self, packed: bytes) -> str:
        """See `Engine.detokenize`; the token ids come packed."""
        return await self._up().detokenize(unpack(packed))

    async def count_running(self) -> int:
        """See `Engine.count_running`."""
        return await self._engine.count_running() if self._engine is not None else 0

    async def check(self, timeout_s: float) -> Health:
        """See `Engine.check`."""
        if self._engine is None:
            return Health(False, "the engine is not loaded")
        return await self._engine.check(timeout_s)

    async def sleep(self, level: int) -> None:
        """Give the GPU back: the engine sleeps where it can, else it is unloaded."""
        engine = self._up()
        if isinstance(engine, Sleeper):
            with contextlib.suppress(CallError):
                await engine.sleep(level)
                return
        await self._unload()

    async def wake(self) -> None:
        """The reverse of `sleep`. Raises StartError or CallError."""
        if self._engine is None:
            await self.start()
        elif isinstance(self._engine, Sleeper):
            await self._engine.wake()

    async def shutdown(self) -> None:
        """Close the engine and end its processes."""
        for task in list(self._tasks.values()):
            task.cancel()
        await self._unload()

    async def _unload(self) -> None:
        if self._vigil is not None:
            self._vigil.cancel()
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.close()

    def _up(self) -> Engine:
        if self._engine is None:
            raise CallError(f"{self._name}: the engine is not loaded")
        return self._engine

    async def _run(self, ticket: int, call: AnyCall) -> None:
        """One call to its last event."""
        earlier = self._tasks.get(self._by_id.get(call.id, -1))
        self._by_id[call.id] = ticket
        try:
            if earlier is not None:
                await asyncio.wait([earlier])  # the same call again, its aborted twin still leaving the engine
            last = await self._answer(ticket, call)
        except asyncio.CancelledError:
            last = CallAborted(f"{self._name}: the call was aborted")
        except CallError as problem:
            last = problem
        except Exception as problem:
            # The type only: an unexpected error's text may hold a part of the prompt.
            last = CallError(f"{self._name}: the engine failed with {type(problem).__name__}")
        finally:
            if self._by_id.get(call.id) == ticket:
                del self._by_id[call.id]
        if isinstance(last, EngineDied):
            self._die(last)
        else:
            self._outbox.post(ticket, last)

    def _ended(self, ticket: int, _: asyncio.Task[None]) -> None:
        del self._tasks[ticket]

    async def _answer(self, ticket: int, call: AnyCall) -> Payload:
        engine = self._up()
        if isinstance(call, LabelCall):
            return await engine.label_read(call)
        if isinstance(call, Call) and not call.stream:
            return await engine.generate(call)
        last: Payload | None = None
        stream = engine.stream(call) if isinstance(call, Call) else engine.complete(call)
        async with contextlib.aclosing(stream) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta):
                    self._outbox.post(ticket, piece)
                else:
                    last = piece
        if last is None:
            raise CallError(f"{self._name}: the stream ended without a completion")
        return last

    async def _follow(self, engine: Mortal) -> None:
        """When the engine dies idle, go with it."""
        await engine.died()
        self._die(EngineDied(f"{self._name}: the engine died"))

    def _die(self, problem: EngineDied) -> None:
        """Leave, with a moment for finished answers to be collected; the driver retries the rest."""
        if not self._dying:
            self._dying = True
            print(f"local-fusion: {problem.message}", file=sys.stderr, flush=True)
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, os._exit, 1)
