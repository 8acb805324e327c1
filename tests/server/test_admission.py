"""Places: a limit, a line that is fair between keys, and no place lost when a wait is given up."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from local_fusion.server.door.admission import Admission, Place
from local_fusion.server.door.callers import Caller
from local_fusion.server.problems import NotReady, Overloaded
from local_fusion.types import Tokens

ANN, BOB = Caller("ann"), Caller("bob")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_keys_take_turns_whatever_their_numbers() -> None:
    admission = Admission(1, 100, 10)
    first = await admission.enter(ANN)
    order: list[str] = []

    async def come(caller: Caller, name: str) -> None:
        with await admission.enter(caller):
            order.append(name)
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(come(ANN, f"ann{place}")) for place in range(4)]
    await settle()
    tasks += [asyncio.ensure_future(come(BOB, f"bob{place}")) for place in range(2)]
    await settle()
    assert admission.waiting == 6
    first.leave()
    await asyncio.gather(*tasks)
    assert order == ["ann0", "bob0", "ann1", "bob1", "ann2", "ann3"]
    assert (admission.working, admission.waiting) == (0, 0)


async def test_never_more_than_the_limit_work() -> None:
    admission = Admission(3, 1000, 10)
    most = 0

    async def come(place: int) -> None:
        nonlocal most
        with await admission.enter(Caller(f"key{place % 5}")):
            most = max(most, admission.working)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(come(place) for place in range(100)))
    assert most == 3
    assert admission.working == 0


async def test_a_wait_given_up_frees_its_place_even_when_it_came_at_that_moment() -> None:
    admission = Admission(1, 10, 10)
    first = await admission.enter(ANN)
    waiting = asyncio.ensure_future(admission.enter(ANN))
    await settle()
    first.leave()  # the place goes to the one who waits …
    waiting.cancel()  # … who gives up before it runs
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (admission.working, admission.waiting) == (0, 0)
    assert admission.allowance(ANN).at_once == 0
    (await admission.enter(BOB)).leave()


async def test_a_full_line_refuses_and_a_long_wait_ends() -> None:
    admission = Admission(1, 1, 0.05)
    first = await admission.enter(ANN)
    waiting = asyncio.ensure_future(admission.enter(ANN))
    await settle()
    with pytest.raises(Overloaded):
        await admission.enter(ANN)
    with pytest.raises(Overloaded) as late:
        await waiting
    assert late.value.headers["retry-after"]
    assert admission.waiting == 0
    first.leave()
    first.leave()  # twice is harmless
    assert admission.working == 0


async def test_a_key_that_fills_the_line_does_not_keep_others_out() -> None:
    admission = Admission(1, 4, 10)
    first = await admission.enter(ANN)
    flood = [asyncio.ensure_future(admission.enter(ANN)) for _ in range(4)]
    await settle()
    other = asyncio.ensure_future(admission.enter(BOB))
    await settle()
    assert isinstance(flood[-1].exception(), Overloaded)
    assert admission.waiting == 4
    first.leave()
    place = await flood[0]
    place.leave()
    (await other).leave()
    for task in flood[1:3]:
        (await task).leave()
    assert admission.working == 0


async def test_a_key_has_so_many_requests_at_once() -> None:
    admission = Admission(10, 10, 10)
    caller = Caller("ann", parallel=2)
    places = [await admission.enter(caller) for _ in range(2)]
    with pytest.raises(Overloaded) as refused:
        await admission.enter(caller)
    assert refused.value.headers["x-ratelimit-limit-requests"] == "2"
    assert refused.value.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.value.headers["retry-after"] == "1"
    (await admission.enter(BOB)).leave()
    places[0].leave()
    (await admission.enter(caller)).leave()


async def test_tokens_of_a_minute_come_back_evenly() -> None:
    admission = Admission(10, 10, 10)
    caller = Caller("ann", tokens_per_minute=600)
    with await admission.enter(caller) as place:
        place.charge(Tokens(prompt=700, completion=200))
    with pytest.raises(Overloaded) as refused:
        await admission.enter(caller)
    assert 29 <= int(refused.value.headers["retry-after"]) <= 30  # 300 too many, 10 a second come back
    allowance = admission.allowance(caller)
    allowance.check(monotonic() + 31)
    assert int(allowance.headers(monotonic() + 120)["x-ratelimit-remaining-tokens"]) == 600


async def test_the_end_of_the_server_ends_work_and_waiting() -> None:
    admission = Admission(1, 10, 10)
    place = await admission.enter(ANN)
    ended: list[str] = []
    place.on_evict = lambda problem: ended.append(problem.message)
    waiting: asyncio.Future[Place] = asyncio.ensure_future(admission.enter(BOB))
    await settle()
    admission.evict()
    with pytest.raises(NotReady):
        await waiting
    assert len(ended) == 1
    place.leave()
    await asyncio.wait_for(admission.idle(), 1)
