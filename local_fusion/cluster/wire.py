"""Packs calls and events into bytes for one Ray message.

Pickle with a table of reducers: a frozen dataclass with slots costs a tenth of what the default reducer takes, so
a group of 64 calls packs in a tenth of a millisecond. Only the two ends of one fleet read these bytes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeAlias

from local_fusion.errors import CallError
from local_fusion.types import (
    Call,
    Completion,
    Delta,
    LabelCall,
    LabelRead,
    Message,
    Sampling,
    TextCall,
    TextCompletion,
    Timing,
    TokenLogprob,
    Tokens,
    ToolCall,
    ToolDelta,
)

AnyCall: TypeAlias = Call | LabelCall | TextCall
Result: TypeAlias = Completion | LabelRead | TextCompletion
Payload: TypeAlias = Result | Delta | CallError
Submission: TypeAlias = tuple[int, AnyCall]
"""A call under the number its mailbox gave it."""
Event: TypeAlias = tuple[int, Payload]
"""What a call gave, under the number of its submission; anything but a Delta is its last."""

_PROTOCOL = 5
_Reducer: TypeAlias = Callable[[Any], tuple[type, tuple[Any, ...]]]


def _reducer(kind: type) -> _Reducer:
    values = attrgetter(*(field.name for field in fields(kind)))
    return lambda value: (kind, values(value))


_TABLE: dict[type, _Reducer] = {
    kind: _reducer(kind)
    for kind in (
        Call,
        LabelCall,
        TextCall,
        Message,
        Sampling,
        ToolCall,
        Completion,
        LabelRead,
        TextCompletion,
        Delta,
        ToolDelta,
        TokenLogprob,
        Tokens,
        Timing,
    )
}


def pack(items: Sequence[Any]) -> bytes:
    """One message out of submissions, events or conversations."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, _PROTOCOL)
    pickler.dispatch_table = _TABLE
    pickler.dump(items)
    return buffer.getvalue()


def unpack(packed: bytes) -> Any:
    """What `pack` was given. Only for bytes of this fleet's own processes."""
    return pickle.loads(packed)  # noqa: S301 (both ends are this fleet's own processes)
