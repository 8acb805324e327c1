"""What is wrong with a body is found out without an error for every entry of it, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from local_fusion.errors import RequestError
from local_fusion.openai_api.completions import MAX_PROMPTS, WireCompletion, parse_completion
from local_fusion.openai_api.fusion_fields import OwnFields, Plugin
from local_fusion.openai_api.request import WireBody, parse_chat
from local_fusion.openai_api.responses_input import parse_input
from local_fusion.openai_api.responses_request import ResponsesBody, parse_responses
from local_fusion.openai_api.tokens import MAX_TOKENS, WireDetokenize, WireTokenize, parse_detokenize
from local_fusion.openai_api.wire import MAX_FIELDS

MANY = 5000
STRANGE = {f"x{number}": 1 for number in range(MANY)}
TURN = {"role": "user", "content": "x"}
PART = {"type": "text", "text": "x", "cache_control": STRANGE}


def new_id(prefix: str) -> str:
    return f"{prefix}1"


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (WireCompletion, {"model": "m", "prompt": [-1] * MANY}),
        (WireCompletion, {"model": "m", "prompt": [*[1] * MANY, "a"]}),
        (WireCompletion, {"model": "m", "prompt": [[-1] * MANY] * 100}),
        (WireCompletion, {"model": "m", "prompt": "x", **STRANGE}),
        (WireDetokenize, {"tokens": [-1] * MANY}),
        (WireTokenize, {"messages": [1] * MANY}),
        (WireTokenize, STRANGE),
        (WireBody, {"messages": [TURN], "modalities": ["sound"] * MANY}),
        (WireBody, {"messages": [TURN], **STRANGE}),
        (WireBody, {"messages": [TURN | STRANGE]}),
        (WireBody, {"messages": [{"role": "user", **{f"x{number}": 1 for number in range(100)}}] * 100}),
        (WireBody, {"messages": [{"role": "assistant", "tool_calls": [1] * MANY}]}),
        (WireBody, {"messages": [{"role": "user", "content": [PART]}]}),
        (WireBody, {"messages": [TURN], "tools": [1] * MANY}),
        (WireBody, {"messages": [TURN], "usage": STRANGE}),
        (OwnFields, {"include": ["x"] * MANY}),
        (OwnFields, {"writer": [1] * MANY}),
        (Plugin, {"id": "fusion", "tools": [1] * MANY}),
        (ResponsesBody, {"input": "x", "tools": [1] * MANY}),
        (ResponsesBody, {"input": "x", **STRANGE}),
    ],
)
def test_few_errors_are_kept_of_many(model: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    assert refused.value.error_count() <= MAX_FIELDS


@pytest.mark.parametrize(
    ("parse", "body", "code", "param"),
    [
        (parse_completion, {"model": "m", "prompt": ["x"] * (MAX_PROMPTS + 1)}, "too_many", "prompt"),
        (parse_completion, {"model": "m", "prompt": [1] * (MAX_TOKENS + 1)}, "too_many", "prompt"),
        (parse_completion, {"model": "m", "prompt": [[1] * 1000] * 1001}, "too_many", "prompt"),
        (parse_completion, {"model": "m", "prompt": [-1] * MANY}, "invalid_field", "prompt"),
        (parse_completion, {"model": "m", "prompt": "x", **STRANGE}, "too_many", None),
        (parse_chat, {"messages": [TURN], "modalities": ["text"] * 17}, "invalid_field", "modalities"),
        (parse_chat, {"messages": [TURN], "color": 1}, "unknown_field", "color"),
        (parse_chat, {"messages": [TURN], "reasoning": STRANGE}, "too_many", "reasoning"),
        (parse_detokenize, {"tokens": [1, -1] * MANY}, "invalid_field", "tokens.1"),
        (lambda body: parse_responses(body, new_id), {"input": "x", "metadata": STRANGE}, "too_many", "metadata"),
        (lambda body: parse_input(body["input"], new_id), {"input": [TURN | STRANGE]}, "too_many", "input.0"),
    ],
)
def test_what_is_told_of_too_many(parse: Callable[[Any], Any], body: Any, code: str, param: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        parse(body)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("name", [[], {}, None])
def test_a_tool_choice_of_another_kind_is_no_failure_of_ours(name: Any) -> None:
    function = {"name": "look"}
    chat = {"messages": [TURN], "tools": [{"type": "function", "function": function}]}
    with pytest.raises(RequestError, match="tool_choice"):
        parse_chat(chat | {"tool_choice": {"type": "function", "function": {"name": name}}})
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"name": name}]}
    with pytest.raises(RequestError, match="tool_choice"):
        parse_responses({"input": "x", "tools": [{"type": "function"} | function], "tool_choice": allowed}, new_id)
