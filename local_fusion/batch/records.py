"""Results of calls as JSON and back, equal to the originals: what the journal holds of a finished call."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import orjson

from local_fusion.errors import CallError, CallTimeout, ContextExceeded, EngineDied
from local_fusion.types import Completion, LabelRead, Timing, TokenLogprob, Tokens, ToolCall

Outcome = Completion | LabelRead | CallError
_ERRORS = {kind.__name__: kind for kind in (CallError, ContextExceeded, CallTimeout, EngineDied)}


def dump(value: Any) -> bytes:
    """JSON in one line. Text that is no valid Unicode (lone surrogates) is written with question marks."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, default=_plain).encode("utf-8", "replace")


def call_record(line: int, call_id: str, outcome: Outcome, ended_at: float | None = None) -> bytes:
    """The journal's line of a finished call of the row at `line`; `call` stands first, so that it is read fast.

    `ended_at`: Unix seconds, for the time line of a report; no result depends on it.
    """
    head: dict[str, Any] = {"call": line, "id": call_id}
    if ended_at is not None:
        head["at"] = round(ended_at, 3)
    if isinstance(outcome, CallError):
        kind = type(outcome).__name__
        kind = kind if kind in _ERRORS else "CallError"
        value: Any = {"kind": kind, "message": outcome.message, "reason": outcome.reason}
        return dump(head | {"error": value}) + b"\n"
    kind = "completion" if isinstance(outcome, Completion) else "labels"
    return dump(head | {kind: outcome}) + b"\n"


def read_call(record: bytes) -> tuple[str, Outcome]:
    """Call id and outcome of a journal's line. Raises ValueError where it is damaged."""
    try:
        data = orjson.loads(record)
        return data["id"], _outcome(data)
    except (KeyError, TypeError) as problem:
        raise ValueError("not a call record") from problem


def _outcome(data: Mapping[str, Any]) -> Outcome:
    if "error" in data:
        error = data["error"]
        return _ERRORS[error["kind"]](error["message"], error["reason"])
    value = dict(data["completion"] if "completion" in data else data["labels"])
    value["tokens"] = Tokens(**value["tokens"])
    value["timing"] = Timing(**value["timing"])
    if "completion" in data:
        value["tool_calls"] = tuple(ToolCall(**call) for call in value["tool_calls"])
        value["logprobs"] = tuple(_token(token) for token in value.get("logprobs", ()))
        return Completion(**value)
    # JSON has no minus infinity: an impossible label is written as null.
    value["logprobs"] = tuple(-math.inf if logprob is None else logprob for logprob in value["logprobs"])
    return LabelRead(**value)


def _token(data: Mapping[str, Any]) -> TokenLogprob:
    top = tuple((token, -math.inf if logprob is None else logprob) for token, logprob in data["top"])
    return TokenLogprob(data["token"], data["token_id"], data["logprob"], top, data["raw"].encode("latin-1"))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")  # a byte is a character: the way back is the same
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
