"""What the calls of one order cost, also those that never ended: engines that count what passes through them.

Counts of calls that ended are the engine's own. Of one that was stopped nobody knows them: its prompt is reckoned at
four bytes a token, its answer by what was heard of it. A call that its engine failed costs nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from local_fusion.engine import Engine, Engines, PassingEngine
from local_fusion.errors import CallError
from local_fusion.types import Call, Completion, Delta, LabelCall, LabelRead, Stage, TextCall, TextCompletion, Tokens

BYTES_PER_TOKEN = 4
_STOPPED = ("aborted", "timeout", "deadline")
_AnyCall = Call | LabelCall | TextCall
Whole = TypeVar("Whole", Completion, LabelRead)
Last = TypeVar("Last", Completion, TextCompletion)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call."""

    model: str
    stage: Stage
    tokens: Tokens


class Meter:
    """Satisfies `Engines`: those of one order."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._metered: dict[str, _Metered] = {}
        self._begun: list[_Begun] = []

    def __getitem__(self, model: str) -> Engine:
        found = self._metered.get(model)
        if found is None:
            found = self._metered[model] = _Metered(self._engines[model], model, self._begun)
        return found

    def __contains__(self, model: object) -> bool:
        return model in self._engines

    @property
    def costs(self) -> list[Cost]:
        """Of every call so far, in the order in which they began."""
        return [Cost(one.model, one.stage, one.tokens) for one in self._begun if not one.void]


class _Begun:
    """A call that has begun. `void`: its engine failed it."""

    def __init__(self, model: str, call: _AnyCall) -> None:
        self.model, self.call = model, call
        self.void = False
        self._heard = 0
        self._counted: Tokens | None = None

    @property
    def stage(self) -> Stage:
        return "write" if isinstance(self.call, TextCall) else self.call.stage

    @property
    def tokens(self) -> Tokens:
        return self._counted or Tokens(_reckoned(self.call), 0, self._heard)

    def hear(self, delta: Delta) -> None:
        size = len(delta.text) + len(delta.reasoning) + sum(len(tool.arguments) for tool in delta.tools)
        self._heard += len(delta.logprobs) or max(1, size // BYTES_PER_TOKEN)

    def end(self, tokens: Tokens) -> None:
        self._counted = tokens

    def fail(self, problem: CallError) -> None:
        self.void = problem.reason not in _STOPPED


class _Metered(PassingEngine):
    def __init__(self, engine: Engine, model: str, begun: list[_Begun]) -> None:
        super().__init__(engine)
        self._model, self._begun = model, begun

    async def generate(self, call: Call) -> Completion:
        return await self._ended(call, self._engine.generate(call))

    async def label_read(self, call: LabelCall) -> LabelRead:
        return await self._ended(call, self._engine.label_read(call))

    def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        return self._heard(call, self._engine.stream(call))

    def complete(self, call: TextCall) -> AsyncGenerator[Delta | TextCompletion, None]:
        return self._heard(call, self._engine.complete(call))

    async def _ended(self, call: Call | LabelCall, work: Awaitable[Whole]) -> Whole:
        begun = self._begin(call)
        try:
            done = await work
        except CallError as problem:
            begun.fail(problem)
            raise
        begun.end(done.tokens)
        return done

    async def _heard(
        self, call: _AnyCall, pieces: AsyncGenerator[Delta | Last, None]
    ) -> AsyncGenerator[Delta | Last, None]:
        begun = self._begin(call)
        try:
            async with aclosing(pieces) as items:
                async for item in items:
                    if isinstance(item, Delta):
                        begun.hear(item)
                    else:
                        begun.end(item.tokens)
                    yield item
        except CallError as problem:
            begun.fail(problem)
            raise

    def _begin(self, call: _AnyCall) -> _Begun:
        begun = _Begun(self._model, call)
        self._begun.append(begun)
        return begun


def _reckoned(call: _AnyCall) -> int:
    """Tokens of a prompt that nobody has counted."""
    if not isinstance(call, TextCall):
        size = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in call.messages)
    elif isinstance(call.prompt, str):
        size = len(call.prompt.encode("utf-8", "surrogatepass"))
    else:
        return len(call.prompt)
    return max(1, size // BYTES_PER_TOKEN)
