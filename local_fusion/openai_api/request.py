"""The body of a chat completion request, checked field by field, to a `ChatRequest`.

Invariant: every field is honoured or refused by name; none is accepted and then ignored. Hints that hold of themselves
are accepted: `cache_control` and `prompt_cache_key` (every prefix is cached), `service_tier` auto, `verbosity` medium.
`user` and `safety_identifier` are kept as labels of the request. Source: OpenAI's Chat Completions API, vLLM's
additional sampling fields, OpenRouter's `reasoning`, `usage` and fusion fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from local_fusion.config.schema import SamplingSettings
from local_fusion.errors import RequestError
from local_fusion.openai_api.fusion_fields import CacheControl, Effort, FusionFields, parse_fusion
from local_fusion.openai_api.messages import MAX_MESSAGES, WireMessage, messages_of
from local_fusion.openai_api.refusal import refusal_of
from local_fusion.openai_api.tools import check_choice, client_tools, schema_of
from local_fusion.openai_api.wire import Listed, Wire
from local_fusion.types import Message, Request, Sampling

FUSION_ALIAS = "openrouter/fusion"
FLASH_ALIAS = "openrouter/fusion-flash"
FLASH_PRESET = "general-fast"
MAX_STOPS = 16
MAX_CHOICES = 32
MAX_TOP_LOGPROBS = 20
MAX_MODALITIES = 16
_TEMPLATE_OWN = {
    "chat_template", "conversation", "messages", "tools", "tokenize", "return_tensors", "return_dict", "padding",
    "truncation", "max_length", "add_generation_prompt", "continue_final_message", "tokenizer_kwargs",
}  # fmt: skip
_Label = Annotated[str, Field(max_length=512)]
_REFUSED = {
    "logit_bias": "token ids differ from model to model",
    "prediction": "no engine here takes one",
    "audio": "the models here write text",
    "web_search_options": "this server is offline",
}


class WireStreamOptions(Wire):
    """`include_usage`: a last chunk with the usage."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class WireUsage(Wire):
    """OpenRouter's switch of what the usage holds; here: the breakdown by stage and member."""

    include: bool = False


