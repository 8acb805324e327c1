"""The JSON schema of `models.yaml`, for editors; generated from the settings, committed, and held fresh by a test."""

from __future__ import annotations

from typing import Any

from local_fusion.config.schema import FusionSettings, ModelSettings, RuntimeSettings
from local_fusion.config.server import ServerSettings


def editor_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a whole configuration file."""
    definitions: dict[str, Any] = {}
    for kind in (ModelSettings, FusionSettings, RuntimeSettings, ServerSettings):
        schema = kind.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        definitions[kind.__name__] = schema
    _allow_names(definitions["FusionSettings"]["properties"])
    name = {"type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "local-fusion models.yaml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "models": {"type": "object", "additionalProperties": {"$ref": "#/$defs/ModelSettings"}},
            "fusions": {"type": "object", "additionalProperties": {"$ref": "#/$defs/FusionSettings"}},
            "default": {"anyOf": [name, {"type": "array", "items": name}]},
            "runtime": {"$ref": "#/$defs/RuntimeSettings"},
            "server": {"$ref": "#/$defs/ServerSettings"},
        },
        "$defs": definitions,
    }


def _allow_names(fusion: dict[str, Any]) -> None:
    """A plain name may stand for a member with one sample, and for a list of one writer."""
    fusion["panel"]["items"] = {"anyOf": [{"type": "string"}, fusion["panel"]["items"]]}
    fusion["writer"] = {"anyOf": [{"type": "string"}, dict(fusion["writer"])]}
