"""A real engine in a host: what is killed comes back, nothing of it stays, and no call is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from cluster_calls import OpenFleet, until

import local_fusion
from local_fusion.cluster.session import Session
from local_fusion.types import Call, Message, Sampling

MODEL = Path(local_fusion.__file__).parent / "zoo" / "weights" / "qwen-numbers"
CONFIG = f"""
models:
  m:
    path: {MODEL}
    gpus: 0
    vllm:
      max_model_len: 2048
      max_num_seqs: 64
      max_num_batched_tokens: 2048
      kv_cache_memory_bytes: 67108864
      enforce_eager: true
runtime: {{probe_every_s: 2, probe_timeout_s: 20}}
"""

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.slow,
]


def engine_processes(host: int) -> list[psutil.Process]:
    """What the host started, without its guardian shell."""
    return [child for child in psutil.Process(host).children(recursive=True) if child.name() != "sh"]


async def test_killed_host_and_killed_engine_come_back(open_fleet: OpenFleet):
    async with open_fleet(CONFIG) as fleet:

        async def ask(number: int) -> str:
            messages = (Message("user", f"What is {number} plus {number}?"),)
            sampling = Sampling(max_tokens=200, temperature=0.0, stop=("\x00",))
            completion = await fleet["m"].generate(Call(f"c{number}", messages, sampling, number))
            return completion.call_id

        async def ask_all() -> None:
            assert await asyncio.gather(*map(ask, range(40))) == [f"c{number}" for number in range(40)]

        await ask_all()
        # What vLLM leaves behind lies in the session's folder and ends with it.
        assert Session._open is not None
        assert Session._open.folder is not None
        assert any(path.is_socket() for path in (Session._open.folder / "tmp").iterdir())
        for victim in ("host", "engine"):
            before = fleet.snapshot()[0]
            processes = engine_processes(before.pid)
            assert processes
            running = asyncio.create_task(ask_all())
            await asyncio.sleep(0.05)
            os.kill(before.pid if victim == "host" else processes[-1].pid, signal.SIGKILL)
            await asyncio.wait_for(running, 240)
            await until(lambda processes=processes: not any(map(_alive, processes)))
            await until(lambda: fleet.snapshot()[0].state == "ready", 240)
        assert fleet.snapshot()[0].restarts == 2


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
