"""`/v1/responses` over HTTP: whole and streamed, stored and continued, owned, and unchanged OpenAI clients."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from local_fusion.config.keys import add_key
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.server.door.keys import KeyRing
from local_fusion.server.responses import tell
from tests.server.conftest import make_config, serving
from tests.server.responses_check import ITEM, check_response, check_stream, kinds, read_stream
from tests.server.talk import ADD_CALL, FUSION_CALL
from tests.server.test_keys import bearer, closed_server

PATH = "/v1/responses"
ADD = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
FAULTS = """
models:
  good: {engine: scripted, scripted: {answers: ["The answer is 4."]}}
  same: {engine: scripted, scripted: {answers: ["4"]}}
  slow: {engine: scripted, scripted: {answers: ["4"], hang_rate: 1}}
  bad: {engine: scripted, scripted: {fail_rate: 1}}
  judge: {engine: scripted, scripted: {answers: ["It is 4."], prefer: "4"}}
  thinker: {engine: scripted, scripted: {answers: ["<think>two and two</think>It is 4."]}}
  echo: {engine: scripted, scripted: {answers: ["{prompt}"]}}
  outer: {engine: scripted, scripted: {answers: [OUTER]}}
fusions:
  partly: {panel: [good, bad], judge: judge, mode: merge}
  broken: {panel: [bad, bad], judge: judge, mode: merge}
  early: {panel: [same, {model: same, samples: 2}, slow], judge: judge, mode: vote}
  debated: {panel: [good, echo], judge: judge, mode: debate}
  open: {panel: [good], judge: thinker, mode: merge, guard: false}
  others: {panel: [slow, thinker, echo, outer], judge: judge, mode: vote}
default: partly
runtime: {hosts: local}
server: {state: STATE}
"""


def faults(tmp_path: Path, outer: str = "") -> Any:
    return make_config(tmp_path, FAULTS.replace("OUTER", json.dumps(outer)))


async def made(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """A response that must succeed and be of the right form."""
    answer = await client.post(PATH, json={"input": "2+2?"} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    check_response(found)
    return found


async def streamed(client: httpx.AsyncClient, **body: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The checked events of a stream, and the response of the last one."""
    answer = await client.post(PATH, json={"input": "2+2?", "stream": True} | body)
    assert answer.status_code == 200, answer.text
    events = read_stream(answer.text)
    return events, check_stream(events)


async def refused(client: httpx.AsyncClient, method: str = "POST", path: str = PATH, **body: Any) -> tuple[Any, ...]:
    answer = await client.request(method, path, json=body or None)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def text_of(body: dict[str, Any]) -> str:
    parts = [item["content"] for item in body["output"] if item["type"] == "message"]
    return "".join(part["text"] for (part,) in parts)


def shape(body: dict[str, Any]) -> Any:
    """A response without what is new every time."""
    plain = json.loads(json.dumps(body))
    for name in ("id", "created_at", "completed_at", "usage", "fusion"):
        plain.pop(name, None)
    for item in plain["output"]:
        item.pop("id")
        item.pop("call_id", None)
    return plain


@pytest.mark.parametrize("model", ["team", "picked", "voted", "openrouter/fusion", "one"])
async def test_streamed_and_whole_give_the_same_response(client: httpx.AsyncClient, model: str) -> None:
    whole = await made(client, model=model, seed=1, temperature=0.3, instructions="Be brief.", metadata={"a": "b"})
    _, last = await streamed(
        client, model=model, seed=1, temperature=0.3, instructions="Be brief.", metadata={"a": "b"}
    )
    assert shape(last) == shape(whole)
    assert "4" in text_of(whole)
    assert whole["status"] == "completed"
    assert [item["type"] for item in whole["output"]] == (["message"] if model == "one" else [ITEM, "message"])


async def test_panel_tokens_stream_before_the_answer_and_the_analysis_comes_between(client: httpx.AsyncClient) -> None:
    events, body = await streamed(client)
    names = kinds(events)
    assert names[:4] == ["created", "in_progress", "output_item.added", "fusion_call.in_progress"]
    assert names.count("fusion_call.panel.added") == 3
    assert names.count("fusion_call.panel.completed") == 3
    for model in ("one", "two", "three"):
        mine = [event for event in events if event.get("model") == model]
        said = "".join(event["delta"] for event in mine if event["type"].endswith("panel.delta"))
        assert said == mine[-1]["content"]
    order = ["fusion_call.panel.completed", "fusion_call.analysis.in_progress", "fusion_call.analysis.completed",
             "fusion_call.completed", "output_text.delta", "completed"]  # fmt: skip
    assert sorted(order, key=names.index) == order
    assert body["model"] in ("one", "two", "three", "judge")


