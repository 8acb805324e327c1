"""An event stays until it is named as seen."""

import asyncio

from local_fusion.cluster.outbox import Outbox
from local_fusion.types import Completion, Delta


def done(name: str) -> Completion:
    return Completion(name, "m", "text", "stop")


async def test_events_are_given_again_until_seen():
    outbox = Outbox()
    outbox.post(1, done("a"))
    outbox.post(2, done("b"))
    last, events = await outbox.take(0, 1.0)
    assert (last, [ticket for ticket, _ in events]) == (2, [1, 2])
    outbox.post(3, done("c"))
    last, events = await outbox.take(0, 1.0)
    assert (last, [ticket for ticket, _ in events]) == (3, [1, 2, 3])
    last, events = await outbox.take(2, 1.0)
    assert (last, [ticket for ticket, _ in events]) == (3, [3])


async def test_take_waits_for_the_first_event_and_no_longer():
    outbox = Outbox()
    assert await outbox.take(0, 0.01) == (0, [])
    reader = asyncio.create_task(outbox.take(0, 10.0))
    await asyncio.sleep(0)
    outbox.post(1, done("a"))
    last, events = await reader
    assert (last, len(events)) == (1, 1)


async def test_pieces_nobody_took_become_one():
    outbox = Outbox()
    for word in ("one ", "two ", "three"):
        outbox.post(1, Delta(word))
        outbox.post(2, Delta(reasoning=word))
    last, events = await outbox.take(0, 1.0)
    assert events == [(1, Delta("one two three")), (2, Delta(reasoning="one two three"))]
    outbox.post(1, Delta(" four"))
    outbox.post(1, done("a"))
    _, events = await outbox.take(last, 1.0)
    assert events == [(1, Delta(" four")), (1, done("a"))]


async def test_the_first_piece_goes_at_once_and_those_after_it_together():
    outbox = Outbox()
    outbox.post(1, Delta("first"))
    last, events = await outbox.take(0, 1.0)
    assert [ticket for ticket, _ in events] == [1]
    reader = asyncio.create_task(outbox.take(last, 10.0))
    for ticket in (1, 2, 3):
        outbox.post(ticket, Delta("more"))
        await asyncio.sleep(0)
    assert not reader.done()
    last, events = await reader
    assert [ticket for ticket, _ in events] == [1, 2, 3]


async def test_an_end_is_never_held_back_and_takes_the_pieces_along():
    outbox = Outbox()
    outbox.post(1, Delta("first"))
    last, _ = await outbox.take(0, 1.0)
    outbox.post(1, Delta("second"))
    outbox.post(2, done("b"))
    reader = asyncio.create_task(outbox.take(last, 10.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reader.done()
    assert [ticket for ticket, _ in reader.result()[1]] == [1, 2]


async def test_pieces_whose_reply_was_lost_are_given_again_at_once():
    outbox = Outbox()
    outbox.post(1, Delta("first"))
    await outbox.take(0, 1.0)
    outbox.post(1, Delta("second"))
    _, events = await outbox.take(0, 1.0)
    assert events == [(1, Delta("first")), (1, Delta("second"))]
