"""Runs many asks at once and stops when the rest is no longer needed.

Invariants: every ask ends as one answer, one failure, or (after an early exit) one aborted call; each is told the
moment it happens; results stand in the order of the asks, whatever order they came in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from local_fusion.fusion.events import EarlyExit, MemberDone, MemberFailed
from local_fusion.fusion.member import Ask, answer
from local_fusion.fusion.session import Session
from local_fusion.types import Answer, Failure, FailureReason

End = Literal["all", "early", "straggler", "deadline", "hopeless"]
Enough = Callable[[Sequence[Answer], float], bool]
"""Given the answers so far and the summed weight of those still out: nothing that comes can change the result."""

_LATE: dict[End, tuple[FailureReason, str]] = {
    "straggler": ("straggler", "was still busy when the grace time after the quorum ended; raise straggler_grace_s"),
    "deadline": ("deadline", "was still busy when the request's deadline passed"),
    "hopeless": ("aborted", "was aborted: too many members had failed for the quorum"),
}


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
        self._in_grace = False
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
            result = await answer(self._session, self._asks[index])
            self._settle(index, result)
        except Exception as problem:  # a listener's or a prompt's own bug: it belongs to whoever awaits the result
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
            grace = self._session.settings.straggler_grace_s
            if grace is not None and not self._in_grace:
                self._in_grace = True
                self._timers.append(self._loop.call_later(grace, self._finish, "straggler"))

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
