"""What can be seen of the fleet from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

State = Literal["starting", "ready", "not_ready", "asleep", "restarting", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class HostState:
    """One replica now. `waiting`: calls of its model with no place yet. `running`: calls the engine itself counted at
    its last probe, None before the first. `last_probe_s`: what the last one-token probe
    took. `start_s`: seconds from asking for the host to its first answered probe."""

    model: str
    replica: int
    state: State
    in_flight: int = 0
    waiting: int = 0
    running: int | None = None
    restarts: int = 0
    pid: int | None = None
    node: str | None = None
    last_probe_s: float | None = None
    start_s: float | None = None
    detail: str = ""


def describe(state: HostState) -> str:
    """One sentence for a person."""
    name = state.model if state.replica == 0 else f"{state.model} (replica {state.replica})"
    if state.state == "ready" and state.start_s is not None:
        return f"{name} is ready after {state.start_s:.1f} s"
    return f"{name} is {state.state.replace('_', ' ')}" + (f": {state.detail}" if state.detail else "")


Listen: TypeAlias = Callable[[HostState], None]
"""Called on the event loop at each change of a host's state; must not block or raise."""
