"""auto: the way is chosen by what the answers are, and the receipt says which and why."""

from __future__ import annotations

import asyncio

from fusion_fakes import FakeEngine, completion, engines_of, hang, judge_says, prefers, recipe_of, request_of

from local_fusion.fusion.fuse import fuse

ASK = "What is 47 + 38?"
LONG = {name: f"{name} tells a long story. " * 20 for name in "abc"}


def with_judge(read=None, **says):
    return engines_of(**says, judge=FakeEngine("judge", judge_says(), read or prefers("b tells")))


async def test_comparable_answers_with_a_majority_are_a_vote():
    engines = with_judge(a="85", b="86", c="It is 85.")
    fused = await fuse(request_of(ASK), recipe_of(), engines)
    assert fused.receipt.mode == "vote"
    assert fused.receipt.why == "auto: 2 of 3 answers agree (number)"
    assert engines["judge"].reads == []


async def test_comparable_answers_without_a_majority_go_to_the_judge():
    fused = await fuse(request_of(ASK), recipe_of(), with_judge(prefers("86"), a="85", b="86", c="87"))
    assert fused.text == "86"
    assert fused.receipt.mode == "best-of"
    assert fused.receipt.why.startswith("auto: each answer is a number, but without a majority")


async def test_a_smaller_agreement_can_be_made_enough():
    engines = with_judge(a="85", b="86", c="87", d="85")
    fused = await fuse(request_of(ASK), recipe_of(("a", "b", "c", "d", "judge"), skip_agreement=0.5), engines)
    assert fused.receipt.mode == "vote"
    assert engines["judge"].reads == []


async def test_free_text_is_merged():
    fused = await fuse(request_of("Tell me a story."), recipe_of(), with_judge(**LONG))
    assert fused.text == "the final answer"
    assert fused.receipt.mode == "merge"
    assert fused.receipt.why.startswith("auto: the answers are free text")


async def test_free_text_that_is_the_same_skips_the_judge():
    engines = with_judge(a=LONG["a"], b=LONG["a"], c=LONG["a"])
    fused = await fuse(request_of("Tell me a story."), recipe_of(), engines)
    assert fused.text == LONG["a"]
    assert engines["judge"].calls == engines["judge"].reads == []


async def test_a_settled_majority_aborts_the_rest():
    engines = with_judge(a="85", b="85", c="85", d=lambda call: hang(), e=lambda call: hang())
    fused = await fuse(request_of(ASK), recipe_of(("a", "b", "c", "d", "e", "judge")), engines)
    assert fused.receipt.early_exit
    assert fused.receipt.aborted == 2


async def test_two_of_five_are_no_reason_to_stop():
    engines = with_judge(a="85", b="85", c="86", d="86", e="86")
    release = asyncio.Event()

    async def wait(text):
        await release.wait()
        return text

    for name in "cde":
        engines[name].say = lambda call: wait("86")
    task = asyncio.create_task(fuse(request_of(ASK), recipe_of(("a", "b", "c", "d", "e", "judge")), engines))
    await asyncio.sleep(0.05)
    release.set()
    assert (await task).text == "86"


async def test_a_certain_first_member_answers_alone():
    engines = with_judge(a=FakeEngine("a", "85", certainty=0.99), b="86", c="87")
    fused = await fuse(request_of(ASK), recipe_of(skip_certainty=0.95), engines)
    assert (fused.text, fused.receipt.mode) == ("85", "auto")
    assert engines["b"].calls == []
    assert "certain" in fused.receipt.why


async def test_an_uncertain_cut_or_failing_first_member_is_one_of_the_panel():
    for first in (
        FakeEngine("a", "85", certainty=0.5),
        FakeEngine("a", lambda call: completion(call, "85", "length", logprob=-0.001)),
        FakeEngine("a", "", certainty=0.99),
    ):
        engines = with_judge(a=first, b="86", c="86")
        fused = await fuse(request_of(ASK), recipe_of(skip_certainty=0.95), engines)
        assert fused.text == "86"
        assert len(first.calls) == 1


async def test_a_single_answer_is_returned_as_it_is():
    engines = with_judge(a=LONG["a"], b="", c="")
    fused = await fuse(request_of("Tell."), recipe_of(), engines)
    assert fused.text == LONG["a"]
    assert fused.receipt.why == "auto: only one answer came"


async def test_a_schema_is_for_the_writer():
    engines = with_judge(**LONG)
    fused = await fuse(request_of(json_schema={"type": "object"}), recipe_of(), engines)
    assert fused.receipt.mode == "merge"
    assert all(call.json_schema is None for name in "abc" for call in engines[name].calls)
    assert fused.receipt.why.startswith("auto: a JSON schema is for the writer")


async def test_an_answer_longer_than_the_client_allows_is_written_anew():
    engines = with_judge(a="85 " * 3, b="85 " * 3, c="85 " * 3)
    fused = await fuse(request_of(ASK, max_tokens=2), recipe_of(), engines)
    assert fused.model == "judge"
