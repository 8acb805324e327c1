"""Traces requests: told of each when it has ended. OpenTelemetry is loaded only where a trace was asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from local_fusion.engine import Engines
from local_fusion.errors import FusionError
from local_fusion.trace.target import Collector, read_target
from local_fusion.types import Fused, Request

if TYPE_CHECKING:
    from local_fusion.batch.run import Fuse
    from local_fusion.fusion.recipe import Recipe
    from local_fusion.trace.outlets import Outlet


class Tracer:
    """One trace per request. Safe to call from an event loop: nothing here waits for a collector."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def fused(self, fused: Fused, began_ns: int, caller: str | None = None) -> None:
        """A request that began at the Unix time `began_ns` (`time.time_ns()`) has its answer.

        `caller`: the name of the key it came with. Raises RunError where a file cannot be written."""
        from local_fusion.trace.spans import spans_of

        self._outlet.put(spans_of(fused, began_ns, caller))

    def failed(
        self, request_id: str, fusion: str, problem: FusionError, began_ns: int, caller: str | None = None
    ) -> None:
        """A request has failed as a whole."""
        from local_fusion.trace.spans import spans_of_failure

        self._outlet.put(spans_of_failure(request_id, fusion, problem, began_ns, time.time_ns(), caller))

    def around(self, fuse: Fuse) -> Fuse:
        """`fuse`, with a trace of every request that ends; of one that is cancelled there is none."""

        async def traced(request: Request, recipe: Recipe, engines: Engines) -> Fused:
            began_ns = time.time_ns()
            try:
                fused = await fuse(request, recipe, engines)
            except FusionError as problem:
                self.failed(request.id, recipe.name, problem, began_ns)
                raise
            self.fused(fused, began_ns)
            return fused

        return traced

    def close(self) -> None:
        """Write or send what is left; up to ten seconds where a collector does not answer."""
        self._outlet.close()


def open_tracer(target: str | None, remote: bool = False, taken: Iterable[Path] = ()) -> Tracer | None:
    """A tracer to the file or collector `target`; None for None.

    `remote` allows a collector beyond this machine; `taken`: files that spans must not go to. Raises
    InputError, or RunError where a file cannot be opened.
    """
    if target is None:
        return None
    where = read_target(target, remote, taken)
    from local_fusion.trace.outlets import CollectorOutlet, FileOutlet

    return Tracer(CollectorOutlet(where) if isinstance(where, Collector) else FileOutlet(where))
