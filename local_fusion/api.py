"""The Python door: `LocalFusion`, in a plain and an async form over the same engines.

    with LocalFusion.from_yaml() as fusion:
        for fused in fusion.run(["What is 75 + 2?"]):
            print(fused.text)

    async with LocalFusion.from_yaml("models.yaml", fusion="general-fast") as fusion:
        fused = await fusion.ask_async("Why is the sky blue?")

Engines start when the block is entered and are gone when it is left. In a script, guard the block by
`if __name__ == "__main__":`, since engines start processes of their own.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

from local_fusion.config import Config, load_config
from local_fusion.engine import Engines
from local_fusion.errors import FusionError, InputError, UserError
from local_fusion.fusion.events import Listener
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.runtime import open_engines, recipe_of
from local_fusion.types import Fused, Message, Request

Prompt = str | Sequence[Message | Mapping[str, Any]]
T = TypeVar("T")
_STARTED = "this LocalFusion is already started; enter its block once"
_KEYS = ("role", "content", "name", "tool_call_id")


class LocalFusion:
    """One fusion with its engines. Use it in a `with` block (plain calls) or an `async with` block (async calls)."""

    def __init__(self, config: Config, fusion: str | None = None, **settings: Any) -> None:
        """`settings` are put over those of the fusion: `mode="vote"`, `samples` per member as in models.yaml, ….

        Raises ConfigError.
        """
        self.config = config
        self.recipe: Recipe = recipe_of(config, fusion, **settings)
        self._stack = AsyncExitStack()
        self._engines: Engines | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def from_yaml(cls, path: str | Path | None = None, fusion: str | None = None, **settings: Any) -> LocalFusion:
        """Read `path` (None: models.yaml of this folder, else the shipped one). Raises ConfigError."""
        return cls(load_config(path), fusion, **settings)

    @overload
    def run(self, prompts: Iterable[Prompt], *, seed: int = 0) -> list[Fused]: ...

    @overload
    def run(
        self, prompts: Iterable[Prompt], *, seed: int = 0, return_errors: bool
    ) -> list[Fused] | list[Fused | FusionError]: ...

    def run(
        self, prompts: Iterable[Prompt], *, seed: int = 0, return_errors: bool = False
    ) -> list[Fused] | list[Fused | FusionError]:
        """Fuse all prompts, in parallel, and return the answers (`Fused`) in order.

        A prompt is text or a conversation (messages, or mappings in OpenAI's chat form). Raises InputError before any
        is asked where one is wrong, and FusionError for the first prompt without any answer once all are done; with
        `return_errors` it stands in the list instead.
        """
        return self._wait(self.run_async(prompts, seed=seed, return_errors=return_errors))

    def ask(self, prompt: Prompt, *, seed: int = 0, listener: Listener | None = None) -> Fused:
        """Fuse one prompt. `listener` hears events as they happen, in the thread of the engines."""
        return self._wait(self.ask_async(prompt, seed=seed, listener=listener))

    async def run_async(
        self, prompts: Iterable[Prompt], *, seed: int = 0, return_errors: bool = False
    ) -> list[Fused] | list[Fused | FusionError]:
        """The async form of `run`."""
        slots = asyncio.Semaphore(self.config.runtime.in_flight)
        requests = [_request(prompt, seed, index) for index, prompt in enumerate(prompts)]

        async def one(request: Request) -> Fused | FusionError:
            async with slots:
                try:
                    return await self.fuse(request)
                except FusionError as problem:
                    return problem

        results = await asyncio.gather(*map(one, requests))
        if return_errors:
            return results
        answers = []
        for result in results:
            if isinstance(result, FusionError):
                raise result
            answers.append(result)
        return answers

    async def ask_async(self, prompt: Prompt, *, seed: int = 0, listener: Listener | None = None) -> Fused:
        """The async form of `ask`."""
        return await self.fuse(_request(prompt, seed, 0), listener)

    async def fuse(self, request: Request, listener: Listener | None = None) -> Fused:
        """Fuse a whole request: own id, sampling of the final answer, JSON schema, tools."""
        if self._engines is None:
            raise UserError("the engines are not started; use LocalFusion in a `with` or `async with` block")
        return await fuse(request, self.recipe, self._engines, listener)

    async def __aenter__(self) -> LocalFusion:
        if self._engines is not None:
            raise UserError(_STARTED)
        self._engines = await self._stack.enter_async_context(open_engines(self.config, self.recipe.settings.models))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engines = None
        await self._stack.aclose()

    def __enter__(self) -> LocalFusion:
        if self._loop is not None:
            raise UserError(_STARTED)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local-fusion", daemon=True)
        self._thread.start()
        try:
            self._wait(self.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait(self.__aexit__(kind, value, trace))
        finally:
            self._stop()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            coroutine.close()
            raise UserError("the engines are not started; use LocalFusion in a `with` block, or the async methods")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _request(prompt: Prompt, seed: int, index: int) -> Request:
    """A request whose seed follows from `seed` and its place, so that a run can be repeated."""
    identity = f"{seed}-{index}-{uuid.uuid4().hex[:8]}"
    return Request(id=identity, messages=as_messages(prompt), seed=seed * 1_000_003 + index)


def as_messages(prompt: Prompt) -> tuple[Message, ...]:
    """Text, messages or OpenAI-style mappings to messages. Raises InputError naming the wrong turn."""
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    turns = []
    for place, turn in enumerate(prompt):
        if isinstance(turn, Message):
            turns.append(turn)
            continue
        if not isinstance(turn, Mapping):
            raise InputError(f"message {place}: give a mapping with role and content, or a Message")
        for key, value in turn.items():
            if value and key not in _KEYS:
                raise InputError(f"message {place}: {key!r} is not taken here; leave it out, or give a Message")
        role, content = turn.get("role"), turn.get("content")
        if role not in ("system", "developer", "user", "assistant", "tool") or not isinstance(content, str):
            raise InputError(f"message {place}: give a known role and content as text")
        turns.append(Message(role, content, name=turn.get("name"), tool_call_id=turn.get("tool_call_id")))
    if not turns:
        raise InputError("a prompt needs at least one message")
    return tuple(turns)


__all__ = ["LocalFusion", "Prompt", "as_messages"]
