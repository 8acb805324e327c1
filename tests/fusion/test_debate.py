"""debate: only where answers differ; first-round answers still count; who changed its mind is recorded."""

from __future__ import annotations

import pytest
from fusion_fakes import FakeEngine, engines_of, hang, judge_says, prefers, recipe_of, request_of

from local_fusion.errors import CallError
from local_fusion.fusion.fuse import fuse
from local_fusion.types import Message

ASK = "What is 47 + 38?"


def member(name, first, then=None, **more):
    """Says `first`, and `then` (a text, an error or a function of the call) when asked to revise."""

    def say(call):
        if call.stage == "revise":
            return then(call) if callable(then) else first if then is None else then
        return first

    return FakeEngine(name, say, **more)


async def test_agreement_needs_no_debate():
    engines = engines_of(a="It is 85.", b="85", judge="x")
    fused = await fuse(request_of(ASK), recipe_of(("a", "b", "judge"), mode="debate"), engines)
    assert fused.receipt.mode == "debate"
    assert [call.stage for engine in engines.values() for call in engine.calls] == ["panel", "panel"]


async def test_a_member_that_changes_its_mind_changes_the_vote_and_is_named():
    engines = engines_of(a=member("a", "85"), b=member("b", "86", "It is 85."), c=member("c", "87"), judge="x")
    fused = await fuse(request_of(ASK), recipe_of(mode="debate"), engines)
    assert fused.text in ("85", "It is 85.")
    assert fused.receipt.changed_minds == ("b",)
    assert [answer.round for answer in fused.receipt.answers] == [0, 0, 0, 1, 1, 1]
    assert "1 of 3 changed their answer" in fused.receipt.why


async def test_new_words_for_the_same_value_are_no_change_of_mind():
    engines = engines_of(a=member("a", "85", "It is 85."), b=member("b", "86"), judge="x")
    fused = await fuse(request_of(ASK), recipe_of(("a", "b", "judge"), mode="debate"), engines)
    assert fused.receipt.changed_minds == ()


async def test_first_round_answers_still_count():
    engines = engines_of(
        a=member("a", "85", "86", certainty=0.5),
        b=member("b", "85", "87", certainty=0.5),
        c=member("c", "88", certainty=0.45),
        judge="x",
    )
    fused = await fuse(request_of(ASK), recipe_of(mode="debate"), engines)
    assert fused.text == "85"


async def test_each_sees_the_others_anonymous_fenced_and_shuffled_but_not_itself():
    engines = engines_of(a=member("a", "alpha 1"), b=member("b", "beta 2"), c=member("c", "gamma 3"), judge="x")
    messages = (Message("system", "be kind"), Message("user", "go"))
    await fuse(request_of(messages=messages), recipe_of(mode="debate"), engines)
    (call,) = [call for call in engines["b"].calls if call.stage == "revise"]
    assert call.messages[:2] == messages
    assert call.messages[2] == Message("assistant", "beta 2")
    shown = call.messages[3].content
    assert "alpha 1" in shown
    assert "gamma 3" in shown
    assert "beta" not in shown
    assert call.priority == 5
    assert call.sampling == engines["b"].calls[0].sampling
    assert call.seed != engines["b"].calls[0].seed


@pytest.mark.parametrize("then", [CallError("down"), "", lambda call: hang()])
async def test_a_revision_that_fails_keeps_the_answer(then):
    engines = engines_of(a=member("a", "85"), b=member("b", "86", then), c=member("c", "85"), judge="x")
    fused = await fuse(request_of(ASK), recipe_of(mode="debate", member_timeout_s=0.1), engines)
    assert fused.text == "85"
    assert fused.receipt.failures[0].stage == "revise"
    assert fused.degraded[0].startswith("1 of 3 revisions of round 1 are missing")


async def test_rounds_go_on_until_all_agree():
    turns = []

    def then(call):
        turns.append(call.id)
        return "86" if len(turns) < 2 else "85"

    engines = engines_of(a=member("a", "85"), b=member("b", "86", then), judge="x")
    fused = await fuse(request_of(ASK), recipe_of(("a", "b", "judge"), mode="debate", rounds=4), engines)
    assert len(turns) == 2
    assert len(set(turns)) == 2
    assert fused.text == "85"


async def test_then_merge_writes_from_what_was_said():
    judge = FakeEngine("judge", judge_says(), prefers("beta"))
    engines = engines_of(a=member("a", "alpha one"), b=member("b", "beta two", "beta three"), judge=judge)
    recipe = recipe_of(("a", "b", "judge"), mode="debate", debate_then="merge")
    fused = await fuse(request_of(), recipe, engines)
    assert fused.text == "the final answer"
    assert fused.receipt.mode == "debate"
    shown = judge.calls[0].messages[1].content
    assert all(text in shown for text in ("alpha one", "beta two", "beta three"))
    assert shown.count("<answer") == 3


async def test_free_text_is_chosen_by_the_judge_after_the_debate():
    judge = FakeEngine("judge", judge_says(), prefers("better"))
    engines = engines_of(a=member("a", "alpha " * 60), b=member("b", "beta " * 60, "better " * 60), judge=judge)
    fused = await fuse(request_of("Tell."), recipe_of(("a", "b", "judge"), mode="debate"), engines)
    assert fused.text == "better " * 60
    assert fused.receipt.mode == "debate"


async def test_the_deadline_in_the_debate_returns_what_was_said_before():
    engines = engines_of(a=member("a", "85"), b=member("b", "86", lambda call: hang()), c=member("c", "85"), judge="x")
    fused = await fuse(request_of(ASK), recipe_of(mode="debate", deadline_s=0.6, rounds=3), engines)
    assert fused.text == "85"
    assert any("deadline" in phrase for phrase in fused.degraded)


async def test_others_that_do_not_fit_the_member_leave_it_its_answer():
    engines = engines_of(
        a=member("a", "alpha " * 60, context=100),
        b=member("b", "beta " * 60),
        judge=FakeEngine("judge", read=prefers("alpha")),
    )
    fused = await fuse(request_of("Tell."), recipe_of(("a", "b", "judge"), mode="debate"), engines)
    assert [failure.reason for failure in fused.receipt.failures] == ["context_exceeded"]
    assert fused.model == "a"


@pytest.mark.parametrize("then", ["vote", "merge"])
async def test_one_answer_alone_is_not_debated(then):
    engines = engines_of(a="a long answer", b="", judge=FakeEngine("judge", judge_says('{"x": 1}')))
    request = request_of(json_schema={"type": "object"})
    recipe = recipe_of(("a", "b", "judge"), mode="debate", debate_then=then)
    fused = await fuse(request, recipe, engines)
    assert fused.receipt.mode == "debate"
    assert engines["a"].stages() == ["panel"]
    if then == "merge":
        assert (fused.text, fused.model) == ('{"x": 1}', "judge")
        assert fused.receipt.why.startswith("only one answer came, so there was no debate")
