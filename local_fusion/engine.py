"""The one interface: what generates text. Everything above knows engines only by this protocol and by name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from contextvars import ContextVar, Token
from dataclasses import replace
from typing import Protocol, runtime_checkable

from local_fusion.types import (
    Call,
    Completion,
    Delta,
    EngineInfo,
    Health,
    LabelCall,
    LabelRead,
    Message,
    TextCall,
    TextCompletion,
)


class Engine(Protocol):
    """An object that generates. All methods are safe to call concurrently on one event loop.

    Cancelling a coroutine, or closing a stream, aborts the call inside the engine. Errors are `CallError`s.
    """

    async def generate(self, call: Call) -> Completion:
        """Run one call to its end; `max_tokens` is cut to what the context leaves.

        Raises CallError (timeout, context exceeded, engine died, …)."""
        ...

    def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        """Yield deltas as they come, then exactly one Completion; the deltas joined are the completion. Raises
        CallError."""
        ...

    async def label_read(self, call: LabelCall) -> LabelRead:
        """Log-probability of each label as the next token: one token, no parsing, prefix cache used."""
        ...

    async def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """Prompt tokens of each conversation, rendered by the model's own chat template and tokenizer."""
        ...

    def complete(self, call: TextCall) -> AsyncGenerator[Delta | TextCompletion, None]:
        """Continue a text or token ids, without chat template: deltas where `call.stream`, then one TextCompletion,
        whose log-probabilities are one per generated token. Raises CallError."""
        ...

    async def tokenize(self, text: str | Sequence[Message], special: bool = True) -> list[int]:
        """Token ids of a text (`special`: with the tokenizer's own beginning), or of a conversation as rendered."""
        ...

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens included. Raises CallError for an id that is none."""
        ...

    async def count_running(self) -> int:
        """Calls under way now, as the engine itself counts them; no probe, so it is cheap."""
        ...

    async def abort(self, call_ids: Sequence[str]) -> None:
        """Stop these calls now; unknown ids are ignored. Their owners see CallAborted."""
        ...

    async def check(self, timeout_s: float = 10.0) -> Health:
        """Whether a one-token probe is answered within `timeout_s`."""
        ...

    async def info(self) -> EngineInfo:
        """Context length, versions, sizes; known once the engine is up."""
        ...

    async def close(self) -> None:
        """Release everything; idempotent."""
        ...


@runtime_checkable
class Sleeper(Protocol):
    """An engine that can give its GPU memory back and stay loaded. Others are unloaded and built again."""

    async def sleep(self, level: int = 1) -> None:
        """Level 1 keeps the weights in host memory, 2 drops them. Raises CallError where it cannot."""
        ...

    async def wake(self) -> None:
        """Ready for calls again; raises CallError where it does not come back sound."""
        ...


@runtime_checkable
class Mortal(Protocol):
    """An engine that can die on its own, with no call under way to notice."""

    async def died(self) -> None:
        """Return once the engine is dead and can do nothing more."""
        ...


class Watch(Protocol):
    """Told by whoever makes calls wait in front of an engine; no word means that the engine has the call."""

    def waits(self, soon: bool) -> None:
        """The call waits: `soon` for its turn among others, else until a host is up again."""
        ...

    def placed(self) -> None:
        """It goes to the engine now."""
        ...


_WATCH: ContextVar[Watch | None] = ContextVar("local_fusion_watch", default=None)


class watched:  # noqa: N801 - used as a function is; a class, because a generator costs more than many a call
    """Engine calls awaited in here are reported to `watch`, through whatever stands in front of the engine."""

    __slots__ = ("_token", "_watch")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __enter__(self) -> None:
        self._token: Token[Watch | None] = _WATCH.set(self._watch)

    def __exit__(self, *problem: object) -> None:
        _WATCH.reset(self._token)


def current_watch() -> Watch | None:
    """Who watches the engine call that is being made."""
    return _WATCH.get()


class Engines(Protocol):
    """Engines by model name: what the fusion rooms are given."""

    def __getitem__(self, model: str) -> Engine: ...

    def __contains__(self, model: object) -> bool: ...


def join_deltas(earlier: Delta, later: Delta) -> Delta:
    """Two pieces of one stream, one after the other, as one; pieces of the same tool call become one."""
    tools = earlier.tools + later.tools
    if earlier.tools and later.tools and earlier.tools[-1].index == later.tools[0].index:
        first, second = earlier.tools[-1], later.tools[0]
        one = replace(
            first,
            id=first.id or second.id,
            name=first.name or second.name,
            arguments=first.arguments + second.arguments,
        )
        tools = (*earlier.tools[:-1], one, *later.tools[1:])
    return Delta(
        earlier.text + later.text, earlier.reasoning + later.reasoning, tools, earlier.logprobs + later.logprobs
    )


class PassingEngine:
    """Stands in front of an engine and passes everything on; subclasses change what they are for.

    `close` does nothing: the engine behind belongs to whoever started it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def behind(self) -> Engine:
        """The engine itself, whatever else stands between."""
        return innermost(self._engine)

    async def generate(self, call: Call) -> Completion:
        return await self._engine.generate(call)

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        async with aclosing(self._engine.stream(call)) as items:
            async for item in items:
                yield item

    async def label_read(self, call: LabelCall) -> LabelRead:
        return await self._engine.label_read(call)

    async def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        return await self._engine.count_tokens(conversations)

    async def complete(self, call: TextCall) -> AsyncGenerator[Delta | TextCompletion, None]:
        async with aclosing(self._engine.complete(call)) as items:
            async for item in items:
                yield item

    async def tokenize(self, text: str | Sequence[Message], special: bool = True) -> list[int]:
        return await self._engine.tokenize(text, special)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return await self._engine.detokenize(tokens)

    async def count_running(self) -> int:
        return await self._engine.count_running()

    async def abort(self, call_ids: Sequence[str]) -> None:
        await self._engine.abort(call_ids)

    async def check(self, timeout_s: float = 10.0) -> Health:
        return await self._engine.check(timeout_s)

    async def info(self) -> EngineInfo:
        return await self._engine.info()

    async def close(self) -> None:
        return


def innermost(engine: Engine) -> Engine:
    """The engine behind all that only passes on: the one whose `info` can be remembered."""
    return engine.behind if isinstance(engine, PassingEngine) else engine
