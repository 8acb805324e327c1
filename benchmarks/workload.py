"""The work that several benchmarks share: shipped models, so many tokens a call, panel then writer, nothing else.

No analysis, no guard, no label reads: what other harnesses can do too, so that the same calls are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from local_fusion.config import Config, load_config
from local_fusion.fusion.recipe import Recipe
from local_fusion.runtime import recipe_of
from local_fusion.types import Message, Request
from local_fusion.zoo.questions import questions


def panel_then_writer(tokens: int, config_file: Path | None = None, fusion: str = "demo") -> tuple[Config, Recipe]:
    """The fusion in merge mode with exactly `tokens` from every call."""
    config = load_config(config_file)
    full = {"max_tokens": tokens, "ignore_eos": True}
    panel = [{"model": member.model, "sampling": full} for member in config.fusion(fusion).panel]
    recipe = recipe_of(
        config,
        fusion,
        mode="merge",
        panel=panel,
        analysis=False,
        guard=False,
        max_panel_tokens=tokens,
        max_writer_tokens=tokens,
        writer_sampling={"temperature": 0.0, **full},
    )
    return config, recipe


def requests(prompts: Sequence[str], salt: str) -> list[Request]:
    """Requests whose prefix cache is their own: no run warms the next one's."""
    return [
        Request(f"{salt}-{index}", (Message("user", prompt),), seed=index, cache_salt=salt)
        for index, prompt in enumerate(prompts)
    ]


def prompts(count: int) -> list[str]:
    """Held-out questions of the shipped set."""
    return [question.prompt for question in questions(1, count, "heldout")]
