"""Every mode, streaming, abort and guided analysis on the real engines that ship."""

from __future__ import annotations

import asyncio

import pytest

from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.fusion.events import Event, Listener, MemberDelta, WriterDelta
from local_fusion.fusion.fuse import fuse
from local_fusion.runtime import recipe_of
from local_fusion.types import MODES, Message, Mode, Request, Sampling
from local_fusion.zoo.questions import questions

pytestmark = pytest.mark.vllm
QUESTION = (Message("user", "Reverse the word 'planet'."),)


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_ends_with_a_full_receipt(fleet: Engines, shipped: Config, mode: Mode) -> None:
    fused = await fuse(Request(f"mode-{mode}", QUESTION, seed=1), recipe_of(shipped, "demo", mode=mode), fleet)
    receipt = fused.receipt
    assert fused.text.strip()
    assert receipt.why
    assert receipt.failures == ()
    assert {answer.model for answer in receipt.answers} <= {member.model for member in shipped.fusion("demo").panel}
    assert all(answer.certainty is not None and 0 < answer.certainty <= 1 for answer in receipt.answers)
    assert fused.tokens.completion == sum(call.tokens.completion for call in receipt.calls) > 0
    assert any(name.startswith("vllm") for name in receipt.versions)


async def test_merge_analyses_writes_and_guards(fleet: Engines, shipped: Config) -> None:
    recipe = recipe_of(shipped, "demo", mode="merge")
    asked = [Request(f"merge-{one.content}", (Message("user", one.prompt),)) for one in questions(6, 40, "heldout")]
    fused = await asyncio.gather(*(fuse(request, recipe, fleet) for request in asked))
    assert all({"panel", "analyse", "pick", "write"} <= {call.stage for call in one.receipt.calls} for one in fused)
    assert sum(one.receipt.analysis is not None for one in fused) >= 38
    guarded = [one for one in fused if one.receipt.verdict is not None]
    assert guarded
    for one in fused:  # what is word for word the best answer needs no guard
        assert one in guarded or one.text in {answer.text for answer in one.receipt.answers}
    for one in guarded:
        assert "guard" in {call.stage for call in one.receipt.calls}


async def test_members_and_writer_stream(fleet: Engines, shipped: Config) -> None:
    heard: list[Event] = []
    recipe = recipe_of(shipped, "demo", mode="merge", guard=False)
    fused = await fuse(Request("streams", QUESTION, seed=3), recipe, fleet, Listener(heard.append, deltas=True))
    written = "".join(event.text for event in heard if isinstance(event, WriterDelta))
    assert written == fused.text
    members = {event.model for event in heard if isinstance(event, MemberDelta)}
    assert members == {member.model for member in shipped.fusion("demo").panel}


async def test_a_cancelled_request_leaves_nothing_running(fleet: Engines, shipped: Config) -> None:
    long = Sampling(max_tokens=1500, ignore_eos=True)
    recipe = recipe_of(
        shipped,
        "demo",
        mode="best-of",
        max_panel_tokens=None,
        panel=[
            {"model": member.model, "sampling": {"max_tokens": long.max_tokens, "ignore_eos": True}}
            for member in shipped.fusion("demo").panel
        ],
    )
    task = asyncio.create_task(fuse(Request("cancelled", QUESTION, seed=4), recipe, fleet))
    await asyncio.sleep(0.3)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(50):
        states = [await fleet[model].check() for model in recipe.settings.models]
        if all(state.running == 0 for state in states):
            break
        await asyncio.sleep(0.1)
    assert [state.running for state in states] == [0] * len(states)


async def test_a_request_without_a_listener_is_the_same_again(fleet: Engines, shipped: Config) -> None:
    recipe = recipe_of(shipped, "demo", mode="best-of")
    request = Request("again", QUESTION, seed=5)
    first, second = await fuse(request, recipe, fleet), await fuse(request, recipe, fleet)
    assert {call.call_id for call in first.receipt.calls} == {call.call_id for call in second.receipt.calls}
