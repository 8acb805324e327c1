"""The judge's later calls are served from the engine's prefix cache: at least 90 % of the shared whole blocks."""

from __future__ import annotations

import pytest

from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.fusion.fuse import fuse
from local_fusion.prompts import load_prompts, make_brief
from local_fusion.runtime import recipe_of
from local_fusion.types import Message, Request

pytestmark = pytest.mark.vllm


async def test_later_judge_calls_hit_the_cache(fleet: Engines, shipped: Config) -> None:
    recipe = recipe_of(shipped, "demo", mode="merge", rotations=1)
    sentence = "What is 47 + 38? Sort the numbers 4, 9, 2. Reverse the word 'planet'. "
    request = Request("prefix-test", (Message("user", sentence * 20),), seed=4, cache_salt="prefix-test")
    fused = await fuse(request, recipe, fleet)
    brief = make_brief(request.messages, fused.receipt.answers, seed=0)
    opening = load_prompts("short").pick(brief)
    tokens = (await fleet["qwen-judge"].count_tokens([opening]))[0]
    block = (await fleet["qwen-judge"].info()).kv_block_tokens  # 128 on a CPU, 16 on most GPUs
    assert block
    shared = (tokens - 16) // block * block  # the instruction and the turn's end are fewer than 16
    assert shared >= 4 * block
    calls = [call for call in fused.receipt.calls if call.model == "qwen-judge"]
    stages = [call.stage for call in calls]
    assert stages[0] == "analyse"
    assert {"pick", "write"} <= set(stages)
    for call in calls[1:]:
        assert call.tokens.cached >= 0.9 * shared, (call.stage, call.tokens, shared)
