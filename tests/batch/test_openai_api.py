"""Wire shapes: what a client sends is honoured or refused by name; what it gets is OpenAI's, and a receipt."""

from __future__ import annotations

import pickle

import pytest

from local_fusion.errors import RequestError
from local_fusion.openai_api import chat_completion, error_body, parse_chat, usage
from local_fusion.types import (
    Analysis,
    Answer,
    Failure,
    Fused,
    Insight,
    Message,
    Receipt,
    Sampling,
    StageUsage,
    Timing,
    Tokens,
    ToolCall,
    Verdict,
)

TURN = {"role": "user", "content": "hi"}


def test_nothing_given_leaves_everything_to_the_fusion():
    chat = parse_chat({"messages": [TURN]})
    request = chat.request("a", 4, Sampling(temperature=0.0))
    assert (request.id, request.seed, request.sampling, request.json_schema) == ("a", 4, None, None)
    assert not chat.stream


def test_null_is_the_same_as_left_out():
    body = {"temperature": None, "stop": None, "tools": None, "n": None, "seed": None, "response_format": None}
    assert parse_chat({"messages": [TURN]} | body) == parse_chat({"messages": [TURN]})


def test_values_that_change_nothing_are_honoured():
    neutral = {"n": 1, "logprobs": False, "store": False, "stream": False, "parallel_tool_calls": True}
    assert parse_chat({"messages": [TURN]} | neutral) == parse_chat({"messages": [TURN]})


def test_a_conversation_with_tools():
    turns = [
        {"role": "user", "content": "2+2?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    ]
    messages = parse_chat({"messages": turns}).messages
    assert messages[1] == Message("assistant", "", tool_calls=(ToolCall("1", "add", "{}"),))
    assert messages[2] == Message("tool", "4", tool_call_id="1")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "tool", "content": "4"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "user", "content": "4", "tool_call_id": "1"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "user", "content": "4", "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": ""}}]}]}, "messages.0.tool_calls"),
        ({"messages": [{"role": "system", "content": "4"}]}, "messages"),
        ({"messages": [TURN], "n": True}, "n"),
        ({"messages": [TURN], "stop": ["a"] * 17}, "stop"),
        ({"messages": [TURN], "stop": ""}, "stop"),
        ({"messages": [TURN], "response_format": {"type": "grammar"}}, "response_format"),
        ({"messages": [TURN], "response_format": {"type": "json_schema"}}, "response_format"),
        ({"messages": [TURN], "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
         "response_format.json_schema"),
        ({"messages": [TURN], "tools": [{"type": "function"}]}, "tools.0"),
        ({"messages": [TURN], "tools": [{"type": "web_search", "function": {"name": "f"}}]}, "tools.0"),
        ({"messages": [TURN], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"messages": [TURN], "logit_bias": {"5": 1}}, "logit_bias"),
        ({"messages": [TURN], "reasoning_effort": "huge"}, "reasoning_effort"),
        ({"messages": [TURN], "seed": 1.5}, "seed"),
        ({}, "messages"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(body, param):
    with pytest.raises(RequestError) as caught:
        parse_chat(body)
    assert caught.value.param == param
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.message, again.code, again.param) == (caught.value.message, caught.value.code, param)


def test_json_object_is_a_schema_that_any_object_fits():
    chat = parse_chat({"messages": [TURN], "response_format": {"type": "json_object"}})
    assert chat.json_schema == {"type": "object"}


def fused(**receipt: object) -> Fused:
    calls = (
        StageUsage("panel", "ada", 0, Tokens(10, 4, 5), Timing(1.0, gpu_s=2.0), "a/panel/ada/0/x", 3),
        StageUsage("panel", "bob", 0, Tokens(10, 0, 7), Timing(0.5, gpu_s=0.5), "a/panel/bob/0/x", 4),
        StageUsage("write", "ada", 0, Tokens(30, 20, 6), Timing(0.25), "a/write/ada/0/x"),
    )
    answers = (Answer("ada", 0, "four", certainty=0.5), Answer("bob", 0, "five", reasoning="hm", cut=True, round=1))
    failures = (Failure("cyd", "timeout", "cyd did not answer in 5 s"),)
    made = Receipt("trio", "merge", "asked for", answers=answers, failures=failures, calls=calls, seed=9, **receipt)
    return Fused("a", "It is four.", "ada", "stop", made, Tokens(50, 24, 18), degraded=("cyd was missing",))


def test_a_reply_is_a_chat_completion_with_a_receipt():
    analysis = Analysis(consensus=("4",), unique_insights=(Insight("bob", "5"),))
    body = chat_completion(fused(analysis=analysis, verdict=Verdict("written", 1.5, "ada", True)), 1_700_000_000)
    assert body["model"] == "ada"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "It is four.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 50,
        "completion_tokens": 18,
        "total_tokens": 68,
        "prompt_tokens_details": {"cached_tokens": 24},
    }
    fusion = body["fusion"]
    assert fusion["status"] == "ok"
    assert [(one["model"], one["content"]) for one in fusion["responses"]] == [("ada", "four"), ("bob", "five")]
    assert fusion["failed_models"] == [
        {
            "model": "cyd",
            "error": "cyd did not answer in 5 s",
            "status_code": 504,
            "reason": "timeout",
            "stage": "panel",
            "sample": 0,
        }
    ]
    assert list(fusion["analysis"]["unique_insights"]) == [{"model": "bob", "insight": "5"}]
    assert fusion["verdict"]["kept"] == "written"
    assert fusion["degraded"] == ["cyd was missing"]
    assert fusion["usage"]["panel"] == {
        "calls": 2,
        "prompt_tokens": 20,
        "cached_tokens": 4,
        "completion_tokens": 12,
        "seconds": 1.5,
        "gpu_s": 2.5,
    }
    assert [call["id"] for call in fusion["calls"]] == ["a/panel/ada/0/x", "a/panel/bob/0/x", "a/write/ada/0/x"]


def test_what_there_was_not_is_left_out():
    fusion = chat_completion(fused(), 0)["fusion"]
    assert not {"analysis", "verdict", "choice"} & set(fusion)


def test_tool_calls_and_reasoning_have_their_places():
    made = fused()
    reply = Fused("a", "", "ada", "tool_calls", made.receipt, reasoning="hm", tool_calls=(ToolCall("1", "f", "{}"),))
    choice = chat_completion(reply, 0)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning": "hm",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }


def test_errors_and_sums():
    assert error_body("no", "bad", "n")["error"] == {
        "message": "no",
        "type": "invalid_request_error",
        "param": "n",
        "code": "bad",
    }
    assert error_body("no", "all_panels_failed", status=503)["error"]["type"] == "server_error"
    assert usage(Tokens(1, 0, 2))["total_tokens"] == 3
