"""The body of a Responses request, checked field by field, to a chat body and to what only Responses have.

Invariant: every field is honoured or refused by name. What both APIs know (sampling, tools, plugins, `fusion`, the form
of the answer) is put into chat's form and goes through the one check of chat bodies; `renamed` gives its complaints the
names of this API. Accepted as they hold of themselves: `max_tool_calls` (the one tool that this server runs, the
fusion, runs once), `prompt_cache_key` (every prefix is cached), `service_tier` auto, `truncation` disabled.
Source: OpenAI's Responses API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from local_fusion.errors import RequestError
from local_fusion.openai_api.fusion_fields import TOOL_TYPE, Effort
from local_fusion.openai_api.refusal import refusal_of
from local_fusion.openai_api.responses_input import Turns, parse_input
from local_fusion.openai_api.wire import Listed, Wire

MAX_METADATA = 16
LOGPROBS = "message.output_text.logprobs"
_Label = Annotated[str, Field(max_length=512)]
_REFUSED = {
    "conversation": "conversations are not kept here; use previous_response_id",
    "prompt": "no prompt templates are kept here; send instructions and input",
    "context_management": "nothing is compacted here",
    "moderation": "no moderation model is served here",
    "access_programs": "there are none here",
    "image": "the models here read text",
}
PASSED = (
    "model", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "stop", "seed", "thinking_token_budget", "ignore_eos", "chat_template_kwargs", "cache_salt", "plugins", "fusion",
    "parallel_tool_calls", "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "cache_control", "service_tier",
)  # fmt: skip
_CHAT_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "messages": "input",
    "verbosity": "text.verbosity",
    "logprobs": "include",
}


class _Format(Wire):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class _Text(Wire):
    format: _Format | None = None
    verbosity: Literal["medium"] | None = None


class _Reasoning(Wire):
    effort: Effort | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    summary: Literal["none"] | None = None
    generate_summary: None = None


class _StreamOptions(Wire):
    include_obfuscation: Literal[False] | None = None


class ResponsesBody(Wire):
    """What only Responses have, or name in their own way; the rest is checked as a chat body."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    input: Any = None
    instructions: str | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    tools: Listed[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[Listed[Literal["message.output_text.logprobs"]], Field(max_length=16)] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    previous_response_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    truncation: Literal["disabled"] | None = None
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=MAX_METADATA)] | None = None
    prompt_cache_key: _Label | None = None
    safety_identifier: _Label | None = None
    user: _Label | None = None


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A checked body. `chat`: the same as a chat body, without messages. `items`: this turn's input, each with an id.
    `head`: what the response object says of the request."""

    chat: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...]
    head: Mapping[str, Any]
    instructions: str | None = None
    stream: bool = False
    background: bool = False
    store: bool = True
    previous: str | None = None


def parse_responses(body: Mapping[str, Any], new_id: Callable[[str], str]) -> ResponsesRequest:
    """Check a body. Raises RequestError whose `param` names the field; nothing of the texts is repeated in it."""
    given = {name: value for name, value in body.items() if value is not None}
    for name, why in _REFUSED.items():
        if name in given:
            raise RequestError(f"{name} is not supported: {why}; leave it out", "unsupported_field", name)
    _refuse_by_name(given)
    try:
        wire = ResponsesBody.model_validate(given)
    except ValidationError as problem:
        raise refusal_of(problem) from None
    unknown = sorted(set(wire.model_extra or {}) - set(PASSED))
    if unknown:
        name = unknown[0][:64]
        raise RequestError(f"the field {name!r} is not supported; leave it out", "unknown_field", name)
    if "input" not in given:
        raise RequestError("the field 'input' is missing; add it", "missing_field", "input")
    if wire.background and wire.store is False:
        raise RequestError("background needs store: its answer is fetched later", "invalid_field", "background")
    if wire.stream_options is not None and not wire.stream:
        raise RequestError("stream_options needs stream: true", "invalid_field", "stream_options")
    return ResponsesRequest(
        chat=_chat(wire, given),
        items=parse_input(wire.input, new_id),
        head=_head(wire, given),
        instructions=wire.instructions,
        stream=bool(wire.stream),
        background=bool(wire.background),
        store=wire.store is not False,
        previous=wire.previous_response_id,
    )


def renamed(problem: RequestError, turns: Turns | None = None) -> RequestError:
    """A complaint about the chat body, told in the names of this API."""
    param, message = problem.param, problem.message
    if param is None:
        return problem
    ours = _our_name(param, turns)
    return RequestError(message.replace(param, ours), problem.code, ours)


def _our_name(param: str, turns: Turns | None) -> str:
    head, _, rest = param.partition(".")
    if head == "messages" and turns is not None:
        place = rest.partition(".")[0]
        if place.isdigit() and int(place) < len(turns.sources):
            return turns.sources[int(place)]
    for chat, ours in _CHAT_NAMES.items():
        if param == chat or param.startswith(f"{chat}."):
            return ours + param[len(chat) :]
    return param.replace(".function.", ".") if head == "tools" else param


def _refuse_by_name(given: Mapping[str, Any]) -> None:
    """Known wishes that are not granted here, each with its reason."""
    include = given.get("include")
    if isinstance(include, list):
        for place, entry in enumerate(include):
            if entry != LOGPROBS:
                raise RequestError(
                    f"include.{place} is not supported; the one value here is {LOGPROBS}",
                    "unsupported_field",
                    f"include.{place}",
                )
    metadata = given.get("metadata")
    if isinstance(metadata, Mapping) and len(metadata) > MAX_METADATA:
        raise RequestError(f"metadata may have {MAX_METADATA} entries at most", "too_many", "metadata")
    reasoning = given.get("reasoning")
    if isinstance(reasoning, Mapping) and reasoning.get("summary") not in (None, "none"):
        raise RequestError(
            "reasoning.summary is not supported: reasoning is given in the model's own words, as reasoning_text",
            "unsupported_field",
            "reasoning.summary",
        )
    if given.get("truncation") == "auto":
        raise RequestError(
            "truncation: only disabled is supported; send less, or leave it out", "unsupported_field", "truncation"
        )


def _chat(wire: ResponsesBody, given: Mapping[str, Any]) -> dict[str, Any]:
    chat = {name: given[name] for name in PASSED if name in given}
    tools, choice = _tools(wire)
    for name, value in (
        ("tools", tools),
        ("tool_choice", choice),
        ("max_completion_tokens", wire.max_output_tokens),
        ("response_format", _response_format(wire.text.format if wire.text else None)),
    ):
        if value is not None:
            chat[name] = value
    if wire.reasoning is not None:
        reasoning = wire.reasoning.model_dump(include={"effort", "max_tokens"}, exclude_none=True)
        if reasoning:
            chat["reasoning"] = reasoning
    if wire.include or wire.top_logprobs:
        chat["logprobs"] = True
        chat["top_logprobs"] = wire.top_logprobs or 0
    return chat


def _response_format(wanted: _Format | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    rest = wanted.model_dump(by_alias=True, exclude_none=True, exclude={"type"})
    if wanted.type != "json_schema":
        if rest:
            raise RequestError(f"text.format: {min(rest)} belongs to json_schema", "invalid_field", "text.format")
        return {"type": wanted.type}
    if wanted.name is None or wanted.schema_ is None:
        raise RequestError("text.format needs name and schema", "missing_field", "text.format")
    return {"type": "json_schema", "json_schema": rest}


def _tools(wire: ResponsesBody) -> tuple[list[dict[str, Any]] | None, Any]:
    """Tools and choice in chat's form; `allowed_tools` keeps only those that are allowed."""
    tools = None if wire.tools is None else [_tool(tool, f"tools.{place}") for place, tool in enumerate(wire.tools)]
    choice = wire.tool_choice
    if not isinstance(choice, dict):
        return tools, choice
    if choice.get("type") == "function" and isinstance(choice.get("name"), str) and len(choice) == 2:
        return tools, {"type": "function", "function": {"name": choice["name"]}}
    if choice.get("type") == "allowed_tools":
        return _allowed(tools or [], choice)
    return tools, choice


