"""What is known of one request while it is answered: for its log line and for the counters. No prompts.

The work of a request runs in tasks of its own; they find the trace by the context they inherit.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter

from local_fusion.server.door.callers import NOBODY, Caller
from local_fusion.types import Tokens


@dataclass(slots=True)
class Trace:
    """One HTTP request. `model`: as resolved; `tokens` of all its calls."""

    request_id: str
    caller: Caller = NOBODY
    model: str = ""
    tokens: Tokens = field(default_factory=Tokens)
    began: float = field(default_factory=perf_counter)
    first_byte_s: float | None = None
    error: str = ""

    @property
    def seconds(self) -> float:
        return perf_counter() - self.began


_CURRENT: ContextVar[Trace | None] = ContextVar("local_fusion_trace", default=None)


def current() -> Trace | None:
    """The trace of the request this task works for."""
    return _CURRENT.get()


def begin(trace: Trace) -> None:
    """This task, and those it starts from now on, work for `trace`."""
    _CURRENT.set(trace)
