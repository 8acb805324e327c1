"""The turns of a conversation as clients send them, to `Message`s.

Reasoning of past turns (`reasoning`, `reasoning_content`, `reasoning_details`) is accepted and left out: chat templates
strip it, and a judge must not read it. `parsed` and `parsed_arguments` are what OpenAI's SDK made of a text that is
there anyway; `type` is a word of lm-evaluation-harness for every turn. Pictures and sound are refused by name:
the models here read text. No address is ever fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from local_fusion.errors import RequestError
from local_fusion.openai_api.fusion_fields import CacheControl
from local_fusion.openai_api.wire import Listed, Wire
from local_fusion.types import Message, Role, ToolCall

MAX_MESSAGES = 4096
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_MEDIA = ("image_url", "input_image", "input_audio", "audio", "video_url", "input_video")


class WireFunction(Wire):
    """What a past call of a tool called."""

    name: str = Field(min_length=1, max_length=256)
    arguments: str
    parsed_arguments: Any = None


class WireToolCall(Wire):
    """A past call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: WireFunction
    index: int | None = None


class WireMessage(Wire):
    """One turn."""

    role: Role
    type: Literal["text", "message"] | None = None
    content: str | None = None
    name: str | None = None
    tool_calls: Listed[WireToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[Any] | None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    audio: None = None
    function_call: None = None
    parsed: Any = None
    cache_control: CacheControl | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        """Joins a list of text parts; any other kind of part is refused by its name."""
        return "\n".join(_part(part) for part in value) if isinstance(value, list) else value


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _MEDIA:
        raise PydanticCustomError("part", "parts of type {kind} are not supported: the models here read text",
                                  {"kind": str(kind)})  # fmt: skip
    if kind in ("file", "input_file"):
        raise PydanticCustomError("part", "a file is given by the id of an uploaded file, in a turn of the user")
    name = _TEXTS.get(kind) if isinstance(kind, str) else None
    text = part.get(name) if name is not None else None
    if name is None or not isinstance(text, str):
        raise PydanticCustomError("part", "only parts of the form {{type: text, text: …}} are supported")
    unknown = sorted(set(part) - {"type", name, "cache_control", "annotations"})
    if unknown or part.get("annotations"):
        raise PydanticCustomError("part", "a part of text has only type, text and cache_control")
    if part.get("cache_control") is not None:
        CacheControl.model_validate(part["cache_control"])
    return text


def messages_of(entries: Sequence[WireMessage]) -> tuple[Message, ...]:
    """The conversation. Raises RequestError naming the turn; nothing of the texts is repeated."""
    messages = tuple(_message(entry, f"messages.{place}") for place, entry in enumerate(entries))
    if not any(message.role == "user" for message in messages):
        raise RequestError("messages holds no turn of the user; add one", "invalid_field", "messages")
    if messages[-1].role not in ("user", "tool"):
        raise RequestError("the last of messages must be of the user or a tool", "invalid_field", "messages")
    return messages


def _message(wire: WireMessage, where: str) -> Message:
    content = wire.content if wire.content is not None else wire.refusal
    if content is None and not wire.tool_calls:
        raise RequestError(f"{where}.content is missing; give the turn a text", "missing_field", f"{where}.content")
    if content is not None and "\0" in content:
        raise RequestError(f"{where}.content holds a NUL character; remove it", "nul_character", f"{where}.content")
    for name in ("tool_calls", "refusal", "reasoning", "reasoning_content", "reasoning_details"):
        if getattr(wire, name) and wire.role != "assistant":
            raise RequestError(f"{where}.{name} belongs to an assistant's turn", "invalid_field", f"{where}.{name}")
    if (wire.role == "tool") != (wire.tool_call_id is not None):
        raise RequestError(
            f"{where}.tool_call_id belongs to a tool's turn, and only there",
            "invalid_field",
            f"{where}.tool_call_id",
        )
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in wire.tool_calls or ())
    return Message(wire.role, content or "", wire.name, calls, wire.tool_call_id)
