"""Kinds of prompts, found by `local-fusion calibrate`: which recipe won for each, and which kind a new prompt is of.

A kind is the centre of a cluster of past prompts, as weights of words. Finding the nearest is arithmetic over a few
hundred words: no model, no library, and the same here as where the table was made.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field, ValidationError

from local_fusion.config.schema import FusionSettings, Name, Settings
from local_fusion.errors import ConfigError

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[^\s\w]")
MAX_CHARACTERS = 4000
"""Only the beginning of a long prompt tells its kind."""


class KindSettings(Settings):
    """One kind. `recipe`: settings put over those of the fusion; they may name only models that it uses."""

    name: Name
    recipe: dict[str, Any]
    words: dict[str, Annotated[float, Field(ge=0)]]
    """Weights of the cluster's centre, of length 1."""
    prompts: Annotated[int, Field(ge=1)]
    """Past prompts behind it."""
    why: str
    """In one sentence, what was measured."""


class KindTable(Settings):
    """The whole table, as its file holds it."""

    version: Annotated[int, Field(ge=1)]
    rarity: dict[str, Annotated[float, Field(ge=0)]]
    """Inverse document frequency per word; words that are not here count nothing."""
    least: Annotated[float, Field(ge=0, le=1)]
    """Cosine to the nearest centre below which a prompt is of no kind."""
    kinds: tuple[KindSettings, ...]
    otherwise: dict[str, Any] | None = None
    """Settings for prompts of no kind; None: those of the fusion."""


@dataclass(frozen=True, slots=True)
class Found:
    """The kind of a prompt and its cosine to the kind's centre."""

    kind: KindSettings
    cosine: float


def kind_of(table: KindTable, text: str) -> Found | None:
    """The nearest kind, or None where none is near enough."""
    vector = vector_of(text, table.rarity)
    nearest = max(table.kinds, key=lambda kind: _dot(vector, kind.words), default=None)
    if nearest is None:
        return None
    cosine = _dot(vector, nearest.words)
    return Found(nearest, cosine) if cosine >= table.least and cosine > 0 else None


def terms(text: str) -> list[str]:
    """Words of a prompt, lower-cased, and pairs of neighbours; numbers, quoted words and code marks as their shape."""
    tokens = [_shape(token) for token in _TOKEN.findall(text[:MAX_CHARACTERS].lower())]
    return tokens + [f"{first} {second}" for first, second in pairwise(tokens)]


def vector_of(text: str, rarity: Mapping[str, float]) -> dict[str, float]:
    """Weights of the known words, of length 1: (1 + log count) times rarity."""
    counts = Counter(term for term in terms(text) if term in rarity)
    weights = {term: (1 + math.log(count)) * rarity[term] for term, count in counts.items()}
    length = math.sqrt(sum(weight * weight for weight in weights.values()))
    return {term: weight / length for term, weight in weights.items()} if length else {}


def changed_by(kind: KindSettings, settings: FusionSettings, where: str) -> FusionSettings:
    """The fusion with the kind's settings put over it. Raises ConfigError where they do not fit, or name other models
    than those of the fusion."""
    return _changed(kind.recipe, settings, f"{where}: kind {kind.name} of {settings.kinds}")


def otherwise_by(table: KindTable, settings: FusionSettings, where: str) -> FusionSettings | None:
    """The same for prompts of no kind; None where the fusion itself stands. Raises ConfigError."""
    if table.otherwise is None:
        return None
    return _changed(table.otherwise, settings, f"{where}: prompts of no kind of {settings.kinds}")


def _changed(recipe: Mapping[str, Any], settings: FusionSettings, where: str) -> FusionSettings:
    try:
        changed = FusionSettings.model_validate(settings.model_dump() | {"kinds": None} | dict(recipe))
    except ValidationError as problem:
        told = problem.errors(include_url=False, include_input=False)[0]["msg"]
        raise ConfigError(f"{where}: {told}; calibrate again") from None
    strange = sorted(set(changed.models) - set(settings.models))
    if strange:
        raise ConfigError(f"{where}: it names {strange[0]}, which is not of this fusion; calibrate again")
    return changed


def load_kinds(path: Path) -> KindTable:
    """Read a table. Raises ConfigError with the remedy."""
    remedy = "run `local-fusion calibrate` again, or take `kinds` out of the fusion"
    try:
        return KindTable.model_validate(orjson.loads(path.read_bytes()))
    except OSError as problem:
        raise ConfigError(f"cannot read the table of kinds {path}: {problem.strerror}; {remedy}") from None
    except (orjson.JSONDecodeError, ValidationError):
        raise ConfigError(f"{path} is not a table of kinds; {remedy}") from None


def _shape(token: str) -> str:
    return "<number>" if token[0].isdigit() else token


def _dot(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    return sum(weight * second.get(term, 0.0) for term, weight in first.items())