async def test_the_receipt_comes_as_far_as_it_is_asked_for(client: httpx.AsyncClient) -> None:
    bare, some, every = [
        await made(client, fusion={"include": include}) for include in ([], ["panel", "analysis", "usage"], ["receipt"])
    ]
    assert "responses" not in bare["fusion"]
    assert "fusion" not in bare["usage"]
    assert {"responses", "analysis"} <= set(some["fusion"])
    stages = some["usage"]["fusion"]["stages"]
    assert {"panel", "write"} <= set(stages)
    assert sum(stage["completion_tokens"] for stage in stages.values()) == some["usage"]["output_tokens"]
    assert {"calls", "seconds", "seed", "usage"} <= set(every["fusion"])


async def test_a_member_that_fails_is_told_and_the_rest_go_on(tmp_path: Path) -> None:
    async with serving(faults(tmp_path)) as client:
        events, body = await streamed(client)
        (failed,) = [event for event in events if event["type"].endswith("panel.failed")]
        assert (failed["model"], failed["status_code"], failed["reason"]) == ("bad", 502, "engine_error")
        assert body["status"] == "completed"
        assert [one["model"] for one in body["output"][0]["failed_models"]] == ["bad"]
        assert body["fusion"]["degraded"]


async def test_all_failed_is_a_503_or_a_failed_stream(tmp_path: Path) -> None:
    async with serving(faults(tmp_path)) as client:
        assert await refused(client, input="2+2?", model="broken") == (503, "all_panels_failed", None)
        events, body = await streamed(client, model="broken")
        assert body["status"] == "failed"
        assert body["error"]["code"] == "all_panels_failed"
        assert kinds(events)[-2:] == ["error", "failed"]
        assert body["output"][0]["failure_reason"] == "all_panels_failed"
        assert (await client.get(f"{PATH}/{body['id']}")).status_code == 404


async def test_an_early_exit_is_told_and_samples_have_names_of_their_own(tmp_path: Path) -> None:
    async with serving(faults(tmp_path)) as client:
        events, body = await streamed(client, model="early")
        added = {event["model"] for event in events if event["type"].endswith("panel.added")}
        assert added == {"same#0", "same#1", "same#2", "slow"}
        stopped = [event for event in events if event["type"].endswith("panel.failed")]
        assert [(event["model"], event["reason"]) for event in stopped] == [("slow", "not_needed")]
        assert body["output"][0]["failed_models"] == []
        assert text_of(body) == "4"


async def test_a_debate_tells_its_rounds(tmp_path: Path) -> None:
    async with serving(faults(tmp_path)) as client:
        events, body = await streamed(client, model="debated")
        rounds = [(event["model"], event["round"]) for event in events if event["type"].endswith("panel.added")]
        assert rounds == [("good", 0), ("echo", 0), ("good", 1), ("echo", 1)]
        assert [one["round"] for one in body["output"][0]["responses"]] == [1, 1]


async def test_reasoning_is_an_item_of_its_own_and_its_tokens_are_counted(tmp_path: Path) -> None:
    async with serving(faults(tmp_path)) as client:
        events, body = await streamed(client, model="open", fusion={"stream": "live"})
        assert [item["type"] for item in body["output"]] == [ITEM, "reasoning", "message"]
        assert body["output"][1]["content"] == [{"type": "reasoning_text", "text": "two and two"}]
        assert "reasoning_text.delta" in kinds(events)
        assert body["usage"]["output_tokens_details"]["reasoning_tokens"] == 3


async def test_an_outer_model_calls_the_fusion_as_a_tool(tmp_path: Path) -> None:
    async with serving(faults(tmp_path, FUSION_CALL + "Done: {prompt}")) as client:
        body = {"model": "outer", "tools": [{"type": "openrouter:fusion", "parameters": {}}], "tool_choice": "required"}
        events, streamed_body = await streamed(client, **body)
        assert ITEM in [item["type"] for item in streamed_body["output"]]
        assert "fusion_call.completed" in kinds(events)
        assert streamed_body["model"] == "outer"
        assert streamed_body["tools"] == body["tools"]
        whole = await made(client, **body)
        assert [item["type"] for item in whole["output"]] == [ITEM, "message"]


