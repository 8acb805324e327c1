"""What every route needs, in one object: configuration, engines, catalog, and what is counted, limited and kept."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from starlette.requests import HTTPConnection

from local_fusion.config import Config, ServerSettings
from local_fusion.engine import Engine, Engines
from local_fusion.server.catalog import Catalog
from local_fusion.server.door.admission import Admission
from local_fusion.server.door.callers import LOCAL, NOBODY, Caller
from local_fusion.server.door.keys import KeyRing
from local_fusion.server.problems import NotReady
from local_fusion.server.watch.fleet_view import states
from local_fusion.server.watch.metrics import Metrics
from local_fusion.server.watch.readiness import Prober, Readiness

if TYPE_CHECKING:
    from local_fusion.server.state import StateFolder
    from local_fusion.server.storage import Storage

Hook = Callable[[], Awaitable[None]]


class Service:
    """One server. Engines come later than the object: until then the routes that need them say so.

    `on_open`: awaited when the engines are up, before the server counts as ready; `on_close`: awaited, last one first,
    when no request is under way any more and the engines are about to go; `on_stop`: called when the end begins.
    """

    def __init__(self, config: Config, settings: ServerSettings | None = None, keys: KeyRing | None = None) -> None:
        """`keys`: None means that everybody who reaches the server is served."""
        self.config = config
        self.settings = settings or config.server
        self.catalog = Catalog(config, self.settings.fusions)
        self.keys = keys
        self.metrics = Metrics()
        self.admission = Admission(
            self.settings.in_flight, self.settings.queue, self.settings.queue_timeout_s, self.metrics
        )
        self.metrics.watch(lambda: states(self._engines, self.catalog.models, self.admission))
        self.started = int(time.time())
        self.stopping = False
        self.hosts: frozenset[str] | None = None
        """Names by which this server may be called where it has no keys; None: any."""
        self.on_open: list[Hook] = []
        self.on_close: list[Hook] = []
        self.on_stop: list[Callable[[], None]] = []
        self._prober = Prober(self.catalog.models, self.settings.probe_timeout_s)
        self._engines: Engines | None = None
        self._storage: Storage | None = None

    @property
    def storage(self) -> Storage:
        """What is kept on disk; opened, and its batches resumed, when first asked for, within a running loop.

        Raises ConfigError: the state folder cannot be used, or another server uses it."""
        if self._storage is None:
            from local_fusion.server.storage import Storage

            self._storage = storage = Storage(self)
            storage.start()
            self.on_stop.append(storage.stop)
            self.on_close.append(storage.close)
        return self._storage

    @property
    def state(self) -> StateFolder:
        """The open state folder. Raises ConfigError."""
        return self.storage.folder

    @property
    def engines(self) -> Engines:
        """Raises NotReady while they start, and when they are about to go."""
        if self._engines is None and self.stopping:
            raise NotReady("the server is shutting down")
        if self._engines is None:
            raise NotReady("the engines are still starting; GET /health/ready tells when they are ready")
        return self._engines

    @property
    def ready(self) -> bool:
        """The engines are there; whether each answers is for `/health/ready` to find out."""
        return self._engines is not None

    def key_of(self, owner: str) -> Caller | None:
        """Who owns what is kept as `owner`'s, with the limits of now; None where that key was removed."""
        if self.keys is None:
            return LOCAL if owner == LOCAL.owner else None
        return self.keys.of(owner)

    def attach(self, engines: Engines | None) -> None:
        """The engines are up, or (None) about to go."""
        self._engines = engines

    async def opened(self) -> None:
        """The engines are up: let what waits for them begin."""
        for hook in self.on_open:
            await hook()

    def stop(self) -> None:
        """The end begins: not ready any more; what is under way may go on for a while."""
        self.stopping = True
        for hook in self.on_stop:
            hook()

    async def closed(self) -> None:
        """The engines are about to go; idempotent."""
        while self.on_close:
            await self.on_close.pop()()

    async def readiness(self) -> Readiness:
        """Whether every engine answers a one-token probe now."""
        if self.stopping:
            return Readiness(False, {}, "the server is shutting down")
        if self._engines is None:
            return Readiness(False, {}, "the engines are still starting")
        return await self._prober.ready(self._engines)

    def engine(self, model: str) -> Engine:
        """Raises NotReady."""
        return self.engines[model]


def service_of(connection: HTTPConnection) -> Service:
    """The service behind a request."""
    return cast(Service, connection.app.state.service)


def caller_of(connection: HTTPConnection) -> Caller:
    """Who sent a request: set by the middleware that reads keys."""
    return cast(Caller, connection.scope.get("local_fusion.caller", NOBODY))
