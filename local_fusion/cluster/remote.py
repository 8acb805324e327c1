"""Driver-side engine of one model: all its replicas behind one `Engine`.

Invariant: a call whose host went away is sent again under the same id, `call_retries` times at most; then it fails
with `EngineDied`. `timeout_s` of a call counts from its first sending to a host: waiting for a place, or for the
model's turn on the GPUs, does not use it up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, cast

from local_fusion.cluster.carrier import Question
from local_fusion.cluster.given import Departed, Given
from local_fusion.cluster.line import Line
from local_fusion.cluster.mailbox import HostLost
from local_fusion.cluster.replica import Replica
from local_fusion.cluster.wire import Result, pack
from local_fusion.config import ModelSettings
from local_fusion.errors import CallAborted, CallError, CallTimeout, EngineDied
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

_FIRST = -(2**31)
"""Priority before that of any call."""


class RemoteEngine:
    """Satisfies `Engine`. Closing it is the fleet's business: `close` here does nothing."""

    def __init__(self, name: str, settings: ModelSettings, replicas: Sequence[Replica], line: Line[Replica]) -> None:
        self.name = name
        self._retries = settings.call_retries
        self._replicas = replicas
        self._line = line

    async def generate(self, call: Call) -> Completion:
        """See `Engine.generate`."""
        result = await self._ask(call)
        if not isinstance(result, Completion):
            raise CallError(f"{self.name}: the engine gave no completion")
        return result

    async def label_read(self, call: LabelCall) -> LabelRead:
        """See `Engine.label_read`."""
        result = await self._ask(call)
        if not isinstance(result, LabelRead):
            raise CallError(f"{self.name}: the engine gave no label read")
        return result

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        """See `Engine.stream`. Sent again after pieces were given, it goes on where they ended, if it says the same."""
        async with contextlib.aclosing(self._pieces(call if call.stream else replace(call, stream=True))) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta | Completion):
                    yield piece

    async def complete(self, call: TextCall) -> AsyncGenerator[Delta | TextCompletion, None]:
        """See `Engine.complete`; where it streams, as `stream`."""
        async with contextlib.aclosing(self._pieces(call)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta | TextCompletion):
                    yield piece

    async def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """See `Engine.count_tokens`."""
        return cast("list[int]", await self._answer("count_tokens", pack(conversations)))

    async def tokenize(self, text: str | Sequence[Message], special: bool = True) -> list[int]:
        """See `Engine.tokenize`."""
        return cast("list[int]", await self._answer("tokenize", pack((text, special))))

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """See `Engine.detokenize`."""
        return cast("str", await self._answer("detokenize", pack(list(tokens))))

    async def count_running(self) -> int:
        """See `Engine.count_running`; of all replicas that are up."""
        up = [replica for replica in self._replicas if replica.state == "ready"]
        counts = await asyncio.gather(*(replica.ask("count_running") for replica in up), return_exceptions=True)
        return sum(count for count in counts if isinstance(count, int))

    async def abort(self, call_ids: Sequence[str]) -> None:
        """See `Engine.abort`."""
        self._line.drop(call_ids, CallAborted(f"{self.name}: the call was aborted"))
        for replica in self._replicas:
            replica.abort(call_ids)

    async def check(self, timeout_s: float = 10.0) -> Health:
        """Ready when one replica answers a one-token probe now. `running`: as the engines themselves count."""
        up = [replica for replica in self._replicas if replica.state == "ready"]
        if await _any_true([replica.probe() for replica in up], timeout_s):
            return Health(True, "", sum(replica.running or 0 for replica in up), self._line.waiting)
        views = [replica.view() for replica in self._replicas]
        detail = "; ".join(f"replica {view.replica} is {view.state} {view.detail}".rstrip() for view in views)
        return Health(False, detail, sum(view.in_flight for view in views), self._line.waiting)

    async def info(self) -> EngineInfo:
        """Of the first replica."""
        info = next((replica.info for replica in self._replicas if replica.info is not None), None)
        if info is None:
            raise EngineDied(f"{self.name}: no host has come up")
        return info

    async def close(self) -> None:
        """Nothing: `Fleet.close` ends the hosts."""

    async def _answer(self, method: Question, packed: bytes) -> Any:
        """What the first replica that is up answers; one that dies over it is replaced by the next. Where none is up,
        a place is waited for, and held so that the model is not put to sleep meanwhile."""
        for _ in range(self._retries + 1):
            up = next((one for one in self._replicas if one.state == "ready"), None)
            replica = up or await self._line.enter(_FIRST, "")
            try:
                return await replica.ask(method, packed)
            except HostLost:
                continue
            finally:
                if up is None:
                    self._line.leave(replica)
        raise EngineDied(f"{self.name}: its host died under {method}")

    async def _pieces(self, call: Call | TextCall) -> AsyncGenerator[Delta | Result, None]:
        """Pieces and the result of a call, over as many hosts as it takes."""
        given = Given()
        attempts = _Attempts(self.name, self._retries, self._line, call)
        while (replica := await attempts.next_place()) is not None:
            given.rewind()
            try:
                async with contextlib.aclosing(replica.mailbox.stream(attempts.call)) as pieces:
                    async for piece in pieces:
                        if not isinstance(piece, Delta):
                            yield piece
                            return
                        if (fresh := given.fresh(piece)) is not None:
                            yield fresh
            except HostLost as lost:
                attempts.reason = str(lost)
            except Departed:
                break
            finally:
                self._line.leave(replica)
        raise attempts.failure()

    async def _ask(self, call: Call | LabelCall) -> Result:
        attempts = _Attempts(self.name, self._retries, self._line, call)
        while (replica := await attempts.next_place()) is not None:
            try:
                return await replica.mailbox.ask(attempts.call)
            except HostLost as lost:
                attempts.reason = str(lost)
            finally:
                self._line.leave(replica)
        raise attempts.failure()


async def _any_true(questions: Sequence[Coroutine[Any, Any, bool]], timeout_s: float) -> bool:
    """Whether one of them says so within the time; the others are not waited for."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        for answer in asyncio.as_completed(tasks, timeout=timeout_s):
            if await answer:
                return True
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return False


class _Attempts:
    """How often one call may be sent, and what time it has left."""

    def __init__(self, name: str, retries: int, line: Line[Replica], call: Any) -> None:
        self.call = call
        self.reason = ""
        self._name = name
        self._left = retries + 1
        self._line = line
        self._ends: float | None = None

    async def next_place(self) -> Replica | None:
        """A place on a replica for the next attempt; None when there are no attempts left. Raises CallTimeout."""
        if self._left == 0:
            return None
        self._left -= 1
        replica = await self._line.enter(self.call.priority, self.call.id)
        if self.call.timeout_s is not None:
            if self._ends is None:
                self._ends = monotonic() + self.call.timeout_s
            elif (remaining := self._ends - monotonic()) > 0:
                self.call = replace(self.call, timeout_s=remaining)
            else:
                self._line.leave(replica)
                raise CallTimeout(f"{self._name}: the call's time was up while its host was started again")
        return replica

    def failure(self) -> EngineDied:
        """What the call ends with when no attempt succeeded."""
        return EngineDied(
            f"{self._name}: the host went away under each attempt of the call ({self.reason}); "
            "see the host's log, and models.call_retries"
        )
