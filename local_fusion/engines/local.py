"""Engines held by the caller's own process: for scripted engines, tests and debugging. No Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from local_fusion.config import Config
from local_fusion.engine import Engine
from local_fusion.engines.build import build_engine


class LocalEngines:
    """Satisfies `Engines`; one engine per model, `replicas` are ignored."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = dict(engines)

    @classmethod
    async def start(cls, config: Config, models: Sequence[str]) -> LocalEngines:
        """Start the engines of `models` together. Where one fails, the others are closed and its error is raised."""

        async def build(name: str) -> Engine:
            settings = config.models[name]
            folder = None if settings.engine == "scripted" else config.folder(name)
            return await build_engine(name, settings, folder)

        names = list(dict.fromkeys(models))
        built = await asyncio.gather(*(build(name) for name in names), return_exceptions=True)
        engines = {name: one for name, one in zip(names, built, strict=True) if not isinstance(one, BaseException)}
        problem = next((one for one in built if isinstance(one, BaseException)), None)
        if problem is not None:
            await cls(engines).close()
            raise problem
        return cls(engines)

    def __getitem__(self, model: str) -> Engine:
        return self._engines[model]

    def __contains__(self, model: object) -> bool:
        return model in self._engines

    async def close(self) -> None:
        """Close every engine; idempotent."""
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.close() for engine in engines))
