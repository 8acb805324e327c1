"""Whether a text has the form that a client's JSON schema asks for.

Schema and text are both untrusted. Invariant: nothing is fetched, every pattern is matched in linear time, and the work
is counted, not timed, so that the event loop is held for a moment at most and a replay finds the same. What cannot be
checked within these bounds has not the form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import SchemaValidator, core_schema

from local_fusion.answers.kinds import canonical_json

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

STEPS = 100_000
"""Keywords applied to values at most, large values counting more; some tenths of a second."""
_SIZE_PER_STEP = 16
_PATTERN_STEPS = 2
_STEPS_PER_ENTRY = 5
_REPEAT = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")
_Check = Callable[["Validator", Any, Any, Any], Iterator[Any] | None]


class _TooCostly(Exception):
    """The check takes more than `STEPS`, or cannot be bounded."""


def is_of_form(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether `text` is JSON and valid by `schema`, in the draft that its `$schema` names (else 2020-12)."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    try:
        return bool(_validator(schema).is_valid(value))
    except Exception:  # the library raises whatever it stumbles over in a malformed schema
        return False


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _validator(schema: Mapping[str, Any]) -> Validator:
    """Holds an empty registry: a reference to another document is an error, never a request."""
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    draft = validators.validator_for(schema, default=Draft202012Validator)
    checks = _Checks(draft.VALIDATORS, schema)
    bounded = validators.extend(  # type: ignore[no-untyped-call]
        draft, {name: checks.bounded(name) for name in draft.VALIDATORS}
    )
    found: Validator = bounded(schema, registry=Registry())
    return found


class _Checks:
    """The keywords of a draft for one check: counted, and those that match patterns or compare pairs replaced."""

    def __init__(self, originals: Mapping[str, _Check], schema: Mapping[str, Any]) -> None:
        self._originals = originals
        self._schema = schema
        self._steps = STEPS
        self._compiled: set[str] = set()
        self._own: dict[str, _Check] = {
            "pattern": self._pattern,
            "patternProperties": self._pattern_properties,
            "additionalProperties": self._additional_properties,
            "unevaluatedProperties": self._unevaluated_properties,
            "uniqueItems": self._unique_items,
        }

    def bounded(self, name: str) -> _Check:
        check = self._own.get(name, self._originals[name])

        def run(validator: Validator, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
            self._spend(1 + (len(value) // _SIZE_PER_STEP if isinstance(value, str | list | dict) else 0))
            yield from check(validator, wanted, value, schema) or ()

        return run

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _TooCostly

    def _matches(self, pattern: str, text: str) -> bool:
        if pattern not in self._compiled:
            self._spend(_PATTERN_STEPS * len(pattern) * _repeats(pattern))
            self._compiled.add(pattern)
        self._spend(1)
        return _matcher(pattern).isinstance_python(text)

    def _pattern(self, validator: Validator, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not self._matches(wanted, value):
            yield _error("pattern")

    def _pattern_properties(self, validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            for pattern, inner in wanted.items():
                for name, held in value.items():
                    if self._matches(pattern, name):
                        yield from validator.descend(held, inner, path=name, schema_path=pattern)

    def _additional_properties(self, validator: Validator, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        """The library's own check of those properties that no pattern matches."""
        patterns = schema.get("patternProperties", {})
        if isinstance(value, dict) and patterns:
            value = {
                name: held for name, held in value.items() if not any(self._matches(one, name) for one in patterns)
            }
        known = dict.fromkeys(schema.get("properties", {}), True)
        yield from self._originals["additionalProperties"](validator, wanted, value, {"properties": known}) or ()

    def _unevaluated_properties(self, validator: Validator, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        """The library looks through every pattern in sight for this one, with an engine that may take for ever."""
        if "patternProperties" in json.dumps(self._schema):
            raise _TooCostly
        yield from self._originals["unevaluatedProperties"](validator, wanted, value, schema) or ()

    def _unique_items(self, validator: Validator, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list):
            self._spend(_STEPS_PER_ENTRY * len(value))
            if len({canonical_json(json.dumps([entry])) for entry in value}) < len(value):
                yield _error("uniqueItems")


@lru_cache(maxsize=64)
def _matcher(pattern: str) -> SchemaValidator:
    """Finds the pattern anywhere in a text, by pydantic's linear-time engine. Raises SchemaError where that cannot:
    look-around, back references."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _repeats(pattern: str) -> int:
    """How often the counted repeats of a pattern, if they lay in each other, would repeat something."""
    product = 1
    for least, most in _REPEAT.findall(pattern):
        product *= max(1, int(most or least))
    return product


def _error(keyword: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(keyword)
