"""Live, ready and version: a stuck engine is seen, a sleeping one is fine, and asking costs the engines little."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from local_fusion.cluster.state import HostState
from local_fusion.config import ServerSettings, parse_config
from local_fusion.engine import Engine
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.runtime import open_engines
from local_fusion.server.app import make_app
from local_fusion.server.service import Service
from local_fusion.server.watch.readiness import Prober
from local_fusion.types import Call, Health, Message, Sampling
from tests.server.conftest import CONFIG, make_config


class Counting(ScriptedEngine):
    probes = 0

    async def check(self, timeout_s: float = 10.0) -> Health:
        self.probes += 1
        await asyncio.sleep(0.02)
        return await super().check(timeout_s)


class Asleep:
    """A fleet in which one model waits for its turn."""

    swaps, swap_s = 1, 0.5

    def __init__(self, engines: dict[str, ScriptedEngine]) -> None:
        self._engines = engines

    def __getitem__(self, model: str) -> Engine:
        return self._engines[model]

    def __contains__(self, model: object) -> bool:
        return model in self._engines

    def snapshot(self) -> list[HostState]:
        return [HostState("one", 0, "ready", running=3, waiting=2), HostState("two", 0, "asleep")]


async def test_live_at_once_and_ready_when_the_engines_are(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    service = Service(config)
    transport = httpx.ASGITransport(make_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        assert (await client.get("/health/live")).json() == {"live": True}
        starting = await client.get("/health/ready")
        assert starting.status_code == 503
        assert "starting" in starting.json()["detail"]
        refused = await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "2+2?"}]})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.headers["x-should-retry"] == "true"
        assert refused.json()["error"]["code"] == "not_ready"
        async with open_engines(config, service.catalog.models) as engines:
            service.attach(engines)
            ready = await client.get("/health/ready")
            assert ready.status_code == 200
            assert set(ready.json()["engines"]) == {"one", "two", "three", "judge"}
        service.stop()
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200


async def test_a_hung_engine_is_named_in_time(tmp_path: Path) -> None:
    text = CONFIG.replace('one: {engine: scripted, scripted: {answers: ["The answer is 4."]}}', _HUNG)
    config = parse_config(text.replace("STATE", str(tmp_path)))
    service = Service(config, ServerSettings(probe_timeout_s=0.2))
    async with open_engines(config, service.catalog.models) as engines:
        service.attach(engines)
        stuck = Call("stuck", (Message("user", "2+2?"),), Sampling(), 1)
        call = asyncio.ensure_future(engines["one"].generate(stuck))
        await asyncio.sleep(0.01)
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answer = await asyncio.wait_for(client.get("/health/ready"), 5)
        call.cancel()
        assert answer.status_code == 503
        found = answer.json()["engines"]
        assert found["one"] == {"ready": False, "detail": "no token within 0.2 s"}
        assert found["two"]["ready"]
    assert ServerSettings().probe_timeout_s < 9.5  # what a probe may take, and the answer still come within 10 s


async def test_asking_a_thousand_times_probes_once() -> None:
    engine = Counting("one")
    prober = Prober(["one"], 1.0)
    one = Asleep({"one": engine})
    found = await asyncio.gather(*(prober.ready(one) for _ in range(1000)))
    assert engine.probes == 1
    assert all(result.ready for result in found)
    await prober.ready(one)
    assert engine.probes == 1


async def test_one_who_gives_up_does_not_end_the_probe_of_the_others() -> None:
    engine = Counting("one")
    prober = Prober(["one"], 1.0)
    one = Asleep({"one": engine})
    first, second = asyncio.ensure_future(prober.ready(one)), asyncio.ensure_future(prober.ready(one))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).ready


async def test_a_sleeping_model_is_ready_and_not_probed() -> None:
    engines = {"one": Counting("one"), "two": Counting("two")}
    found = await Prober(["one", "two"], 1.0).ready(Asleep(engines))
    assert found.ready
    assert "asleep" in found.engines["two"].detail
    assert engines["two"].probes == 0


async def test_version_names_packages_and_a_digest_per_fusion(client: httpx.AsyncClient) -> None:
    body = (await client.get("/version")).json()
    assert set(body["fusions"]) == {"team", "picked", "voted"}
    assert len(set(body["fusions"].values())) == 3
    assert body["versions"]["local-fusion"] == body["version"]


_HUNG = "one: {engine: scripted, scripted: {hang_rate: 1}}"