async def test_a_call_of_the_client_s_tool_and_its_result(tmp_path: Path) -> None:
    async with serving(faults(tmp_path, ADD_CALL + "It is {prompt}.")) as client:
        events, body = await streamed(client, model="outer", tools=[ADD])
        (call,) = [item for item in body["output"] if item["type"] == "function_call"]
        assert (call["name"], json.loads(call["arguments"])) == ("add", {"a": 4})
        assert "function_call_arguments.done" in kinds(events)
        history = [{"role": "user", "content": "2+2?"}, *body["output"]]
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "four"}
        after = await made(client, model="outer", tools=[ADD], input=[*history, result])
        assert "It is four." in text_of(after)
        chained = await made(client, model="outer", tools=[ADD], input=[result], previous_response_id=body["id"])
        assert "It is four." in text_of(chained)


async def test_json_by_a_schema_is_json(client: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = await made(client, text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}})
    assert isinstance(json.loads(text_of(body))["n"], int)


async def test_log_probabilities_of_a_member_on_request(client: httpx.AsyncClient) -> None:
    body = await made(client, model="one", include=["message.output_text.logprobs"], top_logprobs=2)
    assert body["output"][0]["content"][0]["logprobs"]
    assert (await refused(client, input="x", model="team", include=["message.output_text.logprobs"]))[0] == 400


async def test_too_few_tokens_make_it_incomplete(client: httpx.AsyncClient) -> None:
    body = await made(client, model="one", max_output_tokens=2)
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_response_is_stored_continued_listed_and_deleted(tmp_path: Path) -> None:
    async with serving(faults(tmp_path)) as client:
        first = await made(client, model="echo", input="My name is Ann.", instructions="Be brief.")
        assert (await client.get(f"{PATH}/{first['id']}")).json() == first
        second = await made(client, model="partly", input="Who am I?", previous_response_id=first["id"])
        third = await made(client, model="echo", input="Sure?", previous_response_id=second["id"])
        # notes on the fusion of the turn before stand before the question
        assert text_of(third).endswith("Sure?")
        items = (await client.get(f"{PATH}/{third['id']}/input_items")).json()
        assert [item["content"][0]["text"] for item in items["data"]] == ["Sure?"]
        assert (items["has_more"], items["first_id"]) == (False, items["data"][0]["id"])
        gone = await client.delete(f"{PATH}/{second['id']}")
        assert gone.json() == {"id": second["id"], "object": "response", "deleted": True}
        assert (await client.get(f"{PATH}/{second['id']}")).status_code == 404
        assert await refused(client, input="x", previous_response_id=third["id"]) == (
            400, "previous_response_not_found", "previous_response_id",
        )  # fmt: skip


async def test_input_items_come_in_pages(client: httpx.AsyncClient) -> None:
    turns = [{"role": "user" if place % 2 == 0 else "assistant", "content": str(place)} for place in range(5)]
    body = await made(client, model="one", input=turns)
    path = f"{PATH}/{body['id']}/input_items"
    page = (await client.get(path, params={"limit": 2, "order": "asc"})).json()
    assert [item["content"][0]["text"] for item in page["data"]] == ["0", "1"]
    assert page["has_more"]
    rest = (await client.get(path, params={"after": page["last_id"], "order": "asc"})).json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["2", "3", "4"]
    for query in ({"limit": 0}, {"after": "x"}, {"colour": 1}, {"order": "up"}):
        assert (await client.get(path, params=query)).status_code == 400


