"""A fused batch against the same engines given the same calls all at once: what the fusion itself costs.

The bare run is an upper bound that no fusion can reach: it knows every judge prompt in advance. Both runs have a cold
prefix cache (each its own cache salt) and generate the same tokens: every member and writer call 128 of them.

    python -m benchmarks.fused_vs_bare [--rows 256] [--pairs 5] [--mode merge] [--config models.yaml]
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from benchmarks.figures import at_least, tell
from local_fusion.config import load_config
from local_fusion.engine import Engine, Engines, PassingEngine
from local_fusion.errors import CallError
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.runtime import open_engines, recipe_of
from local_fusion.types import Call, Completion, LabelCall, LabelRead, Message, Request
from local_fusion.zoo.questions import questions

TOKENS = 128


class RecordingEngines:
    """Passes calls through and notes them, each with its model."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self.calls: list[tuple[str, Call | LabelCall]] = []

    def __getitem__(self, model: str) -> Engine:
        return RecordingEngine(model, self._engines[model], self.calls)

    def __contains__(self, model: object) -> bool:
        return model in self._engines


class RecordingEngine(PassingEngine):
    """One engine of `RecordingEngines`."""

    def __init__(self, model: str, engine: Engine, calls: list[tuple[str, Call | LabelCall]]) -> None:
        super().__init__(engine)
        self._model = model
        self._calls = calls

    async def generate(self, call: Call) -> Completion:
        self._calls.append((self._model, call))
        return await super().generate(call)

    async def label_read(self, call: LabelCall) -> LabelRead:
        self._calls.append((self._model, call))
        return await super().label_read(call)


async def fused_run(
    engines: Engines, recipe: Recipe, prompts: Sequence[str], salt: str
) -> tuple[float, list[tuple[str, Call | LabelCall]]]:
    """Seconds of fusing all prompts, and the calls it made."""
    recording = RecordingEngines(engines)
    requests = [
        Request(f"{salt}-{index}", (Message("user", prompt),), seed=index, cache_salt=salt)
        for index, prompt in enumerate(prompts)
    ]
    begun = perf_counter()
    await asyncio.gather(*(fuse(request, recipe, recording) for request in requests))
    return perf_counter() - begun, recording.calls


async def bare_run(engines: Engines, calls: Sequence[tuple[str, Call | LabelCall]], salt: str) -> float:
    """Seconds of the same calls sent all at once."""

    async def one(model: str, call: Call | LabelCall) -> None:
        renamed = replace(call, id=f"{salt}-{call.id}", cache_salt=salt)
        try:
            if isinstance(renamed, LabelCall):
                await engines[model].label_read(renamed)
            else:
                await engines[model].generate(renamed)
        except CallError as problem:
            print(f"a bare call failed: {problem.message}")

    begun = perf_counter()
    await asyncio.gather(*(one(model, call) for model, call in calls))
    return perf_counter() - begun


async def main() -> None:
    """Start the engines once, run the pairs, print each and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--mode", default="merge")
    parser.add_argument("--fusion", default="demo")
    parser.add_argument("--config", type=Path, default=None)
    options = parser.parse_args()
    config = load_config(options.config)
    full = {"max_tokens": TOKENS, "ignore_eos": True}
    panel = [{"model": member.model, "sampling": full} for member in config.fusion(options.fusion).panel]
    recipe = recipe_of(
        config,
        options.fusion,
        mode=options.mode,
        panel=panel,
        max_panel_tokens=TOKENS,
        max_writer_tokens=TOKENS,
        writer_sampling={"temperature": 0.0, **full},
    )
    prompts = [question.prompt for question in questions(1, options.rows, "heldout")]
    ratios = []
    async with open_engines(config, recipe.settings.models, print) as engines:
        await fused_run(engines, recipe, prompts[:8], "warm")
        for pair in range(options.pairs):
            seconds, calls = await fused_run(engines, recipe, prompts, f"fused-{pair}")
            bare = await bare_run(engines, calls, f"bare-{pair}")
            ratios.append(bare / seconds)
            print(
                f"pair {pair}: fused {seconds:.2f} s, bare {bare:.2f} s, {len(calls)} calls, "
                f"{options.rows / seconds:.1f} rows/s, ratio {ratios[-1]:.3f}"
            )
    told = f"{options.rows} rows, {TOKENS} tokens a call, {options.mode}; the bare run knows all judge prompts before."
    bound = "Bound by the engines; what the fusion costs is the wait of a row's judge for the row's slowest member."
    what = "fused batch over bare engines"
    tell(at_least("Against bare engines", what, ratios, "", 0.95, conditions=told, bound=bound))


if __name__ == "__main__":
    asyncio.run(main())
