"""Members whose engines are not free at once: waiting for a turn or a place makes nobody slow and uses up no time.

The real `Line` and `TurnTaker` in front of scripted engines; no Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fusion_fakes import FakeEngine, hang, later, recipe_of, request_of

from local_fusion.cluster.line import Line
from local_fusion.cluster.turns import Demand, TurnRules, TurnTaker
from local_fusion.engine import Engine, PassingEngine
from local_fusion.fusion.events import Listener
from local_fusion.fusion.fuse import fuse
from local_fusion.types import Call, Completion, LabelCall, LabelRead

CALL_S = 0.2
SWAP_S = 0.6
NAMES = ("a", "b", "c", "judge")


class Seat:
    """A host with so many places."""

    def __init__(self, places: int = 1000) -> None:
        self.places = places
        self.taken = 0
        self.up = True

    @property
    def free(self) -> int:
        return self.places - self.taken if self.up else 0


class Queued(PassingEngine):
    """A place first, then the call: what the fleet's engine does."""

    def __init__(self, engine: Engine, line: Line[Seat]) -> None:
        super().__init__(engine)
        self._line = line

    async def generate(self, call: Call) -> Completion:
        seat = await self._line.enter(call.priority, call.id)
        try:
            return await self._engine.generate(call)
        finally:
            self._line.leave(seat)

    async def label_read(self, call: LabelCall) -> LabelRead:
        seat = await self._line.enter(call.priority, call.id)
        try:
            return await self._engine.label_read(call)
        finally:
            self._line.leave(seat)


class Troupe:
    """One model that is awake alone."""

    def __init__(self, line: Line[Seat]) -> None:
        self._line = line

    def demand(self) -> Demand:
        return Demand(self._line.waiting, self._line.oldest_s, self._line.taken)

    def hold(self) -> None:
        self._line.asleep = True

    async def sleep(self) -> None:
        self.hold()

    async def wake(self) -> None:
        await asyncio.sleep(SWAP_S)
        self._line.asleep = False
        self._line.refresh()


@asynccontextmanager
async def taking_turns(engines: dict[str, FakeEngine]) -> AsyncIterator[dict[str, Queued]]:
    """Each engine awake alone; the first one at the start."""
    lines: dict[str, Line[Seat]] = {}

    def arrived() -> None:
        taker.poke()

    for name in engines:
        lines[name] = Line([Seat()], arrived)
        lines[name].asleep = name != next(iter(engines))
    taker = TurnTaker([Troupe(line) for line in lines.values()], TurnRules(0.01, 60.0))
    taker.start()
    yield {name: Queued(engine, lines[name]) for name, engine in engines.items()}
    await taker.stop()


def story(name: str) -> str:
    return f"a long answer by {name} that nobody would vote on. " * 6


def slow(name: str) -> FakeEngine:
    return FakeEngine(name, lambda call: later(CALL_S, story(name)))


@pytest.mark.parametrize(
    "limits",
    [{}, {"straggler_grace_s": 0.4}, {"member_timeout_s": 0.8}, {"member_timeout_s": 0.8, "straggler_grace_s": 0.4}],
    ids=["default", "grace", "timeout", "both"],
)
async def test_every_member_answers_where_the_models_take_turns(limits):
    recipe = recipe_of(NAMES, mode="auto", analysis=False, guard=False, **limits)
    async with taking_turns({name: slow(name) for name in NAMES}) as engines:
        found = await asyncio.gather(*(fuse(request_of(id=f"row-{n}"), recipe, engines) for n in range(3)))
    for fused in found:
        assert [answer.model for answer in fused.receipt.answers] == ["a", "b", "c"]
        assert fused.receipt.failures == ()
        assert fused.model == "judge"


async def test_a_member_that_hangs_in_its_turn_is_a_straggler_of_that_turn():
    inner = {name: slow(name) for name in NAMES}
    inner["b"] = FakeEngine("b", lambda call: hang())
    recipe = recipe_of(NAMES, mode="merge", analysis=False, guard=False, straggler_grace_s=0.25)
    async with taking_turns(inner) as engines:
        fused = await fuse(request_of(), recipe, engines)
    assert [answer.model for answer in fused.receipt.answers] == ["a", "c"]
    assert [(failure.model, failure.reason) for failure in fused.receipt.failures] == [("b", "straggler")]
    assert len(inner["b"].cancelled) == 1


