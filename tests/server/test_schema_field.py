"""A client's JSON schema at the door: what no engine should be given is refused by name, and the rest goes through."""

from __future__ import annotations

import pytest

from local_fusion.errors import RequestError
from local_fusion.openai_api.tools import client_tools, schema_of

FIELD = "response_format.json_schema"
NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "$ref": {"type": "string"}}}
GOOD = [
    {},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": NODE}},
    {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": True}},
    {"anyOf": [{"type": "string"}, {"$ref": "#/anyOf/0"}]},
    {"$ref": "#/$defs/Gr%C3%B6%C3%9Fe%3Cint%3E", "$defs": {"Größe<int>": {}}},
    {"properties": {"again": {"$ref": "#"}}},
    {"const": {"$ref": "http://example.com"}, "examples": [{"$ref": "no"}]},
    {"properties": {"enum": {"$ref": "#/$defs/x"}}, "$defs": {"x": {}}},
]
BAD = [
    {"$ref": "http://127.0.0.1/schema"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "other.json#/a"},
    {"$ref": ""},
    {"$ref": "#/$defs/none"},
    {"$ref": "#anchor", "$defs": {"a": {"$anchor": "anchor"}}},
    {"$dynamicRef": "https://example.com/x"},
    {"properties": {"enum": {"$ref": "#/gone"}}},
    {"anyOf": [{"items": {"$ref": "#/anyOf/7"}}]},
    {"anyOf": [{"items": {"$ref": "#/anyOf/" + "9" * 5000}}]},
    {"$ref": "#/type", "type": "string"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"$ref": "#"},
]


def asked(schema):
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


def nested(levels, key="a"):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {key: schema}}
    return schema


@pytest.mark.parametrize("schema", [*GOOD, nested(15)])
def test_a_schema_that_stands_alone_goes_through(schema):
    assert schema_of(asked(schema)) == schema


@pytest.mark.parametrize("schema", BAD)
def test_a_reference_that_leads_nowhere_within_is_refused_by_name(schema):
    with pytest.raises(RequestError) as caught:
        schema_of(asked(schema))
    assert caught.value.param == FIELD
    assert "example.com" not in caught.value.message


@pytest.mark.parametrize(
    "schema",
    [nested(16), nested(300), nested(50_000), {"enum": [[]] * 5000}, {"properties": {str(n): {} for n in range(5000)}}],
    ids=["a little deep", "deep", "very deep", "long", "wide"],
)
def test_a_schema_too_deep_or_too_large_is_refused_before_any_row(schema):
    with pytest.raises(RequestError) as caught:
        schema_of(asked(schema))
    assert (caught.value.code, caught.value.param) == ("schema_too_large", FIELD)
    with pytest.raises(RequestError) as caught:
        client_tools(({"type": "function", "function": {"name": "f", "parameters": schema}},))
    assert (caught.value.code, caught.value.param) == ("schema_too_large", "tools.0.function.parameters")
