"""Whether the engines answer: a one-token probe of each, at once, with a deadline.

Invariant: at most one round of probes is under way, and its result serves everybody for a second, so that nobody can
load the engines by asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from local_fusion.engine import Engine, Engines
from local_fusion.errors import CallError
from local_fusion.server.watch.fleet_view import hosts_of
from local_fusion.types import Health

FRESH_S = 1.0
_MARGIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Readiness:
    """Per model, what its probe found; `detail` where the server as a whole is not ready."""

    ready: bool
    engines: dict[str, Health]
    detail: str = ""


class Prober:
    """Asks the engines of one server."""

    def __init__(self, models: Sequence[str], timeout_s: float) -> None:
        self._models = models
        self._timeout_s = timeout_s
        self._round: asyncio.Task[Readiness] | None = None
        self._ended_at = 0.0

    async def ready(self, engines: Engines) -> Readiness:
        """The result of the round under way, of one not older than a second, or of a new one."""
        loop = asyncio.get_running_loop()
        if self._round is None or (self._round.done() and loop.time() - self._ended_at > FRESH_S):
            self._round = loop.create_task(self._ask(engines))
        return await asyncio.shield(self._round)

    async def _ask(self, engines: Engines) -> Readiness:
        asleep = {host.model for host in hosts_of(engines, self._models) if host.state == "asleep"}
        awake = {host.model for host in hosts_of(engines, self._models) if host.state == "ready"}
        probes = [
            _asleep() if model in asleep and model not in awake else _probe(engines[model], self._timeout_s)
            for model in self._models
        ]
        found = dict(zip(self._models, await asyncio.gather(*probes), strict=True))
        self._ended_at = asyncio.get_running_loop().time()
        return Readiness(all(health.ready for health in found.values()), found)


async def _probe(engine: Engine, timeout_s: float) -> Health:
    try:
        async with asyncio.timeout(timeout_s + _MARGIN_S):
            return await engine.check(timeout_s)
    except TimeoutError:
        return Health(False, f"no token within {timeout_s:g} s")
    except CallError as problem:
        return Health(False, problem.message)


async def _asleep() -> Health:
    return Health(True, "asleep: another group of models has its turn on the GPUs")
