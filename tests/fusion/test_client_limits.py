"""The client's own `max_tokens` bounds the final answer; without one, no other field of the client brings one about."""

from __future__ import annotations

import pytest
from fusion_fakes import FakeEngine, completion, engines_of, judge_says, prefers, recipe_of, request_of

from local_fusion.errors import CallError
from local_fusion.fusion.fuse import fuse
from local_fusion.openai_api.request import parse_chat
from local_fusion.types import Completion, Request, Tokens

TWO = ("a", "b", "judge")


def asked(recipe, **fields) -> Request:
    """As every door makes it: the client's fields over the writer's sampling."""
    body = {"messages": [{"role": "user", "content": "Tell me something."}], **fields}
    return parse_chat(body).request("row-1", 0, recipe.writer_sampling[recipe.writers[0]])


def said(text: str, tokens: int, reasoning: str | None = None):
    return lambda call: Completion(call.id, "?", text, "stop", reasoning=reasoning, tokens=Tokens(10, 0, tokens))


def panel(**says) -> dict[str, FakeEngine]:
    judge = FakeEngine("judge", says.pop("judge", judge_says("a worse text")), prefers("beta"))
    # in the guard's reads the answer wins
    plain = judge.read
    judge.read = lambda call: (
        ([-5.0, 0.0] if call.id.split("/")[-2] == "0" else [0.0, -5.0]) if call.stage == "guard" else plain(call)
    )
    return engines_of(**{"a": "alpha speaks", "b": "beta speaks"} | says, judge=judge)


@pytest.mark.parametrize("fields", [{}, {"temperature": 0.0}, {"stop": ["END"]}, {"top_p": 0.5}])
async def test_a_client_that_sets_no_limit_leaves_the_guard_on(fields):
    recipe = recipe_of(TWO, mode="merge", analysis=False, max_writer_tokens=1000)
    engines = panel(b=said("beta speaks", 5000, "thought " * 100))
    fused = await fuse(asked(recipe, **fields), recipe, engines)
    assert fused.receipt.verdict.kept == "answer"
    assert (fused.text, fused.finish_reason) == ("beta speaks", "stop")


@pytest.mark.parametrize("mode", ["best-of", "vote", "debate"])
async def test_a_client_that_sets_no_limit_does_not_cut_the_panel(mode):
    recipe = recipe_of(TWO, mode=mode, max_writer_tokens=7)
    engines = panel()
    await fuse(asked(recipe, temperature=0.0), recipe, engines)
    assert {call.sampling.max_tokens for call in engines["a"].calls if call.stage == "panel"} == {1024}
    engines = panel()
    await fuse(asked(recipe, temperature=0.0, max_tokens=99), recipe, engines)
    assert {call.sampling.max_tokens for call in engines["a"].calls if call.stage == "panel"} == {99}


async def test_thinking_does_not_count_as_length_of_an_answer():
    recipe = recipe_of(TWO, mode="merge", analysis=False)
    engines = panel(b=said("beta speaks", 500, "thought " * 100))
    fused = await fuse(asked(recipe, max_tokens=20), recipe, engines)
    assert fused.receipt.verdict.kept == "answer"
    engines = panel(b=said("beta speaks" * 100, 500))
    fused = await fuse(asked(recipe, max_tokens=20), recipe, engines)
    assert fused.receipt.verdict is None
    assert any("form or length" in note for note in fused.receipt.notes)


async def test_a_writer_cut_by_its_own_limit_is_not_cut_by_the_client():
    recipe = recipe_of((*TWO, "writer"), mode="merge", analysis=False, writer=["writer"], max_writer_tokens=5)
    engines = panel() | engines_of(writer=lambda call: completion(call, "half", "length"))
    fused = await fuse(asked(recipe, temperature=0.0), recipe, engines)
    assert fused.text == "beta speaks"
    fused = await fuse(asked(recipe, max_tokens=5), recipe, engines | {"judge": FakeEngine("judge")})
    assert (fused.text, fused.finish_reason) == ("half", "length")


async def test_where_no_writer_is_left_a_shorter_answer_steps_in_and_a_long_one_is_cut():
    recipe = recipe_of(TWO, mode="merge", analysis=False)
    failing = lambda call: CallError("down")  # noqa: E731
    engines = panel(judge=failing, b=said("beta " * 30, 30))
    fused = await fuse(asked(recipe, max_tokens=10), recipe, engines)
    assert (fused.text, fused.finish_reason) == ("alpha speaks", "stop")
    engines = panel(judge=failing, a=said("alpha " * 40, 40), b=said("beta " * 30, 30))
    fused = await fuse(asked(recipe, max_tokens=10), recipe, engines)
    assert (fused.text, fused.finish_reason) == ("beta " * 10, "length")


async def test_a_client_s_limit_holds_for_an_answer_the_judge_chose():
    recipe = recipe_of(TWO, panel=[{"model": "a", "weight": 2}, "b"], mode="auto")
    engines = engines_of(a="85", b=said("beta says 84, whatever", 40), judge=FakeEngine("judge", read=prefers("beta")))
    body = asked(recipe, max_tokens=10)
    request = request_of("What is 40 + 45?", sampling=body.sampling, max_tokens=body.max_tokens)
    fused = await fuse(request, recipe, engines)
    assert fused.model == "b"
    assert fused.finish_reason == "length"
    assert len(fused.text) < len("beta says 84, whatever")
