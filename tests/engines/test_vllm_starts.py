"""Engines of their own: another architecture, one that dies, one that cannot start. Each start takes half a minute."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from local_fusion.config import ModelSettings
from local_fusion.engines.build import build_engine
from local_fusion.errors import ConfigError, EngineDied, StartError
from local_fusion.types import Call, LabelCall, Message, Sampling
from tests.engines.conftest import SETTINGS, engine_processes, save_deepseek

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

ASK = (Message("user", "How many apples are there?"),)


def settings(folder: Path, **vllm: Any) -> ModelSettings:
    return ModelSettings(path=str(folder), vllm=SETTINGS | vllm)


async def test_latent_attention_runs_and_a_death_is_told(tmp_path: Path) -> None:
    save_deepseek(tmp_path)
    others = set(engine_processes())
    engine: Any = await build_engine("mla", settings(tmp_path), tmp_path)
    said = await engine.generate(Call("a", ASK, Sampling(16, 1.0, ignore_eos=True), 1))
    assert said.tokens.completion == 16
    assert len((await engine.label_read(LabelCall("l", ASK, ("A", "B")))).logprobs) == 2

    task = asyncio.create_task(engine.generate(Call("b", ASK, Sampling(900, 1.0, ignore_eos=True), 1)))
    while not engine.running:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    for process in set(engine_processes()) - others:
        os.kill(process, signal.SIGKILL)
    with pytest.raises(EngineDied):
        await task
    await asyncio.wait_for(engine.died(), 10)
    assert engine.dead
    assert not (await engine.check(1.0)).ready
    with pytest.raises(EngineDied):
        await engine.generate(Call("c", ASK, Sampling(4), 1))
    await engine.close()
    assert not set(engine_processes()) - others


async def test_a_failed_start_tells_the_real_cause(tiny_folder: Path) -> None:
    others = set(engine_processes())
    with pytest.raises(StartError, match=r"ValueError: .*memory"):
        await build_engine("small", settings(tiny_folder, kv_cache_memory_bytes=4096), tiny_folder)
    assert not set(engine_processes()) - others


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"max_model_length": 5}, "did you mean 'max_model_len'"), ({"zzzz": 1}, "knows no argument 'zzzz'")],
)
async def test_unknown_arguments_are_refused_before_loading(
    tiny_folder: Path, wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        await build_engine("odd", settings(tiny_folder, **wrong), tiny_folder)


async def test_an_unknown_architecture_is_a_start_error(tmp_path: Path, tiny_folder: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("Qwen3ForCausalLM", "NoSuchForCausalLM"))
    with pytest.raises(StartError, match="NoSuchForCausalLM"):
        await build_engine("odd", settings(folder), folder)
