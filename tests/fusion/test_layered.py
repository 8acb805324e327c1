"""layered: each member of a later layer sees K of N answers, as soon as these are there."""

from __future__ import annotations

import asyncio

from fusion_fakes import FakeEngine, engines_of, hang, judge_says, later, prefers, recipe_of, request_of

from local_fusion.errors import CallError
from local_fusion.fusion.fuse import fuse
from local_fusion.types import Message, ToolCall

FIVE = ("a", "b", "c", "d", "e", "judge")


def members(**overrides):
    says = {name: (lambda call, name=name: f"{name}-{call.stage} says something of its own " * 8) for name in "abcde"}
    return engines_of(**(says | overrides), judge=FakeEngine("judge", judge_says(), prefers("a-layer")))


def shown_in(call) -> list[str]:
    return [name for name in "abcde" if f"{name}-panel" in call.messages[-1].content]


async def test_the_writer_closes_over_the_last_layer():
    engines = members()
    fused = await fuse(request_of(), recipe_of(FIVE, mode="layered", layers=3), engines)
    assert fused.text == "the final answer"
    assert fused.receipt.mode == "layered"
    assert [answer.round for answer in fused.receipt.answers] == [0] * 5 + [1] * 5 + [2] * 5
    shown = engines["judge"].calls[0].messages[1].content
    assert "-panel" not in shown
    assert fused.receipt.why.startswith("3 layers of 5 answers each")


async def test_each_sees_a_seeded_random_k_of_n_after_its_own_request():
    first, second, other = members(), members(), members()
    recipe = recipe_of(FIVE, mode="layered", layer_width=2)
    request = request_of(messages=(Message("system", "be kind"), Message("user", "go")))
    await fuse(request, recipe, first)
    await fuse(request, recipe, second)
    await fuse(request_of(messages=request.messages, seed=5), recipe, other)
    seen = [[shown_in(engines[name].calls[1]) for name in "abcde"] for engines in (first, second, other)]
    assert all(len(shown) == 2 for shown in seen[0])
    assert seen[0] == seen[1] != seen[2]
    call = first["a"].calls[1]
    assert call.messages[0] == Message("system", "be kind")
    assert call.messages[1].content.startswith("go\n\n")
    assert call.stage == "layer"


async def test_a_member_starts_as_soon_as_its_own_sources_are_there():
    slow = asyncio.Event()
    layered_before_slow: list[str] = []

    async def wait() -> str:
        await slow.wait()
        return "e-panel is late " * 20

    def say(name):
        def speak(call):
            if call.stage == "layer" and not slow.is_set():
                layered_before_slow.append(name)
                if len(layered_before_slow) == 1:
                    slow.set()
            return f"{name}-{call.stage} says something of its own " * 8

        return speak

    engines = members(
        **{name: say(name) for name in "abcd"}, e=lambda call: wait() if call.stage == "panel" else "e-layer " * 40
    )
    async with asyncio.timeout(20):
        fused = await fuse(request_of(), recipe_of(FIVE, mode="layered", layer_width=1), engines)
    assert layered_before_slow
    assert len(fused.receipt.answers) == 10


async def test_a_layer_that_agrees_leaves_out_the_next():
    engines = engines_of(
        a="It is 85.", b="85", c=lambda call: later(0.05, "85"), judge=FakeEngine("judge", judge_says("85!"))
    )
    fused = await fuse(request_of("What is 47 + 38?"), recipe_of(mode="layered", layers=3), engines)
    assert {answer.round for answer in fused.receipt.answers} == {0}
    assert "the answers of layer 1 agree, so the layers after it were left out" in fused.receipt.notes
    assert fused.text == "85!"


async def test_a_member_that_failed_in_the_first_layer_may_speak_in_the_next():
    def say(call):
        return CallError("down") if call.stage == "panel" else "b-layer " * 40

    fused = await fuse(request_of(), recipe_of(FIVE, mode="layered"), members(b=say))
    assert [answer.model for answer in fused.receipt.answers if answer.round == 1] == list("abcde")
    assert fused.degraded == ("1 of 5 panel answers are missing (engine_error)",)


async def test_a_layer_that_gives_nothing_leaves_the_one_before():
    down = {
        name: (lambda call, name=name: CallError("down") if call.stage == "layer" else f"{name}-panel " * 40)
        for name in "abcde"
    }
    engines = members(**down)
    fused = await fuse(request_of(), recipe_of(FIVE, mode="layered"), engines)
    assert fused.text == "the final answer"
    assert "layer 2 gave no answer; those of the layer before it were used" in fused.degraded
    assert "a-panel" in engines["judge"].calls[0].messages[1].content


async def test_stragglers_of_a_layer_do_not_hold_the_next():
    def say(call):
        return hang() if call.stage == "panel" else "e-layer " * 40

    engines = members(e=say)
    recipe = recipe_of(FIVE, mode="layered", layer_width=5, quorum=4, straggler_grace_s=0.05)
    async with asyncio.timeout(20):
        fused = await fuse(request_of(), recipe, engines)
    assert [failure.reason for failure in fused.receipt.failures] == ["straggler"]
    assert len([answer for answer in fused.receipt.answers if answer.round == 1]) == 5
    assert engines["e"].running == 0


async def test_the_deadline_in_a_later_layer_returns_an_answer_of_the_layer_before():
    stuck = {
        name: (lambda call, name=name: hang() if call.stage == "layer" else f"{name}-panel " * 40) for name in "abcde"
    }
    engines = members(**stuck)
    fused = await fuse(request_of(), recipe_of(FIVE, mode="layered", deadline_s=0.6), engines)
    assert "-panel" in fused.text
    assert all(engine.running == 0 for engine in engines.values())


async def test_others_answers_are_never_put_into_a_tool_s_result():
    engines = engines_of(a="alpha secret", b="beta secret", judge=FakeEngine("judge", judge_says()))
    messages = (
        Message("user", "look it up"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "look", "{}"),)),
        Message("tool", "the result", tool_call_id="c1"),
    )
    await fuse(request_of(messages=messages), recipe_of(("a", "b", "judge"), mode="layered"), engines)
    (later_call,) = [call for call in engines["a"].calls if call.stage == "layer"]
    assert later_call.messages[:3] == messages
    assert later_call.messages[3].role == "user"
    assert "secret" in later_call.messages[3].content
