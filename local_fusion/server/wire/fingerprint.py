"""`system_fingerprint`: the same where the same settings run on the same versions, so that a seed repeats an answer."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from local_fusion.config import Config
from local_fusion.runtime import identity_of_models, versions
from local_fusion.server.orders.order import FusionOrder, MemberOrder, Order


def fingerprint(config: Config, order: Order) -> str:
    """`fp_` and 16 hex digits over the fusion's settings, its templates, its models' settings and the versions."""
    parts = [_versions()]
    if not isinstance(order, MemberOrder):
        recipe = order.recipe
        parts += [recipe.settings.model_dump_json(), recipe.prompts.digest]
        parts += [f"{model} {config.models[model].model_dump_json()}" for model in recipe.settings.models]
    if not isinstance(order, FusionOrder):
        member = order if isinstance(order, MemberOrder) else order.member
        parts += [str(identity_of_models(config, [member.model]))]
    return _digest(parts)


def text_fingerprint(config: Config, model: str) -> str:
    """The same of a model that continues texts."""
    parts = [_versions(), str(identity_of_models(config, [model]))]
    return _digest(parts)


def _digest(parts: list[str]) -> str:
    return f"fp_{hashlib.blake2b(chr(0).join(parts).encode(), digest_size=8).hexdigest()}"


@lru_cache(maxsize=1)
def _versions() -> str:
    return str(sorted(versions().items()))
