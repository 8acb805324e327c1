"""vLLM's own programs on the models of a configuration: `run-batch`, and one server a model on loopback.

They get the engine arguments and the environment of our hosts, so that only the way of driving them differs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from local_fusion.airgap.env import cache_folder, cpu_env, offline_env
from local_fusion.config import Config

_START_S = 300.0


def environment() -> dict[str, str]:
    """What our hosts run under."""
    return {**os.environ, **offline_env(cache_folder()), **cpu_env(), "VLLM_LOGGING_LEVEL": "ERROR"}


def arguments(config: Config, model: str) -> list[str]:
    """A model's `vllm:` block as command-line options."""
    options = ["--model", str(config.folder(model)), "--served-model-name", model, "--no-enable-chunked-prefill"]
    for key, value in config.models[model].vllm.items():
        name = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            options += [name] if value else [f"--no-{name[2:]}"]
        else:
            options += [name, json.dumps(value) if isinstance(value, dict) else str(value)]
    return options


def run_batch(config: Config, model: str, source: Path, out: Path) -> None:
    """One `vllm run-batch` to its end: load, generate, write."""
    module = "vllm.entrypoints.openai.run_batch"
    command = [sys.executable, "-m", module, "-i", str(source), "-o", str(out), *arguments(config, model)]
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@asynccontextmanager
async def servers(config: Config, models: Sequence[str]) -> AsyncIterator[Mapping[str, str]]:
    """One OpenAI-compatible server of vLLM a model; yields their base addresses once all answer."""
    ports = {model: free_port() for model in models}
    processes = [_start(config, model, port) for model, port in ports.items()]
    try:
        await asyncio.gather(*(answers(port) for port in ports.values()))
        yield {model: f"http://127.0.0.1:{port}/v1" for model, port in ports.items()}
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _start(config: Config, model: str, port: int) -> subprocess.Popen[bytes]:
    module = "vllm.entrypoints.openai.api_server"
    command = [sys.executable, "-m", module, "--host", "127.0.0.1", "--port", str(port), *arguments(config, model)]
    command += ["--disable-uvicorn-access-log"]
    quiet: Any = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment(), stdout=quiet, stderr=quiet, start_new_session=True)


async def answers(port: int, path: str = "/health") -> None:
    """Wait until a server on loopback says 200 to `path`. Raises TimeoutError."""
    ends = monotonic() + _START_S
    while monotonic() < ends:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
            if b" 200 " in line:
                return
        except OSError:
            pass
        await asyncio.sleep(0.5)
    raise TimeoutError(f"the server on port {port} did not answer within {_START_S:g} s")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
