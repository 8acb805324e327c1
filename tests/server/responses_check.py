"""What every event of a Responses stream must be: of OpenRouter's schema or of OpenAI's types, numbered, in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from jsonschema import Draft202012Validator
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

SCHEMA = Path(__file__).parents[1] / "contracts" / "openrouter-fusion.schema.json"
ITEM = "openrouter:fusion"
_CODES = {"code": "server_error"}  # OpenAI's type knows only OpenAI's own words; ours are those of the failure table


@cache
def validators() -> dict[str, Draft202012Validator]:
    """A validator for each type of event, and for the output item."""
    schema = json.loads(SCHEMA.read_text())
    found = {}
    for name, definition in schema["$defs"].items():
        if name.startswith("FusionCall") or name == "OutputFusionServerToolItem":
            (kind,) = definition["properties"]["type"]["enum"]
            found[kind] = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]})
    return found


@cache
def openai_types() -> dict[str, type[BaseModel]]:
    """OpenAI's model for each type of event."""
    union, *_ = get_args(ResponseStreamEvent)
    return {kind: model for model in get_args(union) for kind in get_args(model.model_fields["type"].annotation)}


def check_stream(events: Sequence[dict[str, Any]], first: int = 0) -> dict[str, Any]:
    """Check each event, their numbers, and that items open and close properly; the response of the last event."""
    assert [event["sequence_number"] for event in events] == list(range(first, first + len(events)))
    open_items: dict[int, str] = {}
    for event in events:
        check_event(event)
        index, item = event.get("output_index"), event.get("item", {})
        if event["type"] == "response.output_item.added":
            assert index not in open_items
            open_items[index] = item["id"]
        elif event["type"] == "response.output_item.done":
            assert open_items.pop(index) == item["id"]
        elif index is not None:
            assert open_items[index] == event["item_id"], "an event about an item that is not open"
    assert not open_items
    last = events[-1]
    assert last["type"] in ("response.completed", "response.incomplete", "response.failed")
    check_response(last["response"])
    return dict(last["response"])


def check_event(event: dict[str, Any]) -> None:
    """One event against the schema or OpenAI's types."""
    validator = validators().get(event["type"])
    if validator is not None:
        validator.validate(event)
        return
    item = event.get("item")
    if item is not None and item["type"] == ITEM:
        validators()[ITEM].validate(item)
        return
    if "response" in event:
        event = event | {"response": _plain(event["response"])}
    openai_types()[event["type"]].model_validate(event)


def check_response(body: dict[str, Any]) -> None:
    """A response object, its fusion items against the schema."""
    for item in body["output"]:
        if item["type"] == ITEM:
            validators()[ITEM].validate(item)
    Response.model_validate(_plain(body))


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """The response as OpenAI could have sent it: without what only OpenRouter's Fusion knows."""
    plain = body | {"output": [item for item in body["output"] if item["type"] != ITEM]}
    plain["tools"] = [tool for tool in body.get("tools", ()) if tool["type"] != ITEM]
    if body.get("error"):
        plain["error"] = body["error"] | _CODES
    return plain


def read_stream(text: str) -> list[dict[str, Any]]:
    """The events of an SSE body; the `event:` line must agree with the type."""
    events = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        name, data = lines
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    """Types, without `response.` and with repeats of a delta told once."""
    names: list[str] = []
    for event in events:
        name = event["type"].removeprefix("response.")
        if not (names and names[-1] == name and name.endswith("delta")):
            names.append(name)
    return names
