"""From the start of the program to its first fused answer, against the slowest engine's own start in the same run.

    python -m benchmarks.first_answer [--runs 5]

Each run is a process of its own: import, configuration, Ray, four engines of the shipped models, one fused answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from time import time
from typing import Any

import psutil

from benchmarks.figures import at_most, plain, tell


async def once() -> dict[str, float]:
    """One start in this process; the clock runs since the system made the process."""
    from local_fusion.config import load_config
    from local_fusion.fusion.fuse import fuse
    from local_fusion.runtime import open_engines, recipe_of
    from local_fusion.types import Message, Request

    config = load_config()
    recipe = recipe_of(config, "demo")
    async with open_engines(config, recipe.settings.models) as engines:
        await fuse(Request("first", (Message("user", "What is 75 + 2?"),)), recipe, engines)
        first = time() - psutil.Process().create_time()
        hosts: Any = engines
        starts = {host.model: host.start_s for host in hosts.snapshot()}
    slowest = max(starts, key=lambda model: starts[model])
    async with open_engines(config, [slowest]) as engines:
        hosts = engines
        alone = hosts.snapshot()[0].start_s
    return {"first": first, "slowest": starts[slowest], "alone": alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(asyncio.run(once())))
        return
    found = []
    for _ in range(options.runs):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.first_answer", "--once"], check=True, stdout=subprocess.PIPE, text=True
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    group = "Start"
    told = "The shipped fusion: four engines started together on this machine."
    tell(plain(group, "first fused answer after", [run["first"] for run in found], "s", conditions=told))
    tell(plain(group, "slowest engine's own start", [run["slowest"] for run in found], "s"))
    tell(plain(group, "the same engine started alone", [run["alone"] for run in found], "s"))
    ratios = [run["first"] / run["slowest"] for run in found]
    bound = "Bound by the import of vLLM and torch in each engine's processes, and before them by Ray's start."
    tell(at_most(group, "first answer over slowest start", ratios, "", 1.15, bound=bound))


if __name__ == "__main__":
    main()
