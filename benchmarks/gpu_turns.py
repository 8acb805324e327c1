"""GPU memory given back and taken again: one engine asleep and awake, and two models that take turns on one GPU."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.gpu_machine import total_bytes, used_bytes
from benchmarks.gpu_models import QWEN3_8B, parameters, write_model
from benchmarks.gpu_report import Facts, Missed, Report, Skipped
from local_fusion.cluster.fleet import Fleet
from local_fusion.cluster.plan import SHARE_OF_A_SLEEPER
from local_fusion.config import parse_config
from local_fusion.config.schema import ModelSettings
from local_fusion.engines.build import build_engine
from local_fusion.fusion.fuse import fuse
from local_fusion.runtime import recipe_of
from local_fusion.types import Message, Request
from local_fusion.zoo.questions import questions

ROWS = 64
_TURNS = """
models:
  first: &wide
    path: {place}/first
    gpus: 1
    sampling: {{max_tokens: 64, temperature: 1.0, ignore_eos: true}}
    vllm: {{load_format: dummy, max_model_len: 4096}}
  second: {{<<: *wide, path: {place}/second}}
fusions:
  pair: {{panel: [first, second], judge: first, mode: best-of, max_panel_tokens: 64}}
runtime: {{turns: {turns}}}
"""


async def slept(folder: Path, level: int, vllm: dict[str, Any]) -> Facts:
    """One engine in this process: asleep and awake twice; the engine itself asks its known-answer probe each time."""
    settings = ModelSettings(path=str(folder), gpus=1, vllm={"enable_sleep_mode": True, "max_model_len": 4096} | vllm)
    begun, before = perf_counter(), used_bytes()
    engine: Any = await build_engine(f"level{level}", settings, folder)
    try:
        facts: Facts = {"level": level, "start_s": round(perf_counter() - begun, 1)}
        facts["awake_mib"] = (used_bytes() - before) // 2**20
        for turn in ("first", "second"):
            begun = perf_counter()
            await engine.sleep(level)
            facts[f"{turn}_sleep_s"] = round(perf_counter() - begun, 2)
            facts[f"{turn}_asleep_mib"] = (used_bytes() - before) // 2**20
            begun = perf_counter()
            await engine.wake()  # raises EngineDied where the answer is another
            facts[f"{turn}_wake_s"] = round(perf_counter() - begun, 2)
        health = await engine.check(30)
    finally:
        await engine.close()
    if not health.ready:
        raise Missed(f"awake, but {health.detail}", facts)
    if facts["first_asleep_mib"] > SHARE_OF_A_SLEEPER * total_bytes() / 2**20:
        raise Missed("asleep it keeps more of the GPU than turns leave it (cluster/plan.py)", facts)
    return facts


async def sleep_with_weights(place: Path, shape: dict[str, Any]) -> Facts:
    """Level 2 reads the weights again, so there must be some on disk."""
    needed = 2.5 * parameters(shape)
    if shutil.disk_usage(place).free < needed:
        raise Skipped(f"random weights need {needed / 2**30:.0f} GiB of disk in {place}")
    folder = await asyncio.to_thread(write_model, place / "weights", shape, True)
    try:
        return await slept(folder, 2, {})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def took_turns(place: Path, rows: int = ROWS, shape: dict[str, Any] = QWEN3_8B, turns: str = "auto") -> Facts:
    """A panel of two models, each wanting the whole GPU; every row must be fused. Raises Missed."""
    for name in ("first", "second"):
        write_model(place / name, shape)
    config = parse_config(_TURNS.format(place=place, turns=turns), place / "models.yaml")
    recipe = recipe_of(config, "pair")
    begun = perf_counter()
    fleet = await Fleet.start(config, recipe.settings.models, lambda state: print(state.model, state.state))
    try:
        facts: Facts = {"start_s": round(perf_counter() - begun, 1), "rows": rows}
        drawn = [
            Request(f"turn-{index}", (Message("user", question.prompt),), seed=index)
            for index, question in enumerate(questions(1, rows, "heldout"))
        ]
        begun = perf_counter()
        fused = await asyncio.gather(*(fuse(request, recipe, fleet) for request in drawn))
        facts["seconds"] = round(perf_counter() - begun, 1)
        facts["swaps"] = fleet.swaps
        facts["seconds_a_swap"] = round(fleet.swap_s / max(1, fleet.swaps), 2)
        facts["failed_members"] = sum(len(one.receipt.failures) for one in fused)
        facts["restarts"] = sum(state.restarts for state in fleet.snapshot())
        facts["gpu_memory_mib"] = used_bytes() // 2**20
    finally:
        await fleet.close()
    if not fleet.swaps or facts["failed_members"] or facts["restarts"]:
        raise Missed("no swap, a member that failed, or a host that had to be started again", facts)
    return facts


async def run_sleep(report: Report, place: Path) -> None:
    """Level 1 without weights on disk, level 2 with random ones."""

    async def level_one() -> Facts:
        return await slept(write_model(place / "dummy", QWEN3_8B), 1, {"load_format": "dummy"})

    await report.attempt("sleep-1", level_one, 240)
    await report.attempt("sleep-2", lambda: sleep_with_weights(place, QWEN3_8B), 330)


async def run_turns(report: Report, place: Path) -> None:
    """Two models of Qwen3-8B's shape on one GPU."""
    await report.attempt("turns", lambda: took_turns(place), 480)
