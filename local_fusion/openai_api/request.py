"""The body of a chat completion request, checked field by field, to the pieces of a `Request`.

Invariant: every field is honoured or refused by name; none is accepted and then ignored. Source: OpenAI's Chat
Completions API, with vLLM's additional sampling fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from local_fusion.config.schema import SamplingSettings
from local_fusion.errors import RequestError
from local_fusion.types import Message, Request, Role, Sampling, ToolCall

FUSION_ALIAS = "openrouter/fusion"
MAX_STOPS = 16
_NEUTRAL = {"n": 1, "logprobs": False, "store": False, "parallel_tool_calls": True, "stream_options": None}


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _WireFunction(_Wire):
    name: str
    arguments: str


class _WireToolCall(_Wire):
    id: str
    type: Literal["function"] = "function"
    function: _WireFunction


class _WireMessage(_Wire):
    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: list[_WireToolCall] | None = None
    tool_call_id: str | None = None
    refusal: None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        """Joins a list of text parts; any other kind of part is refused by its name."""
        if not isinstance(value, list):
            return value
        texts = []
        for part in value:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text" or not isinstance(part.get("text"), str) or len(part) != 2:
                raise PydanticCustomError("part", "only parts of the form {{type: text, text: …}} are supported")
            texts.append(part["text"])
        return "\n".join(texts)


class _WireBody(_Wire):
    messages: list[_WireMessage] = Field(min_length=1)
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: list[str] | None = None
    thinking_token_budget: int | None = None
    ignore_eos: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    metadata: dict[str, Any] | None = None
    cache_salt: str | None = None
    stream: bool | None = None
    n: Any = None
    logprobs: Any = None
    store: Any = None
    parallel_tool_calls: Any = None
    stream_options: Any = None

    @field_validator("stop", mode="before")
    @classmethod
    def _stops(cls, value: Any) -> Any:
        stops = [value] if isinstance(value, str) else value
        if isinstance(stops, list) and (len(stops) > MAX_STOPS or "" in stops):
            raise PydanticCustomError("stop", "give up to 16 texts, none of them empty")
        return stops

    @field_validator("metadata")
    @classmethod
    def _flat(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and any(isinstance(entry, dict | list) for entry in value.values()):
            raise PydanticCustomError("metadata", "values must be text, numbers or booleans")
        return value


_SAMPLING_FIELDS = tuple(name for name in SamplingSettings.model_fields if name in _WireBody.model_fields)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked body. `sampling` holds only what the client gave; `model` names a fusion or model, or is None."""

    messages: tuple[Message, ...]
    model: str | None = None
    sampling: SamplingSettings | None = None
    seed: int | None = None
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cache_salt: str | None = None
    stream: bool = False

    def request(self, request_id: str, seed: int, base: Sampling) -> Request:
        """The `Request` under this id; `seed` where the client gave none; `base`: the sampling of the final answer
        that the client's fields are put over."""
        return Request(
            id=request_id,
            messages=self.messages,
            seed=seed if self.seed is None else self.seed,
            sampling=None if self.sampling is None else self.sampling.over(base),
            json_schema=self.json_schema,
            tools=self.tools,
            tool_choice=self.tool_choice,
            cache_salt=self.cache_salt,
            metadata=self.metadata,
        )


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Check a chat completion body. Raises RequestError whose `param` names the field; nothing of the texts is
    repeated in it."""
    try:
        wire = _WireBody.model_validate(body)
        sampling = _sampling(wire)
    except ValidationError as problem:
        raise _refusal(problem) from None
    for name, neutral in _NEUTRAL.items():
        given = getattr(wire, name)
        if given is not None and (type(given) is not type(neutral) or given != neutral):
            raise RequestError(f"{name} is not supported; leave it out", "unsupported_field", name)
    messages = tuple(_message(entry, f"messages.{place}") for place, entry in enumerate(wire.messages))
    _check_turns(messages)
    tools = tuple(wire.tools or ())
    _check_tools(tools, wire.tool_choice)
    return ChatRequest(
        messages=messages,
        model=wire.model,
        sampling=sampling,
        seed=wire.seed,
        json_schema=_schema(wire.response_format),
        tools=tools,
        tool_choice=wire.tool_choice,
        metadata=wire.metadata or {},
        cache_salt=wire.cache_salt,
        stream=bool(wire.stream),
    )


def _sampling(wire: _WireBody) -> SamplingSettings | None:
    given = {name: value for name in _SAMPLING_FIELDS if (value := getattr(wire, name)) is not None}
    if wire.max_completion_tokens is not None:
        if given.get("max_tokens", wire.max_completion_tokens) != wire.max_completion_tokens:
            raise RequestError(
                "max_tokens and max_completion_tokens differ; give one", "invalid_field", "max_completion_tokens"
            )
        given["max_tokens"] = wire.max_completion_tokens
    return SamplingSettings(**given) if given else None


def _refusal(problem: ValidationError) -> RequestError:
    first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
    param = ".".join(str(part)[:64] for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return RequestError(f"the field {param!r} is not supported; leave it out", "unknown_field", param)
    if first["type"] == "missing":
        return RequestError(f"the field {param!r} is missing; add it", "missing_field", param)
    return RequestError(f"{param}: {first['msg']}", "invalid_field", param)


def _message(wire: _WireMessage, where: str) -> Message:
    if wire.content is None and not wire.tool_calls:
        raise RequestError(f"{where}.content is missing; give the turn a text", "missing_field", f"{where}.content")
    if wire.content is not None and "\0" in wire.content:
        raise RequestError(f"{where}.content holds a NUL character; remove it", "nul_character", f"{where}.content")
    if wire.tool_calls and wire.role != "assistant":
        raise RequestError(f"{where}.tool_calls belongs to an assistant's turn", "invalid_field", f"{where}.tool_calls")
    if (wire.role == "tool") != (wire.tool_call_id is not None):
        raise RequestError(
            f"{where}.tool_call_id belongs to a tool's turn, and only there",
            "invalid_field",
            f"{where}.tool_call_id",
        )
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in wire.tool_calls or ())
    return Message(wire.role, wire.content or "", wire.name, calls, wire.tool_call_id)


def _check_turns(messages: tuple[Message, ...]) -> None:
    if not any(message.role == "user" for message in messages):
        raise RequestError("messages holds no turn of the user; add one", "invalid_field", "messages")
    if messages[-1].role not in ("user", "tool"):
        raise RequestError("the last of messages must be of the user or a tool", "invalid_field", "messages")


def _schema(response_format: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if response_format is None or response_format == {"type": "text"}:
        return None
    if response_format == {"type": "json_object"}:
        return {"type": "object"}
    wrapped = response_format.get("json_schema")
    if response_format.get("type") != "json_schema" or len(response_format) != 2 or not isinstance(wrapped, dict):
        raise RequestError(
            "response_format must be text, json_object or json_schema in OpenAI's form",
            "invalid_field",
            "response_format",
        )
    unknown = set(wrapped) - {"name", "description", "schema", "strict"}
    schema = wrapped.get("schema")
    if unknown or not isinstance(schema, dict):
        raise RequestError(
            "response_format.json_schema takes name, description, strict and schema, which is an object",
            "invalid_field",
            "response_format.json_schema",
        )
    return schema


def _check_tools(tools: tuple[Mapping[str, Any], ...], choice: Any) -> None:
    names = set()
    for place, tool in enumerate(tools):
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if tool.get("type") != "function" or len(tool) != 2 or not isinstance(name, str):
            raise RequestError(
                f"tools.{place} must be of the form {{type: function, function: {{name: …}}}}",
                "invalid_field",
                f"tools.{place}",
            )
        names.add(name)
    if choice is None or choice in ("none", "auto") or (choice == "required" and tools):
        return
    wanted = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    if not isinstance(wanted, dict) or wanted.get("name") not in names:
        raise RequestError(
            "tool_choice must be none, auto, required, or name one of tools", "invalid_field", "tool_choice"
        )
