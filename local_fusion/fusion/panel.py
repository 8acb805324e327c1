"""Runs many asks at once and stops when the rest is no longer needed.

A straggler takes longer than the answers of the quorum did, by the grace time. What counts is the time with the engine:
a member that waits for its turn on the GPUs is not slow. Invariants: every ask ends as one answer, one failure, or
(after an early exit) one aborted call; each is told the moment it happens; results stand in the order of the asks,
whatever order they came in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from local_fusion.fusion.clock import Clock
from local_fusion.fusion.events import EarlyExit, MemberDone, MemberFailed
from local_fusion.fusion.member import Ask, answer
from local_fusion.fusion.session import Session
from local_fusion.types import Answer, Failure, FailureReason

End = Literal["all", "early", "deadline", "hopeless"]
Enough = Callable[[Sequence[Answer], float], bool]
"""Given the answers so far and the summed weight of those still out: nothing that comes can change the result."""

_LATE: dict[End, tuple[FailureReason, str]] = {
    "deadline": ("deadline", "was still busy when the request's deadline passed"),
    "hopeless": ("aborted", "was aborted: too many members had failed for the quorum"),
}
_SLOW = "was still busy when the grace time after the quorum ended; raise straggler_grace_s"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a panel. `aborted`: calls stopped because they could not change the result any more."""

    answers: tuple[Answer, ...]
    failures: tuple[Failure, ...]
    end: End
    aborted: int = 0


class Panel:
    """One round of asks. `settled[i]` is resolved as soon as ask `i` has its answer or failure."""

    def __init__(self, session: Session, asks: Sequence[Ask], quorum: int = 1, enough: Enough | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.settled: list[asyncio.Future[Answer | Failure]] = [loop.create_future() for _ in asks]
        self._session = session
        self._asks = asks
        self._quorum = quorum
        self._enough = enough
        self._loop = loop
        self._out = len(asks)
        self._out_weight = sum(ask.weight for ask in asks)
        self._answers = 0
        self._clocks = [Clock(partial(self._look_at, index)) for index in range(len(asks))]
        self._slowest_s = 0.0
        self._quorum_at: float | None = None
        self._end: asyncio.Future[End] = loop.create_future()
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Send every ask now."""
        self._tasks = [self._loop.create_task(self._ask(index)) for index in range(len(self._asks))]
        if self._session.deadline is not None:
            self._timers.append(self._loop.call_at(self._session.deadline, self._finish, "deadline"))

    def stop(self) -> None:
        """Nobody needs the rest: end as an early exit does."""
        self._finish("early")

    def abort(self) -> None:
        """Stop whatever still runs; harmless once there is a result."""
        for timer in self._timers:
            timer.cancel()
        for clock in self._clocks:
            clock.leave()
        self._session.leave(self._tasks)

    async def result(self) -> Result:
        """Wait until all have answered, or enough, or time is up; then abort the rest. Cancelling aborts all."""
        end: End = "hopeless"
        try:
            end = await self._end if self._tasks else "all"
        finally:
            self.abort()
        late = self._out
        self._close(end)
        results = [future.result() for future in self.settled if not future.cancelled()]
        return Result(
            tuple(result for result in results if isinstance(result, Answer)),
            tuple(result for result in results if isinstance(result, Failure)),
            end,
            late if end == "early" else 0,
        )

    async def _ask(self, index: int) -> None:
        try:
            result = await answer(self._session, self._asks[index], self._clocks[index])
            self._settle(index, result)
        except Exception as problem:  # a prompt's own bug
            self._fail(problem)

    def _fail(self, problem: Exception) -> None:
        """A listener's or a prompt's own bug belongs to whoever awaits the result."""
        if not self._end.done():
            self._end.set_exception(problem)

    def _settle(self, index: int, result: Answer | Failure) -> None:
        if self.settled[index].done():
            return
        self.settled[index].set_result(result)
        self._out -= 1
        self._out_weight -= self._asks[index].weight
        if isinstance(result, Answer):
            self._answers += 1
            if self._quorum_at is None:
                self._slowest_s = max(self._slowest_s, self._clocks[index].seconds, result.timing.total_s)
            self._session.emit(MemberDone(result))
        else:
            self._session.emit(MemberFailed(result))
        self._look()

    def _look(self) -> None:
        if self._end.done():
            return
        if self._out == 0:
            self._finish("all")
        elif self._answers + self._out < self._quorum:
            self._finish("hopeless")
        elif self._answers >= self._quorum:
            if self._enough is not None and self._enough(self._so_far(), self._out_weight):
                self._finish("early")
            self._begin_grace()

    def _begin_grace(self) -> None:
        """The quorum of the whole request is in, with at least one answer of this panel to measure the others by."""
        if self._quorum_at is not None or self._session.settings.straggler_grace_s is None or not self._answers:
            return
        if len(self._session.answers) + self._answers < self._session.settings.quorum:
            return
        self._quorum_at = self._loop.time()
        for index in range(len(self._asks)):
            self._look_at(index)

    def _look_at(self, index: int) -> None:
        """Abort this member where its grace is over; look again when it will be."""
        due = self._due(index)
        if due is None or self.settled[index].done() or self._end.done():
            return
        if self._loop.time() < due:
            self._timers.append(self._loop.call_at(due, self._look_at, index))
            return
        ask = self._asks[index]
        self._session.leave([self._tasks[index]])
        try:
            self._settle(index, Failure(ask.model, "straggler", f"{ask.model} {_SLOW}", ask.stage, ask.sample))
        except Exception as problem:  # a timer's call: nobody else would hear of it
            self._fail(problem)

    def _due(self, index: int) -> float | None:
        """When the grace of this member ends; None while it need not hurry."""
        grace, clock = self._session.settings.straggler_grace_s, self._clocks[index]
        if grace is None or self._quorum_at is None:
            return None
        if clock.since is None:
            return self._quorum_at + grace if clock.held_up else None
        return max(self._quorum_at, clock.since + self._slowest_s) + grace

    def _so_far(self) -> list[Answer]:
        done = (future.result() for future in self.settled if future.done())
        return [result for result in done if isinstance(result, Answer)]

    def _finish(self, end: End) -> None:
        if not self._end.done():
            self._end.set_result(end)

    def _close(self, end: End) -> None:
        """Every ask that is still out gets its typed failure, or is cancelled as not needed."""
        if end == "early" and self._out:
            self._session.early_exit = True
            self._session.aborted += self._out
            self._session.emit(EarlyExit(self._out))
        for ask, future in zip(self._asks, self.settled, strict=True):
            if future.done():
                continue
            if end == "early":
                future.cancel()
                continue
            reason, words = _LATE[end]
            failure = Failure(ask.model, reason, f"{ask.model} {words}", ask.stage, ask.sample)
            future.set_result(failure)
            self._session.emit(MemberFailed(failure))
