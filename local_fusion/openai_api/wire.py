"""The base of all bodies: strict, unknown fields refused, and never more than a handful of complaints about one body.

Invariant: what is wrong with a body costs no more to find out than to read it. Pydantic keeps an error for each wrong
field and entry: so an object of very many fields is refused before its fields are looked at, and a `Listed` list ends
with its first wrong entry.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_FIELDS = 128
T = TypeVar("T")
Listed = Annotated[list[T], Field(fail_fast=True)]
"""A list whose first wrong entry is its only complaint."""


class Wire(BaseModel):
    """An object that a client sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "an object of so many fields is not supported; send fewer")
        return value
