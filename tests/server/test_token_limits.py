"""`tokens_per_minute` counts all that a key made engines do: whole, hung up, failed, in batches, after a restart."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from local_fusion.config.keys import add_key, load_keys, save_keys
from local_fusion.engine import PassingEngine
from local_fusion.errors import CallError, EngineDied
from local_fusion.server.door.allowance import Allowance
from local_fusion.server.door.callers import Caller
from local_fusion.server.door.keys import KeyRing
from local_fusion.server.orders.meter import Meter
from local_fusion.server.watch.logs import log
from local_fusion.types import Call, Completion, Message, Sampling, Tokens
from tests.server.conftest import CONFIG, make_config, serving
from tests.server.sockets import Served, listening, question, until
from tests.server.test_batches import URL, begin, line
from tests.server.test_batches import until as batch_until

CHAT = "/v1/chat/completions"
SLOW = (
    CONFIG.replace('answers: ["The answer is 4."]', 'answers: ["one two three four five six seven"], tokens_per_s: 20')
    .replace('answers: ["It is 4."]', "hang_rate: 1")
    .replace('answers: ["Five."]', "fail_rate: 1")
    .replace("mode: vote}", "mode: vote, quorum: 3, member_timeout_s: 1}")
)


def keys(tmp_path: Path, tokens_per_minute: int, name: str = "ann") -> tuple[KeyRing, dict[str, str]]:
    """A ring of one key, and the header that shows it."""
    secret = add_key(tmp_path / "keys.yaml", name, None, None, tokens_per_minute)
    return KeyRing(tmp_path / "keys.yaml", 0.0), {"authorization": f"Bearer {secret}"}


async def left(client: httpx.AsyncClient) -> int:
    """Tokens that the client's key has left, as it is told."""
    return int((await client.get("/v1/models")).headers["x-ratelimit-remaining-tokens"])


async def spent(served: Served, client: httpx.AsyncClient, limit: int) -> int:
    await until(lambda: served.running == 0 and served.service.admission.working == 0, 5)
    return limit - await left(client)


async def test_a_stream_that_is_hung_up_costs_what_was_heard_and_its_prompt(tmp_path: Path) -> None:
    ring, header = keys(tmp_path, 6000)
    lines = io.BytesIO()
    log.configure("json", lines)
    try:
        async with (
            listening(make_config(tmp_path, SLOW), ring) as served,
            httpx.AsyncClient(base_url=served.url, headers=header, timeout=10) as client,
        ):
            body = question(model="one", stream=True)
            body["messages"][0]["content"] = "word " * 4000
            async with client.stream("POST", CHAT, json=body) as answer:
                pieces = [text async for text in _pieces(answer, 4)]
            assert len(pieces) == 4
            assert 4500 <= await spent(served, client, 6000) <= 5010
            metrics = (await client.get("/metrics")).text
            assert 'local_fusion_tokens_total{kind="prompt",model="one",stage="write"} 5000.0' in metrics
    finally:
        log.configure("off")
    logged = [json.loads(text) for text in lines.getvalue().splitlines()]
    (chat,) = [one for one in logged if one.get("route") == CHAT]
    assert chat["tokens"] >= 5004


async def _pieces(answer: httpx.Response, count: int) -> Any:
    async for text in answer.aiter_lines():
        if text.startswith("data: {") and json.loads(text[6:])["choices"][0]["delta"].get("content"):
            yield text
            count -= 1
            if not count:
                return


async def test_a_whole_answer_that_nobody_waits_for_costs_its_prompt(tmp_path: Path) -> None:
    ring, header = keys(tmp_path, 6000)
    async with (
        listening(make_config(tmp_path, SLOW), ring) as served,
        httpx.AsyncClient(base_url=served.url, headers=header, timeout=10) as client,
    ):
        body = question(model="two")
        body["messages"][0]["content"] = "word " * 4000
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=body, timeout=0.3)
        assert await spent(served, client, 6000) >= 4500


async def test_a_fusion_that_fails_costs_what_its_members_read(tmp_path: Path) -> None:
    ring, header = keys(tmp_path, 6000)
    async with serving(make_config(tmp_path, SLOW), ring) as client:
        client.headers.update(header)
        body = question(model="voted")
        body["messages"][0]["content"] = "word " * 4000
        assert (await client.post(CHAT, json=body)).status_code == 503
        assert await left(client) < 3000
        metrics = (await client.get("/metrics")).text
    assert 'local_fusion_tokens_total{kind="prompt",model="one",stage="panel"} 5000.0' in metrics


