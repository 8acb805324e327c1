"""A private Ray head without the processes nobody here asks: dashboard, autoscaler, log monitor.

Each is a Python process that imports Ray before the first actor can, and `ray.init` waits for the dashboard's web
server even where the dashboard is switched off: seconds of every start on a small machine. The dashboard's process is
also the one that reports usage. Ray has no switch for them, so their starters are replaced while the head starts;
where a later Ray has renamed one, it starts as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_STARTERS = ("start_api_server", "start_monitor", "start_log_monitor")


@contextlib.contextmanager
def lean_head() -> Iterator[None]:
    """While this holds, a head that is started in this process comes without them."""
    from ray._private.node import Node

    before = {name: starter for name in _STARTERS if (starter := getattr(Node, name, None)) is not None}
    for name in before:
        setattr(Node, name, _start_nothing)
    try:
        yield
    finally:
        for name, starter in before.items():
            setattr(Node, name, starter)


def _start_nothing(*_: Any, **__: Any) -> None:
    return None
