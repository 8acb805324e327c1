"""A server on slow scripted engines with one batch, which it makes or goes on with; ends when the batch has.

Arguments: folder, rows. Writes `calls` (a line per call that an engine was asked to start) and, at its end,
`done.json`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import httpx

from local_fusion.config import parse_config
from local_fusion.runtime import open_engines
from local_fusion.server.app import make_app
from local_fusion.server.service import Service

sys.path[:0] = [str(Path(__file__).parents[1] / "batch"), str(Path(__file__).parents[2])]

from batch_fakes import LoggedEngine  # noqa: E402

from tests.server.conftest import CONFIG  # noqa: E402
from tests.server.test_batches import begin, line, until  # noqa: E402

SCRIPT = "delay_s: 0.02, delay_spread: 0.9"


async def main(place: Path, count: int) -> None:
    text = CONFIG.replace("scripted: {answers", f"scripted: {{{SCRIPT}, answers")
    text = text.replace("heartbeat_s", "batch_in_flight: 4, heartbeat_s").replace(
        "hosts: local", "hosts: local, journal_sync_s: 0.02"
    )
    config = parse_config(text.replace("STATE", str(place / "state")))
    service = Service(config)
    async with open_engines(config, service.catalog.models) as engines:
        service.attach({name: LoggedEngine(engines[name], place / "calls") for name in service.catalog.models})
        await service.opened()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(make_app(service)), base_url="http://server"
        ) as client:
            known = (await client.get("/v1/batches")).json()["data"]
            batch = known[0] if known else await begin(client, [line(f"r{n}", "team") for n in range(count)])
            done = await until(client, batch["id"], "completed", "failed")
            lines = (await client.get(f"/v1/files/{done['output_file_id']}/content")).text.splitlines()
        service.stop()
        await service.closed()
    (place / "done.json").write_text(json.dumps(done | {"rows": [json.loads(one) for one in lines]}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
