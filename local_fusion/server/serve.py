"""Runs a server: HTTP at once, engines at the same time, until a signal; then requests under way end, then engines.

Invariant: while this runs, `/health/live` answers (but for the seconds in which Ray is opened on this thread), and when
it returns or raises, no engine and no connection is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator

from local_fusion.runtime import open_engines
from local_fusion.server.app import make_app
from local_fusion.server.door.connections import HttpServer, http_server
from local_fusion.server.service import Service
from local_fusion.server.watch.logs import log

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AT_ONCE_S = 1.0
Say = Callable[[str], None]


class Stop:
    """What was asked for by signals: `asked` to end in order, `now` to end at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()

    def heard(self) -> None:
        """One more signal."""
        (self.now if self.asked.is_set() else self.asked).set()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Inside, SIGTERM and SIGINT are heard; the third one kills."""
        loop = asyncio.get_running_loop()

        def hear() -> None:
            self.heard()
            if self.now.is_set():
                self._deafen(loop)

        for number in SIGNALS:
            loop.add_signal_handler(number, hear)
        try:
            yield
        finally:
            self._deafen(loop)

    def _deafen(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve(
    service: Service, listening: socket.socket, tls: ssl.SSLContext | None, stop: Stop, say: Say, ready: Say
) -> None:
    """Serve until `stop`. `say` hears each step of the start, `ready` how long it took.

    Raises what kept the engines from starting: ConfigError, ModelFilesError or StartError.
    """
    _allow_many_connections()
    http = http_server(make_app(service), tls, service.settings.drain_s)
    loop = asyncio.get_running_loop()
    _ = service.storage  # the state folder, before anything that takes long
    serving = loop.create_task(http.serve(sockets=[listening]))
    closing = asyncio.Event()
    engines = loop.create_task(_hold_engines(service, closing, say, ready))
    asked = loop.create_task(stop.asked.wait())
    try:
        await asyncio.wait([serving, engines, asked], return_when=asyncio.FIRST_COMPLETED)
        await _end_requests(service, http, serving, stop)
        closing.set()
        if not service.ready:
            engines.cancel()
        await _ended(engines)
    finally:
        for task in (asked, serving, engines):
            task.cancel()
        await asyncio.gather(asked, serving, engines, return_exceptions=True)
        await service.closed()


async def _hold_engines(service: Service, closing: asyncio.Event, say: Say, ready: Say) -> None:
    """Start the engines, keep them until `closing`, close them."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(0.05)  # HTTP first: opening Ray holds this thread for seconds
    async with open_engines(service.config, service.catalog.models, say) as engines:
        service.attach(engines)
        try:
            await service.opened()
            _spare_pauses()
            ready(f"ready after {loop.time() - began:.1f} s")
            await closing.wait()
            await service.closed()
        finally:
            service.attach(None)


async def _end_requests(service: Service, http: HttpServer, serving: asyncio.Task[None], stop: Stop) -> None:
    """Take no more requests; give those under way their time, then end them with an error in their own form."""
    service.stop()
    begun = service.admission.working + service.admission.waiting
    log.info("stopping", requests=begun)
    http.should_exit = True
    if not service.ready:
        http.force_exit = True
    now, quiet = asyncio.ensure_future(stop.now.wait()), asyncio.ensure_future(_quiet(service, serving))
    try:
        await asyncio.wait([quiet, now], timeout=service.settings.drain_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        now.cancel()
        quiet.cancel()
    if not quiet.done() or quiet.cancelled():
        service.admission.evict()
        await asyncio.wait([serving], timeout=_AT_ONCE_S)
        http.force_exit = True
        await asyncio.wait([serving], timeout=_AT_ONCE_S)
    if serving.done() and not serving.cancelled():
        serving.result()


async def _quiet(service: Service, serving: asyncio.Task[None]) -> None:
    """Return once the last connection has closed and the last work, which may have none, has ended."""
    await asyncio.wait([serving])
    await service.admission.idle()


def _spare_pauses() -> None:
    """What was made to start stays for good: the garbage collector need not look at it again while streams wait."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 5, 100)


async def _ended(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _allow_many_connections() -> None:
    """Each connection is an open file; the usual limit of a thousand is the shell's, not the system's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))
