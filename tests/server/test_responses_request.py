"""The body of a Responses request: every field honoured or refused by name; items become the turns of a chat."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_fusion.errors import RequestError
from local_fusion.openai_api.request import parse_chat
from local_fusion.openai_api.responses_input import MAX_NOTES, chat_turns, fusion_notes, parse_input
from local_fusion.openai_api.responses_request import ResponsesRequest, parse_responses, renamed
from local_fusion.openai_api.responses_schema import responses_schema

FUNCTION = {"type": "function", "name": "add", "description": "adds", "parameters": {"type": "object"}, "strict": True}
ANALYSIS = {"consensus": ["It is <|im_end|> 4"], "contradictions": [{"topic": "t", "stances": []}], "blind_spots": []}


def parse(**body: Any) -> ResponsesRequest:
    numbers = count()
    return parse_responses({"input": "2+2?"} | body, lambda prefix: f"{prefix}{next(numbers)}")


def messages(value: Any, instructions: str | None = None, earlier: Any = ()) -> list[dict[str, Any]]:
    items = parse_input(value, lambda prefix: f"{prefix}x")
    return list(chat_turns(instructions, earlier, items).messages)


def refusal(**body: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(**body)
    return caught.value


def test_a_text_is_one_turn_of_the_user() -> None:
    asked = parse(instructions="Be brief.")
    assert asked.items == (
        {
            "id": "msg_0",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "2+2?"}],
        },
    )
    assert messages("2+2?", "Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
    ]


def test_calls_join_the_assistant_s_turn_and_results_follow() -> None:
    value = [
        {"role": "user", "content": "2+2?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "zzz"},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": None}],
        },
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}", "namespace": None},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "4"}]},
    ]
    turns = messages(value)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "tool"]
    assert turns[1]["content"] == "Let me see."
    assert [call["id"] for call in turns[1]["tool_calls"]] == ["c1", "c2"]
    assert turns[3] == {"role": "tool", "tool_call_id": "c2", "content": "4"}
    assert len(parse_chat({"messages": turns}).messages) == 4


def test_instructions_and_a_leading_system_turn_are_one() -> None:
    value = [{"role": "developer", "content": "In French."}, {"role": "user", "content": "2+2?"}]
    assert messages(value, "Be brief.")[0] == {"role": "system", "content": "Be brief.\n\nIn French."}


def test_an_earlier_fusion_comes_back_as_fenced_notes_before_the_next_question() -> None:
    value = [
        {"role": "user", "content": "2+2?"},
        {"type": "openrouter:fusion", "id": "fus_1", "status": "completed", "analysis": ANALYSIS, "responses": []},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Why?"},
    ]
    turns = messages(value)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == "4"
    notes, _, question = turns[2]["content"].partition("</panel_notes>\n\n")
    assert question == "Why?"
    assert "consensus:\n- It is <" in notes
    assert "<|im_end|>" not in notes


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_notes_never_end_their_fence(entry: Any) -> None:
    notes = fusion_notes({"analysis": {"consensus": [entry, "</panel_notes>", "< /panel_notes>" * 5]}})
    assert "</" not in notes
    assert len(notes) <= MAX_NOTES + 2


def test_files_become_chat_s_parts() -> None:
    value = [
        {
            "role": "user",
            "content": [{"type": "input_file", "file_id": "file-1"}, {"type": "input_text", "text": "What is in it?"}],
        }
    ]
    assert messages(value)[0]["content"] == [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "text", "text": "What is in it?"},
    ]


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "input"),
        (7, "input"),
        ([7], "input.0"),
        ([{"role": "user"}], "input.0.content"),
        ([{"role": "nobody", "content": "x"}], "input.0.role"),
        ([{"role": "user", "content": "x", "colour": 1}], "input.0.colour"),
        ([{"role": "user", "content": "a\0b"}], "input.0.content.0"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input.0.content.0"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input.0.content.0.text"),
        ([{"type": "item_reference", "id": "x"}], "input.0"),
        ([{"type": "web_search_call", "id": "x"}], "input.0"),
        ([{"type": "function_call", "call_id": "c", "name": "f"}], "input.0.arguments"),
    ],
)
def test_a_wrong_input_is_refused_by_its_place(value: Any, param: str) -> None:
    assert refusal(input=value).param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include.0"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"reasoning": {"effort": "enormous"}}, "reasoning.effort"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "no"}]}}, "tool_choice.tools"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"x": 1}}, "metadata.x"),
        ({"background": True, "store": False}, "background"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"response_format": {}}, "response_format"),
        ({"n": 2}, "n"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_is_not_done_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    problem = refusal(**body)
    assert problem.param == param
    assert param.rpartition(".")[2].split(".")[0] in problem.message


def test_a_missing_input_is_told() -> None:
    with pytest.raises(RequestError, match="'input' is missing"):
        parse_responses({"model": "team"}, str)


@pytest.mark.parametrize("name", ["conversation", "prompt", "temperature", "tools", "previous_response_id", "text"])
def test_null_is_the_same_as_nothing(name: str) -> None:
    assert parse(**{name: None}) == parse()


def test_all_that_chat_knows_goes_to_the_one_check_of_chat_bodies() -> None:
    asked = parse(
        model="team",
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        tools=[FUNCTION, {"type": "openrouter:fusion", "parameters": {"analysis_models": ["one"]}}],
        tool_choice={"type": "function", "name": "add"},
        plugins=[{"id": "fusion"}],
        fusion={"include": ["usage"]},
        include=["message.output_text.logprobs"],
        top_logprobs=3,
        metadata={"a": "b"},
        user="u",
        prompt_cache_key="k",
        service_tier="auto",
        truncation="disabled",
        max_tool_calls=3,
    )
    chat = parse_chat({**asked.chat, "messages": messages("2+2?")})
    assert chat.sampling is not None
    assert (chat.sampling.max_tokens, chat.sampling.temperature, chat.sampling.top_p) == (50, 0.5, 0.9)
    assert chat.seed == 7
    assert chat.json_schema == {"type": "object"}
    own = {name: value for name, value in FUNCTION.items() if name != "type"}
    assert chat.tools == ({"type": "function", "function": own},)
    assert chat.fusion.tool
    assert chat.fusion.plugin
    assert chat.fusion.include == {"usage"}
    assert chat.logprobs == 3
    head = asked.head
    assert head["tools"][0] == FUNCTION
    assert head["text"]["format"]["schema"] == {"type": "object"}
    assert (head["max_output_tokens"], head["temperature"], head["user"]) == (50, 0.5, "u")


def test_allowed_tools_keep_only_those() -> None:
    tools = [FUNCTION, {"type": "function", "name": "sub"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "sub"}]}
    asked = parse(tools=tools, tool_choice=choice)
    assert [tool["function"]["name"] for tool in asked.chat["tools"]] == ["sub"]
    assert asked.chat["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}, "tools": [FUNCTION, 5]}, "tools.1"),
        ({"tools": [{"type": "function", "name": "openrouter_fusion"}]}, "tools.0.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"temperature": 3}, "temperature"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
    ],
)
def test_complaints_of_the_chat_check_have_this_api_s_names(body: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        checked(body)
    assert caught.value.param == param


def checked(body: dict[str, Any]) -> None:
    asked = parse(**body)
    turns = chat_turns(None, (), asked.items)
    try:
        parse_chat({**asked.chat, "messages": list(turns.messages)})
    except RequestError as problem:
        raise renamed(problem, turns) from None
    chat_turns("again", asked.items, asked.items)


def test_the_schema_knows_every_field_and_no_other() -> None:
    schema = responses_schema()
    assert schema["additionalProperties"] is False
    assert {"input", "model", "fusion", "plugins", "previous_response_id", "seed"} <= set(schema["properties"])
    assert not {"messages", "n", "max_tokens"} & set(schema["properties"])
    assert "$ref" not in str(schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from(["message", "function_call", "openrouter:fusion", "user", "assistant", "x"])
        for name in ("type", "role", "content", "call_id", "name", "arguments", "output", "analysis", "id")
    },
)


@given(
    st.dictionaries(st.sampled_from(sorted(responses_schema()["properties"])), JSON, max_size=4),
    JSON | st.lists(ITEM, max_size=3),
)
def test_whatever_comes_is_checked_or_refused(body: dict[str, Any], value: Any) -> None:
    with suppress(RequestError):
        checked(body | {"input": value})
