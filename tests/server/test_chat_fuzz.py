"""Whatever JSON a client sends: a request or a refusal with a name, never another error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from local_fusion.config import parse_config
from local_fusion.errors import RequestError
from local_fusion.openai_api.completions import WireCompletion, parse_completion
from local_fusion.openai_api.messages import WireMessage
from local_fusion.openai_api.request import WireBody, parse_chat
from local_fusion.openai_api.tokens import parse_detokenize, parse_tokenize
from local_fusion.server.door.callers import LOCAL
from local_fusion.server.orders.choose import order_for
from local_fusion.server.service import Service

CONFIG = """
models: {one: {engine: scripted}, two: {engine: scripted}}
fusions: {team: {panel: [one, two]}}
default: team
"""
SERVICE = Service(parse_config(CONFIG))
WORDS = st.sampled_from(
    ["fusion", "openrouter:fusion", "function", "text", "user", "assistant", "tool", "team", "one", "required", "auto",
     "json_schema", "vote", "panel", "", "a\0b", "file"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["type", "id", "role", "content", "text", "function", "name", "parameters", "arguments", "tools", "model", "mode",
     "analysis_models", "samples", "include", "effort", "max_tokens", "schema", "json_schema", "preset", "enabled",
     "cache_control", "tool_call_id", "tool_calls", "quorum", "reasoning", "temperature", "writer"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
TURN = {"role": "user", "content": "hi"}


def read(parse: Callable[[Any], object], body: Any) -> None:
    """Parse, or be refused in words."""
    refusal = None
    try:
        parse(body)
    except RequestError as problem:
        refusal = problem
    assert refusal is None or (refusal.code and refusal.message)


def ordered(body: Any) -> None:
    order_for(SERVICE, LOCAL, parse_chat(body), "chatcmpl-1")


def body_of(fields: Any, count: int) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from([*fields, "suffix", "logit_bias", "audio", "unknown"])
    return st.dictionaries(names, JSON, max_size=count)


@settings(max_examples=300, deadline=None)
@given(body_of(WireBody.model_fields, 5), st.booleans())
def test_chat(body: dict[str, Any], whole: bool) -> None:
    read(ordered, body | {"messages": [TURN]} if whole else body)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([*WireMessage.model_fields, "x"]), JSON, max_size=4), max_size=3))
def test_messages(messages: list[Any]) -> None:
    read(parse_chat, {"messages": [*messages, TURN]})


@settings(max_examples=200, deadline=None)
@given(JSON, JSON, JSON)
def test_fusion_fields(plugin: Any, tool: Any, own: Any) -> None:
    read(ordered, {"messages": [TURN], "plugins": [{"id": "fusion", "preset": plugin}, plugin], "fusion": own})
    read(ordered, {"messages": [TURN], "tools": [{"type": "openrouter:fusion", "parameters": tool}, tool]})
    read(ordered, {"messages": [TURN], "fusion": own})


@settings(max_examples=200, deadline=None)
@given(body_of(WireCompletion.model_fields, 5))
def test_completions(body: dict[str, Any]) -> None:
    for parse in (parse_completion, parse_tokenize, parse_detokenize):
        read(parse, body)
