"""What must be the same when a run is resumed, and the sentence that names what differs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import orjson

from local_fusion.batch.options import BatchOptions
from local_fusion.fusion.recipe import Recipe


def identity_of(recipe: Recipe, options: BatchOptions) -> dict[str, Any]:
    """Everything but the input that decides the results of a run, as plain JSON data."""
    data = {
        "fusion": recipe.name,
        "seed": options.seed,
        "settings": recipe.settings.model_dump(mode="json", exclude_none=True),
        **_asked(recipe),
        "templates": recipe.prompts.digest,
        "weights": dict(recipe.digests),
        "more": dict(options.identity),
    }
    if recipe.kinds is not None:
        data["kinds"] = hashlib.sha256(recipe.kinds.model_dump_json().encode()).hexdigest()
    if recipe.by_kind:
        data["by_kind"] = {
            name: {"settings": one.settings.model_dump(mode="json", exclude_none=True), **_asked(one)}
            for name, one in recipe.by_kind.items()
        }
    plain: dict[str, Any] = orjson.loads(orjson.dumps(data))
    return plain


def _asked(recipe: Recipe) -> dict[str, Any]:
    """Who is asked, and how each is sampled."""
    return {
        "panel": [
            {"model": seat.model, "samples": seat.samples, "weight": seat.weight, "sampling": asdict(seat.sampling)}
            for seat in recipe.seats
        ],
        "judge_sampling": asdict(recipe.judge_sampling),
        "writer_sampling": {name: asdict(sampling) for name, sampling in recipe.writer_sampling.items()},
    }


def digest_of(identity: Mapping[str, Any]) -> str:
    """sha256 of the identity, its keys in order."""
    return hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Dotted names of what is not the same in both. Runs of before `by_kind` was noted may go on without it."""
    if "kinds" in old and "by_kind" not in old:
        new = {name: value for name, value in new.items() if name != "by_kind"}
    before, after = dict(_flat(old, "")), dict(_flat(new, ""))
    return [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping | list) and value:
        for key, entry in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _flat(entry, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
