"""Starts and ends vLLM's processes. A failed start leaves none behind and tells the real cause, from the core's log."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
from pathlib import Path

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM

from local_fusion.config.schema import ModelSettings
from local_fusion.engines import vllm_args, vllm_compat, vllm_fork, vllm_log
from local_fusion.errors import StartError

_END_S = 10.0
_one_at_a_time = threading.Lock()  # in one process: a fork must not copy another start's half-done state


async def load(name: str, settings: ModelSettings, folder: Path) -> AsyncLLM:
    """Load the model. Raises StartError with the real cause, ConfigError for unknown `vllm:` keys."""
    if settings.nodes == 1:
        os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")
    os.environ["VLLM_ENGINE_READY_TIMEOUT_S"] = str(math.ceil(settings.start_timeout_s))
    log = vllm_log.log_file()
    logged = log.stat().st_size if log else 0
    args = vllm_args.engine_args(name, settings, folder)
    try:
        return await asyncio.to_thread(_load, args, folder)
    except Exception as problem:
        cause = vllm_log.root_cause(log, logged) if log else None
        where = f" (log: {log})" if log else ""
        told = cause or f"{type(problem).__name__}: {problem}"
        raise StartError(f"{name}: the engine did not start: {told}{where}") from problem


def _load(args: AsyncEngineArgs, folder: Path) -> AsyncLLM:
    if current_platform.is_cpu():
        config = json.loads((folder / "config.json").read_bytes())
        vllm_compat.inspect_here(config.get("architectures") or [])
    with _one_at_a_time, vllm_fork.quick_start():
        return AsyncLLM.from_engine_args(args)


async def shut_down(engine: AsyncLLM) -> None:
    """Shut down and wait for every process to be gone: vLLM kills a slow one, but does not wait for its end."""
    await asyncio.to_thread(_shut_down, engine)


def _shut_down(engine: AsyncLLM) -> None:
    started = vllm_compat.processes(engine)
    engine.shutdown()
    for process in started:
        process.join(_END_S)
