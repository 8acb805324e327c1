"""Names, seeds and priorities of calls: all follow from the request, so that a journal recalls a finished call by id.

Invariant: two calls with the same id ask for the same thing, and the same request on the same recipe asks for the same
ids. A seed is a hash of request seed, request id (or what stands for it), model, sample, stage and round; no two
samples share one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from local_fusion.types import Message, Request, Sampling, Stage

PRIORITY: Mapping[Stage, int] = {
    "write": 0,
    "guard": 0,
    "repair": 0,
    "analyse": 1,
    "pick": 1,
    "pair": 1,
    "fold": 2,
    "revise": 5,
    "layer": 5,
    "panel": 10,
}
PRIORITY_STEP = 100
SEED_BITS = 53  # exact in JSON readers that know only doubles


def priority_of(request: Request, stage: Stage) -> int:
    """Smaller runs first: finishing started work before starting new, the request's own priority before both."""
    return PRIORITY[stage] + request.priority * PRIORITY_STEP


def seed_of(request: Request, model: str, sample: int, stage: str, turn: int = 0) -> int:
    """A seed of 53 bits for one call, or for one shuffle (`stage` is then any word)."""
    name = request.id if request.seed_name is None else request.seed_name
    text = f"{request.seed}\0{name}\0{model}\0{sample}\0{stage}\0{turn}"
    return int.from_bytes(blake2b(_bytes(text), digest_size=8).digest()) >> (64 - SEED_BITS)


def call_id(request: Request, stage: Stage, model: str, sample: int, digest: str) -> str:
    return f"{request.id}/{stage}/{model}/{sample}/{digest}"


def digest_of(messages: Sequence[Message], *decisive: object) -> str:
    """Ten hex characters of a hash over the messages and everything else that decides the result."""
    parts: list[str] = []
    for message in messages:
        rest = (message.name, message.tool_calls, message.tool_call_id)
        extra = "" if rest == (None, (), None) else repr(rest)
        parts += (message.role, str(len(message.content)), message.content, extra)
    parts += map(_canonical, decisive)
    return blake2b(_bytes("\0".join(parts)), digest_size=5).hexdigest()


def _canonical(value: object) -> str:
    if isinstance(value, Sampling):
        return _sampling(value)
    if isinstance(value, Mapping) or (isinstance(value, tuple) and value and isinstance(value[0], Mapping)):
        return _json(value)
    return repr(value)


def _sampling(sampling: Sampling) -> str:
    kwargs = _json(sampling.chat_template_kwargs) if sampling.chat_template_kwargs else ""
    return f"{_numbers(*(getattr(sampling, name) for name in _SAMPLING_FIELDS))}{kwargs}"


_SAMPLING_FIELDS = tuple(name for name in Sampling.__slots__ if name != "chat_template_kwargs")


@lru_cache(maxsize=256)
def _numbers(*values: Any) -> str:
    """Equal values, equal words: 0 and 0.0 sample alike."""
    return repr([float(value) if isinstance(value, int) else value for value in values])


def _json(value: object) -> str:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return repr(value)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