async def test_what_shall_not_be_stored_is_not(client: httpx.AsyncClient) -> None:
    body = await made(client, store=False)
    assert body["store"] is False
    assert (await client.get(f"{PATH}/{body['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("query", "param"),
    [({"stream": "maybe"}, "stream"), ({"starting_after": 3}, "starting_after"), ({"colour": 1}, "colour"),
     ({"include": "x"}, "include"), ({"stream": "true", "starting_after": "-1"}, "starting_after"),
     ({"stream": "true"}, "stream")],
)  # fmt: skip
async def test_a_wrong_query_is_refused_by_name(client: httpx.AsyncClient, query: dict[str, Any], param: str) -> None:
    body = await made(client)
    answer = await client.get(f"{PATH}/{body['id']}", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_others_do_not_see_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    ann, bob = bearer(add_key(path, "ann")), bearer(add_key(path, "bob"))
    async with closed_server(tmp_path, KeyRing(path)) as client:
        own = (await client.post(PATH, json={"input": "2+2?"}, headers=ann)).json()["id"]
        for method, tail in (("GET", ""), ("GET", "/input_items"), ("DELETE", ""), ("POST", "/cancel")):
            answer = await client.request(method, f"{PATH}/{own}{tail}", headers=bob)
            assert answer.status_code == 404, (method, tail)
            assert (await client.request(method, f"{PATH}/{own}{tail}")).status_code == 401
        chained = {"input": "x", "previous_response_id": own}
        assert (await client.post(PATH, json=chained, headers=bob)).json()["error"]["code"] == (
            "previous_response_not_found"
        )
        assert (await client.get(f"{PATH}/{own}", headers=ann)).status_code == 200
        await client.service.closed()  # type: ignore[attr-defined]


async def test_a_file_of_the_client_is_read_and_its_reference_is_kept(tmp_path: Path) -> None:
    async with serving(faults(tmp_path)) as client:
        files = {"file": ("note.txt", b"The secret is 42.", "text/plain")}
        kept = await client.post("/v1/files", files=files, data={"purpose": "user_data"})
        part = {"type": "input_file", "file_id": kept.json()["id"]}
        ask = [{"role": "user", "content": [part, {"type": "input_text", "text": "What is it?"}]}]
        body = await made(client, model="echo", input=ask)
        assert "note.txt" in text_of(body)
        assert body["usage"]["input_tokens"] > 10
        items = (await client.get(f"{PATH}/{body['id']}/input_items")).json()["data"]
        assert items[0]["content"][0] == part
        again = await made(client, model="echo", input="Sure?", previous_response_id=body["id"])
        assert again["usage"]["input_tokens"] > body["usage"]["input_tokens"]
        await client.delete(f"/v1/files/{part['file_id']}")
        assert (await refused(client, input=ask))[::2] == (400, "input.0")
        chained = await refused(client, input="Sure?", previous_response_id=body["id"])
        assert chained[::2] == (400, "previous_response_id")


async def test_an_answer_can_be_rated(client: httpx.AsyncClient) -> None:
    body = await made(client)
    rated = await client.post("/v1/feedback", json={"id": body["id"], "rating": "up"})
    assert rated.status_code == 200, rated.text


async def test_errors_of_the_conversation_name_the_item(client: httpx.AsyncClient) -> None:
    value = [{"role": "user", "content": [{"type": "input_file", "file_url": "http://x"}]}]
    status, _, param = await refused(client, input=value)
    assert (status, param) == (400, "input.0")
    assert await refused(client, input="x", model="nobody") == (404, "model_not_found", "model")
    assert (await refused(client, input=[{"role": "assistant", "content": "x"}]))[2] == "input"


class Number(BaseModel):
    """What is asked for in the SDK's way."""

    n: int


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the SDK knows no item of that type
async def test_the_openai_sdk_works_unchanged(client: httpx.AsyncClient) -> None:
    sdk = AsyncOpenAI(base_url="http://server/v1", api_key="none", http_client=client)
    whole = await sdk.responses.create(model="voted", input="2+2?", extra_body={"fusion": {"include": ["receipt"]}})
    assert "4" in whole.output_text
    assert whole.usage is not None
    assert whole.usage.total_tokens > 0
    text = ""
    async with sdk.responses.stream(model="team", input="2+2?") as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
        final = await stream.get_final_response()
    assert final.output_text == text
    assert "4" in text
    parsed = await sdk.responses.parse(model="team", input="2+2?", text_format=Number)
    assert isinstance(parsed.output_parsed, Number)
    found = await sdk.responses.retrieve(whole.id)
    assert found.output_text == whole.output_text
    assert [item.type async for item in await sdk.responses.input_items.list(whole.id)] == ["message"]
    again = await sdk.responses.create(
        model="one",
        input=[{"role": "user", "content": "2+2?"}, *whole.output, {"role": "user", "content": "Sure?"}],  # type: ignore[list-item]
    )
    assert again.status == "completed"
    await sdk.responses.delete(whole.id)


async def test_the_end_does_not_wait_for_the_count_of_what_was_thought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*given: Any) -> list[int]:
        await asyncio.sleep(3600)
        return []

    monkeypatch.setattr(tell, "COUNT_S", 0.05)
    monkeypatch.setattr(ScriptedEngine, "tokenize", never)
    async with serving(faults(tmp_path)) as client, asyncio.timeout(5):
        body = await made(client, model="open")
        assert (body["status"], body["usage"]["output_tokens_details"]["reasoning_tokens"]) == ("completed", 0)
