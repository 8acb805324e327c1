"""A fused batch against a harness of the usual kind: AsyncOpenAI clients over one `vllm serve` a model.

    python -m benchmarks.http_harness [--rows 256] [--tokens 32] [--runs 5] [--optillm FOLDER]

The harness asks the three panel models of each prompt at once and then the writer, 64 prompts at a time; ours likewise,
and once more as a batch runs by default, all rows in flight. Prompts, tokens and engines are the same, both sides are
up all the time and take turns run by run.

`--optillm`: a virtual environment that holds optillm (`pip install --no-deps optillm==0.4.0`, then what its server
imports: openai flask aiohttp requests httpx numpy networkx "z3-solver<=4.15.4.0" sympy math-verify azure-identity
cerebras_cloud_sdk pyyaml). Its mixture of agents (`moa`: one model gives three answers, a critique and the final
answer) is measured over a server of one model, against self-fusion of the same model in as many calls. So that every
call has the same number of tokens there too, that server has a copy of the model that knows no end, and a limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

from openai import AsyncOpenAI

from benchmarks.figures import at_least, plain, tell
from benchmarks.staged import fused_loaded
from benchmarks.vllm_peers import answers, free_port, servers
from benchmarks.workload import panel_then_writer, prompts, requests
from local_fusion.config import Config, parse_config
from local_fusion.engine import Engines
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.prompts import make_brief
from local_fusion.runtime import open_engines, recipe_of
from local_fusion.types import Answer, Message, Request

GROUP = "Against per-request HTTP harnesses"
AT_ONCE = 64
SELF_FUSION = 3


class Taken(NamedTuple):
    """Seconds of a run, and completion tokens a prompt."""

    seconds: float
    tokens: float


async def harness(clients: Mapping[str, AsyncOpenAI], recipe: Recipe, work: Sequence[Request], tokens: int) -> float:
    """Seconds of all prompts through the usual harness."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(model: str, messages: Sequence[Message]) -> str:
        done = await clients[model].chat.completions.create(
            model=model,
            messages=[{"role": turn.role, "content": turn.content} for turn in messages],  # type: ignore[misc]
            max_tokens=tokens,
            temperature=0.0,
            extra_body={"ignore_eos": True},
        )
        return done.choices[0].message.content or ""

    async def one(request: Request) -> None:
        async with slots:
            texts = await asyncio.gather(*(ask(seat.model, request.messages) for seat in recipe.seats))
            answers = [Answer(seat.model, 0, text) for seat, text in zip(recipe.seats, texts, strict=True)]
            brief = make_brief(request.messages, answers, request.seed)
            await ask(recipe.writers[0], recipe.prompts.write(brief, None, ""))

    begun = perf_counter()
    await asyncio.gather(*(one(request) for request in work))
    return perf_counter() - begun


@asynccontextmanager
async def optillm(place: Path, address: str) -> AsyncIterator[AsyncOpenAI]:
    """A client of an optillm server over one of vLLM's."""
    port = free_port()
    command = [str(place / "bin/optillm"), "--base-url", address, "--port", str(port), "--log", "warning"]
    quiet = subprocess.DEVNULL
    environment = os.environ | {"OPENAI_API_KEY": "local"}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    )
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="local", timeout=600, max_retries=0)
    try:
        await answers(port, "/v1/models")
        yield client
    finally:
        await client.close()
        os.killpg(process.pid, signal.SIGTERM)
        await process.wait()


def endless(config: Config, model: str, tokens: int, folder: Path) -> Config:
    """A configuration with a copy of `model` in `folder` that ends at `tokens` and nowhere else."""
    place = folder / model
    shutil.copytree(config.folder(model), place)
    for name, key, value in (
        ("tokenizer_config.json", "eos_token", "<|endoftext|>"),
        ("config.json", "eos_token_id", json.loads((place / "config.json").read_text())["pad_token_id"]),
    ):
        settings = json.loads((place / name).read_text())
        (place / name).write_text(json.dumps(settings | {key: value}))
    (place / "generation_config.json").unlink()
    options = config.models[model].vllm | {"override_generation_config": {"max_new_tokens": tokens}}
    return parse_config(json.dumps({"models": {model: {"path": str(place), "vllm": options}}}))


async def mixture(client: AsyncOpenAI, model: str, work: Sequence[Request], tokens: int) -> Taken:
    """All prompts through optillm's mixture."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(request: Request) -> int:
        async with slots:
            done = await client.chat.completions.create(
                model=f"moa-{model}",
                messages=[{"role": "user", "content": request.messages[0].content}],
                max_tokens=tokens,
            )
        return done.usage.completion_tokens if done.usage else 0

    begun = perf_counter()
    written = sum(await asyncio.gather(*(one(request) for request in work)))
    return Taken(perf_counter() - begun, written / len(work))


async def self_fused(engines: Engines, recipe: Recipe, work: Sequence[Request]) -> Taken:
    """The same through ours."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(request: Request) -> int:
        async with slots:
            fused = await fuse(request, recipe, engines)
        return sum(call.tokens.completion for call in fused.receipt.calls)

    begun = perf_counter()
    written = sum(await asyncio.gather(*(one(request) for request in work)))
    return Taken(perf_counter() - begun, written / len(work))


