"""Engines as one row sees them: a call that the journal knows is recalled, any other is run and journaled.

The fusion above knows nothing of it. A call that was aborted, or whose engine went away while the run was stopping,
says nothing about the model: it is not journaled, and runs again on resume.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar

from local_fusion.batch.records import Outcome
from local_fusion.engine import Engine, Engines, PassingEngine
from local_fusion.errors import CallError
from local_fusion.types import Call, Completion, Delta, LabelCall, LabelRead

Result = TypeVar("Result", Completion, LabelRead)


class Record(Protocol):
    """What finished calls are kept in: a run's journal, or an evaluation's store."""

    def calls_of(self, line: int) -> dict[str, list[Outcome]]:
        """Finished calls of a row, by id, oldest last."""
        ...

    def call(self, line: int, call_id: str, outcome: Outcome) -> None:
        """Keep a finished call."""
        ...


class RowEngines:
    """The `Engines` of the row at `line`. `aborted`: calls the row itself has stopped. `abandoned`: engines
    went down with the run, and the row must be made again."""

    def __init__(self, engines: Engines, journal: Record, line: int, stopping: Callable[[], bool]) -> None:
        self.abandoned = False
        self.aborted: set[str] = set()
        self.line = line
        self.journal = journal
        self.known = journal.calls_of(line)
        self.stopping = stopping
        self._engines = engines
        self._wrapped: dict[str, RecallingEngine] = {}

    def __getitem__(self, model: str) -> Engine:
        wrapped = self._wrapped.get(model)
        if wrapped is None:
            wrapped = self._wrapped[model] = RecallingEngine(self._engines[model], self)
        return wrapped

    def __contains__(self, model: object) -> bool:
        return model in self._engines


class RecallingEngine(PassingEngine):
    """The engine of one row: recalls, else runs and journals."""

    def __init__(self, engine: Engine, row: RowEngines) -> None:
        super().__init__(engine)
        self._row = row

    async def generate(self, call: Call) -> Completion:
        known = self._recall(call.id, Completion)
        if known is not None:
            return known
        try:
            completion = await self._engine.generate(call)
        except CallError as problem:
            self._failed(call.id, problem)
            raise
        self._row.journal.call(self._row.line, call.id, completion)
        return completion

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        """A recalled call is its completion alone, without deltas."""
        known = self._recall(call.id, Completion)
        if known is not None:
            yield known
            return
        try:
            async with aclosing(self._engine.stream(call)) as items:
                async for item in items:
                    if isinstance(item, Completion):
                        self._row.journal.call(self._row.line, call.id, item)
                    yield item
        except CallError as problem:
            self._failed(call.id, problem)
            raise

    async def label_read(self, call: LabelCall) -> LabelRead:
        known = self._recall(call.id, LabelRead)
        if known is not None:
            return known
        try:
            read = await self._engine.label_read(call)
        except CallError as problem:
            self._failed(call.id, problem)
            raise
        self._row.journal.call(self._row.line, call.id, read)
        return read

    async def abort(self, call_ids: Sequence[str]) -> None:
        self._row.aborted.update(call_ids)
        await self._engine.abort(call_ids)

    def _recall(self, call_id: str, kind: type[Result]) -> Result | None:
        """The result an earlier session got, or None; raises the CallError it got."""
        outcomes = self._row.known.get(call_id)
        if not outcomes:
            return None
        outcome = outcomes.pop()
        if isinstance(outcome, CallError):
            raise outcome
        return outcome if isinstance(outcome, kind) else None

    def _failed(self, call_id: str, problem: CallError) -> None:
        row, stopping = self._row, self._row.stopping()
        if problem.reason == "aborted" or (problem.reason == "engine_died" and stopping):
            if stopping and call_id not in row.aborted:
                row.abandoned = True
            return
        row.journal.call(row.line, call_id, problem)