class WireReasoning(Wire):
    """OpenRouter's unified reasoning: `effort` or `max_tokens` of thinking; `exclude`: do not send it."""

    effort: Effort | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class WireBody(Wire):
    """A chat completion request."""

    messages: Listed[WireMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
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
    stop: Listed[str] | None = None
    thinking_token_budget: int | None = None
    ignore_eos: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: dict[str, Any] | None = None
    tools: Listed[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    plugins: Listed[dict[str, Any]] | None = None
    fusion: dict[str, Any] | None = None
    reasoning_effort: Effort | None = None
    reasoning: WireReasoning | None = None
    include_reasoning: bool | None = None
    stream: bool | None = None
    stream_options: WireStreamOptions | None = None
    usage: WireUsage | None = None
    metadata: dict[str, Any] | None = None
    user: _Label | None = None
    safety_identifier: _Label | None = None
    prompt_cache_key: _Label | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory"] | None = None
    cache_control: CacheControl | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: Annotated[Listed[Literal["text"]], Field(max_length=MAX_MODALITIES)] | None = None
    verbosity: Literal["medium"] | None = None
    store: Literal[False] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _stops(cls, value: Any) -> Any:
        stops = [value] if isinstance(value, str) else value
        if isinstance(stops, list) and (len(stops) > MAX_STOPS or "" in stops):
            raise PydanticCustomError("stop", "give up to 16 texts, none of them empty")
        return stops

    @field_validator("store", mode="before")
    @classmethod
    def _store(cls, value: Any) -> Any:
        if value:
            raise PydanticCustomError("store", "chat completions are not stored here; POST /v1/responses stores")
        return value

    @field_validator("chat_template_kwargs")
    @classmethod
    def _harmless(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and not _TEMPLATE_OWN.isdisjoint(value):
            raise PydanticCustomError("template", "it may not replace the template or what is rendered")
        return value

    @field_validator("metadata")
    @classmethod
    def _flat(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and any(isinstance(entry, dict | list) for entry in value.values()):
            raise PydanticCustomError("metadata", "values must be text, numbers or booleans")
        return value


_SAMPLING_FIELDS = tuple(name for name in SamplingSettings.model_fields if name in WireBody.model_fields)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked body, of chat or of whatever else asks for a conversation to be continued.

    `sampling` holds only what the client gave; `model` names a fusion or member, or is None. `tools` are the client's
    own. `logprobs`: None, or how many of the likeliest tokens beside each chosen one. `thinking_tokens` bounds the
    thinking of a model that thinks. `labels`: who asks, as the client says; kept with the request's metadata.
    """

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
    n: int = 1
    logprobs: int | None = None
    parallel_tools: bool = True
    fusion: FusionFields = field(default_factory=FusionFields)
    thinking_tokens: int | None = None
    show_reasoning: bool = True
    stream_usage: bool = False
    full_usage: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def request(self, request_id: str, seed: int, base: Sampling) -> Request:
        """The `Request` of a fusion under this id; `seed` where the client gave none; `base`: the sampling of the final
        answer that the client's fields are put over. Raises RequestError for what a fusion cannot do."""
        self.check_fusable()
        sampling = None
        if self.sampling is not None:  # how to think is each writer's own: what is not given here stays open
            sampling = replace(
                self.sampling.over(base),
                thinking_token_budget=self.sampling.thinking_token_budget,
                chat_template_kwargs=self.sampling.chat_template_kwargs or {},
            )
        return Request(
            id=request_id,
            messages=self.messages,
            seed=seed if self.seed is None else self.seed,
            sampling=sampling,
            json_schema=self.json_schema,
            tools=self.tools,
            tool_choice=self.tool_choice,
            cache_salt=self.cache_salt,
            metadata={**self.metadata, **self.labels},
            max_tokens=None if self.sampling is None else self.sampling.max_tokens,
        )

    def check_fusable(self) -> None:
        """Raises RequestError for a field that has no meaning for a fusion as a whole."""
        refused = {
            "n": (self.n != 1, "a fusion gives one answer; ask a member, or leave n out"),
            "logprobs": (self.logprobs is not None, "a fusion has no log-probabilities; ask a member"),
            "plugins": (self.fusion.plugin, "this door runs one fusion for all; leave plugins out"),
            "tools": (self.fusion.tool, "this door runs one fusion for all; leave the fusion tool out"),
            "fusion": (self.fusion.own, "this door runs one fusion for all; leave fusion out"),
            "parallel_tool_calls": (not self.parallel_tools, "it must be true here; leave it out"),
            "include_reasoning": (not self.show_reasoning, "the receipt holds everything; leave it out"),
            "reasoning.max_tokens": (self.thinking_tokens is not None, "give thinking_token_budget"),
        }
        for name, (wrong, why) in refused.items():
            if wrong:
                raise RequestError(f"{name} is not supported: {why}", "unsupported_field", name)

    def plain(self) -> ChatRequest:
        """The same without what is done outside the fusion itself: its fields are in the recipe by then."""
        return replace(self, fusion=FusionFields(), parallel_tools=True, show_reasoning=True, thinking_tokens=None)


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Check a chat completion body. Raises RequestError whose `param` names the field; nothing of the texts is
    repeated in it."""
    for name, why in _REFUSED.items():
        if body.get(name) not in (None, {}):
            raise RequestError(f"{name} is not supported: {why}; leave it out", "unsupported_field", name)
    try:
        wire = WireBody.model_validate({name: value for name, value in body.items() if name not in _REFUSED})
        sampling = _sampling(wire)
    except ValidationError as problem:
        raise refusal_of(problem) from None
    fusion, own_tools = parse_fusion(wire.plugins, wire.tools, wire.fusion)
    tools = client_tools(own_tools)
    check_choice(wire.tool_choice, tools, fusion.asked)
    if wire.top_logprobs is not None and not wire.logprobs:
        raise RequestError("top_logprobs needs logprobs: true", "invalid_field", "top_logprobs")
    if wire.stream_options is not None and not wire.stream:
        raise RequestError("stream_options needs stream: true", "invalid_field", "stream_options")
    reasoning = wire.reasoning or WireReasoning()
    return ChatRequest(
        messages=messages_of(wire.messages),
        model=wire.model,
        sampling=sampling,
        seed=wire.seed,
        json_schema=schema_of(wire.response_format),
        tools=tools,
        tool_choice=wire.tool_choice,
        metadata=wire.metadata or {},
        cache_salt=wire.cache_salt,
        stream=bool(wire.stream),
        n=wire.n or 1,
        logprobs=(wire.top_logprobs or 0) if wire.logprobs else None,
        parallel_tools=wire.parallel_tool_calls is not False,
        fusion=fusion,
        thinking_tokens=reasoning.max_tokens,
        show_reasoning=not reasoning.exclude and wire.include_reasoning is not False,
        stream_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        full_usage=bool(wire.usage and wire.usage.include),
        labels={name: value for name in ("user", "safety_identifier") if (value := getattr(wire, name)) is not None},
    )


def effort_kwargs(effort: str) -> dict[str, Any]:
    """How chat templates are told of an effort: `reasoning_effort` as such, and thinking off for none and minimal."""
    thinks = effort not in ("none", "minimal")
    return {"reasoning_effort": effort, "enable_thinking": thinks, "thinking": thinks}


def _sampling(wire: WireBody) -> SamplingSettings | None:
    given = {name: value for name in _SAMPLING_FIELDS if (value := getattr(wire, name)) is not None}
    if wire.max_completion_tokens is not None:
        if given.get("max_tokens", wire.max_completion_tokens) != wire.max_completion_tokens:
            raise RequestError(
                "max_tokens and max_completion_tokens differ; give one", "invalid_field", "max_completion_tokens"
            )
        given["max_tokens"] = wire.max_completion_tokens
    template = _template(wire)
    if template:
        given["chat_template_kwargs"] = template | given.get("chat_template_kwargs", {})
    return SamplingSettings(**given) if given else None


def _template(wire: WireBody) -> dict[str, Any]:
    """What the template is told of reasoning; a client's own `chat_template_kwargs` stand above it."""
    reasoning = wire.reasoning or WireReasoning()
    if wire.reasoning_effort is not None and reasoning.effort not in (None, wire.reasoning_effort):
        raise RequestError("reasoning_effort and reasoning.effort differ; give one", "invalid_field", "reasoning")
    effort = wire.reasoning_effort or reasoning.effort
    if effort is not None:
        return effort_kwargs(effort)
    return {} if reasoning.enabled is None else {"enable_thinking": reasoning.enabled, "thinking": reasoning.enabled}
