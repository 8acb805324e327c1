"""Groups of models take turns on GPUs that cannot hold them all.

`next_group` is the policy, pure; `TurnTaker` carries it out: hold new calls back, let those under way end, put the
group to sleep, wake the next. Invariant: one group at a time is awake. Calls just wait in their model's line; many
in flight make each swap serve many.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

_log = logging.getLogger(__name__)
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Demand:
    """Calls of one group: waiting, seconds the oldest of them has waited, under way."""

    waiting: int = 0
    oldest_s: float = 0.0
    under_way: int = 0


@dataclass(frozen=True, slots=True)
class TurnRules:
    """`linger_s`: an idle group keeps its turn this long, for the next stage of the same rows. `patience_s`: a group
    that has waited this long is served next, and a busy one yields to it once its own turn has lasted as long."""

    linger_s: float = 0.05
    patience_s: float = 60.0


def next_group(
    awake: int, demands: Sequence[Demand], rules: TurnRules, idle_s: float = 0.0, turn_s: float = 0.0
) -> int | None:
    """The group that gets the GPUs now; None: the one awake keeps them.

    `idle_s`: how long the awake group has had nothing to do; `turn_s`: how long its turn has lasted.
    """
    others = [index for index, demand in enumerate(demands) if index != awake and demand.waiting]
    if not others:
        return None
    longest = max(others, key=lambda index: demands[index].oldest_s)
    starving = demands[longest].oldest_s > rules.patience_s
    mine = demands[awake]
    if mine.waiting or mine.under_way:
        return longest if starving and turn_s > rules.patience_s else None
    if idle_s < rules.linger_s:
        return None
    if starving:
        return longest
    return max(others, key=lambda index: (demands[index].waiting, demands[index].oldest_s))


class Troupe(Protocol):
    """Models that are awake together."""

    def demand(self) -> Demand: ...

    def hold(self) -> None:
        """Let no more calls in."""
        ...

    async def sleep(self) -> None:
        """Give the GPUs back; nothing is under way."""
        ...

    async def wake(self) -> None:
        """Take the GPUs and let calls in. Does not raise: a model that cannot be woken fails its own calls."""
        ...


class TurnTaker:
    """Gives the GPUs to one of `troupes` at a time; the first is awake at the start. `poke` when a call arrives."""

    def __init__(self, troupes: Sequence[Troupe], rules: TurnRules | None = None) -> None:
        self._troupes = troupes
        self._rules = rules or TurnRules()
        self._awake = 0
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.swaps = 0
        self.swap_s = 0.0
        """Seconds spent in swaps so far."""

    def start(self) -> None:
        """Begin to take turns."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End where it stands; idempotent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def poke(self) -> None:
        """Someone waits."""
        self._poked.set()

    async def _run(self) -> None:
        turn_began = busy_at = monotonic()
        while True:
            demands = [troupe.demand() for troupe in self._troupes]
            now = monotonic()
            mine = demands[self._awake]
            if mine.waiting or mine.under_way:
                busy_at = now
            chosen = next_group(self._awake, demands, self._patient(), now - busy_at, now - turn_began)
            if chosen is not None:
                await self._swap(chosen)
                turn_began = busy_at = monotonic()
            elif any(demand.waiting for demand in demands):
                await asyncio.sleep(self._rules.linger_s / 2)
            else:
                self._poked.clear()
                await self._poked.wait()

    async def _swap(self, chosen: int) -> None:
        leaving = self._troupes[self._awake]
        leaving.hold()
        while leaving.demand().under_way:  # noqa: ASYNC110 (the end of a call is seen in no one place)
            await asyncio.sleep(self._rules.linger_s / 2)
        began = monotonic()
        try:
            await leaving.sleep()
        except Exception as problem:  # whatever it is: turns that end silently would be waited for for ever
            _log.error("a group of models could not give its GPUs back: %s", type(problem).__name__)
            await leaving.wake()
            await asyncio.sleep(_RETRY_S)
            return
        self._awake = chosen
        self.swaps += 1
        await self._troupes[chosen].wake()
        self.swap_s += monotonic() - began

    def _patient(self) -> TurnRules:
        """A swap that takes long must serve many: patience is at least ten swaps."""
        typical = self.swap_s / self.swaps if self.swaps else 0.0
        return TurnRules(self._rules.linger_s, max(self._rules.patience_s, 10 * typical))