async def test_the_deadline_ends_the_wait_for_a_turn():
    recipe = recipe_of(NAMES, mode="merge", analysis=False, deadline_s=0.25)
    async with taking_turns({name: slow(name) for name in NAMES}) as engines:
        fused = await fuse(request_of(), recipe, engines)
    assert [failure.reason for failure in fused.receipt.failures] == ["deadline", "deadline"]
    assert fused.model == "a"


async def test_a_queue_before_a_busy_host_uses_up_no_time():
    line: Line[Seat] = Line([Seat(places=1)])
    engines = {"a": Queued(slow("a"), line), "judge": FakeEngine("judge")}
    recipe = recipe_of(
        ("a", "judge"),
        panel=[{"model": "a", "samples": 4}],
        mode="best-of",
        member_timeout_s=0.5,
        straggler_grace_s=0.3,
    )
    fused = await fuse(request_of(), recipe, engines)
    assert len(fused.receipt.answers) == 4


async def test_a_host_that_is_down_gets_no_more_grace_than_a_slow_one():
    down = Seat()
    down.up = False
    engines = {
        "a": FakeEngine("a", "alpha"),
        "b": Queued(FakeEngine("b", "beta"), Line([down])),
        "judge": FakeEngine("judge"),
    }
    recipe = recipe_of(("a", "b", "judge"), mode="best-of", straggler_grace_s=0.05)
    async with asyncio.timeout(10):
        fused = await fuse(request_of(), recipe, engines)
    assert [(failure.model, failure.reason) for failure in fused.receipt.failures] == [("b", "straggler")]


async def test_the_restart_of_a_host_uses_up_no_time():
    seat = Seat()
    seat.up = False
    line: Line[Seat] = Line([seat])

    async def restart() -> None:
        await asyncio.sleep(0.4)
        seat.up = True
        line.refresh()

    restarting = asyncio.create_task(restart())
    engines = {"a": Queued(FakeEngine("a", "alpha"), line), "judge": FakeEngine("judge")}
    fused = await fuse(request_of(), recipe_of(("a", "judge"), mode="best-of", member_timeout_s=0.2), engines)
    await restarting
    assert fused.text == "alpha"


async def test_a_call_that_is_tried_again_keeps_the_time_it_had():
    """Its host dies under it, and none comes back: the time counts from the first sending."""
    seat = Seat()
    line: Line[Seat] = Line([seat])

    class Dying(Queued):
        async def generate(self, call: Call) -> Completion:
            self._line.leave(await self._line.enter(call.priority, call.id))
            seat.up = False
            await self._line.enter(call.priority, call.id)
            raise AssertionError("nobody gets a place on a dead host")

    engines = {"a": Dying(FakeEngine("a"), line), "b": FakeEngine("b", "beta"), "judge": FakeEngine("judge")}
    async with asyncio.timeout(10):
        fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of", member_timeout_s=0.1), engines)
    assert [(failure.model, failure.reason) for failure in fused.receipt.failures] == [("a", "timeout")]


async def test_streamed_members_take_turns_too():
    class Streaming(Queued):
        async def stream(self, call):
            seat = await self._line.enter(call.priority, call.id)
            try:
                async for item in self._engine.stream(call):
                    yield item
            finally:
                self._line.leave(seat)

    recipe = recipe_of(NAMES, mode="merge", analysis=False, guard=False, straggler_grace_s=0.4, member_timeout_s=0.8)
    async with taking_turns({name: slow(name) for name in NAMES}) as engines:
        streaming = {name: Streaming(engine._engine, engine._line) for name, engine in engines.items()}
        fused = await fuse(request_of(), recipe, streaming, Listener(lambda event: None, deltas=True))
    assert [answer.model for answer in fused.receipt.answers] == ["a", "b", "c"]
