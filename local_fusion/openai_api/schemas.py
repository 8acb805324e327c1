"""The JSON schemas of request bodies, for the OpenAPI file: the very models that check them, references written out."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from local_fusion.openai_api.completions import WireCompletion
from local_fusion.openai_api.fusion_fields import OwnFields, Plugin, ServerTool
from local_fusion.openai_api.request import WireBody
from local_fusion.openai_api.tokens import WireDetokenize, WireTokenize

_PARTS = {
    "type": "array",
    "items": {"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"]},
}
_FUNCTION = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "description": {"type": "string"},
                "parameters": {"type": "object"},
                "strict": {"type": "boolean"},
            },
            "required": ["name"],
            "additionalProperties": False,
        },
    },
    "required": ["type", "function"],
}


def chat_schema() -> dict[str, Any]:
    """Of `/v1/chat/completions`."""
    schema = schema_of_model(WireBody)
    fields = schema["properties"]
    fields["plugins"] = _or_null({"type": "array", "items": schema_of_model(Plugin)})
    fields["tools"] = _or_null({"type": "array", "items": {"anyOf": [_FUNCTION, schema_of_model(ServerTool)]}})
    fields["fusion"] = _or_null(schema_of_model(OwnFields))
    fields["stop"] = _or_null({"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 16})
    message = fields["messages"]["items"]["properties"]
    message["content"] = _or_null({"type": "string"}, _PARTS)
    return schema


def completion_schema() -> dict[str, Any]:
    """Of `/v1/completions`."""
    schema = schema_of_model(WireCompletion)
    schema["properties"]["stop"] = _or_null({"type": "string"}, {"type": "array", "items": {"type": "string"}})
    return schema


def tokenize_schema() -> dict[str, Any]:
    """Of `/tokenize`."""
    return schema_of_model(WireTokenize)


def detokenize_schema() -> dict[str, Any]:
    """Of `/detokenize`."""
    return schema_of_model(WireDetokenize)


def error_schema() -> dict[str, Any]:
    """Of every error."""
    text = {"type": "string"}
    error = {
        "type": "object",
        "properties": {"message": text, "type": text, "param": _or_null(text), "code": _or_null(text)},
        "required": ["message", "type", "param", "code"],
    }
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def schema_of_model(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema with every reference replaced by what it refers to; the models of this room do not recur."""
    schema = model.model_json_schema()
    known = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(known[value["$ref"].rpartition("/")[2]])
            return {key: inlined(entry) for key, entry in value.items()}
        return [inlined(entry) for entry in value] if isinstance(value, list) else value

    found: dict[str, Any] = inlined(schema)
    return found


def _or_null(*kinds: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*kinds, {"type": "null"}]}
