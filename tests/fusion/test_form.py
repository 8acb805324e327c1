"""The form of a client's schema: judged rightly for plain schemas, and within bounds whatever schema and text are."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from jsonschema import ValidationError, validate

from local_fusion.fusion.form import is_of_form
from local_fusion.fusion.fuse import fuse
from tests.fusion.fusion_fakes import FakeEngine, engines_of, recipe_of, request_of

PATTERNED = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[a-z]{1,9}$"}},
    "patternProperties": {"^x_": {"type": "integer"}},
    "additionalProperties": False,
    "required": ["name"],
}
LISTED = {"type": "array", "uniqueItems": True, "items": {"type": ["number", "boolean", "object"]}, "maxItems": 4}
NESTED = {
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"enum": [1, 2]}}}},
    "$ref": "#/$defs/node",
}
OLD = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "definitions": {"pair": {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]}},
    "$ref": "#/definitions/pair",
}
VALUES = [
    *({}, {"name": "ada"}, {"name": "Ada"}, {"name": "ada", "x_a": 1}, {"name": "ada", "x_a": "1"}),
    *({"name": "ada", "y": 1}, {"next": {"n": 2}}, {"next": {"next": {"n": 3}}}, {"next": 3}),
    *(
        [1, 2.5],
        [1, 1.0],
        [1, True],
        [{"a": 1}, {"a": 1.0}],
        [{"a": 1}, {"a": True}],
        [1, 2, 3, 4, 5],
        [1, "a"],
        ["a", 1],
    ),
    *("text", 3, None),
]


@pytest.mark.parametrize("schema", [PATTERNED, LISTED, NESTED, OLD])
def test_the_verdict_is_that_of_a_full_validation(schema):
    verdicts = []
    for value in VALUES:
        try:
            validate(value, schema)
            verdicts.append(True)
        except ValidationError:
            verdicts.append(False)
    assert [is_of_form(json.dumps(value), schema) for value in VALUES] == verdicts
    assert True in verdicts
    assert False in verdicts


@pytest.mark.parametrize("text", ["", "prose", "{", "NaN", "[" * 100_000, "1" * 5000, '"\\ud800"'])
def test_what_is_no_json_text_has_no_form_such_as_a_string_of_letters(text):
    assert not is_of_form(text, {"type": "string", "pattern": "^[a-z]*$"})


def doubling(levels):
    parts = {f"d{place}": {"allOf": [{"$ref": f"#/$defs/d{place + 1}"}] * 2} for place in range(levels)}
    return {"$defs": parts | {f"d{levels}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


COSTLY = {
    "nested repeats": ({"pattern": "^(a+)+$"}, json.dumps("a" * 26 + "!")),
    "overlapping choices": ({"pattern": "^(a|a?)+$"}, json.dumps("a" * 40 + "!")),
    "names": (
        {"patternProperties": {"^(a+)+$": False}, "additionalProperties": False},
        json.dumps({"a" * 40 + "!": 1}),
    ),
    "names that nothing allows": (
        {"properties": {}, "patternProperties": {"^(\\w+\\s?)*$": True}, "additionalProperties": {"type": "null"}},
        json.dumps({"a" * 40 + "!": 1}),
    ),
    "unevaluated names": (
        {"patternProperties": {"^(a+)+$": True}, "unevaluatedProperties": False},
        json.dumps({"a" * 40 + "!": 1}),
    ),
    "doubling references": (doubling(40), '"a"'),
    "a circle": ({"$ref": "#"}, "1"),
    "pairs": ({"uniqueItems": True, "contains": False}, json.dumps([{"a": place} for place in range(20_000)])),
    "huge repeats": ({"pattern": "((\\w{0,999}){0,999}){0,999}x"}, json.dumps("é" * 5000)),
    "many patterns": ({"allOf": [{"pattern": f"(\\w{{99}}){{{place}}}x"} for place in range(1000)]}, '"ab"'),
}


@pytest.mark.parametrize("name", COSTLY)
def test_no_schema_holds_the_event_loop(name):
    schema, text = COSTLY[name]
    begun = time.process_time()
    assert not is_of_form(text, schema)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/definitions/none"},
        {"$ref": "#nowhere"},
        {"$ref": 3},
        {"type": "objct"},
        {"type": 5},
        {"properties": []},
        {"pattern": "("},
        {"pattern": "(?=a)b"},
        {"minLength": "3"},
        {"multipleOf": 0},
        {"$schema": ["x"]},
        {"allOf": 5},
    ],
)
def test_a_schema_that_makes_no_sense_is_met_by_nothing(schema):
    assert not all(is_of_form(text, schema) for text in ('"ab"', "{}", "7"))


@pytest.fixture
def listener():
    """A web server on this machine, and the paths that it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "object"}')

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/schema.json", asked
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_merge_fetches_nothing_for_a_schema(listener):
    url, asked = listener
    judge = FakeEngine("judge", lambda call: '{"x": 3}', lambda call: [0.0] * len(call.labels))
    for schema in (
        {"$ref": url},
        {"properties": {"x": {"$ref": url}}},
        {"$schema": url},
        {"$id": url, "$ref": "a.json"},
    ):
        engines = engines_of(a='{"x": 1}', b='{"x": 2}') | {"judge": judge}
        fused = await asyncio.wait_for(
            fuse(request_of(json_schema=schema), recipe_of(("a", "b", "judge"), mode="merge", analysis=False), engines),
            20,
        )
        assert fused.text
    assert asked == []
