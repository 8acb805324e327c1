"""Engines that take one call at a time, all of them together: what a real engine needs to say the same again.

How many calls share a step, and how much of a prompt comes from the prefix cache, changes the order of floating-point
sums in a real engine, and with it, now and then, a token. Here one call at most is under way and each computes the
whole of its prompt, so that a greedy call depends on nothing but itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from local_fusion.engine import Engine, Engines, PassingEngine, Watch, current_watch, watched
from local_fusion.types import Call, Completion, Delta, LabelCall, LabelRead

AnyCall = TypeVar("AnyCall", Call, LabelCall)


class SerialEngines:
    """Satisfies `Engines`."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._turn = asyncio.Lock()
        self._wrapped: dict[str, SerialEngine] = {}

    def __getitem__(self, model: str) -> Engine:
        if model not in self._wrapped:
            self._wrapped[model] = SerialEngine(self._engines[model], self._turn)
        return self._wrapped[model]

    def __contains__(self, model: object) -> bool:
        return model in self._engines


class SerialEngine(PassingEngine):
    """Waits for its turn before each call, and shares no cached prefix with any other."""

    def __init__(self, engine: Engine, turn: asyncio.Lock) -> None:
        super().__init__(engine)
        self._turn = turn

    async def generate(self, call: Call) -> Completion:
        async with _taken(self._turn):
            return await self._engine.generate(_alone(call))

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        async with _taken(self._turn):
            async for item in self._engine.stream(_alone(call)):
                yield item

    async def label_read(self, call: LabelCall) -> LabelRead:
        async with _taken(self._turn):
            return await self._engine.label_read(_alone(call))


@asynccontextmanager
async def _taken(turn: asyncio.Lock) -> AsyncIterator[None]:
    """The turn, once it is free. Waiting for it is none of the call's own time: its watch is told."""
    watch = current_watch()
    if watch is None:
        async with turn:
            yield
        return
    watch.waits(soon=True)
    async with turn:
        heard = _Heard(watch)
        settling = asyncio.get_running_loop().call_soon(heard.settle)
        try:
            with watched(heard):
                yield
        finally:
            settling.cancel()


class _Heard:
    """Passes on what is said behind the turn, where a call may have to wait once more: for a model that sleeps. Whoever
    says nothing in the step in which it gets the call has it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._is_told = False

    def waits(self, soon: bool) -> None:
        self._is_told = True
        self._watch.waits(soon)

    def placed(self) -> None:
        self._is_told = True
        self._watch.placed()

    def settle(self) -> None:
        if not self._is_told:
            self.placed()


def _alone(call: AnyCall) -> AnyCall:
    return replace(call, cache_salt=secrets.token_hex(8))
