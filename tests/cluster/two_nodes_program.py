"""A Ray cluster of two nodes on this machine; one node is taken away under load.

Arguments: a short folder, and whether hosts may be spoken to directly (true or false).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

from local_fusion.cluster.fleet import Fleet
from local_fusion.config import parse_config
from local_fusion.types import Call, Message, Sampling

NODE = {"num_cpus": 0, "num_gpus": 1, "object_store_memory": 100 * 2**20}
CONFIG = """
models: {m: {engine: scripted, gpus: 1, replicas: 2, in_flight: 100, scripted: {delay_s: 0.5}}}
"""


async def calls(fleet: Fleet, name: str, count: int) -> list[str]:
    async def one(number: int) -> str:
        call = Call(f"{name}{number}", (Message("user", "hello"),), Sampling(), number)
        return (await fleet["m"].generate(call)).call_id

    return list(await asyncio.gather(*map(one, range(count))))


async def main(cluster: Cluster, direct: str) -> None:
    runtime = f"runtime: {{ray_address: '{cluster.address}', direct: {direct}}}"
    fleet = await Fleet.start(parse_config(CONFIG + runtime), ["m"])
    try:
        nodes = [state.node for state in fleet.snapshot()]
        whole = await calls(fleet, "w", 300)
        running = asyncio.create_task(calls(fleet, "k", 600))
        await asyncio.sleep(0.7)
        busy = [state.in_flight for state in fleet.snapshot()]
        cluster.remove_node(next(iter(cluster.worker_nodes)))
        survived = await asyncio.wait_for(running, 60)
        states = [state.state for state in fleet.snapshot()]
    finally:
        await fleet.close()
    print(json.dumps({"nodes": nodes, "whole": whole, "busy": busy, "survived": survived, "states": states}))


if __name__ == "__main__":
    head = {"include_dashboard": False, "temp_dir": str(Path(sys.argv[1]) / "ray"), "node_ip_address": "127.0.0.2"}
    cluster = Cluster(initialize_head=True, head_node_args=NODE | head)
    try:
        cluster.add_node(**NODE, node_ip_address="127.0.0.3")
        asyncio.run(main(cluster, sys.argv[2]))
    finally:
        cluster.shutdown()