async def test_an_empty_bucket_takes_no_batch_and_holds_the_rows_of_one(tmp_path: Path) -> None:
    ring, header = keys(tmp_path, 60)
    config = make_config(tmp_path, CONFIG.replace("heartbeat_s: 0.2", "heartbeat_s: 0.2, batch_in_flight: 2"))
    async with serving(config, ring) as client:
        client.headers.update(header)
        made = await begin(client, [line(f"r{n}", "one") for n in range(40)])
        await batch_until(client, made["id"], "in_progress", completed=2)
        await asyncio.sleep(0.5)
        assert (await client.get(f"/v1/batches/{made['id']}")).json()["request_counts"]["completed"] < 20
        assert await left(client) == 0
        again = {"input_file_id": made["input_file_id"], "endpoint": URL, "completion_window": "24h"}
        refused = await client.post("/v1/batches", json=again)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert (await client.post(CHAT, json=question(model="one"))).status_code == 429
        entries = load_keys(tmp_path / "keys.yaml")
        raised = entries["ann"].model_copy(update={"tokens_per_minute": 10_000_000})
        save_keys(tmp_path / "keys.yaml", {"ann": raised})
        done = await batch_until(client, made["id"], "completed")
        assert done["request_counts"] == {"total": 40, "completed": 40, "failed": 0}


async def test_a_batch_whose_key_has_no_tokens_ends_at_once_when_it_is_cancelled(tmp_path: Path) -> None:
    ring, header = keys(tmp_path, 60)
    async with serving(make_config(tmp_path), ring) as client:
        client.headers.update(header)
        made = await begin(client, [line(f"r{n}", "one") for n in range(200)])
        await batch_until(client, made["id"], "in_progress", completed=1)
        await client.post(f"/v1/batches/{made['id']}/cancel")
        async with asyncio.timeout(4):
            done = await batch_until(client, made["id"], "cancelled")
        assert done["request_counts"]["total"] == 200


async def test_a_run_taken_up_after_a_restart_lifts_no_limit(tmp_path: Path) -> None:
    ring, header = keys(tmp_path, 100)
    async with serving(make_config(tmp_path, SLOW), ring) as client:
        client.headers.update(header)
        body = {"input": "x", "background": True, "model": "two"}
        response_id = (await client.post("/v1/responses", json=body)).json()["id"]
        await asyncio.sleep(0.1)
    async with serving(make_config(tmp_path, SLOW), ring) as client:
        client.headers.update(header)
        service = client.service  # type: ignore[attr-defined]
        _ = service.storage
        await until(lambda: service.admission.working == 1, 5)
        service.admission.spend(ring.of("ann"), Tokens(10_000, 0, 0))
        assert await left(client) == 0
        await client.post(f"/v1/responses/{response_id}/cancel")
        await until(lambda: service.admission.working == 0, 5)
        assert await left(client) == 0
        assert (await client.post(CHAT, json=question(model="one"))).status_code == 429


def test_another_rate_fills_no_bucket() -> None:
    allowance = Allowance()
    allowance.limit(Caller("ann", tokens_per_minute=100))
    allowance.spend(500)
    for rate in (200, 100):
        allowance.limit(Caller("ann", tokens_per_minute=rate))
        assert allowance.headers(monotonic())["x-ratelimit-remaining-tokens"] == "0"


class Failing(PassingEngine):
    def __init__(self, problem: CallError) -> None:
        self._problem = problem

    async def generate(self, call: Call) -> Completion:
        raise self._problem


@pytest.mark.parametrize(("problem", "cost"), [(EngineDied("gone"), 0), (CallError("late", "timeout"), 2)])
async def test_what_an_engine_failed_costs_nothing(problem: CallError, cost: int) -> None:
    meter = Meter({"one": Failing(problem)})
    call = Call("a", (Message("user", "12345678"),), Sampling(), 0)
    with pytest.raises(CallError):
        await meter["one"].generate(call)
    assert sum(one.tokens.prompt for one in meter.costs) == cost
