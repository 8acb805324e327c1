"""The shipped models on a GPU through Ray hosts, four engines on one: quality, abort, the judge's prefix cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import local_fusion
from benchmarks.gpu_machine import used_bytes
from benchmarks.gpu_report import Facts, Missed, Report, Skipped
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.run import run_batch
from local_fusion.cli.demo import write_questions
from local_fusion.cluster.fleet import Fleet
from local_fusion.config import Config, load_config
from local_fusion.engine import Engines
from local_fusion.evaluate.arms import Arm, best_single, grade_run
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.prompts import load_prompts, make_brief
from local_fusion.runtime import recipe_of
from local_fusion.types import Message, Request
from local_fusion.zoo.grading import grade

QUESTIONS = 200
GAIN = 0.20
ABORT_S = 1.0
PREFIX_SHARE = 0.9
_PROBE_EVERY_S = 0.05


def shipped() -> Config:
    """The configuration of the package, its hosts probed so often that what they run can be watched.

    Raises Skipped where the models are not there."""
    config = load_config(Path(local_fusion.__file__).parent / "models.yaml")
    for model in config.fusion("demo").models:
        if lacking := config.missing(model):
            raise Skipped(f"{model}: {lacking}")
    return replace(config, runtime=config.runtime.model_copy(update={"probe_every_s": _PROBE_EVERY_S}))


@asynccontextmanager
async def demo_fleet(config: Config) -> AsyncIterator[tuple[Fleet, Facts]]:
    """The demo's fleet, and what its start took."""
    begun, before = perf_counter(), used_bytes()
    fleet = await Fleet.start(config, config.fusion("demo").models, lambda state: print(state.model, state.state))
    try:
        seconds = {state.model: round(state.start_s or 0.0, 1) for state in fleet.snapshot()}
        infos = {model: await fleet[model].info() for model in config.fusion("demo").models}
        yield (
            fleet,
            {
                "start_s": round(perf_counter() - begun, 1),
                "start_s_of_each": seconds,
                "gpu_memory_mib": (used_bytes() - before) // 2**20,
                "gpus_of_each": {model: info.gpus for model, info in infos.items()},
                "kv_cache_tokens": {model: info.kv_cache_tokens for model, info in infos.items()},
                "kv_block_tokens": {model: info.kv_block_tokens for model, info in infos.items()},
                "versions": dict(next(iter(infos.values())).versions),
            },
        )
    finally:
        await fleet.close()


async def on_gpu(started: Facts) -> Facts:
    """Every engine says it runs on a share of a GPU. Raises Missed."""
    if any(gpus != 0.2 for gpus in started["gpus_of_each"].values()):
        raise Missed("an engine does not run on its share of the GPU", started)
    return started


async def quality(engines: Engines, config: Config, place: Path, rows: int = QUESTIONS) -> Facts:
    """Shares of right answers: each model alone, then each mode. Raises Missed where fusion gains too little."""
    asked = write_questions(place, rows, seed=20)

    async def arm(name: str, recipe: Recipe, is_fusion: bool) -> Arm:
        summary = await run_batch(place / "questions.jsonl", place / name, engines, recipe, BatchOptions())
        return grade_run(name, place / name, summary, asked, grade, is_fusion)

    models = config.fusion("demo").models
    arms = [
        await arm(model, recipe_of(config, "demo", panel=[model], judge=model, writer=[model], mode="best-of"), False)
        for model in models
    ]
    for mode in ("best-of", "merge", "vote"):
        arms.append(await arm(mode, recipe_of(config, "demo", mode=mode), True))
    facts: Facts = {"questions": rows}
    for one in arms:
        facts[one.name] = {
            "right": round(one.share.value, 3),
            "seconds": round(one.seconds, 1),
            "rows_per_s": round(rows / one.seconds, 1),
        }
    needed = best_single(arms).share.value + GAIN
    poor = [one.name for one in arms if one.name in ("best-of", "merge") and one.share.value < needed]
    if poor:
        raise Missed(f"{', '.join(poor)}: less than {GAIN} above the best model alone", facts)
    return facts


async def abort(fleet: Fleet, config: Config) -> Facts:
    """Cancel a request under way; seconds until no engine counts a call any more. Raises Missed."""
    long = {"max_tokens": 1800, "ignore_eos": True}
    panel = [{"model": member.model, "sampling": long} for member in config.fusion("demo").panel]
    recipe = recipe_of(config, "demo", mode="best-of", panel=panel)
    task = asyncio.create_task(fuse(Request("abort", (Message("user", "Reverse 'planet'."),)), recipe, fleet))
    most = 0
    for _ in range(200):  # until the engines themselves count the calls
        await asyncio.sleep(0.02)
        most = max(most, _running(fleet))
        if most >= len(panel) or task.done():
            break
    task.cancel()
    begun = perf_counter()
    await asyncio.wait([task])
    while _running(fleet) and perf_counter() - begun < 30:  # noqa: ASYNC110 (nobody tells)
        await asyncio.sleep(0.01)
    facts: Facts = {
        "running_before": most,
        "running_after": _running(fleet),
        "seconds_to_zero": round(perf_counter() - begun, 2),
        "looked_every_s": _PROBE_EVERY_S,
    }
    if not most:
        raise Missed("no engine was seen running the request", facts)
    if facts["running_after"] or facts["seconds_to_zero"] > ABORT_S:
        raise Missed(f"a cancelled request was still counted after {ABORT_S:g} s", facts)
    return facts


def _running(fleet: Fleet) -> int:
    """Calls that the engines counted at their last probe."""
    return sum(state.running or 0 for state in fleet.snapshot())


async def prefix(fleet: Engines, config: Config) -> Facts:
    """The judge's later calls find the shared opening in the engine's cache. Raises Missed."""
    recipe = recipe_of(config, "demo", mode="merge", rotations=1)
    sentence = "What is 47 + 38? Sort the numbers 4, 9, 2. Reverse the word 'planet'. "
    request = Request("prefix", (Message("user", sentence * 20),), seed=4, cache_salt="prefix")
    fused = await fuse(request, recipe, fleet)
    brief = make_brief(request.messages, fused.receipt.answers, seed=0)
    opening = load_prompts("short").pick(brief)
    judge = fleet[recipe.settings.judge_name]
    block = (await judge.info()).kv_block_tokens or 0
    tokens = (await judge.count_tokens([opening]))[0]
    shared = (tokens - 16) // block * block  # the instruction and the turn's end are fewer than 16
    calls = [call for call in fused.receipt.calls if call.model == recipe.settings.judge_name]
    cached = {call.stage: call.tokens.cached for call in calls[1:]}
    facts: Facts = {
        "kv_block_tokens": block,
        "shared_tokens_in_whole_blocks": shared,
        "cached_tokens": cached,
        "least_share": round(min(cached.values(), default=0) / shared, 3),
    }
    if len(calls) < 3 or facts["least_share"] < PREFIX_SHARE:
        raise Missed(f"a later judge call found less than {PREFIX_SHARE:.0%} of the shared blocks", facts)
    return facts


async def run(report: Report, place: Path) -> None:
    """All of them on one fleet."""

    async def all_checks() -> Facts:
        config = shipped()
        async with demo_fleet(config) as (fleet, started):
            await report.attempt("demo-prefix", lambda: prefix(fleet, config), 60)
            await report.attempt("demo-abort", lambda: abort(fleet, config), 60)
            await report.attempt("demo-quality", lambda: quality(fleet, config, place), 240)
            return await on_gpu(started)

    await report.attempt("demo", all_checks, 400)
