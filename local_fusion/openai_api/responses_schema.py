"""The JSON schema of a Responses request, for the OpenAPI file."""

from __future__ import annotations

from typing import Any

from local_fusion.openai_api.fusion_fields import OwnFields, Plugin, ServerTool
from local_fusion.openai_api.request import WireBody
from local_fusion.openai_api.responses_request import PASSED, ResponsesBody
from local_fusion.openai_api.schemas import schema_of_model

_TEXT = {"type": "string"}
_FUNCTION = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "name": {"type": "string", "minLength": 1},
        "description": _TEXT,
        "parameters": {"type": "object"},
        "strict": {"type": "boolean"},
    },
    "required": ["type", "name"],
    "additionalProperties": False,
}
_PART = {
    "type": "object",
    "properties": {
        "type": {"enum": ["input_text", "output_text", "input_file"]},
        "text": _TEXT,
        "file_id": _TEXT,
        "file_data": _TEXT,
        "filename": _TEXT,
    },
    "required": ["type"],
    "additionalProperties": False,
}
_CONTENT = {"anyOf": [_TEXT, {"type": "array", "items": _PART}]}
_MESSAGE = {
    "type": "object",
    "properties": {
        "type": {"const": "message"},
        "role": {"enum": ["user", "assistant", "system", "developer"]},
        "content": _CONTENT,
    },
    "required": ["role", "content"],
    "additionalProperties": False,
}
_CALL = {
    "type": "object",
    "properties": {"type": {"const": "function_call"}, "call_id": _TEXT, "name": _TEXT, "arguments": _TEXT},
    "required": ["type", "call_id", "name", "arguments"],
}
_OUTPUT = {
    "type": "object",
    "properties": {"type": {"const": "function_call_output"}, "call_id": _TEXT, "output": _CONTENT},
    "required": ["type", "call_id", "output"],
}
_EARLIER = {
    "type": "object",
    "properties": {"type": {"enum": ["reasoning", "openrouter:fusion"]}},
    "required": ["type"],
}


def responses_schema() -> dict[str, Any]:
    """Of `POST /v1/responses`."""
    schema = schema_of_model(ResponsesBody)
    chat = schema_of_model(WireBody)["properties"]
    fields = {name: chat[name] for name in PASSED} | schema["properties"]
    items = {"type": "array", "minItems": 1, "items": {"anyOf": [_MESSAGE, _CALL, _OUTPUT, _EARLIER]}}
    fields["input"] = {"anyOf": [_TEXT, items]}
    fields["tools"] = _or_null({"type": "array", "items": {"anyOf": [_FUNCTION, schema_of_model(ServerTool)]}})
    fields["plugins"] = _or_null({"type": "array", "items": schema_of_model(Plugin)})
    fields["fusion"] = _or_null(schema_of_model(OwnFields))
    return {**schema, "properties": fields, "required": ["input"], "additionalProperties": False}


def _or_null(kind: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [kind, {"type": "null"}]}
