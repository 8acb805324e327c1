"""Bounds on what a JSON body may hold: depth, counts and lengths, and what makes a schema costly to compile.

Invariant: these checks cost time in proportion to the body, and nothing of the body is repeated in an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from local_fusion.errors import RequestError

DEPTH = 64
MESSAGES = 4096
PARTS = 16_384
"""Of all turns of a conversation together; and as many calls of tools."""
TEMPLATE_KEYS = 64
PROMPTS = 256
TOOLS = 128
STOPS = 16
STOP_CHARS = 512
METADATA = 64
METADATA_CHARS = 4096
NAME_CHARS = 256
SCHEMA_NODES = 4096
SCHEMA_DEPTH = 32
PATTERN_CHARS = 512
REPEATS = 10_000
ENUM = 1024
_LISTS = {"messages": MESSAGES, "input": MESSAGES, "tools": TOOLS, "functions": TOOLS, "plugins": 16}
_NAMES = ("model", "user", "cache_salt", "prompt_cache_key", "safety_identifier", "previous_response_id")
_COUNTED = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")


def check_depth(body: Any, raw: bytes | None = None) -> None:
    """Raises RequestError where objects and lists lie too deep in each other. `raw`: the body as it came, if it is
    there: most bodies have too few brackets to be too deep."""
    if raw is not None and raw.count(b"{") + raw.count(b"[") <= DEPTH:
        return
    level = [body]
    for _ in range(DEPTH):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RequestError(f"the body is nested deeper than {DEPTH} levels; send a flatter one", "too_deep")


def check_counts(body: dict[str, Any]) -> None:
    """Raises RequestError for too many or too long of a field that several endpoints share. Types are not judged."""
    for field, most in _LISTS.items():
        _at_most(body.get(field), most, field)
    for field in ("messages", "input"):
        _check_turns(body.get(field), field)
    template = body.get("chat_template_kwargs")
    if isinstance(template, dict) and len(template) > TEMPLATE_KEYS:
        raise _refusal("chat_template_kwargs", f"may have {TEMPLATE_KEYS} entries at most")
    _at_most(body.get("prompt"), max(PROMPTS, _token_ids(body.get("prompt"))), "prompt")
    for field in _NAMES:
        value = body.get(field)
        if isinstance(value, str) and len(value) > NAME_CHARS:
            raise _refusal(field, f"may have {NAME_CHARS} characters at most")
    _check_stop(body.get("stop"))
    _check_metadata(body.get("metadata"))
    for field, schema in _schemas(body):
        check_schema(schema, field)


def check_schema(schema: Any, field: str) -> None:
    """Raises RequestError for a schema that an engine could take long to compile."""
    level = [schema]
    nodes = 0
    for _ in range(SCHEMA_DEPTH):
        level = [inner for value in level for inner in _inner(value) if isinstance(inner, dict | list)]
        nodes += len(level)
        if nodes > SCHEMA_NODES:
            raise _refusal(
                field, f"is a schema of more than {SCHEMA_NODES} parts; send a smaller one", "schema_too_large"
            )
        for value in level:
            _check_node(value, field)
        if not level:
            return
    raise _refusal(field, f"is a schema deeper than {SCHEMA_DEPTH} levels; send a flatter one", "schema_too_large")


def _check_node(value: Any, field: str) -> None:
    if isinstance(value, list):
        if len(value) > ENUM:
            raise _refusal(field, f"holds a list of more than {ENUM} entries in its schema", "schema_too_large")
        return
    for key in _COUNTED:
        count = value.get(key)
        if isinstance(count, int | float) and count > REPEATS:
            raise _refusal(field, f"holds a schema with {key} above {REPEATS}", "schema_too_large")
    patterns = [value.get("pattern")]
    more = value.get("patternProperties")
    if isinstance(more, dict):
        patterns += list(more)
    for pattern in patterns:
        if isinstance(pattern, str) and (len(pattern) > PATTERN_CHARS or _repeats(pattern) > REPEATS):
            raise _refusal(field, "holds a schema with too large a pattern", "schema_too_large")
    reference = value.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise _refusal(field, "holds a schema that points elsewhere by $ref; only `#/…` is read", "invalid_field")


def _inner(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _repeats(pattern: str) -> int:
    """How often at most the counted repeats of a pattern, if they lay in each other, would repeat something."""
    product = 1
    for least, most in _REPEAT.findall(pattern):
        product *= max(1, int((most or least)[:9]))
    return product


def _schemas(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every place where an endpoint takes a JSON schema."""
    for field, path in (("response_format", "json_schema"), ("text", "format")):
        outer = body.get(field)
        if isinstance(outer, dict):
            yield field, [outer.get(path)]
    for field in ("tools", "functions"):
        tools = body.get(field)
        if isinstance(tools, list):
            for place, tool in enumerate(tools):
                yield f"{field}.{place}", [tool]


def _check_turns(turns: Any, field: str) -> None:
    """Parts and calls, counted over all turns."""
    if not isinstance(turns, list):
        return
    for name in ("content", "output", "tool_calls"):
        inner = (turn.get(name) for turn in turns if isinstance(turn, dict))
        if sum(len(value) for value in inner if isinstance(value, list)) > PARTS:
            raise _refusal(field, f"may hold {PARTS} parts at most under {name}")


def _check_stop(value: Any) -> None:
    stops = [value] if isinstance(value, str) else value
    _at_most(stops, STOPS, "stop")
    if isinstance(stops, list) and any(isinstance(stop, str) and len(stop) > STOP_CHARS for stop in stops):
        raise _refusal("stop", f"holds a text of more than {STOP_CHARS} characters")


def _check_metadata(value: Any) -> None:
    if not isinstance(value, dict):
        return
    if len(value) > METADATA:
        raise _refusal("metadata", f"may have {METADATA} entries at most")
    for key, entry in value.items():
        if len(key) > NAME_CHARS or (isinstance(entry, str) and len(entry) > METADATA_CHARS):
            raise _refusal("metadata", f"holds a key above {NAME_CHARS} or a value above {METADATA_CHARS} characters")


def _at_most(value: Any, most: int, field: str) -> None:
    if isinstance(value, list) and len(value) > most:
        raise _refusal(field, f"may have {most} entries at most")


def _token_ids(value: Any) -> int:
    """A prompt as one list of token ids is bounded by the context, not here."""
    return len(value) if isinstance(value, list) and value and isinstance(value[0], int) else 0


def _refusal(field: str, what: str, code: str = "too_many") -> RequestError:
    return RequestError(f"{field} {what}", code, field)
