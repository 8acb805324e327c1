"""Chat completions, streamed: OpenAI's chunks, what happens inside the fusion, tool calls piece by piece, errors."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from local_fusion.errors import CallError
from local_fusion.fusion.events import Event, WriterDelta, WriterStarted
from local_fusion.server.orders.order import Heard, Piece
from local_fusion.server.orders.run import Outgoing
from local_fusion.types import Fused, Receipt, ToolCall, ToolDelta
from tests.server.conftest import make_config, serving
from tests.server.talk import ADD, ADD_CALL, ask, calls_of, reasons_of, said, streamed, text_of

GUARDED = """
models:
  one: {engine: scripted, scripted: {answers: ["The answer is 4."]}}
  two: {engine: scripted, scripted: {answers: ["Five it is."]}}
  judge: {engine: scripted, scripted: {answers: ["Nine, surely nine."], prefer: "4"}}
fusions:
  team: {panel: [one, two], judge: judge, mode: merge}
  open: {panel: [one, two], judge: judge, mode: merge, guard: false}
default: team
runtime: {hosts: local}
server: {state: STATE, heartbeat_s: 5}
"""


@pytest.mark.parametrize("model", ["team", "picked", "voted", "one"])
async def test_deltas_make_the_answer_and_chunks_are_openai_s(client: httpx.AsyncClient, model: str) -> None:
    whole = await said(client, model=model, seed=3)
    chunks, _ = await streamed(client, model=model, seed=3, stream_options={"include_usage": True})
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    assert reasons_of(chunks) == ["stop"]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0
    assert chunks[-2]["model"] == whole["model"]


async def test_without_stream_options_there_is_no_usage(client: httpx.AsyncClient) -> None:
    chunks, _ = await streamed(client, model="one")
    assert not any("usage" in chunk for chunk in chunks)


async def test_several_choices_stream_side_by_side_with_logprobs(client: httpx.AsyncClient) -> None:
    chunks, _ = await streamed(client, model="one", n=2, logprobs=True, top_logprobs=1)
    for index in (0, 1):
        assert text_of(chunks, index) == "The answer is 4."
        pieces = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        tokens = [token for piece in pieces if piece["logprobs"] for token in piece["logprobs"]["content"]]
        assert "".join(token["token"] for token in tokens) == "The answer is 4."
    assert reasons_of(chunks) == ["stop", "stop"]


async def test_what_the_panel_does_goes_out_as_comments(client: httpx.AsyncClient) -> None:
    chunks, comments = await streamed(client)
    assert ": fusion panel.completed one" in comments
    assert ": fusion analysis.in_progress judge" in comments
    assert all(chunk["choices"] for chunk in chunks), "nothing a client would have to understand"


async def test_include_panel_makes_chunks_of_it(client: httpx.AsyncClient) -> None:
    chunks, comments = await streamed(client, fusion={"include": ["panel"]})
    inside = [chunk["fusion"] for chunk in chunks if not chunk["choices"]]
    deltas = [event["delta"] for event in inside if event["event"] == "panel.delta" and event["model"] == "one"]
    assert "".join(deltas) == "The answer is 4."
    kinds = [event["event"] for event in inside]
    assert kinds[0] == "started"
    assert kinds.count("panel.completed") == 3
    assert {"analysis.in_progress", "analysis.completed", "writer.started", "guard.completed"} <= set(kinds)
    assert kinds[-1] == "completed"
    assert not [comment for comment in comments if "fusion" in comment]
    last = next(chunk for chunk in reversed(chunks) if "fusion" in chunk)
    assert {answer["model"] for answer in last["fusion"]["responses"]} == {"one", "two", "three"}


async def test_checked_streams_what_the_guard_lets_through(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, GUARDED)) as client:
        chunks, _ = await streamed(client)
    assert text_of(chunks) == "The answer is 4."
    assert "replaced" not in chunks[-1]["fusion"]


async def test_live_streams_the_writer_and_says_where_the_guard_took_another(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, GUARDED)) as client:
        chunks, _ = await streamed(client, fusion={"stream": "live"})
    assert text_of(chunks) == "Nine, surely nine."
    assert chunks[-1]["fusion"]["replaced"] is True
    assert chunks[-1]["fusion"]["final_text"] == "The answer is 4."


async def test_without_a_guard_the_writer_streams_as_it_writes(tmp_path: Path) -> None:
    async with serving(make_config(tmp_path, GUARDED)) as client:
        chunks, _ = await streamed(client, model="open")
    pieces = [
        choice["delta"]["content"] for chunk in chunks for choice in chunk["choices"] if choice["delta"].get("content")
    ]
    assert len(pieces) > 1
    assert "".join(pieces) == "Nine, surely nine."


@pytest.mark.parametrize("model", ["team", "one"])
async def test_tool_calls_stream_as_pieces_of_their_arguments(client: httpx.AsyncClient, model: str) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {
        "type": "object", "properties": {"first": {"type": "integer"}, "second": {"type": "integer"}},
        "required": ["first", "second"]}}}  # fmt: skip
    chunks, _ = await streamed(client, model=model, tools=[tool], tool_choice="required")
    (call,) = calls_of(chunks).values()
    assert (call["name"], json.loads(call["arguments"])) == ("add", {"first": 0, "second": 0})
    assert len(call["pieces"]) > 2
    assert reasons_of(chunks) == ["tool_calls"]


async def test_a_tool_that_is_called_freely_streams_too_and_may_be_held_to_one(tmp_path: Path) -> None:
    text = GUARDED.replace('"The answer is 4."', f"'Wait. {ADD_CALL}{ADD_CALL}'")
    async with serving(make_config(tmp_path, text)) as client:
        both, _ = await streamed(client, model="one", tools=[ADD])
        one, _ = await streamed(client, model="one", tools=[ADD], parallel_tool_calls=False)
    assert len(calls_of(both)) == 2
    assert text_of(both) == "Wait."
    assert len(calls_of(one)) == 1


async def test_an_error_after_the_beginning_stands_in_the_stream(tmp_path: Path) -> None:
    text = GUARDED.replace("answers: [", "fail_rate: 1.0, answers: [")
    async with serving(make_config(tmp_path, text)) as client:
        chunks, _ = await streamed(client)
    (error,) = [chunk["error"] for chunk in chunks if "error" in chunk]
    assert error["code"] == "all_panels_failed"
    assert error["type"] == "server_error"


async def test_an_error_before_the_beginning_is_a_status(tmp_path: Path) -> None:
    text = GUARDED.replace("answers: [", "fail_rate: 1.0, answers: [")
    async with serving(make_config(tmp_path, text)) as client:
        answer = await ask(client, model="one", stream=True)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_error"


def outgoing(*events: Event, live: bool = True) -> tuple[list[Piece], Outgoing]:
    heard: list[Heard] = []
    made = Outgoing(heard.append, live)
    for event in events:
        made.hear(event)
    return [item for item in heard if isinstance(item, Piece)], made


def test_a_second_writer_does_not_write_into_the_first_one_s_text() -> None:
    fused = Fused("a", "Four.", "two", "stop", Receipt("team", "merge", ""))
    first, second = WriterDelta("one", "Fi"), WriterDelta("two", "Four.")
    pieces, made = outgoing(WriterStarted("one"), first, WriterStarted("two"), second)
    assert [piece.text for piece in pieces] == ["Fi"]
    assert made.finish(fused) is True
    pieces, made = outgoing(WriterStarted("one"), WriterStarted("two"), second)
    assert [piece.text for piece in pieces] == ["Four."]
    assert made.finish(fused) is False


def test_half_a_tool_call_is_never_taken_for_a_whole_one() -> None:
    half = WriterDelta("one", tools=(ToolDelta(0, "1", "add", '{"a":'),))
    call = ToolCall("2", "add", '{"a": 4}')
    fused = Fused("a", "", "two", "tool_calls", Receipt("team", "merge", ""), tool_calls=(call,))
    _, made = outgoing(WriterStarted("one"), half, WriterStarted("two"), live=False)
    with pytest.raises(CallError):
        made.finish(fused)


async def test_nothing_is_left_under_way(client: httpx.AsyncClient) -> None:
    await streamed(client)
    service = client.service  # type: ignore[attr-defined]
    assert service.admission.working == 0
    assert all(service.engines[model].running == 0 for model in service.catalog.models)
