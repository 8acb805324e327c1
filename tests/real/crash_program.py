"""One session of a batch through Ray hosts, logging each call it starts and each host it has.

Arguments: configuration, fusion, input, run folder, log of calls, log of hosts.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "batch"))

from batch_fakes import LoggedEngine

from local_fusion.batch.options import BatchOptions
from local_fusion.batch.run import run_batch
from local_fusion.cluster.fleet import Fleet
from local_fusion.cluster.state import HostState
from local_fusion.config import load_config
from local_fusion.runtime import recipe_of


async def main(config_path: str, fusion: str, source: str, folder: str, log: str, hosts: str) -> None:
    config = load_config(config_path)
    recipe = recipe_of(config, fusion)

    def note(state: HostState) -> None:
        if state.state == "ready" and state.pid:
            with Path(hosts).open("a") as lines:
                lines.write(json.dumps({"model": state.model, "pid": state.pid}) + "\n")

    fleet = await Fleet.start(config, recipe.settings.models, note)
    try:
        engines = {name: LoggedEngine(fleet[name], Path(log)) for name in recipe.settings.models}
        options = BatchOptions(seed=1, in_flight=16, journal_sync_s=0.02)
        summary = await run_batch(Path(source), Path(folder), engines, recipe, options)
        assert summary.status == "finished", summary
    finally:
        await fleet.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