def _tool(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    given = {name: value for name, value in tool.items() if value is not None}
    kind = given.pop("type", None)
    if kind == TOOL_TYPE:
        return {"type": kind, **given}
    if kind != "function":
        raise RequestError(
            f"{where}: tools of type {str(kind)[:64]!r} are not served here; there are function and {TOOL_TYPE}",
            "unsupported_field",
            where,
        )
    function = {name: given.pop(name) for name in ("name", "description", "parameters", "strict") if name in given}
    cache = {"cache_control": given.pop("cache_control")} if "cache_control" in given else {}
    if given:
        field = f"{where}.{min(given)[:64]}"
        raise RequestError(f"the field {field!r} is not supported; leave it out", "unknown_field", field)
    return {"type": "function", "function": function, **cache}


def _allowed(tools: Sequence[dict[str, Any]], choice: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    allowed, mode = choice.get("tools"), choice.get("mode")
    if not isinstance(allowed, list) or len(allowed) > 128 or mode not in ("auto", "required") or len(choice) != 3:
        raise RequestError(
            "tool_choice of type allowed_tools needs mode (auto, required) and tools", "invalid_field", "tool_choice"
        )
    names = [one.get("name", one.get("type")) if isinstance(one, Mapping) else None for one in allowed]
    kept = [tool for tool in tools if _name(tool) in names]
    if any(name not in map(_name, kept) for name in names):
        raise RequestError(
            "tool_choice.tools names a tool that is not among tools", "invalid_field", "tool_choice.tools"
        )
    return kept, mode


def _name(tool: Mapping[str, Any]) -> Any:
    return tool["function"].get("name") if tool["type"] == "function" else tool["type"]


def _head(wire: ResponsesBody, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the response object repeats of the request."""
    text = wire.text.format if wire.text else None
    head = {
        "background": bool(wire.background),
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "max_tool_calls": wire.max_tool_calls,
        "model": given.get("model"),
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "previous_response_id": wire.previous_response_id,
        "reasoning": {"effort": wire.reasoning.effort if wire.reasoning else None, "summary": None},
        "service_tier": "default",
        "store": wire.store is not False,
        "temperature": given.get("temperature"),
        "text": {"format": text.model_dump(by_alias=True, exclude_none=True) if text else {"type": "text"}},
        "tool_choice": wire.tool_choice or "auto",
        "tools": [_echoed(tool) for tool in wire.tools or ()],
        "top_logprobs": wire.top_logprobs or 0,
        "top_p": given.get("top_p"),
        "truncation": "disabled",
        "metadata": wire.metadata or {},
        "error": None,
        "incomplete_details": None,
        "usage": None,
    }
    labels = ("user", "safety_identifier", "prompt_cache_key")
    return head | {name: given[name] for name in labels if name in given}


def _echoed(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as OpenAI gives it back: a function with all of its keys."""
    if tool.get("type") != "function":
        return dict(tool)
    return {"description": None, "parameters": None, "strict": None} | dict(tool)
