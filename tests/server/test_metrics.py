"""What Prometheus reads: requests, stages, tokens, guard, failures, engines; and no word of a prompt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from local_fusion.cluster.state import HostState
from local_fusion.config import parse_config
from local_fusion.server.door.admission import Admission
from local_fusion.server.watch.fleet_view import states
from tests.server.conftest import CONFIG, serving
from tests.server.test_batches import begin, line, until

SECRET = "xylophone"


async def scrape(client: httpx.AsyncClient) -> dict[tuple[str, frozenset[str]], float]:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert SECRET not in answer.text
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def chat(text: str = SECRET, **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def test_a_fusion_is_counted_by_stage_and_model(client: httpx.AsyncClient) -> None:
    for stream in (False, True):
        answer = await client.post("/v1/chat/completions", json=chat(stream=stream))
        assert answer.status_code == 200
    await client.post("/v1/chat/completions", json={"messages": SECRET})
    found = await scrape(client)
    route = "/v1/chat/completions"
    assert found["local_fusion_requests_total", frozenset({route, "POST", "200"})] == 2
    assert found["local_fusion_requests_total", frozenset({route, "POST", "400"})] == 1
    assert found["local_fusion_fusions_total", frozenset({"team", "merge"})] == 2
    assert found["local_fusion_calls_total", frozenset({"one", "panel"})] == 2
    assert found["local_fusion_calls_total", frozenset({"judge", "write"})] == 2
    assert found["local_fusion_tokens_total", frozenset({"one", "panel", "completion"})] == 8
    assert found["local_fusion_call_seconds_count", frozenset({"panel"})] == 6
    assert sum(value for (name, _), value in found.items() if name == "local_fusion_guard_total") == 2
    assert found["local_fusion_first_byte_seconds_count", frozenset({route})] == 3
    assert found["local_fusion_requests_in_flight", frozenset()] == 0


async def test_failures_are_counted_by_reason(tmp_path: Path) -> None:
    text = CONFIG.replace('answers: ["Five."]', "fail_rate: 1").replace("STATE", str(tmp_path / "state"))
    text = text.replace("mode: vote}", "mode: vote, quorum: 3}")
    async with serving(parse_config(text)) as client:
        assert (await client.post("/v1/chat/completions", json=chat(model="team"))).status_code == 200
        failed = await client.post("/v1/chat/completions", json=chat(model="voted"))
        assert failed.status_code == 503
        assert failed.headers["x-should-retry"] == "false"
        assert failed.json()["error"]["failed_models"][0]["model"] == "three"
        found = await scrape(client)
        assert found["local_fusion_call_failures_total", frozenset({"three", "panel", "engine_error"})] == 2
        assert found["local_fusion_failures_total", frozenset({"quorum_not_met"})] == 1


async def test_a_member_alone_is_counted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", json=chat(model="one"))
    assert answer.status_code == 200
    found = await scrape(client)
    assert found["local_fusion_calls_total", frozenset({"one", "write"})] == 1


async def test_a_flood_of_unknown_addresses_makes_one_series(client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(client.get(f"/{SECRET}/{place}") for place in range(50)))
    found = await scrape(client)
    assert found["local_fusion_requests_total", frozenset({"unknown", "GET", "404"})] == 50


class Fleet:
    swaps, swap_s = 2, 1.5

    def snapshot(self) -> list[HostState]:
        return [HostState("big", 1, "restarting", in_flight=4, waiting=5, running=3, restarts=1)]


async def test_hosts_are_read_at_each_scrape() -> None:
    found = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in states(Fleet(), ["big"], Admission(1, 1, 1))  # type: ignore[arg-type]
        for sample in family.samples
    }
    assert found["local_fusion_engine_running", ("big", "1")] == 3
    assert found["local_fusion_engine_in_flight", ("big", "1")] == 4
    assert found["local_fusion_engine_waiting", ("big",)] == 5
    assert found["local_fusion_engine_state", ("big", "1", "restarting")] == 1
    assert found["local_fusion_engine_state", ("big", "1", "ready")] == 0
    assert found["local_fusion_swaps", ()] == 2


async def test_rows_of_a_batch_are_counted_as_what_they_ask(client: httpx.AsyncClient) -> None:
    batch = await begin(client, [line("a", "three"), line("b", "picked")])
    await until(client, batch["id"], "completed")
    found = await scrape(client)
    fusions = {labels for name, labels in found if name == "local_fusion_fusions_total"}
    assert fusions == {frozenset({"picked", "best-of"})}
    assert found["local_fusion_calls_total", frozenset({"three", "write"})] == 1