async def main(options: argparse.Namespace) -> None:
    config, recipe = panel_then_writer(options.tokens)
    models = recipe.settings.models
    async with servers(config, models) as addresses, open_engines(config, models, print) as engines:
        clients = {
            model: AsyncOpenAI(base_url=address, api_key="local", timeout=600) for model, address in addresses.items()
        }
        await harness(clients, recipe, requests(prompts(8), "warm"), options.tokens)
        await fused_loaded(engines, recipe, requests(prompts(8), "warm"))
        await against_clients(clients, engines, recipe, options)
        for client in clients.values():
            await client.close()
    if options.optillm:
        async with open_engines(config, [recipe.seats[0].model], print) as engines:
            await against_optillm(engines, config, recipe, options)


async def against_clients(
    clients: Mapping[str, AsyncOpenAI], engines: Engines, recipe: Recipe, options: argparse.Namespace
) -> None:
    usual, alike, whole = [], [], []
    for run in range(options.runs):
        questions = prompts(options.rows)
        usual.append(await harness(clients, recipe, requests(questions, f"harness-{run}"), options.tokens))
        alike.append(await fused_loaded(engines, recipe, requests(questions, f"alike-{run}"), AT_ONCE))
        whole.append(await fused_loaded(engines, recipe, requests(questions, f"whole-{run}")))
    told = f"{options.rows} prompts, {options.tokens} tokens a call, {AT_ONCE} prompts at a time on both sides."
    bound = "Both are bound by the two cores, which the engines share with whatever drives them."
    what = "prompts/s over AsyncOpenAI on `vllm serve`"
    ratios = [theirs / mine for theirs, mine in zip(usual, alike, strict=True)]
    tell(at_least(GROUP, what, ratios, "times", 2, conditions=told, bound=bound))
    ratios = [theirs / mine for theirs, mine in zip(usual, whole, strict=True)]
    tell(plain(GROUP, f"the same with all {options.rows} of ours in flight", ratios, "times"))
    tell(plain(GROUP, "our prompts/s, all in flight", [options.rows / seconds for seconds in whole], "/s"))


async def against_optillm(engines: Engines, config: Config, recipe: Recipe, options: argparse.Namespace) -> None:
    model = recipe.seats[0].model
    alone = _self_fusion(config, recipe, options.tokens)
    theirs: list[Taken] = []
    ours: list[Taken] = []
    with tempfile.TemporaryDirectory(prefix="endless-") as folder:
        copy = endless(config, model, options.tokens, Path(folder))
        async with servers(copy, [model]) as addresses, optillm(options.optillm, addresses[model]) as client:
            await mixture(client, model, requests(prompts(4), "warm"), options.tokens)
            for run in range(options.runs):
                questions = prompts(options.rows)
                theirs.append(await mixture(client, model, requests(questions, f"moa-{run}"), options.tokens))
                ours.append(await self_fused(engines, alone, requests(questions, f"self-{run}")))
    there, here = (median(run.tokens for run in runs) for runs in (theirs, ours))
    told = (
        f"optillm: {options.rows} prompts, {AT_ONCE} at a time on both sides, five calls of one model each; "
        f"{there:.0f} tokens a prompt there, {here:.0f} here."
    )
    ratios = [other.seconds / mine.seconds for other, mine in zip(theirs, ours, strict=True)]
    tell(at_least(GROUP, "prompts/s over optillm's mixture of one model", ratios, "times", 2, conditions=told))
    tell(plain(GROUP, "optillm's prompts/s", [options.rows / run.seconds for run in theirs], "/s"))


def _self_fusion(config: Config, recipe: Recipe, tokens: int) -> Recipe:
    """Three samples of the first member, then a critique (the analysis) and an answer by the same model."""
    model = recipe.seats[0].model
    full = {"max_tokens": tokens, "ignore_eos": True}
    return recipe_of(
        config,
        recipe.name,
        panel=[{"model": model, "samples": SELF_FUSION, "sampling": full | {"temperature": 1.0}}],
        judge=model,
        writer=[model],
        mode="merge",
        guard=False,
        analysis=True,
        max_judge_tokens=tokens,
        writer_sampling=full | {"temperature": 0.1},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--optillm", type=Path)
    asyncio.run(main(parser.parse_args()))
