"""The engines seen from the server: each host's state, whether it runs in a fleet or in this process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from prometheus_client.core import GaugeMetricFamily

from local_fusion.cluster.state import HostState, State
from local_fusion.engine import Engines
from local_fusion.server.door.admission import Admission
from local_fusion.server.watch.metrics import gauge, gauges

STATES = ("starting", "ready", "not_ready", "asleep", "restarting", "failed", "closed")


@runtime_checkable
class Watched(Protocol):
    """Engines that show their hosts: a fleet."""

    @property
    def swaps(self) -> int: ...

    @property
    def swap_s(self) -> float: ...

    def snapshot(self) -> list[HostState]: ...


def hosts_of(engines: Engines | None, models: Iterable[str]) -> list[HostState]:
    """Every host as it is now; engines of this process have no host: they are ready."""
    if isinstance(engines, Watched):
        return engines.snapshot()
    state: State = "starting" if engines is None else "ready"
    return [HostState(model, 0, state, running=_running(engines, model)) for model in models]


def _running(engines: Engines | None, model: str) -> int | None:
    """What an engine of this process counts by itself."""
    running = getattr(engines[model], "running", None) if engines is not None and model in engines else None
    return running if isinstance(running, int) else None


def states(engines: Engines | None, models: Iterable[str], admission: Admission) -> Iterable[GaugeMetricFamily]:
    """The gauges of a scrape."""
    yield gauge("requests_in_flight", "Requests worked on now", admission.working)
    yield gauge("requests_waiting", "Requests that wait for a place", admission.waiting)
    by_host = ("model", "replica")
    running = gauges("engine_running", "Calls the engine itself counted last", by_host)
    in_flight = gauges("engine_in_flight", "Calls sent to the host and not ended", by_host)
    waiting = gauges("engine_waiting", "Calls of the model that wait for a place", ("model",))
    restarts = gauges("engine_restarts", "How often the host was started again", by_host)
    state = gauges("engine_state", "1 for the state the host is in", (*by_host, "state"))
    lines: dict[str, int] = {}
    for host in hosts_of(engines, models):
        name = (host.model, str(host.replica))
        running.add_metric(name, host.running or 0)
        in_flight.add_metric(name, host.in_flight)
        restarts.add_metric(name, host.restarts)
        lines[host.model] = host.waiting
        for one in STATES:
            state.add_metric((*name, one), float(host.state == one))
    for model, count in lines.items():
        waiting.add_metric((model,), count)
    yield from (running, in_flight, waiting, restarts, state)
    if isinstance(engines, Watched):
        yield gauge("swaps", "How often a group of models gave the GPUs to another", engines.swaps)
        yield gauge("swap_seconds", "Seconds spent on that", engines.swap_s)
