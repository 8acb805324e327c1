"""What a fusion adds to the slowest member and the judge, request after request, through Ray.

    python -m benchmarks.added_latency [--requests 60]

Scripted engines that take known times: the rest is ours. Merge: three members at once, then analysis, then writer.
"""

from __future__ import annotations

import argparse
import asyncio
from time import perf_counter

from benchmarks.figures import at_most, tell
from local_fusion.config import parse_config
from local_fusion.fusion.fuse import fuse
from local_fusion.runtime import open_engines, recipe_of
from local_fusion.types import Message, Request

MEMBERS = {"quick": 0.05, "middle": 0.1, "slow": 0.2}
JUDGE_S = 0.1


async def main(count: int) -> None:
    models = "".join(
        f"  {name}: {{engine: scripted, scripted: {{delay_s: {seconds}, answers: ['{{prompt}} {name}']}}}}\n"
        for name, seconds in {**MEMBERS, "judge": JUDGE_S}.items()
    )
    panel = ", ".join(MEMBERS)
    config = parse_config(
        f"models:\n{models}fusions:\n  f: {{panel: [{panel}], judge: judge, mode: merge, guard: false}}\n"
    )
    recipe = recipe_of(config, "f")
    floor = max(MEMBERS.values()) + 2 * JUDGE_S
    added: list[float] = []
    async with open_engines(config, recipe.settings.models) as engines:
        for index in range(count + 5):
            request = Request(f"latency-{index}", (Message("user", f"Question {index}?"),), seed=index)
            begun = perf_counter()
            fused = await fuse(request, recipe, engines)
            seconds = perf_counter() - begun
            judged = sum(call.model == "judge" for call in fused.receipt.calls)
            if index >= 5 and judged == 2:
                added.append(1000 * (seconds - floor))
    told = f"{len(added)} requests, one at a time, scripted engines in Ray hosts: slowest 200 ms, judge twice 100 ms."
    bound = "Bound by Ray's round trips, about 1.5 ms each way, and by the timers of the scripted engines."
    tell(at_most("Latency", "added over slowest member and judge", added, "ms", 10, conditions=told, bound=bound))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=60)
    asyncio.run(main(parser.parse_args().requests))
