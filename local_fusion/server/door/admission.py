"""How many requests are worked on at once, and who is next: round robin between keys, first come first served within.

Invariant: `working` is never above `in_flight`; a place that is left, or a wait that is cancelled, wakes exactly the
next in line. A key that floods the line fills its own part of it: others still get in.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from time import monotonic
from types import TracebackType

from local_fusion.errors import LocalFusionError
from local_fusion.server.door.allowance import Allowance
from local_fusion.server.door.callers import Caller
from local_fusion.server.orders.meter import Cost
from local_fusion.server.orders.order import Reply
from local_fusion.server.problems import CutOff, NotReady, Overloaded
from local_fusion.server.watch.exchange import current
from local_fusion.server.watch.metrics import Metrics
from local_fusion.types import Fused, Tokens

_Waiter = asyncio.Future[None]


class Place:
    """A place among the requests worked on. Leave it when the work has ended; leaving twice is harmless.

    Say what came of the work, once: `settle(reply)`, or `charge(tokens)` where there is no Reply, or `failed(problem,
    costs)`. That charges the key and feeds log line and counters. `on_evict` is called where the server must end before
    the work has: end the work, with the error given.
    """

    def __init__(self, admission: Admission, caller: Caller) -> None:
        self._admission: Admission | None = admission
        self._caller = caller
        self._allowance = admission.allowance(caller)
        self._metrics = admission.metrics
        self._trace = current()
        self.on_evict: Callable[[LocalFusionError], None] | None = None

    def settle(self, reply: Reply) -> None:
        """The work ended with a reply."""
        inner = 0 if reply.fused is None else len(reply.fused.receipt.calls)
        if reply.fused is not None:
            self._metrics.fused(reply.fused)
        for call in reply.calls[inner:]:  # a member's own, or an outer model's beside its fusion's
            self._metrics.called(call.model, call.stage, call.tokens, call.timing.total_s)
        self.charge(reply.tokens, reply.fused.receipt.fusion if reply.fused is not None else reply.model)

    def fused(self, fused: Fused) -> None:
        """The same for a fusion that makes no Reply."""
        self._metrics.fused(fused)
        self.charge(fused.tokens, fused.receipt.fusion)

    def charge(self, tokens: Tokens, model: str = "") -> None:
        """The work has cost `tokens`; `model`: the fusion or member that did it."""
        self._allowance.spend(tokens.prompt + tokens.completion)
        if self._trace is not None:
            self._trace.tokens += tokens
            self._trace.model = model or self._trace.model

    def failed(self, problem: BaseException, costs: Sequence[Cost] = ()) -> None:
        """The work ended with an error, or was cancelled; `costs`: of its calls until then."""
        self._metrics.failed(problem)
        for cost in costs:
            self._metrics.called(cost.model, cost.stage, cost.tokens)
        self.charge(sum((cost.tokens for cost in costs), Tokens()))

    def leave(self) -> None:
        if self._admission is not None:
            self._admission._left(self, self._allowance)
            self._admission = None

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Admission:
    """Lets `in_flight` requests work, `queue` wait `timeout_s` at most, and refuses the rest."""

    def __init__(self, in_flight: int, queue: int, timeout_s: float, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self._in_flight = in_flight
        self._room = queue
        self._timeout_s = timeout_s
        self._line: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        self._allowances: dict[str, Allowance] = {}
        self._places: set[Place] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.waiting = 0
        self.working = 0

    @property
    def has_room(self) -> bool:
        """`enter` does not have to wait now."""
        return self.working < self._in_flight and not self.waiting

    async def enter(self, caller: Caller) -> Place:
        """Wait for a place. Raises Overloaded: the key is at a limit, the line is full, or the wait was too long."""
        allowance = self.allowance(caller)
        allowance.limit(caller)
        allowance.check(monotonic())
        allowance.at_once += 1
        try:
            if self.has_room:
                self.working += 1
            else:
                await self._wait(caller)
        except BaseException:
            allowance.at_once -= 1
            raise
        place = Place(self, caller)
        self._places.add(place)
        self._idle.clear()
        return place

    def allowance(self, caller: Caller) -> Allowance:
        """What is left to a key. Its limits are those of the last one who entered: who has asked long ago may bring
        older ones."""
        found = self._allowances.get(caller.owner)
        if found is None:
            found = self._allowances[caller.owner] = Allowance()
            found.limit(caller)
        return found

    def check_tokens(self, caller: Caller) -> None:
        """For work outside the line (a row of a batch). `caller` as it stands now. Raises Overloaded: the key has no
        tokens left."""
        allowance = self.allowance(caller)
        allowance.limit(caller)
        allowance.check_tokens(monotonic())

    def spend(self, caller: Caller, tokens: Tokens) -> None:
        """Work outside the line has cost a key so many."""
        self.allowance(caller).spend(tokens.prompt + tokens.completion)

    async def idle(self) -> None:
        """Return once nothing is worked on."""
        await self._idle.wait()

    def evict(self) -> None:
        """End all work with an error: the server stops now."""
        for waiters in list(self._line.values()):
            for waiter in list(waiters):
                if not waiter.done():
                    waiter.set_exception(NotReady("the server is shutting down"))
        for place in list(self._places):
            if place.on_evict is not None:
                place.on_evict(CutOff("the server shut down before the work had ended"))

    async def _wait(self, caller: Caller) -> None:
        if self.waiting >= self._room:
            self._make_room(caller)
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._line.setdefault(caller.owner, deque()).append(waiter)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await waiter
        except TimeoutError:
            self._give_back(waiter)
            raise Overloaded("no place came free in time; try again later", 5) from None
        except BaseException:
            self._give_back(waiter)
            raise
        finally:
            self._drop(caller.owner, waiter)

    def _make_room(self, caller: Caller) -> None:
        """Refuse the newcomer, or the last of the key with the most waiting, if that has more than the newcomer's."""
        longest = max(self._line, key=lambda name: len(self._line[name]), default=None)
        mine = len(self._line.get(caller.owner, ()))
        if longest is None or len(self._line[longest]) <= mine + 1:
            raise Overloaded("too many requests are waiting; try again later", 1)
        last = self._line[longest][-1]
        self._drop(longest, last)
        if not last.done():
            last.set_exception(Overloaded("too many requests are waiting; try again later", 1))

    def _drop(self, name: str, waiter: _Waiter) -> None:
        waiters = self._line.get(name)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            self.waiting -= 1
            if not waiters:
                del self._line[name]

    def _give_back(self, waiter: _Waiter) -> None:
        """A wait ended otherwise; where the place had come at the same moment, the next one gets it."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.working -= 1
            self._wake()

    def _left(self, place: Place, allowance: Allowance) -> None:
        self._places.discard(place)
        allowance.at_once -= 1
        self.working -= 1
        self._wake()
        if not self.working:
            self._idle.set()

    def _wake(self) -> None:
        """Give free places to the next in line, a key at a time."""
        while self.working < self._in_flight and self._line:
            name, waiters = next(iter(self._line.items()))
            waiter = waiters.popleft()
            self.waiting -= 1
            if waiters:
                self._line.move_to_end(name)
            else:
                del self._line[name]
            if not waiter.done():
                self.working += 1
                waiter.set_result(None)
