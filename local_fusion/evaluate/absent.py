"""Engines that were not started: they tell what is known of them and note that they were wanted.

So an evaluation whose calls are all on disk needs no engine at all, and one with another judge needs the judge alone.
A wanted call is aborted, which the store does not keep: whatever came of it is thrown away and run again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from local_fusion.batch.files import write_atomically
from local_fusion.engine import Engine, Engines
from local_fusion.errors import CallAborted, CallError
from local_fusion.types import (
    Call,
    Completion,
    Delta,
    EngineInfo,
    Health,
    LabelCall,
    LabelRead,
    Message,
    TextCall,
    TextCompletion,
)

INFOS = "engines.json"
_NOTHING: tuple[Delta, ...] = ()  # what makes a function a generator and gives nothing


class SomeEngines:
    """The engines of `started`, and for the other models absent ones. `wanted`: absent models that were asked."""

    def __init__(self, models: Sequence[str], started: Engines | None, infos: Mapping[str, EngineInfo]) -> None:
        self.wanted: set[str] = set()
        self._started = started
        self._absent = {model: AbsentEngine(model, infos.get(model), self.wanted) for model in models}

    def __getitem__(self, model: str) -> Engine:
        if self._started is not None and model in self._started:
            return self._started[model]
        return self._absent[model]

    def __contains__(self, model: object) -> bool:
        return model in self._absent or (self._started is not None and model in self._started)


class AbsentEngine:
    """An engine that is not there: `info` as it was, every call is noted and aborted."""

    def __init__(self, model: str, info: EngineInfo | None, wanted: set[str]) -> None:
        self._model = model
        self._info = info
        self._wanted = wanted

    def _want(self) -> CallAborted:
        self._wanted.add(self._model)
        return CallAborted(f"{self._model} is not started")

    async def generate(self, call: Call) -> Completion:
        raise self._want()

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        for nothing in _NOTHING:
            yield nothing
        raise self._want()

    async def label_read(self, call: LabelCall) -> LabelRead:
        raise self._want()

    async def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        raise self._want()

    async def complete(self, call: TextCall) -> AsyncGenerator[Delta | TextCompletion, None]:
        for nothing in _NOTHING:
            yield nothing
        raise self._want()

    async def tokenize(self, text: str | Sequence[Message], special: bool = True) -> list[int]:
        raise self._want()

    async def detokenize(self, tokens: Sequence[int]) -> str:
        raise self._want()

    async def count_running(self) -> int:
        return 0

    async def abort(self, call_ids: Sequence[str]) -> None:
        return

    async def check(self, timeout_s: float = 10.0) -> Health:
        return Health(False, "not started")

    async def info(self) -> EngineInfo:
        if self._info is None:
            raise self._want()
        return self._info

    async def close(self) -> None:
        return


def read_infos(folder: Path) -> dict[str, EngineInfo]:
    """What the engines of earlier sessions said of themselves; empty where nothing is known."""
    try:
        told = orjson.loads((folder / INFOS).read_bytes())
        return {
            model: EngineInfo(**{**info, "special_tokens": tuple(info["special_tokens"])})
            for model, info in told.items()
        }
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return {}


async def write_infos(folder: Path, engines: Engines, models: Sequence[str]) -> None:
    """Note what these engines say of themselves, beside what is known of others. Raises RunError."""
    infos = read_infos(folder)
    for model in models:
        try:
            infos[model] = await engines[model].info()
        except CallError:
            infos.pop(model, None)
    plain = {model: asdict(info) for model, info in infos.items()}
    write_atomically(folder / INFOS, orjson.dumps(plain, option=orjson.OPT_INDENT_2) + b"\n")
