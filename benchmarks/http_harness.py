"""A fused batch against a harness of the usual kind: AsyncOpenAI clients over one `vllm serve` a model.

    python -m benchmarks.http_harness [--rows 256] [--tokens 32] [--runs 5] [--optillm FOLDER]

The harness asks the three panel models of each prompt at once and then the writer, 64 prompts at a time; prompts,
tokens and engines are the same as ours. `--optillm`: a virtual environment that holds optillm; its mixture of agents
(`moa`: one model gives three answers, a critique and the final answer) is then measured over one of the servers,
against self-fusion of that model with as many calls.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

from openai import AsyncOpenAI

from benchmarks.figures import at_least, plain, tell
from benchmarks.staged import fused_loaded
from benchmarks.vllm_peers import servers
from benchmarks.workload import panel_then_writer, prompts, requests
from local_fusion.config import Config
from local_fusion.fusion.recipe import Recipe
from local_fusion.prompts import make_brief
from local_fusion.runtime import open_engines
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


async def mixture(place: Path, address: str, model: str, work: Sequence[Request], tokens: int) -> float:
    """Seconds of all prompts through optillm's mixture over one server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = os.environ | {"OPENAI_API_KEY": "local"}
    command = [str(place / "bin/optillm"), "--base-url", address, "--port", str(port), "--log", "warning"]
    process = _program(command, environment)
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="local", timeout=600)
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(request: Request) -> None:
        async with slots:
            await client.chat.completions.create(
                model=f"moa-{model}",
                messages=[{"role": "user", "content": request.messages[0].content}],
                max_tokens=tokens,
            )

    try:
        for _ in range(60):
            try:
                await client.models.list()
                break
            except Exception:  # not up yet
                await asyncio.sleep(1)
        begun = perf_counter()
        await asyncio.gather(*(one(request) for request in work))
        return perf_counter() - begun
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _program(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)


async def peers(config: Config, recipe: Recipe, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Seconds of the harness, and of optillm's mixture where it is there."""
    usual, moa = [], []
    async with servers(config, recipe.settings.models) as addresses:
        clients = {
            model: AsyncOpenAI(base_url=address, api_key="local", timeout=600) for model, address in addresses.items()
        }
        await harness(clients, recipe, requests(prompts(8), "warm"), options.tokens)
        for run in range(options.runs):
            work = requests(prompts(options.rows), f"harness-{run}")
            usual.append(await harness(clients, recipe, work, options.tokens))
            if options.optillm:
                model = recipe.seats[0].model
                moa.append(
                    await mixture(options.optillm, addresses[model], model, work[: options.rows // 4], options.tokens)
                )
        for client in clients.values():
            await client.close()
    return usual, moa


async def main(options: argparse.Namespace) -> None:
    config, recipe = panel_then_writer(options.tokens)
    usual, moa = await peers(config, recipe, options)
    ours, alone = [], []
    async with open_engines(config, recipe.settings.models, print) as engines:
        await fused_loaded(engines, recipe, requests(prompts(8), "warm"))
        for run in range(options.runs):
            ours.append(await fused_loaded(engines, recipe, requests(prompts(options.rows), f"ours-{run}")))
            if moa:
                alone.append(
                    await fused_loaded(
                        engines,
                        _self_fusion(config, recipe, options.tokens),
                        requests(prompts(options.rows // 4), f"self-{run}"),
                    )
                )
    told = f"{options.rows} prompts, {options.tokens} tokens a call, {AT_ONCE} prompts at a time in the harness."
    bound = "Both are bound by the two cores, which the engines share with whatever drives them."
    ratios = [theirs / mine for theirs, mine in zip(usual, ours, strict=True)]
    tell(
        at_least(GROUP, "prompts/s over AsyncOpenAI on `vllm serve`", ratios, "times", 2, conditions=told, bound=bound)
    )
    tell(plain(GROUP, "our prompts/s", [options.rows / seconds for seconds in ours], "/s"))
    if moa:
        ratios = [theirs / mine for theirs, mine in zip(moa, alone, strict=True)]
        tell(at_least(GROUP, "prompts/s over optillm's mixture of one model", ratios, "times", 2))


def _self_fusion(config: Config, recipe: Recipe, tokens: int) -> Recipe:
    """Three samples of the first member, then a critique (the analysis) and an answer by the same model."""
    from local_fusion.runtime import recipe_of

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
        writer_sampling=full,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--optillm", type=Path)
    asyncio.run(main(parser.parse_args()))
