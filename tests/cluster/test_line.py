"""Places are handed out by priority, to the least taken seat, and never lost."""

import asyncio

import pytest

from local_fusion.cluster.line import Line
from local_fusion.errors import CallAborted, EngineDied


class Bench:
    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0

    @property
    def free(self) -> int:
        return self.places - self.taken


async def test_least_taken_seat_first():
    few, many = Bench(4), Bench(4)
    few.taken = 1
    line = Line([few, many])
    assert await line.enter(0, "a") is many
    assert {await line.enter(0, "b"), await line.enter(0, "c")} == {few, many}


async def test_smaller_priority_first_then_first_come():
    seat = Bench(1)
    line = Line([seat])
    await line.enter(0, "holder")
    order: list[str] = []

    async def wait(name: str, priority: int) -> None:
        await line.enter(priority, name)
        order.append(name)
        line.leave(seat)

    tasks = [
        asyncio.create_task(wait(name, priority)) for name, priority in [("late", 5), ("x", 1), ("y", 1), ("first", 0)]
    ]
    await asyncio.sleep(0)
    assert line.waiting == 4
    line.leave(seat)
    await asyncio.gather(*tasks)
    assert order == ["first", "x", "y", "late"]
    assert seat.taken == 0


async def test_a_cancelled_call_gives_its_place_on():
    seat = Bench(1)
    line = Line([seat])
    await line.enter(0, "holder")
    given_up = asyncio.create_task(line.enter(0, "a"))
    patient = asyncio.create_task(line.enter(1, "b"))
    await asyncio.sleep(0)
    line.leave(seat)  # the place is a's now, but a has not run yet
    given_up.cancel()
    assert await asyncio.wait_for(patient, 1.0) is seat
    assert seat.taken == 1


async def test_asleep_holds_everyone_back():
    line = Line([Bench(2)])
    line.asleep = True
    caller = asyncio.create_task(line.enter(0, "a"))
    await asyncio.sleep(0)
    assert line.waiting == 1
    assert not caller.done()
    line.asleep = False
    line.refresh()
    await asyncio.wait_for(caller, 1.0)


async def test_dropped_and_closed():
    line = Line([Bench(0)])
    one, two = asyncio.create_task(line.enter(0, "one")), asyncio.create_task(line.enter(0, "two"))
    await asyncio.sleep(0)
    line.drop(["one", "unknown"], CallAborted("m: aborted"))
    with pytest.raises(CallAborted):
        await one
    line.close("m: no host is left")
    with pytest.raises(EngineDied, match="no host is left"):
        await two
    with pytest.raises(EngineDied, match="no host is left"):
        await line.enter(0, "three")
