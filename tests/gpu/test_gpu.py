"""The checks of `benchmarks/gpu_check.py` as tests, smaller where the size shows nothing; skipped without a GPU."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks import gpu_demo, gpu_orphans, gpu_speed, gpu_turns
from benchmarks.gpu_check import hardware
from benchmarks.gpu_models import QWEN3_8B, QWEN3_SMALL, write_model
from benchmarks.gpu_report import Facts
from local_fusion.cluster.fleet import Fleet
from local_fusion.config import Config
from local_fusion.runtime import open_engines

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def demo() -> Config:
    return gpu_demo.shipped()


@pytest.fixture(scope="module")
async def started(demo: Config) -> AsyncIterator[tuple[Fleet, Facts]]:
    async with gpu_demo.demo_fleet(demo) as both:
        yield both


async def test_the_kernels_load_and_every_gpu_is_counted():
    await hardware()


async def test_four_engines_share_one_gpu(started: tuple[Fleet, Facts]):
    await gpu_demo.on_gpu(started[1])


async def test_a_cancelled_request_leaves_the_engines(started: tuple[Fleet, Facts], demo: Config):
    await gpu_demo.abort(started[0], demo)


async def test_later_judge_calls_hit_the_cache(started: tuple[Fleet, Facts], demo: Config):
    await gpu_demo.prefix(started[0], demo)


async def test_fusion_gains_as_on_a_cpu(started: tuple[Fleet, Facts], demo: Config, tmp_path: Path):
    await gpu_demo.quality(started[0], demo, tmp_path)


async def test_a_fused_batch_keeps_up_with_the_bare_engine(tmp_path: Path):
    config = gpu_speed.speed_config(write_model(tmp_path / "wide", QWEN3_8B))
    async with open_engines(config, ["wide"]) as engines:
        await gpu_speed.pairs(engines, config, "merge", 16, 1)  # warm
        await gpu_speed.compared(engines, config, "merge", 64, 1)


async def test_an_engine_sleeps_and_wakes_the_same(tmp_path: Path):
    await gpu_turns.slept(write_model(tmp_path / "dummy", QWEN3_SMALL), 1, {"load_format": "dummy"})
    await gpu_turns.sleep_with_weights(tmp_path, QWEN3_SMALL)


async def test_two_models_take_turns_on_one_gpu(tmp_path: Path):
    await gpu_turns.took_turns(tmp_path, rows=16, shape=QWEN3_SMALL, turns="true")


async def test_kills_leave_nothing_on_the_gpu_and_the_run_is_resumed(tmp_path: Path):
    await gpu_orphans.killed(tmp_path, rows=200)
