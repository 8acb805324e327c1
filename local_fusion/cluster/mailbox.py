"""Driver's side of one host: many calls become few messages.

What is submitted in one turn of the event loop goes out together, and whatever is ready comes back together. So a
lone call is answered at once and a crowd travels in groups. Invariant: each call ends exactly once, with its result,
its error, or `HostLost` when the host went away under it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from local_fusion.cluster.carrier import Carrier, Gone
from local_fusion.cluster.wire import AnyCall, Payload, Result, Submission
from local_fusion.errors import CallAborted, CallError, CallTimeout
from local_fusion.types import Delta

GROUP = 128
"""Calls in one message at most."""
_TIMEOUT_MARGIN_S = 1.0  # the engine keeps the time itself; the driver steps in where it does not


class HostLost(Exception):
    """The host went away before the call ended; the call may be sent again."""


@dataclass(slots=True)
class _Pending:
    call_id: str
    deliver: Callable[[Payload | HostLost], None]


class Mailbox:
    """Calls under way on one host. `lost` is called once, with a reason, when the host is gone."""

    def __init__(self, carrier: Carrier, name: str, lost: Callable[[str], None]) -> None:
        self._carrier = carrier
        self._name = name
        self._lost = lost
        self._next = 0
        self._pending: dict[int, _Pending] = {}
        self._outgoing: list[Submission] = []
        self._aborts: list[int] = []
        self._flush_due = False
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.events = 0

    @property
    def in_flight(self) -> int:
        return len(self._pending)

    def open(self) -> None:
        """Begin to collect."""
        self._spawn(self._collect())

    async def ask(self, call: AnyCall) -> Result:
        """One call to its result. Raises CallError or HostLost; cancelling aborts it in the engine."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def deliver(payload: Payload | HostLost) -> None:
            if future.done():
                return
            if isinstance(payload, CallError | HostLost):
                future.set_exception(payload)
            elif not isinstance(payload, Delta):
                future.set_result(payload)

        ticket = self._post(call, deliver)
        if call.timeout_s is None:
            try:
                return await future
            finally:
                self._leave(ticket)
        try:
            async with asyncio.timeout(call.timeout_s + _TIMEOUT_MARGIN_S):
                return await future
        except TimeoutError:
            raise CallTimeout(f"{self._name}: no answer within {call.timeout_s:g} s") from None
        finally:
            self._leave(ticket)

    async def stream(self, call: AnyCall) -> AsyncGenerator[Delta | Result, None]:
        """Pieces as they come, then the result. Raises CallError or HostLost; closing it aborts the call."""
        queue: asyncio.Queue[Payload | HostLost] = asyncio.Queue()
        ticket = self._post(call, queue.put_nowait)
        timer: asyncio.TimerHandle | None = None
        if call.timeout_s is not None:
            late = CallTimeout(f"{self._name}: no answer within {call.timeout_s:g} s")
            timer = asyncio.get_running_loop().call_later(call.timeout_s + _TIMEOUT_MARGIN_S, queue.put_nowait, late)
        try:
            while True:
                payload = await queue.get()
                if isinstance(payload, CallError | HostLost):
                    raise payload
                yield payload
                if not isinstance(payload, Delta):
                    return
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(ticket)

    def abort(self, call_ids: Sequence[str]) -> None:
        """Stop these calls; their owners see CallAborted at once."""
        wanted = set(call_ids)
        for pending in [entry for entry in self._pending.values() if entry.call_id in wanted]:
            pending.deliver(CallAborted(f"{self._name}: the call was aborted"))

    def close(self, reason: str) -> None:
        """Give up: what is under way is lost. The caller deals with the host itself."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        self._carrier.close()
        self._fail(list(self._pending), reason)
        self._outgoing.clear()

    def _post(self, call: AnyCall, deliver: Callable[[Payload | HostLost], None]) -> int:
        if self._closed:
            raise HostLost(f"{self._name}: its host is gone")
        ticket = self._next
        self._next += 1
        self._pending[ticket] = _Pending(call.id, deliver)
        self._outgoing.append((ticket, call))
        self._flush_soon()
        return ticket

    def _leave(self, ticket: int) -> None:
        """The owner of a call is gone; where the call has not ended, it is aborted."""
        if self._pending.pop(ticket, None) is not None:
            self._aborts.append(ticket)
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._closed:
            return
        outgoing, self._outgoing = self._outgoing, []
        for first in range(0, len(outgoing), GROUP):
            self._spawn(self._submit(outgoing[first : first + GROUP]))
        aborts, self._aborts = self._aborts, []
        if aborts:
            self._spawn(self._carrier.abort(aborts))

    async def _submit(self, group: list[Submission]) -> None:
        try:
            await self._carrier.submit(group)
        except Gone as gone:
            self._lost(str(gone))
        except CallError as problem:
            self._refuse(group, problem)
        except Exception as problem:
            # The type only: an unexpected error's text may hold a part of the prompt.
            self._refuse(group, CallError(f"{self._name}: could not be sent: {type(problem).__name__}"))

    def _refuse(self, group: Sequence[Submission], problem: CallError) -> None:
        for ticket, _ in group:
            self._deliver(ticket, problem)

    async def _collect(self) -> None:
        try:
            async with contextlib.aclosing(self._carrier.receive()) as received:
                async for events in received:
                    self.events += len(events)
                    for ticket, payload in events:
                        self._deliver(ticket, payload)
        except Gone as gone:
            self._lost(str(gone))
        except Exception as problem:  # whatever it is: without this task no call would ever end
            self._lost(f"its line failed with {type(problem).__name__}")

    def _deliver(self, ticket: int, payload: Payload) -> None:
        ends = not isinstance(payload, Delta)
        pending = self._pending.pop(ticket, None) if ends else self._pending.get(ticket)
        if pending is not None:
            pending.deliver(payload)

    def _fail(self, tickets: Sequence[int], reason: str) -> None:
        for ticket in tickets:
            if (pending := self._pending.pop(ticket, None)) is not None:
                pending.deliver(HostLost(f"{self._name}: {reason}"))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
