"""Share of the judge's later calls that its engine serves from the prefix cache, of the shared whole blocks.

    python -m benchmarks.judge_cache [--requests 24]

Merge with analysis, pick, writer and guard over long prompts, each request with a cache of its own.
"""

from __future__ import annotations

import argparse
import asyncio

from benchmarks.figures import at_least, plain, tell
from benchmarks.workload import prompts
from local_fusion.config import load_config
from local_fusion.fusion.fuse import fuse
from local_fusion.prompts import load_prompts, make_brief
from local_fusion.runtime import open_engines, recipe_of
from local_fusion.types import Message, Request

_ENDING = 16
"""Tokens of the instruction and the turn's end, which no two stages share."""


async def main(count: int) -> None:
    config = load_config()
    recipe = recipe_of(config, "demo", mode="merge", rotations=1)
    shares: list[float] = []
    of_all: list[float] = []
    async with open_engines(config, recipe.settings.models, print) as engines:
        judge = engines[recipe.judge]
        block = (await judge.info()).kv_block_tokens or 16
        for index, prompt in enumerate(prompts(count)):
            request = Request(
                f"cache-{index}", (Message("user", f"{prompt} " * 60),), seed=index, cache_salt=str(index)
            )
            fused = await fuse(request, recipe, engines)
            brief = make_brief(request.messages, fused.receipt.answers, seed=0)
            tokens = (await judge.count_tokens([load_prompts("short").pick(brief)]))[0]
            shared = (tokens - _ENDING) // block * block
            calls = [call for call in fused.receipt.calls if call.model == recipe.judge]
            shares += [min(1.0, call.tokens.cached / shared) for call in calls[1:] if shared]
            of_all += [100 * call.tokens.cached / call.tokens.prompt for call in calls[1:]]
    told = (
        f"{len(shares)} judge calls after the first of their request, blocks of {block} tokens. The share is of the "
        "whole blocks the calls have in common; of all prompt tokens it is less, since each ends with its own words."
    )
    bound = "Bound by the blocks: what is shared but fills no whole block is computed again."
    what = "cached share of the shared blocks in the judge's later calls"
    tell(at_least("Prefix cache", what, shares, "", 0.9, conditions=told, bound=bound))
    tell(plain("Prefix cache", "cached share of all prompt tokens in those calls", of_all, "%"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=24)
    asyncio.run(main(parser.parse_args().requests))
