"""Whether the client is still there: work for nobody is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request

from local_fusion.errors import LocalFusionError
from local_fusion.server.door.admission import Place
from local_fusion.server.problems import ClientGone
from local_fusion.server.service import caller_of, service_of

T = TypeVar("T")


async def admitted(request: Request) -> Place:
    """A place among the requests worked on; who hangs up while waiting for one leaves the line.

    Raises Overloaded, ClientGone."""
    admission, caller = service_of(request).admission, caller_of(request)
    if admission.has_room:
        return await admission.enter(caller)
    return await unless_gone(request, admission.enter(caller))


async def admitted_for(request: Request, work: Callable[[], Awaitable[T]]) -> tuple[Place, T]:
    """A place, and what `work` made in it while the client waited: for what must be done before it is known what is to
    be run. The place is left where `work` fails. Raises Overloaded, ClientGone, and what `work` raises."""
    place = await admitted(request)
    task = asyncio.ensure_future(work())
    evicted: list[LocalFusionError] = []

    def evict(problem: LocalFusionError) -> None:
        evicted.append(problem)
        task.cancel()

    place.on_evict = evict
    try:
        return place, await unless_gone(request, task)
    except BaseException:
        place.leave()
        if evicted:
            raise evicted[0] from None
        raise
    finally:
        place.on_evict = None


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Await `work` while the client waits for it; cancel it when the client hangs up. Raises ClientGone then.

    The body must have been read: what comes next on the connection is its end.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone("the client hung up")
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1.0)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
