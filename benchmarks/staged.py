"""A fused batch against `vllm run-batch` in stages on the same models and prompts: model by model, then the writer.

    python -m benchmarks.staged [--rows 256] [--tokens 128] [--runs 5]

With loading: whole programs from start to end, ours `local-fusion batch`. Without: the same order of stages on engines
that are already loaded (each model's prompts all at once, a barrier between models), which is what run-batch would give
if loading were free.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import yaml

from benchmarks.figures import at_least, plain, tell
from benchmarks.vllm_peers import run_batch
from benchmarks.workload import panel_then_writer, prompts, requests
from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.prompts import make_brief
from local_fusion.runtime import open_engines
from local_fusion.types import Answer, Call, Message, Request

GROUP = "Against `vllm run-batch` in stages"


async def staged_loaded(engines: Engines, recipe: Recipe, work: Sequence[Request]) -> float:
    """Seconds of the stages on loaded engines."""
    begun = perf_counter()
    said: list[list[Answer]] = [[] for _ in work]
    for seat in recipe.seats:
        calls = [
            Call(f"{one.id}/{seat.model}", one.messages, seat.sampling, one.seed, cache_salt=one.cache_salt)
            for one in work
        ]
        for place, done in enumerate(await asyncio.gather(*(engines[seat.model].generate(call) for call in calls))):
            said[place].append(Answer(seat.model, 0, done.text or ""))
    writer = recipe.writers[0]
    sampling = recipe.writer_sampling[writer]
    texts = [_written(recipe, one, answers) for one, answers in zip(work, said, strict=True)]
    calls = [
        Call(f"{one.id}/write", text, sampling, one.seed, cache_salt=one.cache_salt)
        for one, text in zip(work, texts, strict=True)
    ]
    await asyncio.gather(*(engines[writer].generate(call) for call in calls))
    return perf_counter() - begun


async def fused_loaded(engines: Engines, recipe: Recipe, work: Sequence[Request], at_once: int | None = None) -> float:
    """Seconds of the fused requests on loaded engines; `at_once`: in flight at most."""
    slots = asyncio.Semaphore(at_once or len(work))

    async def one(request: Request) -> None:
        async with slots:
            await fuse(request, recipe, engines)

    begun = perf_counter()
    await asyncio.gather(*(one(request) for request in work))
    return perf_counter() - begun


def staged_programs(config: Config, recipe: Recipe, work: Sequence[Request], tokens: int, folder: Path) -> float:
    """Seconds of four runs of `vllm run-batch`, loading included."""
    begun = perf_counter()
    said: list[list[Answer]] = [[] for _ in work]
    for seat in recipe.seats:
        texts = _batch(config, seat.model, [one.messages for one in work], tokens, folder)
        for place, text in enumerate(texts):
            said[place].append(Answer(seat.model, 0, text))
    turns = [_written(recipe, one, answers) for one, answers in zip(work, said, strict=True)]
    _batch(config, recipe.writers[0], turns, tokens, folder)
    return perf_counter() - begun


def fused_program(recipe: Recipe, work: Sequence[Request], config: Config, folder: Path) -> float:
    """Seconds of `local-fusion batch` over the same prompts."""
    source = folder / "prompts.jsonl"
    source.write_text("".join(json.dumps({"id": one.id, "prompt": one.messages[0].content}) + "\n" for one in work))
    settings = folder / "models.yaml"
    models = {name: config.models[name].model_dump(mode="json", exclude_unset=True) for name in recipe.settings.models}
    fusions = {"work": recipe.settings.model_dump(mode="json", exclude_unset=True)}
    settings.write_text(yaml.safe_dump({"models": models, "fusions": fusions}))
    command = [
        sys.executable,
        "-m",
        "local_fusion",
        "batch",
        str(source),
        str(folder / "run"),
        "--config",
        str(settings),
    ]
    begun = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return perf_counter() - begun


def _written(recipe: Recipe, request: Request, answers: Sequence[Answer]) -> tuple[Message, ...]:
    return recipe.prompts.write(make_brief(request.messages, answers, request.seed), None, recipe.settings.criteria)


def _batch(config: Config, model: str, turns: Sequence[Sequence[Message]], tokens: int, folder: Path) -> list[str]:
    source, out = folder / "in.jsonl", folder / "out.jsonl"
    lines = []
    for place, messages in enumerate(turns):
        body = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0.0,
        }
        lines.append({"custom_id": str(place), "method": "POST", "url": "/v1/chat/completions", "body": body})
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_batch(config, model, source, out)
    texts = [""] * len(turns)
    for line in out.read_text().splitlines():
        record = json.loads(line)
        message = record["response"]["body"]["choices"][0]["message"]
        texts[int(record["custom_id"])] = message["content"] or ""
    return texts


async def main(rows: int, tokens: int, runs: int) -> None:
    config, recipe = panel_then_writer(tokens)
    told = f"{rows} prompts, {tokens} tokens a call, three panel models, then the writer."
    loaded: list[float] = []
    async with open_engines(config, recipe.settings.models, print) as engines:
        await fused_loaded(engines, recipe, requests(prompts(8), "warm"))
        for run in range(runs):
            staged = await staged_loaded(engines, recipe, requests(prompts(rows), f"staged-{run}"))
            fused = await fused_loaded(engines, recipe, requests(prompts(rows), f"fused-{run}"))
            loaded.append(staged / fused)
    bound = "Bound by the two cores: stages leave one idle whenever a model has no more prompts to batch."
    tell(at_least(GROUP, "throughput without loading", loaded, "times", 1.05, conditions=told, bound=bound))
    whole: list[float] = []
    seconds: list[float] = []
    for run in range(runs):
        work = [replace(one, cache_salt=None) for one in requests(prompts(rows), f"whole-{run}")]
        with tempfile.TemporaryDirectory(prefix="staged-") as folder:
            staged = staged_programs(config, recipe, work, tokens, Path(folder))
            fused = fused_program(recipe, work, config, Path(folder))
        whole.append(staged / fused)
        seconds.append(fused)
    tell(at_least(GROUP, "throughput with loading", whole, "times", 1.3))
    tell(plain(GROUP, "`local-fusion batch`, whole program", seconds, "s"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    asyncio.run(main(options.rows, options.tokens, options.runs))
