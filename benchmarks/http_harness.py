"""A fused batch against a harness of the usual kind: AsyncOpenAI clients over one `vllm serve` a model.

    python -m benchmarks.http_harness [--rows 256] [--tokens 32] [--runs 5] [--optillm FOLDER]

The harness asks the three panel models of each prompt at once and then the writer, 64 prompts at a time; ours likewise,
and once more as a batch runs by default, all rows in flight. Prompts, tokens and engines are the same, both sides are
up all the time and take turns run by run.

`--optillm`: a virtual environment that holds optillm (`pip install --no-deps optillm==0.4.0`, then what its server
imports: openai flask aiohttp requests httpx numpy networkx "z3-solver<=4.15.4.0" sympy math-verify azure-identity
cerebras_cloud_sdk pyyaml). Its mixture of agents (`moa`: one model gives three answers, a critique and the final
answer) is measured over one of the servers, against self-fusion of the same model in as many calls; models stop where
they like, so tokens a second are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

from openai import AsyncOpenAI

from benchmarks.figures import at_least, plain, tell
from benchmarks.staged import fused_loaded
from benchmarks.vllm_peers import answers, free_port, servers
from benchmarks.workload import panel_then_writer, prompts, requests
from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.prompts import make_brief
from local_fusion.runtime import open_engines, recipe_of
from local_fusion.types import Answer, Message, Request

GROUP = "Against per-request HTTP harnesses"
AT_ONCE = 64
SELF_FUSION = 3


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


async def mixture(client: AsyncOpenAI, model: str, work: Sequence[Request], tokens: int) -> float:
    """Completion tokens a second of optillm's mixture."""
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
    return written / (perf_counter() - begun)


async def self_fused(engines: Engines, recipe: Recipe, work: Sequence[Request]) -> float:
    """Completion tokens a second of ours."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(request: Request) -> int:
        async with slots:
            fused = await fuse(request, recipe, engines)
        return sum(call.tokens.completion for call in fused.receipt.calls)

    begun = perf_counter()
    written = sum(await asyncio.gather(*(one(request) for request in work)))
    return written / (perf_counter() - begun)


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
            await against_optillm(addresses, engines, config, recipe, options)


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


async def against_optillm(
    addresses: Mapping[str, str], engines: Engines, config: Config, recipe: Recipe, options: argparse.Namespace
) -> None:
    model = recipe.seats[0].model
    alone = _self_fusion(config, recipe, options.tokens)
    theirs, ours = [], []
    async with optillm(options.optillm, addresses[model]) as client:
        await mixture(client, model, requests(prompts(4), "warm"), options.tokens)
        for run in range(options.runs):
            questions = prompts(options.rows // 4)
            theirs.append(await mixture(client, model, requests(questions, f"moa-{run}"), options.tokens))
            ours.append(await self_fused(engines, alone, requests(questions, f"self-{run}")))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    tell(at_least(GROUP, "tokens/s over optillm's mixture of one model", ratios, "times", 2))
    tell(plain(GROUP, "optillm's tokens/s", theirs, "/s"))


def _self_fusion(config: Config, recipe: Recipe, tokens: int) -> Recipe:
    """Three samples of the first member, then a critique (the analysis) and an answer by the same model."""
    model = recipe.seats[0].model
    return recipe_of(
        config,
        recipe.name,
        panel=[{"model": model, "samples": SELF_FUSION, "sampling": {"max_tokens": tokens, "temperature": 1.0}}],
        judge=model,
        writer=[model],
        mode="merge",
        guard=False,
        analysis=True,
        max_judge_tokens=512,
        writer_sampling={"max_tokens": tokens, "temperature": 0.1},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--optillm", type=Path)
    asyncio.run(main(parser.parse_args()))
