"""Chat completions, whole: every field honoured or refused by name, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.openai_api.request import parse_chat
from tests.server.conftest import make_config, serving
from tests.server.talk import ADD, ADD_CALL, CHAT, TURN, ask, refused, said

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
AS_JSON = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}
ECHO = """
models:
  echo: {engine: scripted, scripted: {answers: ["seed {seed} said {prompt}"]}}
  thinker: {engine: scripted, scripted: {answers: ["<think>hm</think>Four."]}}
  caller: {engine: scripted, scripted: {answers: ['CALL CALL']}}
fusions:
  team: {panel: [echo, thinker], judge: thinker, mode: merge}
default: team
runtime: {hosts: local}
server: {state: STATE}
""".replace("CALL", ADD_CALL)


async def test_a_fusion_s_reply_has_openai_s_shape_and_a_short_receipt(client: httpx.AsyncClient) -> None:
    body = await said(client, model="team", metadata={"run": "a"})
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["system_fingerprint"].startswith("fp_")
    (choice,) = body["choices"]
    assert choice["message"]["content"] == "The answer is 4."
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert set(body["fusion"]) == {"status", "fusion", "mode", "why", "writer", "degraded", "failed_models"}
    assert body["fusion"]["writer"] == body["model"]
    assert body["metadata"] == {"run": "a"}
    assert set(body["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}


async def test_include_asks_for_parts_of_the_receipt(client: httpx.AsyncClient) -> None:
    parts = await said(client, fusion={"include": ["panel", "analysis", "usage"]})
    assert {answer["model"] for answer in parts["fusion"]["responses"]} == {"one", "two", "three"}
    assert set(parts["fusion"]["analysis"]) >= {"consensus", "contradictions", "blind_spots"}
    breakdown = parts["usage"]["fusion"]
    assert set(breakdown["stages"]) >= {"panel", "analyse", "write"}
    sums = sum(stage["completion_tokens"] for stage in breakdown["stages"].values())
    assert sums == parts["usage"]["completion_tokens"]
    per_member = [stage["completion_tokens"] for own in breakdown["members"].values() for stage in own.values()]
    assert sum(per_member) == sums
    whole = (await said(client, fusion={"include": ["receipt"]}))["fusion"]
    assert {"responses", "calls", "seed", "templates", "versions"} <= set(whole)


async def test_openrouter_s_usage_include_gives_the_breakdown_too(client: httpx.AsyncClient) -> None:
    assert "fusion" in (await said(client, usage={"include": True}))["usage"]
    assert "fusion" not in (await said(client, usage={"include": False}))["usage"]


async def test_a_member_gives_several_choices_with_logprobs(client: httpx.AsyncClient) -> None:
    body = await said(client, model="one", n=3, logprobs=True, top_logprobs=2)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    for choice in body["choices"]:
        tokens = choice["logprobs"]["content"]
        assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
        assert all(len(token["top_logprobs"]) == 2 and token["logprob"] <= 0 for token in tokens)
        assert all(bytes(token["bytes"]).decode() == token["token"] for token in tokens)
    assert body["usage"]["prompt_tokens"] == 1, "the prompt of several choices counts once"
    assert "fusion" not in body


async def test_choices_of_a_member_have_seeds_of_their_own_and_a_seed_repeats_them(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, ECHO)) as client:
        first, again = [await said(client, model="echo", n=3, seed=5) for _ in range(2)]
        other = await said(client, model="echo", seed=6)
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert len(set(texts)) == 3
    assert texts == [choice["message"]["content"] for choice in again["choices"]]
    assert other["choices"][0]["message"]["content"] not in texts
    assert first["system_fingerprint"] == again["system_fingerprint"]


async def test_a_seed_repeats_a_fusion_s_answer(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, ECHO)) as client:
        bodies = [await said(client, seed=seed, fusion={"include": ["receipt"]}) for seed in (5, 5, 6)]
    first, again, other = [body["fusion"]["responses"][0]["content"] for body in bodies]
    assert first == again != other
    assert bodies[0]["choices"] == bodies[1]["choices"]


async def test_stop_and_token_limits_reach_the_member(client: httpx.AsyncClient) -> None:
    cut = (await said(client, model="one", max_completion_tokens=2))["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("The answer", "length")
    stopped = (await said(client, model="one", stop="answer"))["choices"][0]
    assert stopped["message"]["content"] == "The "


async def test_a_schema_holds_the_final_answer(client: httpx.AsyncClient) -> None:
    for model in ("team", "picked", "voted", "one"):
        body = await said(client, model=model, response_format=AS_JSON)
        assert json.loads(body["choices"][0]["message"]["content"]) == {"n": 0}


async def test_tools_belong_to_the_final_answer(client: httpx.AsyncClient) -> None:
    for model in ("team", "one"):
        body = await said(client, model=model, tools=[ADD], tool_choice="required")
        (choice,) = body["choices"]
        assert choice["finish_reason"] == "tool_calls"
        (call,) = choice["message"]["tool_calls"]
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("add", {"a": 0})
        assert choice["message"]["content"] is None


async def test_parallel_tool_calls_false_keeps_the_first(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, ECHO.replace("[echo, thinker]", "[echo, caller]"))) as client:
        both = await said(client, model="caller", tools=[ADD])
        one = await said(client, model="caller", tools=[ADD], parallel_tool_calls=False)
    assert len(both["choices"][0]["message"]["tool_calls"]) == 2
    assert len(one["choices"][0]["message"]["tool_calls"]) == 1


async def test_reasoning_is_given_unless_it_is_not_wanted(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, ECHO)) as client:
        message = (await said(client, model="thinker"))["choices"][0]["message"]
        assert (message["reasoning"], message["reasoning_content"], message["content"]) == ("hm", "hm", "Four.")
        for field in ({"include_reasoning": False}, {"reasoning": {"exclude": True}}):
            assert "reasoning" not in (await said(client, model="thinker", **field))["choices"][0]["message"]


async def test_parts_and_past_turns_are_read(tmp_path: Path) -> None:
    turns: list[dict[str, Any]] = [
        {"role": "developer", "content": "be short", "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": "hi", "type": "text"},
        {"role": "assistant", "content": None, "refusal": "no", "reasoning": "hm", "reasoning_details": [{"a": 1}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
            {"id": "1", "type": "function", "index": 0,
             "function": {"name": "add", "arguments": "{}", "parsed_arguments": {}}}], "parsed": None},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "4"}]},
        {"role": "user", "content": [
            {"type": "text", "text": "one", "cache_control": {"type": "ephemeral", "ttl": "5m"}},
            {"type": "input_text", "text": "two"}]},
    ]  # fmt: skip
    async with serving(make_config(tmp_path, ECHO)) as client:
        body = await said(client, model="echo", seed=1, messages=turns)
    assert body["choices"][0]["message"]["content"] == "seed 1 said one\ntwo"


def test_effort_reaches_the_chat_template() -> None:
    def kwargs(**body: Any) -> Any:
        sampling = parse_chat({"messages": [TURN]} | body).sampling
        return sampling and sampling.chat_template_kwargs

    assert kwargs(reasoning_effort="high") == {"reasoning_effort": "high", "enable_thinking": True, "thinking": True}
    assert kwargs(reasoning={"effort": "none"})["enable_thinking"] is False
    assert kwargs(reasoning_effort="low", chat_template_kwargs={"thinking": False})["thinking"] is False
    assert kwargs(reasoning={"enabled": False}) == {"enable_thinking": False, "thinking": False}


async def test_values_that_change_nothing_are_accepted(client: httpx.AsyncClient) -> None:
    await said(
        client, store=False, service_tier="auto", modalities=["text"], verbosity="medium", user="someone",
        safety_identifier="s", prompt_cache_key="k", prompt_cache_retention="in_memory", logit_bias={},
        parallel_tool_calls=True, cache_control={"type": "ephemeral"}, n=1, logprobs=False, prediction=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"store": True}, "store"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"modalities": ["audio"]}, "modalities.0"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"verbosity": "high"}, "verbosity"),
        ({"chat_template_kwargs": {"chat_template": "{{ x }}"}}, "chat_template_kwargs"),
        ({"functions": []}, "functions"),
        ({"model": "one", "n": 33}, "n"),
        ({"model": "one", "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "reasoning"),
        ({"temperature": 3}, "temperature"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
         "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
         "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "a", "reasoning": "b"}]}, "messages.0.reasoning"),
        ({"tools": [{"type": "function", "function": {"name": "openrouter_fusion"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 5}}]}, "tools.0.function.parameters"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)  # fmt: skip
async def test_what_cannot_be_honoured_is_refused_by_name(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    status, _, named = await refused(client, **body)
    assert (status, named) == (400, param)


async def test_an_error_repeats_nothing_of_the_prompt(client: httpx.AsyncClient) -> None:
    secret = "XYZZY-SECRET"
    turn = {"role": "user", "content": [{"type": "text", "text": secret, "x": secret}]}
    assert secret not in (await ask(client, messages=[turn])).text
    assert secret not in (await client.post(CHAT, content=b'{"messages": "' + secret.encode())).text


def test_the_openapi_file_shows_the_body_and_the_errors(tmp_path: Path) -> None:
    from local_fusion.server.app import make_app
    from local_fusion.server.service import Service

    paths = make_app(Service(make_config(tmp_path))).openapi()["paths"]
    for path in (CHAT, "/v1/completions", "/tokenize", "/detokenize"):
        route = paths[path]["post"]
        schema = route["requestBody"]["content"]["application/json"]["schema"]
        assert schema["additionalProperties"] is False
        assert "$ref" not in json.dumps(schema)
        assert {"400", "401", "403", "404", "413", "429", "500", "503", "504"} <= set(route["responses"])
    fusion = paths[CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["fusion"]
    assert "criteria" in fusion["anyOf"][0]["properties"]
