"""`/v1/responses` over the real engines that ship, by the OpenAI SDK and by its bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.server.app import make_app
from local_fusion.server.service import Service
from tests.server.responses_check import ITEM, check_response, check_stream, kinds, read_stream

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")]
PATH = "/v1/responses"
ASK = "Reverse the word 'planet'."
MEMBER = "llama-words"
PANEL = {"qwen-numbers", "llama-words", "qwen-moe-lists"}
SCHEMA = {
    "type": "object",
    "properties": {"w": {"enum": ["net", "ten"]}, "n": {"enum": ["5", "6"]}},  # these models speak letter by letter
    "required": ["w", "n"],
    "additionalProperties": False,
}


@pytest.fixture
async def client(fleet: Engines, shipped: Config, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    config = replace(shipped, server=shipped.server.model_copy(update={"state": str(tmp_path / "state")}))
    service = Service(config)
    service.attach(fleet)
    await service.opened()
    transport = httpx.ASGITransport(make_app(service))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=300) as made:
            yield made
    finally:
        service.stop()
        await service.closed()


async def streamed(client: httpx.AsyncClient, **body: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    answer = await client.post(PATH, json={"input": ASK, "stream": True} | body)
    assert answer.status_code == 200, answer.text
    events = read_stream(answer.text)
    return events, check_stream(events)


@pytest.mark.parametrize("mode", ["merge", "vote", "debate"])
async def test_every_event_of_a_fusion_is_of_the_schema(client: httpx.AsyncClient, mode: str) -> None:
    events, body = await streamed(client, model="demo", seed=3, fusion={"mode": mode, "include": ["usage", "receipt"]})
    assert {event["model"] for event in events if event["type"].endswith("panel.added")} == PANEL
    for model in PANEL:
        mine = [event for event in events if event.get("model") == model and event.get("round") == 0]
        said = "".join(event["delta"] for event in mine if event["type"].endswith("panel.delta"))
        (whole,) = [event["content"] for event in mine if event["type"].endswith("panel.completed")] or [said]
        assert whole == said
    assert [item["type"] for item in body["output"]] == [ITEM, "message"]
    assert body["output"][1]["content"][0]["text"].strip()
    assert body["fusion"]["mode"] == mode
    stages = body["usage"]["fusion"]["stages"]
    assert sum(stage["prompt_tokens"] for stage in stages.values()) == body["usage"]["input_tokens"] > 0
    if mode == "merge":
        assert "fusion_call.analysis.in_progress" in kinds(events)


async def test_whole_and_streamed_agree_and_the_turn_is_continued(client: httpx.AsyncClient) -> None:
    whole = (await client.post(PATH, json={"input": ASK, "model": MEMBER, "temperature": 0})).json()
    check_response(whole)
    _, last = await streamed(client, model=MEMBER, temperature=0)
    assert [item["content"] for item in last["output"]] == [item["content"] for item in whole["output"]]
    answer = await client.post(PATH, json={"input": "Again.", "model": "demo", "previous_response_id": last["id"]})
    assert answer.status_code == 200, answer.text
    again = answer.json()
    more = await client.post(PATH, json={"input": "Why?", "model": "demo", "previous_response_id": again["id"]})
    assert more.status_code == 200, more.text
    assert more.json()["usage"]["input_tokens_details"]["cached_tokens"] > 0


async def test_the_sdk_parses_holds_to_a_schema_and_follows_a_background_run(client: httpx.AsyncClient) -> None:
    sdk = AsyncOpenAI(base_url="http://server/v1", api_key="none", http_client=client, max_retries=0)
    form = {"type": "json_schema", "name": "word", "schema": SCHEMA, "strict": True}
    held = await sdk.responses.create(model="demo", input=ASK, text={"format": form}, max_output_tokens=48)  # type: ignore[typeddict-item]
    assert set(json.loads(held.output_text)) == {"w", "n"}
    begun = await sdk.responses.create(model="demo", input=ASK, background=True)
    assert begun.status == "queued"
    async with asyncio.timeout(120):
        while (found := await sdk.responses.retrieve(begun.id)).status in ("queued", "in_progress"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert found.status == "completed"
    assert found.output_text.strip()


async def test_a_forced_function_call_streams_its_arguments(client: httpx.AsyncClient) -> None:
    tool = {"type": "function", "name": "reverse", "parameters": SCHEMA, "strict": True}
    events, body = await streamed(
        client, model=MEMBER, tools=[tool], tool_choice={"type": "function", "name": "reverse"}
    )
    (call,) = [item for item in body["output"] if item["type"] == "function_call"]
    assert set(json.loads(call["arguments"])) == {"w", "n"}
    deltas = [event["delta"] for event in events if event["type"].endswith("arguments.delta")]
    assert "".join(deltas) == call["arguments"]
    assert len(deltas) > 1


async def test_too_few_tokens_are_told_as_incomplete(client: httpx.AsyncClient) -> None:
    _, body = await streamed(client, model=MEMBER, max_output_tokens=2, seed=1)
    assert body["status"] == "incomplete"
    assert body["usage"]["output_tokens"] == 2
