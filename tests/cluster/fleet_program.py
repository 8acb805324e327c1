"""A program with a fleet, for tests of how it ends. Arguments: close or stay; address of a Ray cluster to join."""

from __future__ import annotations

import asyncio
import sys

from local_fusion.cluster.fleet import Fleet
from local_fusion.config import parse_config
from local_fusion.types import Call, Message, Sampling


async def main(what: str, address: str = "") -> None:
    runtime = f"runtime: {{ray_address: '{address}'}}" if address else ""
    fleet = await Fleet.start(parse_config("models: {m: {engine: scripted, replicas: 2}}\n" + runtime), ["m"])
    try:
        call = Call(id="c", messages=(Message("user", "hello"),), sampling=Sampling(), seed=1)
        await fleet["m"].generate(call)
        print("up", flush=True)
        if what == "stay":
            await asyncio.sleep(300)
    finally:
        await fleet.close()
    print("closed", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
