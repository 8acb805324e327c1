"""What a client's JSON schema may be: neither deep nor vast, with references that lead to a place within it.

Invariant: the check takes time in proportion to the schema, opens nothing, and repeats nothing of it in an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from local_fusion.errors import RequestError

DEPTH = 32
NODES = 4096
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DATA = ("const", "enum", "default", "example", "examples")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_INDEX_DIGITS = 6
_QUOTED = re.compile(rb"%([0-9a-fA-F]{2})")


def check_schema(schema: Mapping[str, Any], field: str) -> None:
    """Raises RequestError, with `field` as its parameter, for a schema that no engine should be given."""
    _check_size(schema, field)
    for part in _parts(schema):
        for key in _REFERENCES:
            reference = part.get(key)
            if isinstance(reference, str) and not _leads_somewhere(schema, reference):
                raise RequestError(
                    f"{field} has a schema with a {key} that is not `#` or `#/…` to a place within it",
                    "invalid_field",
                    field,
                )


def _check_size(schema: Mapping[str, Any], field: str) -> None:
    level: list[Any] = [schema]
    nodes = 0
    for _ in range(DEPTH):
        level = [inner for value in level for inner in _inner(value)]
        nodes += len(level)
        if nodes > NODES:
            raise RequestError(
                f"{field} has a schema of more than {NODES} parts; send a smaller one", "schema_too_large", field
            )
        if not level:
            return
    raise RequestError(
        f"{field} has a schema deeper than {DEPTH} levels; send a flatter one", "schema_too_large", field
    )


def _inner(value: Any) -> Iterator[Any]:
    """What lies in an object or list and can hold more."""
    found = value.values() if isinstance(value, Mapping) else value
    return (inner for inner in found if isinstance(inner, Mapping | list))


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every schema within the schema; names of properties are no keywords, and examples of data are no schemas."""
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, Mapping):
            yield value
            for key, inner in value.items():
                if key in _NAMED and isinstance(inner, Mapping):
                    waiting += inner.values()
                elif key not in _DATA:
                    waiting.append(inner)


def _leads_somewhere(schema: Mapping[str, Any], reference: str) -> bool:
    """A JSON pointer from the root to a schema that is no reference back to one already passed."""
    passed: set[str] = set()
    while reference not in passed:
        passed.add(reference)
        found = _at(schema, reference)
        if not isinstance(found, Mapping):
            return isinstance(found, bool)
        following = found.get("$ref")
        if not isinstance(following, str):
            return True
        reference = following
    return False


def _at(schema: Mapping[str, Any], reference: str) -> Any:
    """The place that a reference points to; None where there is none."""
    if reference == "#":
        return schema
    if not reference.startswith("#/"):
        return None
    value: Any = schema
    for part in _unquoted(reference[2:]).split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and len(name) <= _INDEX_DIGITS and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _unquoted(text: str) -> str:
    """Percent signs undone. By hand, for what could open an address is imported nowhere here."""
    plain = _QUOTED.sub(lambda match: bytes.fromhex(match.group(1).decode()), text.encode("utf-8", "replace"))
    return plain.decode("utf-8", "replace")
