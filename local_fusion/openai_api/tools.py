"""The client's own tools, its choice among them, and the form it wants of the final answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from local_fusion.errors import RequestError
from local_fusion.openai_api.fusion_fields import TOOL_TYPE, CacheControl
from local_fusion.openai_api.json_schema import check_schema
from local_fusion.openai_api.refusal import refusal_of

FUSION_FUNCTION = "openrouter_fusion"
"""Name under which an outer model sees the fusion as a function; `tool_choice` may name it."""
_FORM = "must be of the form {type: function, function: {name: …}}"


def client_tools(tools: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    """Checked function tools, without `cache_control`. Raises RequestError naming the place."""
    return tuple(_tool(tool, f"tools.{place}") for place, tool in enumerate(tools))


def _tool(tool: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    known = set(tool) <= {"type", "function", "cache_control"}
    if tool.get("type") != "function" or not known or not isinstance(name, str) or not name:
        raise RequestError(f"{where} {_FORM}", "invalid_field", where)
    check_free(name, f"{where}.function.name")
    unknown = set(function or {}) - {"name", "description", "parameters", "strict"}
    if unknown:
        field = f"{where}.function.{min(unknown)[:64]}"
        raise RequestError(f"the field {field!r} is not supported; leave it out", "unknown_field", field)
    _check_function(function or {}, f"{where}.function")
    if tool.get("cache_control") is not None:
        try:
            CacheControl.model_validate(tool["cache_control"])
        except ValidationError as problem:
            raise refusal_of(problem, f"{where}.cache_control") from None
    return {"type": "function", "function": dict(function or {})}


def _check_function(function: Mapping[str, Any], where: str) -> None:
    kinds = {"description": str, "parameters": dict, "strict": bool}
    for name, kind in kinds.items():
        if function.get(name) is not None and not isinstance(function[name], kind):
            raise RequestError(f"{where}.{name} has the wrong type", "invalid_field", f"{where}.{name}")
    if function.get("parameters"):
        check_schema(function["parameters"], f"{where}.parameters")


def check_free(name: str, where: str) -> None:
    """Raises RequestError for the name that belongs to the fusion."""
    if name == FUSION_FUNCTION:
        raise RequestError(f"{where}: {FUSION_FUNCTION} is the fusion's own name; rename it", "invalid_field", where)


def names_fusion(choice: Any) -> bool:
    """Whether `tool_choice` names the fusion: by its type, or by the name of its function."""
    if not isinstance(choice, Mapping):
        return False
    if choice.get("type") == TOOL_TYPE:
        return True
    wanted = choice.get("function")
    name = wanted.get("name") if isinstance(wanted, Mapping) else choice.get("name")
    return choice.get("type") == "function" and name in (FUSION_FUNCTION, TOOL_TYPE)


def check_choice(choice: Any, tools: tuple[Mapping[str, Any], ...], fusion: bool) -> None:
    """`fusion`: a fusion is among what can be chosen. Raises RequestError."""
    if choice is None or choice in ("none", "auto") or (choice == "required" and (tools or fusion)):
        return
    if fusion and names_fusion(choice):
        return
    wanted = choice.get("function") if isinstance(choice, Mapping) and choice.get("type") == "function" else None
    if not isinstance(wanted, Mapping) or wanted.get("name") not in [tool["function"]["name"] for tool in tools]:
        raise RequestError(
            "tool_choice must be none, auto, required, or name one of tools", "invalid_field", "tool_choice"
        )


def schema_of(response_format: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The JSON schema that the engine holds the final answer to; None: text. Raises RequestError."""
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
    check_schema(schema, "response_format.json_schema")
    return schema
