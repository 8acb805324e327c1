"""The chat, completions and token doors over the real engines that ship."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.server.app import make_app
from local_fusion.server.service import Service
from tests.server.talk import CHAT, ask, calls_of, reasons_of, said, streamed, text_of

pytestmark = pytest.mark.vllm
MEMBER = "llama-words"
TURN = {"role": "user", "content": "Reverse the word 'planet'."}
SCHEMA = {
    "type": "object",
    "properties": {"w": {"enum": ["net", "ten"]}, "n": {"enum": ["5", "6"]}},  # these models speak letter by letter
    "required": ["w", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "reverse", "parameters": SCHEMA}}


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


async def test_a_fusion_streams_its_panel_and_answer(client: httpx.AsyncClient) -> None:
    chunks, _ = await streamed(
        client,
        messages=[TURN],
        seed=1,
        stream_options={"include_usage": True},
        fusion={"include": ["panel", "usage"], "stream": "live", "guard": False},
    )
    inside = [chunk["fusion"] for chunk in chunks if not chunk["choices"] and "fusion" in chunk]
    panel = {event["model"] for event in inside if event["event"] == "panel.completed"}
    assert panel == {"qwen-numbers", "llama-words", "qwen-moe-lists"}
    assert any(event["event"] == "panel.delta" for event in inside)
    assert text_of(chunks).strip()
    usage = chunks[-1]["usage"]
    assert {"panel", "analyse", "write"} <= set(usage["fusion"]["stages"])
    assert sum(stage["prompt_tokens"] for stage in usage["fusion"]["stages"].values()) == usage["prompt_tokens"]


async def test_the_same_seed_gives_the_same_answer(client: httpx.AsyncClient) -> None:
    bodies = [await said(client, model="demo", messages=[TURN], seed=4) for _ in range(2)]
    assert bodies[0]["choices"] == bodies[1]["choices"]


async def test_a_member_streams_with_logprobs(client: httpx.AsyncClient) -> None:
    whole = await said(client, model=MEMBER, messages=[TURN], logprobs=True, top_logprobs=3, seed=1)
    chunks, _ = await streamed(client, model=MEMBER, messages=[TURN], logprobs=True, top_logprobs=3, seed=1)
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    assert reasons_of(chunks) == ["stop"]
    tokens = whole["choices"][0]["logprobs"]["content"]
    assert all(len(token["top_logprobs"]) == 3 and token["logprob"] <= 0 for token in tokens)
    sent = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert [token["token"] for piece in sent for token in piece["content"]] == [token["token"] for token in tokens]


@pytest.mark.parametrize("model", ["demo", MEMBER])
async def test_a_schema_is_kept(client: httpx.AsyncClient, model: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    body = await said(client, model=model, messages=[TURN], response_format=form, max_tokens=48)
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert set(json.loads(choice["message"]["content"])) == {"w", "n"}


@pytest.mark.parametrize("model", ["demo", MEMBER])
async def test_a_forced_tool_streams_its_arguments(client: httpx.AsyncClient, model: str) -> None:
    choice = {"type": "function", "function": {"name": "reverse"}}
    chunks, _ = await streamed(client, model=model, messages=[TURN], tools=[TOOL], tool_choice=choice, max_tokens=48)
    (call,) = calls_of(chunks).values()
    assert call["name"] == "reverse"
    assert set(json.loads(call["arguments"])) == {"w", "n"}
    assert len(call["pieces"]) > 2
    assert reasons_of(chunks) == ["tool_calls"]


async def test_a_member_is_made_to_consult_the_fusion(client: httpx.AsyncClient) -> None:
    body = await said(
        client,
        model="qwen-judge",
        messages=[TURN],
        plugins=[{"id": "fusion"}],
        tool_choice="required",
        max_tokens=48,
        fusion={"include": ["panel", "usage"]},
    )
    assert body["model"] == "qwen-judge"
    assert len(body["fusion"]["responses"]) == 3
    assert body["usage"]["fusion"]["stages"]["write"]["calls"] == 2


async def test_prompts_are_scored_as_the_harness_needs_it(client: httpx.AsyncClient) -> None:
    text = "Reverse the word 'planet'."
    counted = (await ask(client, "/tokenize", model=MEMBER, prompt=text, return_token_strs=True)).json()
    answer = await ask(
        client, "/v1/completions", model=MEMBER, prompt=[counted["tokens"], counted["tokens"][:5]],
        max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1234,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    for choice, count in zip(answer.json()["choices"], (counted["count"], 5), strict=True):
        scored = choice["logprobs"]
        assert len(scored["tokens"]) == count + 1
        assert scored["token_logprobs"][0] is None
        assert all(value <= 0 for value in scored["token_logprobs"][1:])
        assert scored["top_logprobs"][0] is None
        for token, value, top in zip(
            scored["tokens"][1:], scored["token_logprobs"][1:], scored["top_logprobs"][1:], strict=True
        ):
            assert top[token] >= value - 1e-6
    back = (await ask(client, "/detokenize", model=MEMBER, tokens=counted["tokens"])).json()
    assert text in back["prompt"]


async def test_a_prompt_over_the_context_is_a_400(client: httpx.AsyncClient) -> None:
    turn = {"role": "user", "content": "planet " * 4000}
    for stream in (False, True):
        answer = await client.post(CHAT, json={"model": MEMBER, "messages": [turn], "stream": stream})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_exceeded")
