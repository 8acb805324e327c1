"""A fused batch against the bare engine, with a model of Qwen3-8B's shape that sits three times on the panel."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fused_vs_bare import TOKENS, bare_run, fused_run
from benchmarks.gpu_machine import used_bytes
from benchmarks.gpu_models import QWEN3_8B, parameters, write_model
from benchmarks.gpu_report import Facts, Missed, Report
from local_fusion.config import Config, parse_config
from local_fusion.engine import Engine, Engines, PassingEngine
from local_fusion.runtime import open_engines, recipe_of
from local_fusion.types import Call, Completion, LabelCall, LabelRead
from local_fusion.zoo.questions import questions

MODES = ("best-of", "merge")
ROWS = (64, 256)
PAIRS = 3
TARGET = 0.90
_CONFIG = """
models:
  wide:
    path: {folder}
    gpus: 1
    sampling: {{max_tokens: 128, temperature: 1.0, ignore_eos: true}}
    vllm: {{load_format: dummy, max_model_len: 8192}}
fusions:
  thrice:
    panel: [{{model: wide, samples: 3}}]
    judge: wide
    templates: short
    analysis_items: 2
    analysis_chars: 48
    max_judge_tokens: 192
"""


class CountedEngines:
    """Passes calls through and counts the tokens they generate."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self.tokens = 0

    def __getitem__(self, model: str) -> Engine:
        return _Counted(self._engines[model], self)

    def __contains__(self, model: object) -> bool:
        return model in self._engines


class _Counted(PassingEngine):
    """One engine of `CountedEngines`."""

    def __init__(self, engine: Engine, owner: CountedEngines) -> None:
        super().__init__(engine)
        self._owner = owner

    async def generate(self, call: Call) -> Completion:
        done = await super().generate(call)
        self._owner.tokens += done.tokens.completion
        return done

    async def label_read(self, call: LabelCall) -> LabelRead:
        read = await super().label_read(call)
        self._owner.tokens += read.tokens.completion
        return read


def speed_config(folder: Path) -> Config:
    """One model in `folder` and the fusion in which it takes every part."""
    return parse_config(_CONFIG.format(folder=folder), folder / "models.yaml")


async def pairs(engines: Engines, config: Config, mode: str, rows: int, count: int) -> Facts:
    """`count` times fused, then bare with the very same calls; both with a cold prefix cache."""
    recipe = recipe_of(
        config,
        "thrice",
        mode=mode,
        max_panel_tokens=TOKENS,
        max_writer_tokens=TOKENS,
        writer_sampling={"temperature": 0.0, "max_tokens": TOKENS, "ignore_eos": True},
    )
    prompts = [question.prompt for question in questions(1, rows, "heldout")]
    found: list[dict[str, Any]] = []
    for pair in range(count):
        fused_engines, bare_engines = CountedEngines(engines), CountedEngines(engines)
        name = f"{mode}-{rows}-{pair}"
        fused_s, calls = await fused_run(fused_engines, recipe, prompts, f"fused-{name}")
        bare_s = await bare_run(bare_engines, calls, f"bare-{name}")
        fused_rate, bare_rate = fused_engines.tokens / fused_s, bare_engines.tokens / bare_s
        found.append(
            {
                "calls": len(calls),
                "fused_s": round(fused_s, 2),
                "bare_s": round(bare_s, 2),
                "fused_tokens_per_s": round(fused_rate),
                "bare_tokens_per_s": round(bare_rate),
                "rows_per_s": round(rows / fused_s, 2),
                "ratio": round(fused_rate / bare_rate, 3),
            }
        )
        print(name, found[-1], flush=True)
    return {"median_ratio": statistics.median(one["ratio"] for one in found), "pairs": found}


async def compared(engines: Engines, config: Config, mode: str, rows: int, count: int = PAIRS) -> Facts:
    """As `pairs`; raises Missed under `TARGET`."""
    facts = await pairs(engines, config, mode, rows, count)
    if facts["median_ratio"] < TARGET:
        raise Missed(f"median ratio {facts['median_ratio']} under {TARGET}", facts)
    return facts


async def run(report: Report, place: Path, modes: Sequence[str] = MODES, rows: Sequence[int] = ROWS) -> None:
    """One engine; each mode and number of rows is a check of its own."""

    async def all_checks() -> Facts:
        config = speed_config(write_model(place / "wide", QWEN3_8B))
        before = used_bytes()
        async with open_engines(config, ["wide"], print) as engines:
            info = await engines["wide"].info()
            await pairs(engines, config, "merge", 16, 1)  # warm: kernels, the grammar compiler
            for mode in modes:
                for count in rows:
                    check = partial(compared, engines, config, mode, count)
                    await report.attempt(f"speed-{mode}-{count}", check, 200)
            return {
                "parameters": parameters(QWEN3_8B),
                "gpu_memory_mib": (used_bytes() - before) // 2**20,
                "kv_cache_tokens": info.kv_cache_tokens,
                "max_running": info.max_running,
                "versions": dict(info.versions),
            }

    await report.attempt("speed", all_checks, 560)
