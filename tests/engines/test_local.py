"""Engines in the caller's process: started together, closed together, and the small parts around vLLM's start."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from local_fusion.airgap.env import CACHE_VARIABLE, cache_folder, offline_env
from local_fusion.config import ModelSettings, parse_config
from local_fusion.engines import vllm_log
from local_fusion.engines.build import build_engine
from local_fusion.engines.local import LocalEngines
from local_fusion.engines.meter import ShareMeter
from local_fusion.errors import ModelFilesError
from local_fusion.types import Call, Message, Sampling

CONFIG = """
models:
  one: {engine: scripted, scripted: {answers: [first]}}
  two: {engine: scripted, scripted: {answers: [second]}}
  lost: {path: nowhere}
fusions:
  pair: {panel: [one, two]}
"""


async def test_engines_by_name() -> None:
    engines = await LocalEngines.start(parse_config(CONFIG), ["one", "two", "one"])
    assert "one" in engines
    assert "lost" not in engines
    said = await engines["two"].generate(Call("c", (Message("user", "?"),), Sampling(), 1))
    assert said.text == "second"
    await engines.close()
    await engines.close()
    assert "one" not in engines


async def test_one_that_cannot_start_stops_all(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match="no such folder"):
        await LocalEngines.start(parse_config(CONFIG, tmp_path / "models.yaml"), ["one", "lost"])


async def test_a_scripted_engine_is_built_without_vllm() -> None:
    engine = await build_engine("one", ModelSettings(engine="scripted"), None)
    assert (await engine.check()).ready


def test_the_offline_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = cache_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    env = offline_env(folder)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert env[name] == "1"
    assert env["RAY_USAGE_STATS_ENABLED"] == "0"
    assert env["VLLM_PLUGINS"] == ""
    assert all(Path(env[name]).is_relative_to(folder) for name in ("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "HF_HOME"))


def test_the_root_cause_is_found_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in vllm_log.log_to_file(tmp_path / "logs").items():
        monkeypatch.setenv(name, value)
    settings = Path(os.environ[vllm_log.VARIABLE])
    assert vllm_log.log_file() is None
    log = settings.with_suffix(".log")
    log.write_text("INFO ValueError: of an earlier start\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write(
            "INFO loading\nERROR 2026 12 core.py:1 EngineCore failed to start.\nTraceback (most recent call last):\n"
            '  File "x.py", line 1, in <module>\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB\n'
            "RuntimeError: Engine core initialization failed. See root cause above.\n"
        )
    assert vllm_log.log_file() == log
    assert vllm_log.root_cause(log, start) == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB"
    assert vllm_log.root_cause(tmp_path / "none.log", 0) is None


def test_shares_add_up_to_the_time_that_anything_ran() -> None:
    now = iter([0.0, 0.0, 2.0, 4.0, 6.0, 9.0, 10.0])
    meter = ShareMeter(lambda: next(now))
    first = meter.enter()  # at 0, alone until 2
    second = meter.enter()  # at 2, together until 4
    assert meter.leave(first) == 3.0
    assert meter.leave(second) == 3.0  # alone until 6
    third = meter.enter()  # idle until 9
    assert meter.leave(third) == 1.0
    assert meter.running == 0
