"""Runs a recorded row again, and keeps what every call gave, to be held against what was recorded."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from local_fusion.batch.records import Outcome
from local_fusion.engine import Engine, Engines, PassingEngine
from local_fusion.errors import CallError, FusionError
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.types import Call, Completion, Delta, Fused, LabelCall, LabelRead, Request


@dataclass
class Replay:
    """How it ended this time, and `calls`: results by call id."""

    result: Fused | FusionError
    calls: dict[str, Outcome] = field(default_factory=dict)


async def replay(request: Request, recipe: Recipe, engines: Engines) -> Replay:
    """Fuse `request` again. A failed fusion is a result too."""
    kept = _Kept(engines)
    try:
        return Replay(await fuse(request, recipe, kept), kept.calls)
    except FusionError as problem:
        return Replay(problem, kept.calls)


class _Kept:
    """Satisfies `Engines`; remembers the result of every call."""

    def __init__(self, engines: Engines) -> None:
        self.calls: dict[str, Outcome] = {}
        self._engines = engines
        self._wrapped: dict[str, _Keeping] = {}

    def __getitem__(self, model: str) -> Engine:
        if model not in self._wrapped:
            self._wrapped[model] = _Keeping(self._engines[model], self.calls)
        return self._wrapped[model]

    def __contains__(self, model: object) -> bool:
        return model in self._engines


class _Keeping(PassingEngine):
    def __init__(self, engine: Engine, calls: dict[str, Outcome]) -> None:
        super().__init__(engine)
        self._calls = calls

    async def generate(self, call: Call) -> Completion:
        try:
            completion = await self._engine.generate(call)
        except CallError as problem:
            self._failed(call.id, problem)
            raise
        self._calls[call.id] = completion
        return completion

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        try:
            async for item in self._engine.stream(call):
                if isinstance(item, Completion):
                    self._calls[call.id] = item
                yield item
        except CallError as problem:
            self._failed(call.id, problem)
            raise

    async def label_read(self, call: LabelCall) -> LabelRead:
        try:
            read = await self._engine.label_read(call)
        except CallError as problem:
            self._failed(call.id, problem)
            raise
        self._calls[call.id] = read
        return read

    def _failed(self, call_id: str, problem: CallError) -> None:
        if problem.reason != "aborted":  # as in the journal: it says nothing about the model
            self._calls[call_id] = problem
