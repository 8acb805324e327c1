"""Scripted calls a second through Ray: 1 and 4 hosts, several numbers of calls in flight, median of five.

    python -m benchmarks.ray_calls [--seconds 2]

Each call is a prompt of 60 words and an answer of about 10; the engine takes no time. The first line
is the same engine without Ray.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from statistics import median
from time import perf_counter

from benchmarks.figures import at_least, tell
from local_fusion.cluster.fleet import Fleet
from local_fusion.config import parse_config
from local_fusion.config.schema import ScriptedSettings
from local_fusion.engine import Engine
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.types import Call, Message, Sampling

RUNS = 5
PROMPT = (Message("user", " ".join(["word"] * 60)),)


def call(number: int) -> Call:
    return Call(id=f"row-{number}/panel/m/0/0123456789", messages=PROMPT, sampling=Sampling(), seed=number)


async def rate(send: Callable[[int], Awaitable[object]], in_flight: int, seconds: float) -> float:
    """Calls a second with `in_flight` under way at all times."""
    numbers = count()
    begun = perf_counter()

    async def worker() -> int:
        done = 0
        while perf_counter() - begun < seconds:
            await send(next(numbers))
            done += 1
        return done

    done = sum(await asyncio.gather(*(worker() for _ in range(in_flight))))
    return done / (perf_counter() - begun)


async def report(label: str, send: Callable[[int], Awaitable[object]], in_flight: int, seconds: float) -> None:
    rates = [await rate(send, in_flight, seconds) for _ in range(RUNS)]
    print(f"{label:34} {in_flight:6} {median(rates):12,.0f} {min(rates):12,.0f} {max(rates):12,.0f}", flush=True)
    if in_flight == 256:
        what = f"scripted calls, 256 in flight, {label}"
        told = "The aim through Ray is 5,000 calls/s; one await each gives about 1,800."
        bound = (
            "Bound by pickling and by the two event loops; hosts on the driver's node are reached over a Unix socket."
        )
        tell(at_least("Calls through Ray", what, rates, "/s", 5000, conditions=told, bound=bound))


async def main(seconds: float) -> None:
    print(f"{'':34} {'flight':>6} {'calls/s':>12} {'min':>12} {'max':>12}")
    engine: Engine = ScriptedEngine("m", ScriptedSettings())
    await report("in this process", lambda number: engine.generate(call(number)), 256, seconds)
    for hosts in (1, 4):
        config = parse_config(f"models: {{m: {{engine: scripted, replicas: {hosts}}}}}")
        begun = perf_counter()
        fleet = await Fleet.start(config, ["m"])
        print(f"start of Ray and {hosts} host{'s' * (hosts > 1)}: {perf_counter() - begun:.1f} s", flush=True)
        try:
            remote = fleet["m"]
            for in_flight in (1, 16, 64, 256, 1024):
                label = f"Ray, {hosts} host{'s' * (hosts > 1)}"
                await report(label, lambda number, remote=remote: remote.generate(call(number)), in_flight, seconds)
        finally:
            begun = perf_counter()
            await fleet.close()
            print(f"close: {perf_counter() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    asyncio.run(main(parser.parse_args().seconds))
